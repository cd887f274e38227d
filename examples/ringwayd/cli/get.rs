//! The settings of `ringwayd get`.

use std::path::PathBuf;

use clap::Args;

use super::client::{Attempts, Caller, Trust};
use crate::client::digest::Sha256;
use crate::client::url::Url;

/// What is fetched, where it is kept, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Get {
    /// What to fetch; without `--output` a file takes the last part of its URL as its name.
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<Url>,

    /// The name of the file, for one URL. What has that name is replaced, once all is there.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// The SHA-256 that the file must have, in hexadecimal digits, for one URL.
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Sha256>,

    /// Begins anew, also where an earlier get has left a part.
    #[arg(long)]
    pub(crate) no_resume: bool,

    #[command(flatten)]
    pub(crate) caller: Caller,

    #[command(flatten)]
    pub(crate) trust: Trust,

    #[command(flatten)]
    pub(crate) limits: GetLimits,
}

/// What one file may take.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct GetLimits {
    #[command(flatten)]
    pub(crate) attempts: Attempts,

    /// Bytes that a file may have; the default is 1 TiB.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 40)]
    pub(crate) max_file_bytes: u64,
}
