//! The quick mode: a third of the points, the arms that matter, within a few minutes.

use std::time::Duration;

use anyhow::Result;

use crate::point::Choice;
use crate::rounds::{self, Keeps, Run};
use crate::schedule::Bounds;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the whole run may take, in seconds; more time buys more rounds.
    #[arg(long, value_name = "N", default_value_t = 220)]
    seconds_budget: u64,
    #[command(flatten)]
    rounds: rounds::Selection,
}

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, or a trial failed: wrong bytes fail the whole run.
pub(crate) fn run(options: &Options) -> Result<()> {
    let run = Run {
        mode: "quick",
        budget: Duration::from_secs(options.seconds_budget),
        bounds: Bounds::QUICK,
        plan: rounds::plan(&options.rounds, Choice::Quick)?,
        keeps: Keeps::Nothing,
    };
    rounds::run(&run, &options.rounds).map(drop)
}
