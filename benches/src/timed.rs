//! What `tls` and `filter` ask of the command line alike, and what they tell their senders.

use std::path::PathBuf;

/// For how long, with which arms, and where it goes.
#[derive(Debug, clap::Args)]
#[group(id = "timed")]
pub(crate) struct Timed {
    /// How long the timed rounds may take in all, in seconds; more time buys more rounds.
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub(crate) seconds_budget: u64,
    /// Measure only these arms, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) arms: Vec<String>,
    /// Write the results as JSON lines into this directory (nothing is written otherwise).
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Where the data file is put: a directory on a disk (default: the temporary directory).
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// One arm, once.
#[derive(Debug, clap::Args)]
#[group(id = "sent")]
pub(crate) struct Sent {
    #[arg(long)]
    pub(crate) arm: String,
    /// The file to send.
    #[arg(long)]
    pub(crate) data: PathBuf,
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long)]
    pub(crate) cpu: usize,
    #[arg(long)]
    pub(crate) parent: i32,
}
