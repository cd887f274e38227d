//! Finds where one way becomes cheaper than another on this machine, and writes it as thresholds that
//! library and daemon can load.
//!
//! Each threshold is a question about sizes: up to which one is the first way cheaper than the second?
//! Both ways are forced at each size, interleaved like all arms; the answer is a pure function of their
//! intervals and of what the threshold is by default.

mod crossover;
mod questions;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ringway::Thresholds;

use self::crossover::{Limit, crossover};
use self::questions::{BODIES, Body, Case, NOT_ASKED, QUESTIONS, Question, SCANS, Scan};
use crate::arms::{self, Arm};
use crate::filter;
use crate::point::{self, Point};
use crate::receiving;
use crate::results::{Row, passes};
use crate::rounds::{self, Keeps, Run, Selection};
use crate::schedule::Bounds;
use crate::stats::{Estimate, estimate_ratio_of_passes};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the whole run may take, in seconds; more time buys more rounds.
    #[arg(long, value_name = "N", default_value_t = 240)]
    seconds_budget: u64,
    /// Write the thresholds to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    thresholds: Option<PathBuf>,
    /// Write what was measured as JSON lines into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the data files are put: a directory on a disk (default: the temporary directory).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Ask only about these thresholds, by field.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    fields: Vec<String>,
}

/// Measures, tells, and writes if files were named.
///
/// # Errors
///
/// A name is unknown, or a trial failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = |name: &str| {
        BODIES.iter().any(|one| one.field == name)
            || SCANS.iter().any(|one| one.field == name)
            || QUESTIONS.iter().any(|one| one.field == name)
    };
    if let Some(unknown) = options.fields.iter().find(|name| !known(name)) {
        bail!("there is no threshold {unknown} to calibrate");
    }
    let asked =
        |field: &str| options.fields.is_empty() || options.fields.iter().any(|f| f == field);
    let questions: Vec<&Question> = QUESTIONS.iter().filter(|one| asked(one.field)).collect();
    let mut budget = Duration::from_secs(options.seconds_budget);
    let mut thresholds = Thresholds::default();
    let mut moved = Vec::new();
    let scans: Vec<&Scan> = SCANS.iter().filter(|one| asked(one.field)).collect();
    let bodies: Vec<&Body> = BODIES.iter().filter(|one| asked(one.field)).collect();
    // What is asked by scanning or receiving a file takes its share of the time first.
    let share = budget / u32::try_from(questions.len() + scans.len() + bodies.len())?;
    for scan in scans {
        budget -= share;
        let compared = compare_runs(options, scan, share)?;
        let default = (scan.of)(&thresholds);
        let found = crossover(Limit::From, default, &compared);
        moved.extend(tell(scan.field, default, found, &compared));
        thresholds = (scan.set)(thresholds, found);
    }
    for body in bodies {
        budget -= share;
        let compared = compare_bodies(options, body, share)?;
        let default = (body.of)(&thresholds);
        let found = crossover(body.limit, default, &compared);
        moved.extend(tell(body.field, default, found, &compared));
        thresholds = (body.set)(thresholds, found);
    }
    let rows = match questions.is_empty() {
        true => Vec::new(),
        false => measure(options, budget, &questions)?,
    };
    for question in questions {
        let compared = compare(question, &rows);
        let default = (question.of)(&thresholds);
        let found = crossover(question.limit, default, &compared);
        moved.extend(tell(question.field, default, found, &compared));
        thresholds = (question.set)(thresholds, found);
    }
    for (field, why) in NOT_ASKED {
        println!("{field}: not asked, because {why}");
    }
    match &moved[..] {
        [] => println!("nothing differs from the defaults"),
        moved => println!("what differs from the defaults:\n  {}", moved.join("\n  ")),
    }
    let text = serde_json::to_string_pretty(&thresholds)?;
    match &options.thresholds {
        Some(path) => {
            std::fs::write(path, text + "\n")
                .with_context(|| format!("no writing to {}", path.display()))?;
            println!("written to {}: ringwayd serve --thresholds {0}", path.display());
        }
        None => println!("{text}"),
    }
    Ok(())
}

/// Prints what was found with its evidence; a line if it differs from the default.
fn tell(field: &str, default: u64, found: u64, compared: &[(u64, Estimate)]) -> Option<String> {
    println!("{field}: {found} bytes (default {default})");
    let line = |(bytes, ratio): &(u64, Estimate)| {
        format!("{bytes} bytes × {}", crate::table::interval(ratio, 2))
    };
    for evidence in compared {
        println!("  the first way to the second at {}", line(evidence));
    }
    // Those between the two are what moved it, and the first on either side is what did not.
    let (least, most) = (default.min(found), default.max(found));
    let between = compared.iter().filter(|(bytes, _)| (least..=most).contains(bytes));
    let evidence: Vec<String> = between.map(line).collect();
    (found != default)
        .then(|| format!("{field}: {default} → {found} bytes, by {}", evidence.join(", ")))
}

fn measure(options: &Options, budget: Duration, questions: &[&Question]) -> Result<Vec<Row>> {
    let (out, data_dir) = (options.out.clone(), options.data_dir.clone());
    let selection = Selection { out, points: Vec::new(), arms: Vec::new(), data_dir };
    let (bounds, keeps) = (Bounds::QUICK, Keeps::Nothing);
    let run = Run { mode: "calibrate", budget, bounds, plan: plan(questions)?, keeps };
    rounds::run(&run, &selection)
}

/// CPU of gathering to that of referring, at each length of runs.
fn compare_runs(options: &Options, scan: &Scan, time: Duration) -> Result<Vec<(u64, Estimate)>> {
    let patterns: Vec<&str> = scan.runs.iter().map(|(_, pattern)| *pattern).collect();
    let directory = crate::data::directory(options.data_dir.as_deref())?;
    let arms = ["ringway-gathered", "ringway-referred"];
    // Scanning pins this thread, and what is measured next looks for its CPUs anew.
    let cpus = rustix::thread::sched_getaffinity(None)?;
    let ratios = filter::ratios(&directory, &patterns, arms, time)?;
    rustix::thread::sched_setaffinity(None, &cpus)?;
    Ok(scan.runs.iter().map(|(bytes, _)| *bytes).zip(ratios).collect())
}

/// CPU of receiving with the greatest value of the threshold to that with none, at each length of bodies.
fn compare_bodies(options: &Options, body: &Body, time: Duration) -> Result<Vec<(u64, Estimate)>> {
    let directory = crate::data::directory(options.data_dir.as_deref())?;
    eprintln!("{}: bodies of {} lengths", body.field, body.lengths.len());
    let ways = [u64::MAX, 0].map(|value| (body.set)(Thresholds::default(), value));
    let cpus = rustix::thread::sched_getaffinity(None)?;
    let ratios = receiving::ratios(&directory, body.lengths, &ways, time)?;
    rustix::thread::sched_setaffinity(None, &cpus)?;
    Ok(body.lengths.iter().copied().zip(ratios).collect())
}

/// Each point once, with all arms that any question wants there.
fn plan(questions: &[&Question]) -> Result<rounds::Plan> {
    let mut plan: Vec<(&'static Point, Vec<&'static Arm>)> = Vec::new();
    for case in questions.iter().flat_map(|question| question.cases) {
        let point = point::named(case.point).context("no such point")?;
        let at = plan.iter().position(|(own, _)| own.name == point.name).unwrap_or(plan.len());
        if at == plan.len() {
            plan.push((point, Vec::new()));
        }
        for name in [case.below, case.above] {
            let arm = arms::named(name, point).context("no such arm")?;
            if !plan[at].1.iter().any(|own| own.name == arm.name) {
                plan[at].1.push(arm);
            }
        }
    }
    Ok(plan)
}

/// CPU of the first way to that of the second, round by round, at each size.
fn compare(question: &Question, rows: &[Row]) -> Vec<(u64, Estimate)> {
    let row = |point: &str, arm: &str| rows.iter().find(|row| row.point == point && row.arm == arm);
    let cpu =
        |row: &Row| -> Vec<f64> { row.samples.iter().map(|sample| sample.usage.cpu_s()).collect() };
    let ratio = |case: &Case| {
        let (below, above) = (row(case.point, case.below)?, row(case.point, case.above)?);
        let passes = passes(&below.samples);
        Some((case.bytes, estimate_ratio_of_passes(&cpu(below), &cpu(above), &passes)?))
    };
    question.cases.iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_can_be_asked() {
        let all: Vec<&Question> = QUESTIONS.iter().collect();
        assert!(plan(&all).unwrap().len() > 8);
        for question in QUESTIONS {
            let changed = (question.set)(Thresholds::default(), 12_345);
            assert_eq!((question.of)(&changed), 12_345, "{}", question.field);
            assert!(question.cases.is_sorted_by_key(|case| case.bytes), "{}", question.field);
        }
    }

    #[test]
    fn what_is_asked_by_receiving_moves_its_own_field() {
        for body in BODIES {
            let changed = (body.set)(Thresholds::default(), 12_345);
            assert_eq!((body.of)(&changed), 12_345, "{}", body.field);
            assert!(body.lengths.is_sorted(), "{}", body.field);
        }
        assert!(NOT_ASKED.iter().all(|(_, why)| !why.is_empty()));
    }

    #[test]
    fn every_threshold_is_asked_about_or_named_as_not() {
        let fields = serde_json::to_value(Thresholds::default()).unwrap();
        let asked = QUESTIONS.iter().map(|question| question.field);
        let mut named: Vec<&str> = asked
            .chain(NOT_ASKED.iter().map(|(field, _)| *field))
            .chain(BODIES.iter().map(|body| body.field))
            .chain(SCANS.iter().map(|scan| scan.field))
            .collect();
        named.sort_unstable();
        let mut fields: Vec<&str> =
            fields.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(named, fields);
    }

    #[test]
    fn what_differs_is_told_with_its_evidence() {
        let ratio = |low, high| Estimate { median: f64::midpoint(low, high), low, high };
        let compared = [(4096, ratio(0.7, 0.8)), (8192, ratio(0.8, 0.9)), (16384, ratio(1.1, 1.2))];
        let said = tell("copy_max_bytes", 4096, 8192, &compared).unwrap();
        assert!(said.contains("4096 → 8192 bytes"), "{said}");
        assert!(said.contains("8192 bytes × 0.85 [0.80–0.90]"), "{said}");
        assert!(!said.contains("16384"), "{said}");
        assert_eq!(tell("copy_max_bytes", 4096, 4096, &compared), None);
    }

    #[test]
    fn written_thresholds_can_be_loaded() {
        let thresholds = Thresholds::default().with_copy_max_bytes(99);
        let text = serde_json::to_string_pretty(&thresholds).unwrap();
        assert_eq!(serde_json::from_str::<Thresholds>(&text).unwrap(), thresholds);
        let part: Thresholds = serde_json::from_str("{\"copy_max_bytes\": 99}").unwrap();
        assert_eq!(part, thresholds);
        assert!(serde_json::from_str::<Thresholds>("{\"copy_max\": 99}").is_err());
    }
}
