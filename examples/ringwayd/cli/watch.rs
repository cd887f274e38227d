//! The settings of `ringwayd watch` and `ringwayd status`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::push::Push;
use super::seconds;
use crate::privileges::Identity;
use crate::watch::Done;

/// Which folder is watched, where its files go, and what becomes of them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Watch {
    /// The folder to watch.
    #[arg(value_name = "DIR", required = false)]
    pub(crate) dir: Option<PathBuf>,

    /// Takes the files of subfolders too; their paths stand behind the URL, and folders that a receiver
    /// does not have are its affair.
    #[arg(long)]
    pub(crate) recursive: bool,

    /// Milliseconds that a file must have been left alone before it is pushed, up to a minute.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = settle())]
    pub(crate) settle_milliseconds: u64,

    /// Names that are passed over, as shell patterns; one with a `/` is for the whole path below DIR.
    /// An empty one takes the place of the default and passes over nothing.
    #[arg(long, value_name = "PATTERN", default_values = [".*", "*.tmp", "*.part", "*~"])]
    pub(crate) ignore: Vec<String>,

    /// What becomes of a file that every receiver has: `keep`, `delete`, or `move:DIR` on the same
    /// file system.
    #[arg(long, value_name = "POLICY", default_value_t = Done::Keep)]
    pub(crate) done: Done,

    /// Files that are remembered at once, delivered ones that are kept included; about 400 bytes of
    /// memory each, and 100 more for each receiver. Further ones wait.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = files())]
    pub(crate) max_files: u64,

    /// Seconds that running pushes may take to finish after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    pub(crate) drain_timeout_seconds: u64,

    /// Address and port for `/health` and `/metrics` (Prometheus); not told to anybody if not given.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<SocketAddr>,

    /// Becomes this user, and this group if one is named, before anything is opened; needs root.
    #[arg(long, value_name = "NAME[:GROUP]")]
    pub(crate) user: Option<Identity>,

    /// All that a push has: receivers, tokens, limits. Its files are those of the folder.
    #[command(flatten)]
    pub(crate) push: Push,
}

/// What is to be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    /// The state folder of the `watch` that is meant; without it ~/.local/state/ringwayd.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Tells it as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// Queues again what was given up: all of it, or the files of these paths below the folder.
    #[arg(long, value_name = "PATH", num_args = 0..)]
    pub(crate) retry: Option<Vec<String>>,
}

/// None up to a minute.
fn settle() -> clap::builder::RangedU64ValueParser<u64> {
    clap::builder::RangedU64ValueParser::new().range(0..=60_000)
}

fn files() -> clap::builder::RangedU64ValueParser<u64> {
    clap::builder::RangedU64ValueParser::new().range(1..=100_000_000)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Command, CommandLine};

    fn watch(arguments: &[&str]) -> Result<Watch, clap::Error> {
        let all = ["ringwayd", "watch"].iter().chain(arguments);
        CommandLine::try_parse_from(all).map(|line| match line.command {
            Command::Watch(watch) => watch,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_folder_and_the_options_of_a_push_stand_side_by_side() {
        let watch = watch(&["in", "--to", "http://a/", "http://b/", "--retries", "3"]).unwrap();
        assert_eq!(watch.dir, Some(PathBuf::from("in")));
        assert_eq!((watch.push.to.len(), watch.push.limits.attempts.retries), (2, 3));
        assert!(watch.push.files.is_empty() && watch.done == Done::Keep && !watch.recursive);
        assert_eq!(watch.ignore, [".*", "*.tmp", "*.part", "*~"]);
    }

    #[test]
    fn senseless_values_are_refused() {
        for arguments in [
            ["--done", "burn"],
            ["--done", "move:"],
            ["--settle-milliseconds", "60001"],
            ["--max-files", "0"],
            ["--drain-timeout-seconds", "0"],
        ] {
            assert!(watch(&arguments).is_err(), "{arguments:?}");
        }
    }
}
