//! The settings of `ringwayd get`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;

use super::push::{Header, ProgressForm, milliseconds, retries, week};
use super::seconds;
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

    /// File with a bearer token; over http it travels in the clear.
    #[arg(long, value_name = "FILE", conflicts_with = "token_variable")]
    pub(crate) token_file: Option<PathBuf>,

    /// Variable of the environment that holds a bearer token.
    #[arg(long, value_name = "NAME")]
    pub(crate) token_variable: Option<String>,

    /// A further field of each request; can be given several times.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<Header>,

    /// How to tell what happens: bars on a terminal, JSON lines elsewhere.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,

    #[command(flatten)]
    pub(crate) limits: GetLimits,
}

/// What one file may take.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct GetLimits {
    /// Seconds to resolve a name, and then to connect to each of its addresses.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    pub(crate) connect_timeout_seconds: u64,

    /// Seconds without a byte, after which an attempt is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) idle_timeout_seconds: u64,

    /// Seconds for one file with all attempts and waits.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = week())]
    pub(crate) whole_timeout_seconds: u64,

    /// Bytes that a file may have; the default is 1 TiB.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 40)]
    pub(crate) max_file_bytes: u64,

    /// Attempts after the first, for what may succeed later, up to 1000.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = retries())]
    pub(crate) retries: u32,

    /// Milliseconds of the first wait, up to a minute; it doubles with each attempt, and a random
    /// half of it is left out.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = milliseconds())]
    pub(crate) retry_wait_milliseconds: u64,

    /// Seconds of the longest wait; a server that asks for more (`Retry-After`) is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) retry_wait_max_seconds: u64,

    /// Bytes per second that are received at most; unlimited if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate_bytes_per_second: Option<NonZeroU64>,
}
