//! Filtering records on their way: what each way costs per GB that is scanned.
//!
//! Every trial has a sender of its own: a process on its CPU, with one connection. The receiver discards,
//! and before the timed rounds compares every byte once. Usage is counted from the first call to the
//! moment at which the receiver has everything.

mod arms;
mod patterns;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use self::arms::{ARMS, Arm, Sends};
use self::patterns::{PATTERNS, Pattern, RECORD};
use crate::launch::die_with_the_parent;
use crate::machine::{Machine, pin_to};
use crate::measure::Usage;
use crate::neighbours::{Neighbours, Watch};
use crate::network::LOCALHOST;
use crate::results::{self, SCHEMA};
use crate::schedule::Bounds;
use crate::stats::{Estimate, estimate, estimate_ratio};
use crate::timed::{Sent, Timed};
use crate::{data, loopback, schedule, table};

/// The arm that others are compared with.
const BASELINE: &str = "read-filter-write-64k";

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure only these patterns, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    patterns: Vec<String>,
    /// Records of 1 KiB in the file; the default is 1 GiB of them.
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    records: u64,
    /// Bytes of one write when the file is made; 8388608 lets its pages be mapped 2 MiB at a time.
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    write_bytes: usize,
    #[command(flatten)]
    timed: Timed,
}

/// What the parent wants done.
#[derive(Debug, clap::Args)]
pub(crate) struct Job {
    #[arg(long)]
    pattern: String,
    #[command(flatten)]
    sent: Sent,
}

/// What one arm did with one pattern. GB is 10⁹ bytes of the file that were scanned.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    schema: u32,
    mode: String,
    pattern: String,
    arm: String,
    about: String,
    baseline: String,
    n: usize,
    cpu_s_per_gb_scanned: Estimate,
    wall_s_per_gb_scanned: Estimate,
    /// CPU of this arm to CPU of the baseline in the same round; absent where the baseline did not run.
    ratio: Option<Estimate>,
    sent_bytes: u64,
    /// Bytes of one write when the file was made.
    #[serde(default)]
    write_bytes: u64,
    machine: Machine,
    neighbours: Neighbours,
    congestion_sender: String,
    samples: Vec<Usage>,
}

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, or a trial failed: wrong bytes fail the whole run.
pub(crate) fn run(options: &Options) -> Result<()> {
    let patterns = chosen(PATTERNS, &options.patterns, |pattern| pattern.name)?;
    let arms = chosen(ARMS, &options.timed.arms, |arm| arm.name)?;
    let directory = data::directory(options.timed.data_dir.as_deref())?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", table::heading(&machine));
    pin_to(machine.receiver_cpu)?;
    let folder = tempfile::tempdir_in(&directory)?;
    let path = folder.path().join("records");
    patterns::write(&path, options.records, options.write_bytes)?;
    let bytes = options.records * RECORD as u64;
    let stage = Stage { path, bytes, cpu: machine.sender_cpu };
    let time = Duration::from_secs(options.timed.seconds_budget) / u32::try_from(patterns.len())?;
    let mut rows = Vec::new();
    for pattern in patterns {
        let watch = Watch::start();
        let measured = stage.measure(pattern, &arms, time)?;
        println!("{}", pattern.name);
        for mut row in condense(&machine, watch.seen(), pattern, &arms, &measured, stage.bytes)? {
            row.write_bytes = options.write_bytes as u64;
            println!("{}", line(&row));
            rows.push(row);
        }
    }
    if let Some(directory) = &options.timed.out {
        let path = results::write(directory, "filter", &machine, &rows)?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// CPU of one arm to that of another at each pattern, for `calibrate`.
///
/// # Errors
///
/// A name is unknown, or a trial failed.
pub(crate) fn ratios(
    directory: &Path,
    patterns: &[&str],
    arms: [&str; 2],
    time: Duration,
) -> Result<Vec<Estimate>> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let patterns = chosen(PATTERNS, &named(patterns), |pattern| pattern.name)?;
    let pair = arms.map(|name| chosen(ARMS, &[name.to_owned()], |arm| arm.name));
    let pair: Vec<&Arm> = pair.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let (sender_cpu, receiver_cpu) = crate::machine::two_cpus()?;
    pin_to(receiver_cpu)?;
    let folder = tempfile::tempdir_in(directory)?;
    let path = folder.path().join("records");
    // 256 MiB: ratios need no more.
    let records = 1 << 18;
    patterns::write(&path, records, 1 << 20)?;
    let stage = Stage { path, bytes: records * RECORD as u64, cpu: sender_cpu };
    let time = time / u32::try_from(patterns.len())?;
    let ratio = |pattern: &&Pattern| {
        eprintln!("{}: {} against {}", pattern.name, pair[0].name, pair[1].name);
        let samples = stage.measure(pattern, &pair, time)?;
        let [one, other] = [0, 1].map(|index| -> Vec<f64> {
            samples[index].iter().map(|sample| sample.told.usage.cpu_s()).collect()
        });
        estimate_ratio(&one, &other).context("no CPU was seen")
    };
    patterns.iter().map(ratio).collect()
}

/// The sender: one arm, once.
pub(crate) fn send(job: &Job) -> Result<()> {
    die_with_the_parent(job.sent.parent, Signal::KILL)?;
    pin_to(job.sent.cpu)?;
    let mask = patterns::mask(&job.pattern).context("no such pattern")?;
    let file = File::open(&job.sent.data)?;
    let socket = loopback::connect((LOCALHOST, job.sent.port).into())?;
    let congestion = loopback::prepare(&socket)?;
    let usage = arms::run(&job.sent.arm, &file, &socket, mask)?;
    println!("{}", serde_json::to_string(&Told { usage, congestion })?);
    Ok(())
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    usage: Usage,
    congestion: String,
}

/// What one trial gave.
#[derive(Debug, Clone)]
struct Sample {
    told: Told,
    sent_bytes: u64,
}

struct Stage {
    path: PathBuf,
    bytes: u64,
    cpu: usize,
}

impl Stage {
    /// Runs all arms round by round, after a round whose bytes are compared.
    fn measure(
        &self,
        pattern: &Pattern,
        arms: &[&Arm],
        time: Duration,
    ) -> Result<Vec<Vec<Sample>>> {
        let mut samples = vec![Vec::new(); arms.len()];
        for arm in arms {
            self.trial(pattern, arm, true)?;
        }
        let (begin, mut done) = (Instant::now(), 0);
        while schedule::goes_on(Bounds::ONE_PASS, done, begin.elapsed(), time) {
            done += 1;
            for index in schedule::order(arms.len(), done) {
                samples[index].push(self.trial(pattern, arms[index], false)?);
            }
        }
        Ok(samples)
    }

    fn trial(&self, pattern: &Pattern, arm: &Arm, compares: bool) -> Result<Sample> {
        self.attempt(pattern, arm, compares)
            .with_context(|| format!("pattern {}, arm {}", pattern.name, arm.name))
    }

    fn attempt(&self, pattern: &Pattern, arm: &Arm, compares: bool) -> Result<Sample> {
        let listener = loopback::listen(LOCALHOST)?;
        let port = listener.local_addr()?.port();
        let mut sender = Command::new(std::env::current_exe()?)
            .arg("filter-sender")
            .args(["--arm", arm.name, "--pattern", pattern.name])
            .args(["--port", &port.to_string(), "--cpu", &self.cpu.to_string()])
            .args(["--parent", &std::process::id().to_string(), "--data"])
            .arg(&self.path)
            .stdout(Stdio::piped())
            .spawn()?;
        let received = receive(&listener, pattern, arm, &self.path, compares);
        if received.is_err() {
            let _ = sender.kill();
        }
        let output = sender.wait_with_output()?;
        let sent_bytes = received?;
        ensure!(output.status.success(), "the sender failed");
        let told = serde_json::from_slice(&output.stdout)?;
        Ok(Sample { told, sent_bytes })
    }
}

/// Receives until the end, comparing or discarding.
fn receive(
    listener: &TcpListener,
    pattern: &Pattern,
    arm: &Arm,
    path: &Path,
    compares: bool,
) -> Result<u64> {
    let socket = loopback::accept(listener)?;
    loopback::prepare(&socket)?;
    if compares && arm.sends == Sends::Kept {
        let mask = patterns::mask(pattern.name).context("no such pattern")?;
        return patterns::compare(path, mask, &socket);
    }
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    let begin = Instant::now();
    loop {
        ensure!(begin.elapsed() < loopback::TRANSFER_LONGEST, "too slow after {total} bytes");
        // With TRUNC, TCP drops the bytes instead of copying them: see tcp(7).
        match rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::TRUNC) {
            Ok((_, 0)) => return Ok(total),
            Ok((_, read)) => total += read as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context(format!("after {total} bytes")),
        }
    }
}

fn condense(
    machine: &Machine,
    neighbours: Neighbours,
    pattern: &Pattern,
    arms: &[&Arm],
    samples: &[Vec<Sample>],
    scanned: u64,
) -> Result<Vec<Row>> {
    let gb = scanned as f64 / 1e9;
    let cpu = |samples: &[Sample]| -> Vec<f64> {
        samples.iter().map(|sample| sample.told.usage.cpu_s() / gb).collect()
    };
    let base = arms.iter().position(|arm| arm.name == BASELINE);
    let row = |(arm, samples): (&&Arm, &Vec<Sample>)| {
        let first = samples.first().context("no samples")?;
        let wall: Vec<f64> = samples.iter().map(|s| s.told.usage.wall_s / gb).collect();
        Ok(Row {
            schema: SCHEMA,
            mode: "filter".to_owned(),
            pattern: pattern.name.to_owned(),
            arm: arm.name.to_owned(),
            about: arm.about.to_owned(),
            baseline: BASELINE.to_owned(),
            n: samples.len(),
            cpu_s_per_gb_scanned: estimate(&cpu(samples)).context("no samples")?,
            wall_s_per_gb_scanned: estimate(&wall).context("no samples")?,
            ratio: None,
            sent_bytes: first.sent_bytes,
            write_bytes: 0,
            machine: machine.clone(),
            neighbours,
            congestion_sender: first.told.congestion.clone(),
            samples: samples.iter().map(|sample| sample.told.usage).collect(),
        })
    };
    let mut rows: Vec<Row> = arms.iter().zip(samples).map(row).collect::<Result<_>>()?;
    if let Some(base) = base {
        let base = cpu(&samples[base]);
        for (row, samples) in rows.iter_mut().zip(samples) {
            row.ratio = estimate_ratio(&cpu(samples), &base);
        }
    }
    Ok(rows)
}

fn line(row: &Row) -> String {
    let ratio = row.ratio.map_or(String::new(), |ratio| table::interval(&ratio, 2));
    format!(
        "  {:24} {:>24} CPU-s/GB scanned   {:>20} ×   {:6.1} MB sent   n={}",
        row.arm,
        table::interval(&row.cpu_s_per_gb_scanned, 3),
        ratio,
        row.sent_bytes as f64 / 1e6,
        row.n
    )
}

/// Those of a list that were named, or all.
pub(crate) fn chosen<'a, T>(
    all: &'a [T],
    names: &[String],
    name: fn(&T) -> &'static str,
) -> Result<Vec<&'a T>> {
    if let Some(unknown) = names.iter().find(|named| !all.iter().any(|one| name(one) == **named)) {
        bail!("there is no {unknown}");
    }
    Ok(all.iter().filter(|one| names.is_empty() || names.iter().any(|n| n == name(one))).collect())
}
