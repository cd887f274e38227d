//! Settings from a TOML file: a table for each command, a key for each of its options.
//!
//! ```toml
//! [serve]
//! root = "/srv/files"
//! listen = ["127.0.0.1:8080", "[::1]:8080"]
//! idle_timeout_seconds = 30
//!
//! [push]
//! to = ["http://a.example/in/", "http://b.example/in/"]
//! token_file = "/etc/ringwayd/token"
//! ```
//!
//! There is one list of options, that of the command line: a key is the long name of an option with `_`
//! for `-`, and its value is read and judged by the very same code. What is said on the command line
//! takes the place of what the file says. A key that is no option is an error.
//!
//! | room | is | pure |
//! |---|---|---|
//! | `document` | text to keys with their lines | yes |
//! | `options` | keys to arguments, or what is wrong with them | yes |

mod document;
mod options;

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser};

use self::document::{Complaint, Document};
use self::options::Options;
use crate::cli::CommandLine;

/// Bytes of a file of settings, at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The settings of `ringwayd check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Check {
    /// The file of settings to look at.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The command line of this process, with what a file of settings adds to it. Ends the process as clap
/// does if the command line itself is wrong.
///
/// # Errors
///
/// What is wrong with the file: its name, lines, keys, and what to write instead.
pub(crate) fn command_line() -> anyhow::Result<CommandLine> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let line = CommandLine::parse_from(&arguments);
    let Some(path) = line.config.clone() else { return Ok(line) };
    let matches = CommandLine::command().get_matches_from(&arguments);
    let (command, given) = matches.subcommand().context("no command was given")?;
    let said = |option: &str| given.value_source(option) == Some(ValueSource::CommandLine);
    let options = read(&path)?;
    let more = options.arguments(command, said);
    let all = options::insert(&arguments, command, &more, &path);
    let merged = CommandLine::command().try_get_matches_from(all);
    let merged = merged.and_then(|matches| CommandLine::from_arg_matches(&matches));
    merged.map_err(|error| anyhow!("{}: {}", path.display(), options::sentence(&error)))
}

/// Looks at a file of settings and says what it found.
///
/// # Errors
///
/// As for [`command_line`].
pub(crate) fn check(settings: &Check) -> anyhow::Result<ExitCode> {
    let options = read(&settings.file)?;
    println!("{}: {}", settings.file.display(), options);
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<Options> {
    let shown = path.display();
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        metadata.len() <= FILE_BYTES_MAX,
        "{shown} has more than {FILE_BYTES_MAX} bytes, which are no settings"
    );
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let options = Document::parse(&text).and_then(|document| Options::judge(&document));
    options.map_err(|complaints| anyhow!("{}", tell(path, &complaints)))
}

/// A line for each complaint, as compilers write them.
fn tell(path: &Path, complaints: &[Complaint]) -> String {
    let plural = if complaints.len() == 1 { "" } else { "s" };
    let mut text = format!("{} mistake{plural}", complaints.len());
    for Complaint { line, what } in complaints {
        // Writing to a String does not fail.
        _ = write!(text, "\n{}:{line}: {what}", path.display());
    }
    text
}
