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
    let watch = Watch::start();
    let mut courses: Vec<Course> = Vec::new();
    for (seed, (point, arms)) in (1..).zip(&run.plan) {
        courses.push(Course::new(&stage, point, arms, seed));
    }
    let count = courses.len();
    for pass in 0..run.bounds.passes {
        for (index, course) in courses.iter_mut().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !run.bounds.insists {
                break;
            }
            let steps_left = (run.bounds.passes - pass) as usize * count - index;
            let until = Instant::now() + left / u32::try_from(steps_left)?;
            course.go_on(run.bounds.of_a_pass(), &stage, &directory, until)?;
        }
    }
    let neighbours = watch.seen();
    let mut rows = Vec::new();
    for course in &courses {
        let setting =
            Setting { mode: run.mode, machine: &machine, neighbours, point: course.point };
        let Some(new) = course.rows(&setting)? else {
            println!("no time was left for {}\n", course.point.name);
            continue;
        };
        println!("{}\n", table::point(course.point, &new));
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

/// A point on its way through the passes.
struct Course {
    point: &'static Point,
    /// Every arm, and why it is a gap if it is one.
    arms: Vec<(&'static Arm, Option<String>)>,
    seed: u64,
    /// What the arms that are no gaps did, in their order; each sample in the order of the rounds.
    parts: Vec<Part>,
    data: Option<DataFile>,
    rounds: u32,
}

impl Course {
    fn new(stage: &Stage, point: &'static Point, arms: &[&'static Arm], seed: u64) -> Self {
        let gap = |arm: &Arm| match (&stage.far, point.path) {
            (Err(why), point::Path::Veth) => Some(why.clone()),
            _ => arm.gap().map(str::to_owned),
        };
        let arms: Vec<_> = arms.iter().map(|arm| (*arm, gap(arm))).collect();
        Self { point, arms, seed, parts: Vec::new(), data: None, rounds: 0 }
    }

    fn present(&self) -> Vec<&'static Arm> {
        self.arms.iter().filter(|(_, gap)| gap.is_none()).map(|(arm, _)| *arm).collect()
    }

    /// One pass: all arms round by round. The first one makes the file and warms up.
    fn go_on(
        &mut self,
        bounds: Bounds,
        stage: &Stage,
        directory: &Path,
        until: Instant,
    ) -> Result<()> {
        let (point, present) = (self.point, self.present());
        if present.is_empty() {
            return Ok(());
        }
        let data = match self.data.take() {
            Some(data) => data,
            None => {
                let data = DataFile::create(directory, point, self.seed)?;
                for arm in &present {
                    let (sample, counted) = trial::run(stage, point, arm, &data, WARM_UP)?;
                    let counted = counted.map(|counted| PerGb::new(counted, &sample));
                    self.parts.push(Part { samples: Vec::new(), counted });
                }
                data
            }
        };
        data.heat()?;
        let left = until.saturating_duration_since(Instant::now());
        let begin = Instant::now();
        let progress = Progress::new(point.name, left, present.len());
        let mut done = 0;
        while schedule::goes_on(bounds, done, begin.elapsed(), left) {
            self.rounds += 1;
            for index in schedule::order(present.len(), self.rounds) {
                progress.arm(self.rounds, present[index].name);
                let (sample, _) = trial::run(stage, point, present[index], &data, self.rounds)?;
                self.parts[index].samples.push(sample);
            }
            done += 1;
            progress.round_done(self.rounds, begin.elapsed());
        }
        self.data = Some(data);
        Ok(())
    }

    /// A row for each arm; `None` if there was no time for the arms.
    fn rows(&self, setting: &Setting<'_>) -> Result<Option<Vec<Row>>> {
        let present = self.present();
        if self.rounds == 0 && !present.is_empty() {
            return Ok(None);
        }
        // If the baseline was not asked for, the first arm takes its place.
        let base = present.iter().position(|arm| arm.name == self.point.baseline()).unwrap_or(0);
        let row = |(arm, gap): &(&'static Arm, Option<String>)| match gap {
            Some(why) => Ok(Row::gap(setting, arm, why)),
            None => {
                let own = present.iter().position(|other| other.name == arm.name);
                let own = own.context("an arm was forgotten")?;
                Row::new(setting, arm, &self.parts[own], (present[base], &self.parts[base]))
            }
        };
        self.arms.iter().map(row).collect::<Result<Vec<Row>>>().map(Some)
    }
}
