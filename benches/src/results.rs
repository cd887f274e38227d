//! What a run found, as JSON lines: one line per point and arm, each complete in itself.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::arms::Arm;
use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::point::Point;
use crate::stats::{Estimate, estimate, estimate_ratio};
use crate::trial::Sample;

/// Grows when a field changes its meaning.
pub(crate) const SCHEMA: u32 = 1;

/// What one arm did at one point. GB is 10⁹ bytes of the file; CPU is that of the sender, all threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) schema: u32,
    pub(crate) mode: String,
    pub(crate) point: String,
    pub(crate) arm: String,
    /// What the arm does, in a sentence.
    pub(crate) about: String,
    /// The arm that `ratio` is taken against.
    pub(crate) baseline: String,
    /// Measured rounds; the warm-up is not among them.
    pub(crate) n: usize,
    pub(crate) figures: Figures,
    /// CPU of this arm to CPU of the baseline in the same round.
    pub(crate) ratio: Estimate,
    pub(crate) machine: Machine,
    /// What else ran while this point was measured.
    pub(crate) neighbours: Neighbours,
    pub(crate) samples: Vec<Sample>,
}

/// The figures of an arm at a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) cpu_s_per_gb: Estimate,
    /// Keep-alive points only.
    pub(crate) cpu_us_per_request: Option<Estimate>,
    pub(crate) goodput_gb_per_s: Estimate,
    /// CPU in user mode, as a part of the whole: 0 to 1.
    pub(crate) user_share: Estimate,
    /// CPU off the main thread (io-wq workers, helper threads), as a part of the whole: 0 to 1.
    pub(crate) off_main_share: Estimate,
    pub(crate) voluntary_switches_per_gb: Estimate,
    pub(crate) involuntary_switches_per_gb: Estimate,
    pub(crate) minor_faults_per_gb: Estimate,
    pub(crate) major_faults_per_gb: Estimate,
    /// Keep-alive points only; closed loop.
    pub(crate) latency_p50_us: Option<Estimate>,
    pub(crate) latency_p99_us: Option<Estimate>,
}

impl Row {
    /// Condenses the samples of `arm`; `baseline` holds the baseline's samples of the same rounds.
    pub(crate) fn new(
        (machine, neighbours): (&Machine, Neighbours),
        point: &Point,
        arm: &Arm,
        samples: &[Sample],
        (baseline, baseline_samples): (&Arm, &[Sample]),
    ) -> Result<Self> {
        let cpu = |samples: &[Sample]| -> Vec<f64> {
            samples.iter().map(|sample| sample.usage.cpu_s() / gb(sample)).collect()
        };
        let ratio = estimate_ratio(&cpu(samples), &cpu(baseline_samples));
        Ok(Self {
            schema: SCHEMA,
            mode: "quick".to_owned(),
            point: point.name.to_owned(),
            arm: arm.name.to_owned(),
            about: arm.about.to_owned(),
            baseline: baseline.name.to_owned(),
            n: samples.len(),
            figures: Figures::of(samples).context("no samples")?,
            ratio: ratio.context("the baseline used no CPU that could be seen")?,
            machine: machine.clone(),
            neighbours,
            samples: samples.to_vec(),
        })
    }
}

impl Figures {
    fn of(samples: &[Sample]) -> Option<Self> {
        let each = |figure: &dyn Fn(&Sample) -> f64| {
            estimate(&samples.iter().map(figure).collect::<Vec<_>>())
        };
        // Only where every sample has one: otherwise there is no such figure.
        let some = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            estimate(&samples.iter().map(figure).collect::<Option<Vec<_>>>()?)
        };
        let per_gb = |count: &dyn Fn(&Sample) -> u64| each(&|s| count(s) as f64 / gb(s));
        Some(Self {
            cpu_s_per_gb: each(&|s| s.usage.cpu_s() / gb(s))?,
            cpu_us_per_request: some(&|s| Some(s.usage.cpu_s() * 1e6 / s.requests? as f64)),
            goodput_gb_per_s: each(&|s| gb(s) / s.usage.wall_s)?,
            user_share: each(&|s| s.usage.user_s / s.usage.cpu_s().max(f64::MIN_POSITIVE))?,
            off_main_share: each(&|s| s.usage.off_main_share())?,
            voluntary_switches_per_gb: per_gb(&|s| s.usage.voluntary_switches)?,
            involuntary_switches_per_gb: per_gb(&|s| s.usage.involuntary_switches)?,
            minor_faults_per_gb: per_gb(&|s| s.usage.minor_faults)?,
            major_faults_per_gb: per_gb(&|s| s.usage.major_faults)?,
            latency_p50_us: some(&|s| Some(s.latency?.p50_us)),
            latency_p99_us: some(&|s| Some(s.latency?.p99_us)),
        })
    }
}

/// Bytes of the file that a sample moved, in GB.
fn gb(sample: &Sample) -> f64 {
    sample.bytes as f64 / 1e9
}

/// Writes `rows` to `<date>-<kernel>-<mode>.jsonl` in `directory`, or to `…-<mode>-2.jsonl` and so on:
/// a result is never overwritten.
pub(crate) fn write(
    directory: &Path,
    mode: &str,
    machine: &Machine,
    rows: &[impl Serialize],
) -> Result<PathBuf> {
    ensure!(!rows.is_empty(), "nothing was measured");
    let day = machine.date.split('T').next().unwrap_or_default();
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    std::fs::create_dir_all(directory)?;
    for number in 1u32.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = directory.join(format!("{day}-{}-{mode}{suffix}.jsonl", machine.kernel));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(&text)?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(format!("no writing to {}", path.display())),
        }
    }
    anyhow::bail!("too many results of one day")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Latency;
    use crate::measure::Usage;
    use crate::{arms, point};

    fn sample(round: u32, system_s: f64, latency: Option<Latency>) -> Sample {
        Sample {
            round,
            bytes: 2_000_000_000,
            requests: latency.map(|_| 1000),
            usage: Usage {
                wall_s: 0.1 + 0.2,
                user_s: 0.0,
                system_s,
                main_thread_s: system_s / 2.0,
                voluntary_switches: 10,
                involuntary_switches: 4,
                minor_faults: 2,
                major_faults: 0,
            },
            latency,
            congestion_sender: "cubic".to_owned(),
            congestion_receiver: "cubic".to_owned(),
        }
    }

    fn row(latency: Option<Latency>) -> Row {
        let machine = Machine::look(&std::env::temp_dir()).unwrap();
        let point = point::named("hot-1g").unwrap();
        let arm = arms::named("splice-1m", point).unwrap();
        let baseline = arms::named("sendfile", point).unwrap();
        let samples = [sample(1, 0.3, latency), sample(2, 0.5, latency)];
        let base = [sample(1, 0.6, latency), sample(2, 1.0, latency)];
        let neighbours = Neighbours { foreign_cpus: 0.25, stolen_cpus: 0.0 };
        Row::new((&machine, neighbours), point, arm, &samples, (baseline, &base)).unwrap()
    }

    #[test]
    fn rows_come_back_from_json_as_they_were() {
        for latency in [None, Some(Latency { p50_us: 1.0 / 3.0, p99_us: 7.0 })] {
            let row = row(latency);
            let line = serde_json::to_string(&row).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
        }
    }

    #[test]
    fn figures_have_the_units_they_say() {
        let row = row(Some(Latency { p50_us: 1.0, p99_us: 2.0 }));
        let near = |estimate: Estimate, value: f64| (estimate.median - value).abs() < 1e-9;
        assert!(near(row.figures.cpu_s_per_gb, 0.2));
        assert!(near(row.figures.cpu_us_per_request.unwrap(), 400.0));
        assert!(near(row.figures.off_main_share, 0.5));
        assert!(near(row.figures.voluntary_switches_per_gb, 5.0));
        assert!(near(row.ratio, 0.5));
    }

    #[test]
    fn second_result_of_a_day_does_not_replace_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [row(None)];
        let first = write(directory.path(), "quick", &rows[0].machine, &rows).unwrap();
        let second = write(directory.path(), "quick", &rows[0].machine, &rows).unwrap();
        assert_ne!(first, second);
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        assert!(second.to_string_lossy().ends_with("-quick-2.jsonl"));
    }
}
