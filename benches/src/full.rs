//! The full mode: every point of the matrix with every arm, for as long as one has.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::outline;
use crate::point::Choice;
use crate::rounds::{self, Keeps, Run};
use crate::schedule::Bounds;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the whole run may take; it is filled, the most telling points first.
    #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = humantime::parse_duration)]
    budget: Duration,
    /// Go on with a run that was ended early, from the journal beside its results; `--for` is what it may
    /// take from now on.
    #[arg(long, value_name = "JOURNAL", requires = "out")]
    resume: Option<PathBuf>,
    /// Print which points there is time for, how long each takes and how many rounds it has, and measure nothing.
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    rounds: rounds::Selection,
}

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, or a trial failed: wrong bytes fail the whole run.
pub(crate) fn run(options: &Options) -> Result<()> {
    let plan = rounds::plan(&options.rounds, Choice::Full)?;
    if options.plan {
        let points = plan
            .iter()
            .map(|(point, arms)| (*point, arms.iter().filter(|arm| arm.gap().is_none()).count()));
        let lines = outline::outline(points, Bounds::FULL, options.budget);
        println!("{}", outline::text(&lines, Bounds::FULL, options.budget));
        return Ok(());
    }
    let run = Run {
        mode: "full",
        budget: options.budget,
        bounds: Bounds::FULL,
        plan,
        keeps: options.resume.clone().map_or(Keeps::Journal, Keeps::Resumed),
    };
    rounds::run(&run, &options.rounds).map(drop)
}
