//! Points and arms, round by round: what `quick`, `full` and `calibrate` have in common.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::arms::{self, Arm};
use crate::data::{self, DataFile};
use crate::machine::{Machine, pin_to};
use crate::neighbours::Watch;
use crate::network::{self, Far};
use crate::point::{self, Choice, POINTS, Point};
use crate::progress::Progress;
use crate::results::{self, Part, PerGb, Row, Setting};
use crate::schedule::{self, Bounds};
use crate::trial::{self, Stage, WARM_UP};
use crate::{counters, table};

/// What is measured, for how long, and where it goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// Write the results as JSON lines into this directory (nothing is written otherwise).
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Measure only these points, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) points: Vec<String>,
    /// Measure only these arms, by name; `all` takes those of the full run.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) arms: Vec<String>,
    /// Where the data files are put: a directory on a disk (default: the temporary directory).
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// A run of points and their arms.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) mode: &'static str,
    /// How long it may take in all.
    pub(crate) budget: Duration,
    pub(crate) bounds: Bounds,
    pub(crate) plan: Plan,
}

/// Which arms run at which points.
pub(crate) type Plan = Vec<(&'static Point, Vec<&'static Arm>)>;

/// The points and arms that `options` name, or those that `choice` takes.
///
/// # Errors
///
/// A name is unknown, or nothing fits together.
pub(crate) fn plan(options: &Selection, choice: Choice) -> Result<Plan> {
    let takes = |own| own == Choice::Quick || own == choice;
    let points: Vec<&Point> = if options.points.is_empty() {
        POINTS.iter().filter(|point| takes(point.choice)).collect()
    } else {
        let find = |name: &String| point::named(name).with_context(|| format!("no point {name}"));
        options.points.iter().map(find).collect::<Result<_>>()?
    };
    for name in options.arms.iter().filter(|name| *name != "all") {
        ensure!(arms::all().any(|arm| arm.name == name), "no arm {name}");
    }
    let wanted = |arm: &Arm| match &options.arms[..] {
        [] => takes(arm.choice),
        names => names
            .iter()
            .any(|name| name == arm.name || (name == "all" && arm.choice != Choice::Hidden)),
    };
    let fitting = |point| arms::all().filter(|arm| arm.fits(point) && wanted(arm)).collect();
    let plan = points.into_iter().map(|point| (point, fitting(point)));
    let plan: Plan = plan.filter(|(_, arms): &(_, Vec<_>)| !arms.is_empty()).collect();
    if plan.is_empty() {
        bail!("none of these arms is made for these points");
    }
    Ok(plan)
}

/// Measures, prints, writes if a directory was given, and gives back the rows.
///
/// # Errors
///
/// A trial failed: wrong bytes fail the whole run.
pub(crate) fn run(run: &Run, options: &Selection) -> Result<Vec<Row>> {
    let deadline = Instant::now() + run.budget;
    let directory = data::directory(options.data_dir.as_deref())?;
    let stage = stage(&directory)?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", table::heading(&machine));
    if !machine.optimized {
        eprintln!("warning: this is a debug build; its figures are not those of a release build");
    }
    if let Err(why) = &stage.syscall_event {
        eprintln!("system calls are not counted: {why}");
    }
    // The receiver runs in this thread; senders move themselves to their own CPU.
    pin_to(machine.receiver_cpu)?;
    let mut rows = Vec::new();
    for (index, (point, arms)) in run.plan.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() && index > 0 && run.budget > Duration::from_secs(1) {
            let names: Vec<_> = run.plan[index..].iter().map(|(point, _)| point.name).collect();
            println!("no time was left for: {}", names.join(", "));
            break;
        }
        let points_left = u32::try_from(run.plan.len() - index)?;
        let point_deadline = Instant::now() + left / points_left;
        let seed = index as u64 + 1;
        let new =
            measure(run, &stage, &machine, (point, arms), (&directory, seed), point_deadline)?;
        println!("{}\n", table::point(point, &new));
        rows.extend(new);
    }
    match &options.out {
        Some(directory) => {
            let path = results::write(directory, run.mode, &machine, &rows)?;
            println!("written to {}", path.display());
        }
        None => println!("not written to a file; --out benches/results would"),
    }
    Ok(rows)
}

/// Sets up what all trials share: networks and counters, each with its reason if it cannot be had.
fn stage(directory: &Path) -> Result<Stage> {
    let binary = std::env::current_exe()?;
    let syscall_event = counters::syscall_event().map_err(|why| format!("{why:#}"));
    let far = network::enter().and_then(|()| Far::lay(&binary));
    let far = far.map_err(|why| format!("no veth pair: {why:#}"));
    ensure!(directory.is_dir(), "{} is no directory", directory.display());
    let (sender_cpu, _) = crate::machine::two_cpus()?;
    Ok(Stage { binary, sender_cpu, far, syscall_event })
}

fn measure(
    run: &Run,
    stage: &Stage,
    machine: &Machine,
    (point, arms): (&Point, &[&Arm]),
    (directory, seed): (&Path, u64),
    deadline: Instant,
) -> Result<Vec<Row>> {
    let gap = |arm: &Arm| match (&stage.far, point.path) {
        (Err(why), point::Path::Veth) => Some(why.clone()),
        _ => arm.gap().map(str::to_owned),
    };
    let present: Vec<&Arm> = arms.iter().copied().filter(|arm| gap(arm).is_none()).collect();
    let watch = Watch::start();
    let mut parts = Vec::new();
    if !present.is_empty() {
        let data = DataFile::create(directory, point, seed)?;
        parts = rounds(run.bounds, stage, point, &present, &data, deadline)?;
    }
    let setting = Setting { mode: run.mode, machine, neighbours: watch.seen(), point };
    // If the baseline was not asked for, the first arm takes its place.
    let base = present.iter().position(|arm| arm.name == point.baseline()).unwrap_or(0);
    let row = |arm: &&Arm| match gap(arm) {
        Some(why) => Ok(Row::gap(&setting, arm, &why)),
        None => {
            let own = present.iter().position(|other| other.name == arm.name);
            let own = own.context("an arm was forgotten")?;
            Row::new(&setting, arm, &parts[own], (present[base], &parts[base]))
        }
    };
    arms.iter().map(row).collect()
}

/// Runs all arms round by round; the samples of each arm are in the order of the rounds.
fn rounds(
    bounds: Bounds,
    stage: &Stage,
    point: &Point,
    arms: &[&Arm],
    data: &DataFile,
    deadline: Instant,
) -> Result<Vec<Part>> {
    let mut parts = vec![Part::default(); arms.len()];
    for (arm, part) in arms.iter().zip(&mut parts) {
        let (sample, counted) = trial::run(stage, point, arm, data, WARM_UP)?;
        part.counted = counted.map(|counted| PerGb::new(counted, &sample));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let begin = Instant::now();
    let progress = Progress::new(point.name, left, arms.len());
    let mut done = 0;
    while schedule::goes_on(bounds, done, begin.elapsed(), left) {
        let round = done + 1;
        for index in schedule::order(arms.len(), round) {
            progress.arm(round, arms[index].name);
            let (sample, _) = trial::run(stage, point, arms[index], data, round)?;
            parts[index].samples.push(sample);
        }
        done = round;
        progress.round_done(round, begin.elapsed());
    }
    Ok(parts)
}
