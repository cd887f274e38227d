//! The settings of `ringwayd push`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;

use super::client::{Attempts, Caller, Trust, milliseconds};
use crate::client::url::Url;

/// What is pushed, where to, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Push {
    /// The files to push.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Where each file goes, by HTTP PUT; a URL that ends in `/` takes the name of the file.
    #[arg(long, value_name = "URL", num_args = 1..)]
    pub(crate) to: Vec<Url>,

    /// Sends no digest, which saves reading each file once more, and checks none.
    #[arg(long)]
    pub(crate) no_digest: bool,

    /// Goes on with what broke off, in later runs too, by tus 1.0 and not by PUT: each URL is one that
    /// makes uploads, or the place of the file for `ringwayd serve --writable`.
    #[arg(long)]
    pub(crate) resume: bool,

    /// The state folder, where uploads that broke off are remembered and a `watch` has its journal, one
    /// folder for each; without it ~/.local/state/ringwayd.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) caller: Caller,

    #[command(flatten)]
    pub(crate) trust: Trust,

    #[command(flatten)]
    pub(crate) limits: PushLimits,
}

/// What one receiver, and all of them together, may take.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct PushLimits {
    #[command(flatten)]
    pub(crate) attempts: Attempts,

    /// From this length on, a receiver is asked whether it wants the body (`Expect: 100-continue`).
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    pub(crate) expect_min_bytes: u64,

    /// Milliseconds to wait for its answer before the body is sent all the same, up to a minute.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = milliseconds())]
    pub(crate) expect_timeout_milliseconds: u64,

    /// Bytes per second that all receivers together are sent at most; unlimited if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) total_rate_bytes_per_second: Option<NonZeroU64>,

    /// Bytes that may wait in the kernel for a receiver that does not take them, from 16384 to
    /// 1073741824 (`TCP_NOTSENT_LOWAT`).
    #[arg(long, value_name = "BYTES", default_value_t = 131_072, value_parser = super::unsent_bytes())]
    pub(crate) max_unsent_bytes: u32,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Command, CommandLine};

    fn push(arguments: &[&str]) -> Result<Push, clap::Error> {
        let all = ["ringwayd", "push"].iter().chain(arguments);
        CommandLine::try_parse_from(all).map(|line| match line.command {
            Command::Push(push) => push,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn files_and_receivers_stand_side_by_side() {
        let push = push(&["a", "b", "--to", "http://x/", "http://y/z"]).unwrap();
        assert_eq!(push.files, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(push.to.len(), 2);
        assert_eq!((push.limits.attempts.retries, push.limits.expect_min_bytes), (5, 1 << 20));
        assert_eq!(push.limits.total_rate_bytes_per_second, None);
    }

    #[test]
    fn senseless_values_are_refused() {
        for arguments in [
            ["--to", "x"],
            ["--header", "Host: x"],
            ["--header", "Authorization: Bearer x"],
            ["--header", "no field"],
            ["--header", "a b: x"],
            ["--rate-bytes-per-second", "0"],
            ["--retries", "1001"],
            ["--idle-timeout-seconds", "0"],
        ] {
            assert!(push(&arguments).is_err(), "{arguments:?}");
        }
        assert!(push(&["--token-file", "a", "--token-variable", "B"]).is_err());
    }
}
