//! Bodies received into files, two ways side by side: what the thresholds of receiving are asked about.
//!
//! ```text
//!   parent, CPU 1                                child, CPU 0
//!   a body, when it is asked for    ──▶  transfer_file into a new file, counted
//!                                   ◀──  a byte: the next one
//! ```
//!
//! A body is asked for when the one before is in its file, so that none waits in the socket. The last file of
//! each trial is compared in full.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ringway::runtime::{Runtime, fs, net};
use ringway::{Incoming, Thresholds, transfer_file};
use rustix::process::Signal;

use crate::canary::Canary;
use crate::launch::die_with_the_parent;
use crate::machine::pin_to;
use crate::measure::{Start, Usage};
use crate::network::LOCALHOST;
use crate::point::MIB;
use crate::schedule::Bounds;
use crate::stats::{Estimate, estimate_ratio};
use crate::{loopback, schedule};

/// What the parent wants received.
#[derive(Debug, clap::Args)]
pub(crate) struct Job {
    /// Thresholds, as JSON.
    #[arg(long)]
    thresholds: String,
    /// Length of a body.
    #[arg(long)]
    len: u64,
    #[arg(long)]
    bodies: u32,
    /// The file to receive into, made anew for each.
    #[arg(long)]
    path: PathBuf,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    cpu: usize,
    #[arg(long)]
    parent: i32,
}

/// Bytes of all bodies of a trial, at most; and bodies of a trial, at most.
/// Which canary bytes a body has.
const CANARY: u64 = 7;
const TRIAL_BYTES: u64 = 64 * MIB;
const TRIAL_BODIES: u64 = 256;

/// CPU of the receiver with the first thresholds to that with the second, at each length of bodies.
///
/// # Errors
///
/// A trial failed: wrong bytes fail the whole run.
pub(crate) fn ratios(
    directory: &Path,
    lengths: &[u64],
    ways: &[Thresholds; 2],
    time: Duration,
) -> Result<Vec<Estimate>> {
    let (receiver_cpu, sender_cpu) = crate::machine::two_cpus()?;
    pin_to(sender_cpu)?;
    let folder = tempfile::tempdir_in(directory)?;
    let path = folder.path().join("body");
    let time = time / u32::try_from(lengths.len())?;
    let ratio = |&len: &u64| {
        let trial = |way: &Thresholds| {
            trial(&path, len, way, receiver_cpu).with_context(|| format!("bodies of {len} bytes"))
        };
        // The warm-up.
        ways.iter().try_for_each(|way| trial(way).map(drop))?;
        let (begin, mut done, mut cpu_s) = (Instant::now(), 0, [Vec::new(), Vec::new()]);
        while schedule::goes_on(Bounds::ONE_PASS, done, begin.elapsed(), time) {
            done += 1;
            for index in schedule::order(ways.len(), done) {
                cpu_s[index].push(trial(&ways[index])?.cpu_s());
            }
        }
        estimate_ratio(&cpu_s[0], &cpu_s[1]).context("no CPU was seen")
    };
    lengths.iter().map(ratio).collect()
}

fn trial(path: &Path, len: u64, way: &Thresholds, cpu: usize) -> Result<Usage> {
    let bodies = (TRIAL_BYTES / len).clamp(1, TRIAL_BODIES);
    let canary = Canary::new(CANARY);
    let mut body = vec![0; usize::try_from(len)?];
    ringway_testkit::canary::fill(CANARY, 0, &mut body);
    let listener = loopback::listen(LOCALHOST)?;
    let mut receiver = Command::new(std::env::current_exe()?)
        .arg("receiving")
        .args(["--thresholds", &serde_json::to_string(way)?])
        .args(["--len", &len.to_string(), "--bodies", &bodies.to_string(), "--path"])
        .arg(path)
        .args(["--port", &listener.local_addr()?.port().to_string(), "--cpu", &cpu.to_string()])
        .args(["--parent", &std::process::id().to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let sent = send(&listener, &body, bodies);
    if sent.is_err() {
        // It fails only if the receiver has ended already, and then says why by itself.
        let _ = receiver.kill();
    }
    let output = receiver.wait_with_output()?;
    sent?;
    ensure!(output.status.success(), "the receiver failed");
    let found = std::fs::read(path)?;
    ensure!(found.len() as u64 == len, "wrong count: {} of {len} bytes", found.len());
    canary.check(0, &found)?;
    std::fs::remove_file(path)?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn send(listener: &std::net::TcpListener, body: &[u8], bodies: u64) -> Result<()> {
    let mut socket = loopback::accept(listener)?;
    loopback::prepare(&socket)?;
    for _ in 0..bodies {
        socket.read_exact(&mut [0]).context("nobody asks for a body")?;
        socket.write_all(body)?;
    }
    Ok(())
}

/// The receiver.
pub(crate) fn receive(job: &Job) -> Result<()> {
    die_with_the_parent(job.parent, Signal::KILL)?;
    pin_to(job.cpu)?;
    let thresholds: Thresholds = serde_json::from_str(&job.thresholds)?;
    let socket = loopback::connect((LOCALHOST, job.port).into())?;
    loopback::prepare(&socket)?;
    let runtime = Runtime::new()?;
    let mut stream = net::TcpStream::from_std(socket)?;
    let used = runtime.block_on(async {
        let start = Start::now();
        for _ in 0..job.bodies {
            let made = std::fs::File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&job.path)?;
            let mut file = fs::File::from_std(made);
            stream.write_all(b".").await?;
            transfer_file(Incoming::exactly(&mut stream, job.len), &mut file)
                .thresholds(thresholds.clone())
                .await?;
        }
        anyhow::Ok(start.used())
    })?;
    println!("{}", serde_json::to_string(&used)?);
    Ok(())
}
