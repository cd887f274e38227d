//! One server, once: start it, verify its answers, time it, stop it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::point::Point;
use super::processes::Meter;
use super::roster::Installed;
use super::running::Running;
use super::site::Site;
use crate::data::DataFile;
use crate::load::{Compare, Latency, Load, Protocol};
use crate::measure::Start;
use crate::neighbours::{Neighbours, Watch};
use crate::{loopback, network};

/// What stays the same for all trials of a run.
#[derive(Debug)]
pub(crate) struct Stage {
    /// This program.
    pub(crate) own: PathBuf,
    pub(crate) site: Site,
    pub(crate) server_cpu: usize,
    /// What a socket that chooses nothing has.
    pub(crate) congestion: String,
    pub(crate) busy_client: bool,
    /// Whether this loopback is the harness's own.
    pub(crate) own_network: bool,
}

/// What one timed stretch cost a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) requests: u64,
    /// From the first request to the last byte of the last answer.
    pub(crate) wall_s: f64,
    /// CPU of all processes and threads of the server, both modes.
    pub(crate) cpu_s: f64,
    pub(crate) user_share: f64,
    /// CPU of the client, which discards what it receives. The kernel sends much of a long answer from
    /// there: when an acknowledgement makes room. `None` in results older than this figure.
    #[serde(default)]
    pub(crate) client_cpu_s: Option<f64>,
    /// Packets over the loopback, both directions; up to 64 KiB each. `None` where others use it too.
    #[serde(default)]
    pub(crate) packets: Option<u64>,
    /// Resident at the end, all connections open.
    pub(crate) rss_bytes: u64,
    pub(crate) latency: Latency,
    /// Of a server that does not choose one itself.
    pub(crate) congestion_server: String,
    pub(crate) congestion_client: String,
    /// What else ran while this sample was taken, start and stop of the server included.
    pub(crate) neighbours: Neighbours,
}

/// Answers on each connection that are compared in full before the clock runs.
pub(super) const VERIFIED_EACH: u32 = 2;

/// A server that has answered may still have to go back to waiting; that is part of the cost.
const SETTLING: Duration = Duration::from_millis(5);

/// Runs `server` at `point`.
///
/// # Errors
///
/// An answer is not what it must be; the server failed or stalled.
pub(crate) fn run(
    stage: &Stage,
    point: &Point,
    server: &Installed,
    data: &DataFile,
    round: u32,
) -> Result<Sample> {
    let name = server.server.name;
    attempt(stage, point, server, data, round)
        .with_context(|| format!("point {}, server {name}, round {round}", point.name))
}

fn attempt(
    stage: &Stage,
    point: &Point,
    server: &Installed,
    data: &DataFile,
    round: u32,
) -> Result<Sample> {
    let watch = Watch::start();
    let running = Running::start(&stage.own, server, &stage.site, stage.server_cpu)?;
    let measured = measure(stage, point, &running, data, round);
    let measured = measured.map_err(|error| match running.last_words() {
        words if words.is_empty() => error,
        words => error.context(format!("the server said: {words}")),
    });
    drop(running);
    measured.map(|sample| Sample { neighbours: watch.seen(), ..sample })
}

fn measure(
    stage: &Stage,
    point: &Point,
    running: &Running,
    data: &DataFile,
    round: u32,
) -> Result<Sample> {
    let mut sockets = Vec::new();
    let mut congestion_client = String::new();
    for _ in 0..point.connections {
        let socket = loopback::connect(running.address)?;
        congestion_client = loopback::prepare(&socket)?;
        sockets.push(socket);
    }
    let protocol = Protocol::http(&format!("/{}", point.file_name()));
    let mut load = Load::new(sockets, protocol, data.slices, data.canary)?;
    if stage.busy_client {
        load.stay_awake();
    }
    load.run(VERIFIED_EACH, Compare::All)?;
    load.expect_silence()?;
    // Caches and buffers reach their steady state.
    load.run(point.requests_each.div_ceil(8), Compare::LastOfEachConnection)?;
    let meter = Meter::start(running.processes())?;
    let packets_before = network::loopback_packets()?;
    // This thread is the client.
    let client = Start::now();
    let begin = Instant::now();
    let latency = load.run(point.requests_each, Compare::LastOfEachConnection)?;
    let wall_s = begin.elapsed().as_secs_f64();
    let client_cpu_s = Some(client.used().main_thread_s);
    let packets = network::loopback_packets()? - packets_before;
    std::thread::sleep(SETTLING);
    let cpu = meter.used()?;
    load.expect_silence()?;
    Ok(Sample {
        round,
        requests: point.requests(),
        wall_s,
        cpu_s: cpu.total_s,
        user_share: cpu.user_share,
        client_cpu_s,
        packets: stage.own_network.then_some(packets),
        rss_bytes: meter.rss_bytes()?,
        latency,
        congestion_server: stage.congestion.clone(),
        congestion_client,
        neighbours: Neighbours { foreign_cpus: 0.0, stolen_cpus: 0.0 },
    })
}
