//! The quick mode: the most telling points, every arm of each, within a few minutes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arms::{self, Arm};
use crate::data::{self, DataFile};
use crate::machine::{Machine, pin_to};
use crate::neighbours::{Neighbours, Watch};
use crate::point::{self, POINTS, Point};
use crate::progress::Progress;
use crate::results::{self, Row};
use crate::trial::{self, Sample, Stage};
use crate::{schedule, table};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the whole run may take, in seconds; more time buys more rounds.
    #[arg(long, value_name = "N", default_value_t = 120)]
    seconds_budget: u64,
    /// Write the results as JSON lines into this directory (nothing is written otherwise).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure only these points, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    points: Vec<String>,
    /// Measure only these arms, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    arms: Vec<String>,
    /// Where the data files are put: a directory on a disk (default: the temporary directory).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, or a trial failed: wrong bytes fail the whole run.
pub(crate) fn run(options: &Options) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(options.seconds_budget);
    let plan = plan(options)?;
    let directory = data::directory(options.data_dir.as_deref())?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", table::heading(&machine));
    if !machine.optimized {
        eprintln!("warning: this is a debug build; its figures are not those of a release build");
    }
    // The receiver runs in this thread; senders move themselves to their own CPU.
    pin_to(machine.receiver_cpu)?;
    let stage = Stage { binary: std::env::current_exe()?, sender_cpu: machine.sender_cpu };
    let mut rows = Vec::new();
    for (index, (point, arms)) in plan.iter().enumerate() {
        let points_left = u32::try_from(plan.len() - index)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let point_deadline = Instant::now() + left / points_left;
        let data = DataFile::create(&directory, point.file_len, index as u64 + 1)?;
        let watch = Watch::start();
        let samples = measure(&stage, point, arms, &data, point_deadline)?;
        let new = condense(&machine, watch.seen(), point, arms, &samples)?;
        println!("{}\n", table::point(point, &new));
        rows.extend(new);
    }
    match &options.out {
        Some(directory) => {
            let path = results::write(directory, "quick", &machine, &rows)?;
            println!("written to {}", path.display());
        }
        None => println!("not written to a file; --out benches/results would"),
    }
    Ok(())
}

/// Which arms run at which points.
fn plan(options: &Options) -> Result<Vec<(&'static Point, Vec<&'static Arm>)>> {
    let points: Vec<&Point> = if options.points.is_empty() {
        POINTS.iter().filter(|point| !point.hidden).collect()
    } else {
        let find = |name: &String| point::named(name).with_context(|| format!("no point {name}"));
        options.points.iter().map(find).collect::<Result<_>>()?
    };
    for name in &options.arms {
        if !arms::all().any(|arm| arm.name == name) {
            bail!("no arm {name}");
        }
    }
    let wanted = |arm: &Arm| match options.arms.is_empty() {
        true => !arm.hidden,
        false => options.arms.iter().any(|name| name == arm.name),
    };
    let fitting = |point| arms::all().filter(|arm| arm.fits(point) && wanted(arm)).collect();
    let plan = points.into_iter().map(|point| (point, fitting(point)));
    let plan: Vec<(_, Vec<_>)> = plan.filter(|(_, arms): &(_, Vec<_>)| !arms.is_empty()).collect();
    if plan.is_empty() {
        bail!("none of these arms is made for these points");
    }
    Ok(plan)
}

/// Runs all arms round by round; the samples of each arm are in the order of the rounds.
fn measure(
    stage: &Stage,
    point: &Point,
    arms: &[&Arm],
    data: &DataFile,
    deadline: Instant,
) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); arms.len()];
    for arm in arms {
        // The warm-up: its bytes are verified like all others, its figures are dropped.
        trial::run(stage, point, arm, data, 0)?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let begin = Instant::now();
    let progress = Progress::new(point.name, left, arms.len());
    let mut done = 0;
    while schedule::goes_on(done, begin.elapsed(), left) {
        let round = done + 1;
        for index in schedule::order(arms.len(), round) {
            progress.arm(round, arms[index].name);
            samples[index].push(trial::run(stage, point, arms[index], data, round)?);
        }
        done = round;
        progress.round_done(round, begin.elapsed());
    }
    Ok(samples)
}

fn condense(
    machine: &Machine,
    neighbours: Neighbours,
    point: &Point,
    arms: &[&Arm],
    samples: &[Vec<Sample>],
) -> Result<Vec<Row>> {
    // If the baseline was not asked for, the first arm takes its place.
    let base = arms.iter().position(|arm| arm.name == point.baseline).unwrap_or(0);
    let rows = arms.iter().zip(samples).map(|(arm, own)| {
        Row::new((machine, neighbours), point, arm, own, (arms[base], &samples[base]))
    });
    rows.collect()
}
