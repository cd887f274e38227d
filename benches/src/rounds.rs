//! Points and arms, round by round: what `quick`, `full` and `calibrate` have in common.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::arms::{self, Arm};
use crate::data::{self, DataFile};
use crate::journal::{Entry, Journal};
use crate::machine::{Machine, pin_to};
use crate::neighbours::Watch;
use crate::network::{self, Far};
use crate::point::{self, Choice, POINTS, Point};
use crate::progress::Progress;
use crate::results::{self, Part, PerGb, Row, Setting};
use crate::schedule::{self, Bounds};
use crate::trial::{self, Sample, Stage, WARM_UP};
use crate::{counters, outline, table};

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
    pub(crate) keeps: Keeps,
}

/// Whether what was measured outlives a run that is ended early.
#[derive(Debug)]
pub(crate) enum Keeps {
    Nothing,
    /// In a journal beside the results, if they are written at all.
    Journal,
    /// In this one, which is gone on with.
    Resumed(PathBuf),
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
    let mut journal = match (&run.keeps, &options.out) {
        (Keeps::Nothing, _) | (Keeps::Journal, None) => None,
        (Keeps::Journal, Some(out)) => Some(Journal::begin(out, run.mode, &machine)?),
        (Keeps::Resumed(path), _) => {
            let (journal, entries) = Journal::resume(path, &machine)?;
            entries.into_iter().try_for_each(|entry| resume(&mut courses, entry))?;
            Some(journal)
        }
    };
    go_through(run, &mut courses, (&stage, &directory), journal.as_mut(), deadline)?;
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
            journal.map_or(Ok(()), Journal::end)?;
        }
        None => println!("not written to a file; --out benches/results would"),
    }
    Ok(rows)
}

/// Takes a pass of an earlier run for one of this.
fn resume(courses: &mut [Course], entry: Entry) -> Result<()> {
    let course = courses.iter_mut().find(|course| course.point.name == entry.point);
    let course = course.with_context(|| format!("the journal's {} is not wanted", entry.point))?;
    let names: Vec<&str> = course.present().iter().map(|arm| arm.name).collect();
    let of_entry: Vec<&str> = entry.parts.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == of_entry, "the journal has other arms for {}", entry.point);
    course.parts.resize(names.len(), Part::default());
    for (part, (_, more)) in course.parts.iter_mut().zip(entry.parts) {
        part.samples.extend(more.samples);
        part.counted = more.counted;
    }
    let rounds = entry.rounds - course.rounds;
    (course.passes, course.rounds, course.pass_took) = (entry.pass, entry.rounds, entry.took);
    course.least_pass = entry.took / rounds.max(1);
    Ok(())
}

/// All points, pass by pass. The first pass does the least, and shows how many of the points there is time for.
fn go_through(
    run: &Run,
    courses: &mut [Course],
    (stage, directory): (&Stage, &Path),
    mut journal: Option<&mut Journal>,
    deadline: Instant,
) -> Result<()> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut go_on = |course: &mut Course, time| {
        course.go_on(run.bounds, stage, directory, time)?;
        journal.as_mut().map_or(Ok(()), |journal| journal.note(&course.last_pass()))
    };
    let (mut begun, mut pass_of_begun, mut reckoned) = (0, Duration::ZERO, Duration::ZERO);
    for course in courses.iter_mut() {
        if course.passes == 0 {
            let next = schedule::corrected(course.reckoned, reckoned, pass_of_begun);
            if !schedule::admits(run.bounds, pass_of_begun, next, left()) {
                break;
            }
            go_on(course, Duration::ZERO)?;
        }
        pass_of_begun += course.least_pass;
        reckoned += course.reckoned;
        begun += 1;
    }
    if courses.len() > 1 && run.bounds.passes > 1 {
        eprintln!(
            "{begun} of {} points were begun; one pass with one round takes {:.0} s, and {:.0} s are left",
            courses.len(),
            pass_of_begun.as_secs_f64(),
            left().as_secs_f64()
        );
    }
    let courses = &mut courses[..begun];
    for pass in 1..run.bounds.passes {
        for index in 0..courses.len() {
            if left().is_zero() && !run.bounds.insists {
                return Ok(());
            }
            let missing = |course: &Course| run.bounds.passes.saturating_sub(course.passes);
            let steps_left: u32 = courses.iter().map(missing).sum();
            let least_of_all = courses.iter().map(|it| it.least_pass * missing(it)).sum();
            if courses[index].passes <= pass {
                let least = courses[index].least_pass;
                let time = schedule::share(left(), least, least_of_all, steps_left);
                go_on(&mut courses[index], time)?;
            }
        }
    }
    Ok(())
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
    rounds: u32,
    passes: u32,
    /// How long the last pass took, its file included and warming up not.
    pass_took: Duration,
    /// The same for a pass of one round.
    least_pass: Duration,
    /// What that was reckoned to be before anything ran.
    reckoned: Duration,
}

impl Course {
    fn new(stage: &Stage, point: &'static Point, arms: &[&'static Arm], seed: u64) -> Self {
        let gap = |arm: &Arm| match (&stage.far, point.path) {
            (Err(why), point::Path::Veth) => Some(why.clone()),
            _ => arm.gap().map(str::to_owned),
        };
        let arms: Vec<_> = arms.iter().map(|arm| (*arm, gap(arm))).collect();
        let present = arms.iter().filter(|(_, gap): &&(_, Option<String>)| gap.is_none()).count();
        let reckoned = outline::outline([(point, present)], Bounds::FULL, Duration::ZERO);
        let reckoned = reckoned.first().map_or(Duration::ZERO, |line| line.pass);
        let (parts, zero) = (Vec::new(), Duration::ZERO);
        let (pass_took, least_pass) = (zero, zero);
        Self { point, arms, seed, parts, rounds: 0, passes: 0, pass_took, least_pass, reckoned }
    }

    fn present(&self) -> Vec<&'static Arm> {
        self.arms.iter().filter(|(_, gap)| gap.is_none()).map(|(arm, _)| *arm).collect()
    }

    /// One pass: a new file, and all arms round by round. The first one warms up.
    fn go_on(
        &mut self,
        bounds: Bounds,
        stage: &Stage,
        directory: &Path,
        time: Duration,
    ) -> Result<()> {
        let (point, present) = (self.point, self.present());
        if present.is_empty() {
            return Ok(());
        }
        let bounds = bounds.of_a_pass();
        let begin = Instant::now();
        self.passes += 1;
        // Other bytes at each point and in each pass: one that comes from elsewhere is seen.
        let seed = self.seed * 1000 + u64::from(self.passes);
        let data = DataFile::create(directory, point, seed)?;
        let made = begin.elapsed();
        if self.parts.is_empty() {
            for arm in &present {
                let (sample, counted) = trial::run(stage, point, arm, &data, WARM_UP)?;
                let counted = counted.map(|counted| PerGb::new(counted, &sample));
                self.parts.push(Part { samples: Vec::new(), counted });
            }
        }
        let left = time.saturating_sub(made);
        let begin = Instant::now();
        let progress = Progress::of_pass(point.name, (self.passes, bounds.passes), left);
        let mut done = 0;
        while schedule::goes_on(bounds, done, begin.elapsed(), left) {
            self.rounds += 1;
            for index in schedule::order(present.len(), self.rounds) {
                progress.arm(self.rounds, present[index].name);
                let (sample, _) = trial::run(stage, point, present[index], &data, self.rounds)?;
                let pass = self.passes;
                self.parts[index].samples.push(Sample { pass, ..sample });
            }
            done += 1;
            progress.round_done(self.rounds, begin.elapsed());
        }
        self.pass_took = made + begin.elapsed();
        self.least_pass = made + begin.elapsed() / done.max(1);
        Ok(())
    }

    /// The pass that was made last, for the journal.
    fn last_pass(&self) -> Entry {
        let of_pass = |(arm, part): (&Arm, &Part)| {
            let own = part.samples.iter().filter(|sample| sample.pass == self.passes).cloned();
            (arm.name.to_owned(), Part { samples: own.collect(), counted: part.counted })
        };
        let point = self.point.name.to_owned();
        let parts = self.present().into_iter().zip(&self.parts).map(of_pass).collect();
        Entry { point, pass: self.passes, rounds: self.rounds, took: self.pass_took, parts }
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
