//! What a run found, as JSON lines: one line per point and arm, each complete in itself.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::arms::Arm;
use crate::counters::Counted;
use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::point::Point;
use crate::stats::{Estimate, estimate_of_passes, estimate_ratio_of_passes};
use crate::trial::Sample;

/// Grows when a field changes its meaning.
pub(crate) const SCHEMA: u32 = 3;

/// What one arm did at one point, or why it did nothing. GB is 10⁹ bytes of the file; CPU is that of the
/// sender, all threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) schema: u32,
    pub(crate) mode: String,
    pub(crate) point: String,
    /// What the point is, in a sentence.
    pub(crate) point_about: String,
    pub(crate) arm: String,
    /// What the arm does, in a sentence.
    pub(crate) about: String,
    /// Why this arm is missing here.
    pub(crate) gap: Option<String>,
    /// The arm that `ratio` is taken against.
    pub(crate) baseline: String,
    /// Measured rounds; the warm-up is not among them.
    pub(crate) n: usize,
    /// `None` for a gap.
    pub(crate) figures: Option<Figures>,
    /// CPU of this arm to CPU of the baseline in the same round.
    pub(crate) ratio: Option<Estimate>,
    /// From the warm-up; `None` where the kernel does not let anybody count.
    pub(crate) counted_per_gb: Option<PerGb>,
    pub(crate) copies: Option<Copies>,
    /// How many transfers of all rounds went which way, by their receipts; ours only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ways: BTreeMap<String, u64>,
    pub(crate) machine: Machine,
    /// What else ran while this point was measured.
    pub(crate) neighbours: Neighbours,
    pub(crate) samples: Vec<Sample>,
}

/// Counts by the kernel's events, of one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct PerGb {
    pub(crate) syscalls: f64,
    pub(crate) context_switches: f64,
    pub(crate) page_faults: f64,
}

/// How often the sender's CPU copied each byte.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Copies {
    pub(crate) per_byte: f64,
    /// Added up from what the calls returned; otherwise derived from what the route is.
    pub(crate) counted: bool,
    pub(crate) zero_copy_sends: u64,
    /// Those of them that the kernel says it copied after all.
    pub(crate) zero_copy_copied: u64,
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
    /// CPU of io-wq workers, as a part of the whole: 0 to 1.
    pub(crate) io_wq_share: Estimate,
    pub(crate) voluntary_switches_per_gb: Estimate,
    pub(crate) involuntary_switches_per_gb: Estimate,
    pub(crate) minor_faults_per_gb: Estimate,
    pub(crate) major_faults_per_gb: Estimate,
    pub(crate) resident_peak_bytes: Estimate,
    /// From request to first byte; of a stream, from the order to send.
    pub(crate) first_byte_p50_us: Estimate,
    pub(crate) first_byte_p99_us: Estimate,
    /// From request to last byte. Closed loop; of a stream all four are the same.
    pub(crate) latency_p50_us: Estimate,
    pub(crate) latency_p90_us: Estimate,
    pub(crate) latency_p99_us: Estimate,
    pub(crate) latency_p999_us: Estimate,
}

/// What all rows of a point share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) mode: &'static str,
    pub(crate) machine: &'a Machine,
    pub(crate) neighbours: Neighbours,
    pub(crate) point: &'a Point,
}

/// What was measured of an arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) samples: Vec<Sample>,
    pub(crate) counted: Option<PerGb>,
}

impl Row {
    fn empty(setting: &Setting<'_>, arm: &Arm, baseline: &str) -> Self {
        Self {
            schema: SCHEMA,
            mode: setting.mode.to_owned(),
            point: setting.point.name.to_owned(),
            point_about: setting.point.about(),
            arm: arm.name.to_owned(),
            about: arm.about.to_owned(),
            gap: None,
            baseline: baseline.to_owned(),
            n: 0,
            figures: None,
            ratio: None,
            counted_per_gb: None,
            copies: None,
            ways: BTreeMap::new(),
            machine: setting.machine.clone(),
            neighbours: setting.neighbours,
            samples: Vec::new(),
        }
    }

    /// An arm that was not measured, and why.
    pub(crate) fn gap(setting: &Setting<'_>, arm: &Arm, why: &str) -> Self {
        let empty = Self::empty(setting, arm, setting.point.baseline());
        Self { gap: Some(why.to_owned()), ..empty }
    }

    /// Condenses what was measured of `arm`; `baseline` has its samples of the same rounds.
    pub(crate) fn new(
        setting: &Setting<'_>,
        arm: &Arm,
        part: &Part,
        (baseline, baseline_part): (&Arm, &Part),
    ) -> Result<Self> {
        let cpu = |part: &Part| -> Vec<f64> {
            part.samples.iter().map(|sample| sample.usage.cpu_s() / gb(sample)).collect()
        };
        let passes = passes(&part.samples);
        let ratio = estimate_ratio_of_passes(&cpu(part), &cpu(baseline_part), &passes);
        Ok(Self {
            n: part.samples.len(),
            figures: Some(Figures::of(&part.samples).context("no samples")?),
            ratio: Some(ratio.context("the baseline used no CPU that could be seen")?),
            counted_per_gb: part.counted,
            copies: Some(Copies::of(arm, &part.samples)),
            ways: ways(&part.samples),
            samples: part.samples.clone(),
            ..Self::empty(setting, arm, baseline.name)
        })
    }
}

impl PerGb {
    pub(crate) fn new(counted: Counted, sample: &Sample) -> Self {
        let per_gb = |count: u64| count as f64 / gb(sample);
        Self {
            syscalls: per_gb(counted.syscalls),
            context_switches: per_gb(counted.context_switches),
            page_faults: per_gb(counted.page_faults),
        }
    }
}

impl Copies {
    fn of(arm: &Arm, samples: &[Sample]) -> Self {
        let bytes: u64 = samples.iter().map(|sample| sample.bytes).sum();
        let copied: Option<u64> = samples.iter().map(|sample| sample.counts.copied_bytes).sum();
        let derived = f64::from(arm.copies);
        Self {
            per_byte: copied.map_or(derived, |copied| copied as f64 / bytes as f64),
            counted: copied.is_some(),
            zero_copy_sends: samples.iter().map(|sample| sample.counts.zero_copy_sends).sum(),
            zero_copy_copied: samples.iter().map(|sample| sample.counts.zero_copy_copied).sum(),
        }
    }
}

impl Figures {
    fn of(samples: &[Sample]) -> Option<Self> {
        let passes = passes(samples);
        let each = |figure: &dyn Fn(&Sample) -> f64| {
            estimate_of_passes(&samples.iter().map(figure).collect::<Vec<_>>(), &passes)
        };
        // Only where every sample has one: otherwise there is no such figure.
        let some = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            estimate_of_passes(&samples.iter().map(figure).collect::<Option<Vec<_>>>()?, &passes)
        };
        let per_gb = |count: &dyn Fn(&Sample) -> u64| each(&|s| count(s) as f64 / gb(s));
        let share = |part_s: &dyn Fn(&Sample) -> f64| {
            each(&|s| (part_s(s) / s.usage.cpu_s().max(f64::MIN_POSITIVE)).clamp(0.0, 1.0))
        };
        Some(Self {
            cpu_s_per_gb: each(&|s| s.usage.cpu_s() / gb(s))?,
            cpu_us_per_request: some(&|s| Some(s.usage.cpu_s() * 1e6 / s.requests? as f64)),
            goodput_gb_per_s: each(&|s| gb(s) / s.usage.wall_s)?,
            user_share: share(&|s| s.usage.user_s)?,
            off_main_share: each(&|s| s.usage.off_main_share())?,
            io_wq_share: share(&|s| s.usage.io_wq_s)?,
            voluntary_switches_per_gb: per_gb(&|s| s.usage.voluntary_switches)?,
            involuntary_switches_per_gb: per_gb(&|s| s.usage.involuntary_switches)?,
            minor_faults_per_gb: per_gb(&|s| s.usage.minor_faults)?,
            major_faults_per_gb: per_gb(&|s| s.usage.major_faults)?,
            resident_peak_bytes: each(&|s| s.usage.resident_peak_bytes as f64)?,
            first_byte_p50_us: each(&|s| s.latency.first_byte_p50_us)?,
            first_byte_p99_us: each(&|s| s.latency.first_byte_p99_us)?,
            latency_p50_us: each(&|s| s.latency.p50_us)?,
            latency_p90_us: each(&|s| s.latency.p90_us)?,
            latency_p99_us: each(&|s| s.latency.p99_us)?,
            latency_p999_us: each(&|s| s.latency.p999_us)?,
        })
    }
}

fn ways(samples: &[Sample]) -> BTreeMap<String, u64> {
    let mut ways = BTreeMap::new();
    for (way, times) in samples.iter().flat_map(|sample| &sample.counts.ways) {
        *ways.entry(way.clone()).or_default() += times;
    }
    ways
}

/// The pass of each sample; empty if nobody said.
pub(crate) fn passes(samples: &[Sample]) -> Vec<u32> {
    samples.iter().map(|sample| sample.pass).filter(|pass| *pass != 0).collect()
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
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    let (mut file, path) = create(directory, mode, machine, "jsonl")?;
    file.write_all(&text)?;
    Ok(path)
}

/// A new file of that name, or with the next free number.
pub(crate) fn create(
    directory: &Path,
    mode: &str,
    machine: &Machine,
    ending: &str,
) -> Result<(File, PathBuf)> {
    let day = machine.date.split('T').next().unwrap_or_default();
    std::fs::create_dir_all(directory)?;
    for number in 1u32.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = directory.join(format!("{day}-{}-{mode}{suffix}.{ending}", machine.kernel));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(format!("no writing to {}", path.display())),
        }
    }
    anyhow::bail!("too many results of one day")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arms::Counts;
    use crate::load::Latency;
    use crate::measure::Usage;
    use crate::{arms, point};

    fn sample(round: u32, system_s: f64, requests: Option<u64>) -> Sample {
        Sample {
            round,
            pass: round,
            bytes: 2_000_000_000,
            requests,
            usage: Usage {
                wall_s: 0.1 + 0.2,
                user_s: 0.0,
                system_s,
                main_thread_s: system_s / 2.0,
                io_wq_s: system_s / 4.0,
                voluntary_switches: 10,
                involuntary_switches: 4,
                minor_faults: 2,
                major_faults: 0,
                resident_peak_bytes: 1 << 20,
            },
            counts: Counts {
                copied_bytes: Some(1_000_000_000),
                zero_copy_sends: 3,
                zero_copy_copied: 2,
                ways: [("splice".to_owned(), 5)].into(),
            },
            latency: Latency::of(&mut [1.0 / 3.0], &mut [7.0]),
            congestion_sender: "cubic".to_owned(),
            congestion_receiver: "cubic".to_owned(),
        }
    }

    /// A row of `hot-1g` from the CPU seconds of its samples; the baseline has twice of the first ones.
    pub(crate) fn row(arm: &str, system_s: &[f64], requests: Option<u64>) -> Row {
        let machine = Machine::look(&std::env::temp_dir()).unwrap();
        let point = point::named("hot-1g").unwrap();
        let arm = arms::named(arm, point).unwrap();
        let baseline = arms::named("sendfile", point).unwrap();
        let samples = |factor: f64| {
            (1..).zip(system_s).map(|(n, s)| sample(n, s * factor, requests)).collect()
        };
        let counted = Counted { syscalls: 20, context_switches: 2, page_faults: 0 };
        let counted = Some(PerGb::new(counted, &sample(0, 1.0, None)));
        let part = Part { samples: samples(1.0), counted };
        let base = Part { samples: samples(2.0), counted: None };
        let neighbours = Neighbours { foreign_cpus: 0.25, stolen_cpus: 0.0 };
        let setting = Setting { mode: "quick", machine: &machine, neighbours, point };
        Row::new(&setting, arm, &part, (baseline, &base)).unwrap()
    }

    #[test]
    fn rows_come_back_from_json_as_they_were() {
        for requests in [None, Some(1000)] {
            let row = row("splice-1m", &[0.3, 0.5], requests);
            let line = serde_json::to_string(&row).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
        }
    }

    #[test]
    fn figures_have_the_units_they_say() {
        let row = row("splice-1m", &[0.3, 0.5], Some(1000));
        let near = |estimate: Estimate, value: f64| (estimate.median - value).abs() < 1e-9;
        let figures = row.figures.unwrap();
        assert!(near(figures.cpu_s_per_gb, 0.2));
        assert!(near(figures.cpu_us_per_request.unwrap(), 400.0));
        assert!(near(figures.off_main_share, 0.5));
        assert!(near(figures.io_wq_share, 0.25));
        assert!(near(figures.voluntary_switches_per_gb, 5.0));
        assert!(near(row.ratio.unwrap(), 0.5));
        assert!((row.counted_per_gb.unwrap().syscalls - 10.0).abs() < 1e-9);
        let copies = row.copies.unwrap();
        assert!(copies.counted && (copies.per_byte - 0.5).abs() < 1e-9);
        assert_eq!((copies.zero_copy_sends, copies.zero_copy_copied), (6, 4));
        assert_eq!(row.ways["splice"], 10);
    }

    #[test]
    fn second_result_of_a_day_does_not_replace_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [row("splice-1m", &[0.3], None)];
        let first = write(directory.path(), "quick", &rows[0].machine, &rows).unwrap();
        let second = write(directory.path(), "quick", &rows[0].machine, &rows).unwrap();
        assert_ne!(first, second);
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        assert!(second.to_string_lossy().ends_with("-quick-2.jsonl"));
    }
}
