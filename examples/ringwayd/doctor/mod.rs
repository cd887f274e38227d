//! `ringwayd doctor`: what this kernel and these limits allow, which routes are taken, and what to
//! change and how.
//!
//! | room | is | pure |
//! |---|---|---|
//! | `facts` | what is asked and tried | |
//! | `trial` | real transfers over loopback, of a small, a large and a cold file | |
//! | `secure` | TLS with ourselves: which cipher, and who seals | |
//! | `judge` | facts to findings, each with what to do | yes |

mod facts;
mod judge;
mod secure;
mod trial;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use self::facts::Facts;
use self::judge::{Finding, State, exit_status, judge};
use std::path::PathBuf;

/// The settings of `ringwayd doctor`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Doctor {
    /// A folder on the file system in question; files of 16 MiB are made there and removed at once.
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,

    /// Tells everything as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Looks, tries and tells.
///
/// # Errors
///
/// When standard output takes nothing.
pub(crate) fn run(settings: &Doctor) -> anyhow::Result<ExitCode> {
    let facts = Facts::gather(&settings.folder);
    let findings = judge(&facts);
    let status = exit_status(&findings);
    let mut out = io::stdout().lock();
    if settings.json {
        let rows: Vec<_> = findings.iter().map(Finding::json).collect();
        writeln!(out, "{}", json!({ "findings": rows, "exit": status }))?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
        let verdict = match status {
            0 => "Everything that makes it fast is there.",
            3 => "It works, and could be faster or hold more: see the lines marked with `!`.",
            _ => "It does not work here: see the lines marked with `✗`.",
        };
        writeln!(out, "\n{verdict}")?;
    }
    out.flush()?;
    debug_assert!(
        findings.iter().all(|finding| finding.state == State::Good || finding.has_remedy())
    );
    Ok(ExitCode::from(status))
}
