//! Finds where one way becomes cheaper than another on this machine, and writes it as thresholds that
//! library and daemon can load.
//!
//! Each threshold is a question about sizes: up to which one is the first way cheaper than the second?
//! Both ways are forced at each size, interleaved like all arms; the answer is a pure function of their
//! intervals and of what the threshold is by default.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use ringway::Thresholds;

use crate::arms::{self, Arm};
use crate::point::{self, KIB, MIB, Point};
use crate::results::Row;
use crate::rounds::{self, Run, Selection};
use crate::schedule::Bounds;
use crate::stats::{Estimate, estimate_ratio};

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

/// One threshold, and what decides it.
#[derive(Debug)]
struct Question {
    field: &'static str,
    of: fn(&Thresholds) -> u64,
    set: fn(Thresholds, u64) -> Thresholds,
    cases: &'static [Case],
}

/// A size at which two ways meet.
#[derive(Debug)]
struct Case {
    bytes: u64,
    point: &'static str,
    /// Taken up to the threshold.
    below: &'static str,
    /// Taken above it.
    above: &'static str,
}

const fn case(bytes: u64, point: &'static str, below: &'static str, above: &'static str) -> Case {
    Case { bytes, point, below, above }
}

const COPY: &str = "serve-ringway-copy-inline";
const SPLICE: &str = "serve-ringway-splice-inline";
const COLD_COPY: &str = "serve-ringway-copy-hybrid";
const COLD_SPLICE: &str = "serve-ringway-splice-hybrid";
const NO_SENDFILE: &str = "serve-ringway-no-sendfile";
const CORKED: &str = "serve-ringway-corked";
const UNCORKED: &str = "serve-ringway-uncorked";

const QUESTIONS: &[Question] = &[
    Question {
        field: "copy_max_bytes",
        of: |at| at.copy_max_bytes,
        set: Thresholds::with_copy_max_bytes,
        cases: &[
            case(KIB, "calibrate-1k", COPY, SPLICE),
            case(2 * KIB, "calibrate-2k", COPY, SPLICE),
            case(4 * KIB, "hot-4k-x64", COPY, SPLICE),
            case(8 * KIB, "calibrate-8k", COPY, SPLICE),
            case(16 * KIB, "hot-16k-x64", COPY, SPLICE),
            case(32 * KIB, "calibrate-32k", COPY, SPLICE),
        ],
    },
    Question {
        field: "cold_copy_max_bytes",
        of: |at| at.cold_copy_max_bytes,
        set: Thresholds::with_cold_copy_max_bytes,
        cases: &[
            case(4 * KIB, "cold-4k-x64", COLD_COPY, COLD_SPLICE),
            case(16 * KIB, "calibrate-cold-16k", COLD_COPY, COLD_SPLICE),
            case(32 * KIB, "calibrate-cold-32k", COLD_COPY, COLD_SPLICE),
            case(64 * KIB, "cold-64k-x64", COLD_COPY, COLD_SPLICE),
            case(128 * KIB, "calibrate-cold-128k", COLD_COPY, COLD_SPLICE),
        ],
    },
    Question {
        field: "gather_max_bytes",
        of: |at| at.gather_max_bytes,
        set: Thresholds::with_gather_max_bytes,
        cases: &[
            case(4 * KIB, "hot-16m", "ranges-4k-copy", "ranges-4k-splice"),
            case(16 * KIB, "hot-16m", "ranges-16k-copy", "ranges-16k-splice"),
            case(64 * KIB, "hot-16m", "ranges-64k-copy", "ranges-64k-splice"),
            case(256 * KIB, "hot-16m", "ranges-256k-copy", "ranges-256k-splice"),
        ],
    },
    // No more than 64 KiB: that is what the pipe inside of sendfile(2) holds.
    Question {
        field: "sendfile_max_bytes",
        of: |at| at.sendfile_max_bytes,
        set: Thresholds::with_sendfile_max_bytes,
        cases: &[
            case(16 * KIB, "hot-16k-x64", SPLICE, NO_SENDFILE),
            case(32 * KIB, "calibrate-32k", SPLICE, NO_SENDFILE),
            case(64 * KIB, "hot-64k-x64", SPLICE, NO_SENDFILE),
        ],
    },
    Question {
        field: "cork_max_bytes",
        of: |at| at.cork_max_bytes,
        set: Thresholds::with_cork_max_bytes,
        cases: &[
            case(16 * KIB, "hot-16k-x64", CORKED, UNCORKED),
            case(64 * KIB, "hot-64k-x64", CORKED, UNCORKED),
            case(128 * KIB, "calibrate-128k", CORKED, UNCORKED),
            case(256 * KIB, "hot-256k-x64", CORKED, UNCORKED),
            case(MIB, "hot-1m-x64", CORKED, UNCORKED),
        ],
    },
];

/// Measures, tells, and writes if files were named.
///
/// # Errors
///
/// A name is unknown, or a trial failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let asked =
        |field: &str| options.fields.is_empty() || options.fields.iter().any(|f| f == field);
    let questions: Vec<&Question> = QUESTIONS.iter().filter(|one| asked(one.field)).collect();
    anyhow::ensure!(!questions.is_empty(), "there is no such threshold to calibrate");
    let (out, data_dir) = (options.out.clone(), options.data_dir.clone());
    let selection = Selection { out, points: Vec::new(), arms: Vec::new(), data_dir };
    let run = Run {
        mode: "calibrate",
        budget: Duration::from_secs(options.seconds_budget),
        bounds: Bounds::QUICK,
        plan: plan(&questions)?,
    };
    let rows = rounds::run(&run, &selection)?;
    let mut thresholds = Thresholds::default();
    for question in questions {
        let compared = compare(question, &rows);
        let default = (question.of)(&thresholds);
        let found = crossover(default, &compared);
        println!("{}: {found} bytes (default {default})", question.field);
        for (bytes, ratio) in compared {
            println!("  {bytes:>8} bytes: × {}", crate::table::interval(&ratio, 2));
        }
        thresholds = (question.set)(thresholds, found);
    }
    println!(
        "pipe_min_bytes and worker_pipe_min_bytes are not calibrated: they keep their defaults"
    );
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
    let cpu = |point: &str, arm: &str| -> Option<Vec<f64>> {
        let row = rows.iter().find(|row| row.point == point && row.arm == arm)?;
        Some(row.samples.iter().map(|sample| sample.usage.cpu_s()).collect())
    };
    let ratio = |case: &Case| {
        let (below, above) = (cpu(case.point, case.below)?, cpu(case.point, case.above)?);
        Some((case.bytes, estimate_ratio(&below, &above)?))
    };
    question.cases.iter().filter_map(ratio).collect()
}

/// Up to which size the first way is to be taken, from the ratios at rising sizes. The default is left only
/// for a difference that the interval shows: lowered to the last size at which the first way is not
/// dearer, raised to the last at which it is cheaper without a break.
fn crossover(default: u64, ratios: &[(u64, Estimate)]) -> u64 {
    let mut limit = 0;
    for (bytes, ratio) in ratios {
        let stays = if *bytes <= default { ratio.low <= 1.0 } else { ratio.high < 1.0 };
        if !stays {
            // Between two sizes nothing is known: the default stands if it lies there.
            return if *bytes > default { limit.max(default) } else { limit };
        }
        limit = *bytes;
    }
    limit.max(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratios(of: &[(u64, f64, f64)]) -> Vec<(u64, Estimate)> {
        of.iter()
            .map(|&(bytes, low, high)| {
                (bytes, Estimate { median: f64::midpoint(low, high), low, high })
            })
            .collect()
    }

    #[test]
    fn threshold_moves_only_for_a_difference_that_is_seen() {
        let even = [(1, 0.9, 1.1), (2, 0.9, 1.1), (4, 0.9, 1.1), (8, 0.9, 1.1)];
        assert_eq!(crossover(4, &ratios(&even)), 4);
        let cheaper_for_longer = [(1, 0.5, 0.6), (4, 0.7, 0.8), (8, 0.8, 0.9), (16, 0.9, 1.1)];
        assert_eq!(crossover(4, &ratios(&cheaper_for_longer)), 8);
        let dearer_sooner = [(1, 0.5, 0.6), (2, 0.9, 1.1), (4, 1.1, 1.2), (8, 1.5, 1.6)];
        assert_eq!(crossover(4, &ratios(&dearer_sooner)), 2);
        assert_eq!(crossover(4, &ratios(&[(1, 1.1, 1.2)])), 0);
        assert_eq!(crossover(5, &ratios(&[(4, 0.9, 1.0), (8, 1.1, 1.2)])), 5);
        assert_eq!(crossover(4, &[]), 4);
    }

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
    fn written_thresholds_can_be_loaded() {
        let thresholds = Thresholds::default().with_copy_max_bytes(99);
        let text = serde_json::to_string_pretty(&thresholds).unwrap();
        assert_eq!(serde_json::from_str::<Thresholds>(&text).unwrap(), thresholds);
        let part: Thresholds = serde_json::from_str("{\"copy_max_bytes\": 99}").unwrap();
        assert_eq!(part, thresholds);
        assert!(serde_json::from_str::<Thresholds>("{\"copy_max\": 99}").is_err());
    }
}
