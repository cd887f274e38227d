//! One arm, once: start its sender, verify its bytes, time its transfer.

use std::ffi::OsString;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::arms::{Arm, Counts, Span, Wire};
use crate::control::{Answer, Cost, Order, SenderProcess, Task};
use crate::counters::Counted;
use crate::data::{DataFile, VERIFIED_LEN};
use crate::load::{Compare, Latency, Load, Protocol};
use crate::loopback;
use crate::measure::Usage;
use crate::network::{Far, LOCALHOST};
use crate::point::{MIB, Path, Point, Reader, Shape};
use crate::receiver;
use crate::sealed::Sealed;
use crate::stats::mix;

/// What stays the same for all trials of a run.
#[derive(Debug)]
pub(crate) struct Stage {
    /// This program, to be started as the sender.
    pub(crate) binary: PathBuf,
    pub(crate) sender_cpu: usize,
    /// The other end of a veth pair, or why there is none.
    pub(crate) far: Result<Far, String>,
    /// The tracepoint of all system calls, or why they cannot be counted.
    pub(crate) syscall_event: Result<u64, String>,
}

/// What one timed transfer cost its sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    /// The pass over all points that the round was part of, from 1; 0 if it was not said.
    #[serde(default)]
    pub(crate) pass: u32,
    /// Bytes of the file that arrived, headers not counted.
    pub(crate) bytes: u64,
    /// Answers given, in keep-alive points.
    pub(crate) requests: Option<u64>,
    pub(crate) usage: Usage,
    /// What the arm knows of its own work.
    pub(crate) counts: Counts,
    pub(crate) latency: Latency,
    pub(crate) congestion_sender: String,
    pub(crate) congestion_receiver: String,
}

/// The round that warms up and counts: its bytes are verified like all others, its times are dropped.
pub(crate) const WARM_UP: u32 = 0;

/// Runs `arm` at `point`: a verified transfer first, then the timed one. What was counted comes from the
/// warm-up only, because counting takes time.
///
/// # Errors
///
/// A byte is wrong, missing or too many; the sender failed or stalled; a cold file cannot be had cold.
pub(crate) fn run(
    stage: &Stage,
    point: &Point,
    arm: &Arm,
    data: &DataFile,
    round: u32,
) -> Result<(Sample, Option<Counted>)> {
    attempt(stage, point, arm, data, round)
        .with_context(|| format!("point {}, arm {}, round {round}", point.name, arm.name))
}

fn attempt(
    stage: &Stage,
    point: &Point,
    arm: &Arm,
    data: &DataFile,
    round: u32,
) -> Result<(Sample, Option<Counted>)> {
    let mut sender =
        SenderProcess::start(&stage.binary, &arguments(stage, point, arm, data, round)?)?;
    let Answer::Listening { address } = sender.answer()? else {
        bail!("the sender is out of step")
    };
    let mut sockets = Vec::new();
    let mut congestion_receiver = String::new();
    for _ in 0..point.connections() {
        let socket = loopback::connect(address)?;
        congestion_receiver = loopback::prepare(&socket)?;
        if point.reader != Reader::Eager {
            // Otherwise the kernel reads for it, megabytes ahead.
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SLOW_BUFFER)?;
        }
        sockets.push(socket);
    }
    let Answer::Connected { congestion: congestion_sender } = sender.answer()? else {
        bail!("the sender is out of step")
    };
    let outcome = match point.shape {
        Shape::Stream => {
            let socket = sockets.pop().context("no connection")?;
            match arm.wire {
                Wire::Plain => stream(&mut sender, &socket, point, data, round)?,
                Wire::Sealed | Wire::SealedByKernel => {
                    let shaken = Sealed::shake(socket);
                    let mut sealed = shaken.map_err(|error| sender.failure().unwrap_or(error))?;
                    sealed_stream(&mut sender, &mut sealed, data, round)?
                }
            }
        }
        Shape::Exchange { requests_each, .. } => {
            exchange(&mut sender, sockets, point, data, requests_each)?
        }
    };
    let Outcome { bytes, requests, cost, latency } = outcome;
    let Cost { usage, counts, counted } = cost;
    let sample = Sample {
        round,
        pass: 0,
        bytes,
        requests,
        usage,
        counts,
        latency,
        congestion_sender,
        congestion_receiver,
    };
    Ok((sample, counted))
}

/// Of a slow reader's socket, in bytes; the kernel doubles it.
const SLOW_BUFFER: usize = 64 * 1024;

struct Outcome {
    bytes: u64,
    requests: Option<u64>,
    cost: Cost,
    latency: Latency,
}

fn arguments(
    stage: &Stage,
    point: &Point,
    arm: &Arm,
    data: &DataFile,
    round: u32,
) -> Result<Vec<OsString>> {
    let far = match point.path {
        Path::Loopback => None,
        Path::Veth => Some(stage.far.as_ref().map_err(|why| anyhow::anyhow!("{why}"))?),
    };
    let address = far.map_or(LOCALHOST, |_| Far::address());
    let mut arguments: Vec<OsString> = Vec::new();
    let mut say = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    say("--arm", arm.name.into());
    say("--point", point.name.into());
    say("--data", data.path().into());
    say("--cpu", stage.sender_cpu.to_string().into());
    say("--parent", std::process::id().to_string().into());
    say("--address", address.to_string().into());
    if let Some(far) = far {
        say("--network", far.path().into());
    }
    if let (WARM_UP, Ok(event)) = (round, &stage.syscall_event) {
        say("--syscall-event", event.to_string().into());
    }
    Ok(arguments)
}

fn stream(
    sender: &mut SenderProcess,
    socket: &TcpStream,
    point: &Point,
    data: &DataFile,
    round: u32,
) -> Result<Outcome> {
    let len = data.slices.len;
    let verified = verified_span(len, round);
    measured(sender, Task::Send(verified), || receiver::compare(socket, verified, data.canary))?;
    receiver::expect_silence(socket)?;
    data.make_ready()?;
    let whole = Span { offset: 0, len };
    let ordered = Instant::now();
    let (cost, times) = measured(sender, Task::Send(whole), || {
        receiver::discard(socket, whole, data.canary, (point.reader, ordered))
    })?;
    receiver::expect_silence(socket)?;
    Ok(Outcome { bytes: len, requests: None, cost, latency: times.latency() })
}

/// The same over TLS: what comes before is opened and compared, the timed transfer is counted sealed.
fn sealed_stream(
    sender: &mut SenderProcess,
    socket: &mut Sealed,
    data: &DataFile,
    round: u32,
) -> Result<Outcome> {
    let len = data.slices.len;
    let verified = verified_span(len, round);
    measured(sender, Task::Send(verified), || socket.compare(verified, data.canary))?;
    receiver::expect_silence(socket.tcp())?;
    data.make_ready()?;
    let ordered = Instant::now();
    let whole = Task::Send(Span { offset: 0, len });
    let (cost, times) = measured(sender, whole, || socket.discard(len, ordered))?;
    receiver::expect_silence(socket.tcp())?;
    Ok(Outcome { bytes: len, requests: None, cost, latency: times.latency() })
}

fn exchange(
    sender: &mut SenderProcess,
    sockets: Vec<TcpStream>,
    point: &Point,
    data: &DataFile,
    requests_each: u32,
) -> Result<Outcome> {
    let requests = sockets.len() as u64 * u64::from(requests_each);
    let len = data.slices.len;
    let mut load = Load::new(sockets, Protocol::fixed(len), data.slices, data.canary)?;
    let verified_each = if len * u64::from(point.connections()) > 16 * MIB { 1 } else { 2 };
    let verified = Task::Serve { requests_each: verified_each };
    measured(sender, verified, || load.run(verified_each, Compare::All))?;
    load.expect_silence()?;
    data.make_ready()?;
    load.read_as(point.reader);
    let (cost, latency) = measured(sender, Task::Serve { requests_each }, || {
        load.run(requests_each, Compare::LastOfEachConnection)
    })?;
    load.expect_silence()?;
    Ok(Outcome { bytes: requests * len, requests: Some(requests), cost, latency })
}

/// Lets the sender run `task` while `receive` takes what it sends.
fn measured<T>(
    sender: &mut SenderProcess,
    task: Task,
    receive: impl FnOnce() -> Result<T>,
) -> Result<(Cost, T)> {
    sender.order(Order::Run(task))?;
    let received = match receive() {
        Ok(received) => received,
        // A sender that failed knows better why bytes are missing.
        Err(error) => return Err(sender.failure().map_or(error, |failure| failure)),
    };
    sender.order(Order::Received)?;
    let Answer::Measured(cost) = sender.answer()? else { bail!("the sender is out of step") };
    ensure!(cost.usage.wall_s > 0.0, "the sender's clock stands still");
    Ok((*cost, received))
}

/// Another part of the file in each round, on no page boundary.
fn verified_span(file_len: u64, round: u32) -> Span {
    let len = VERIFIED_LEN.min(file_len / 2);
    let room = file_len - len;
    Span { offset: if room == 0 { 0 } else { mix(u64::from(round) + 1) % room }, len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_span_lies_within_the_file_and_moves() {
        let spans: Vec<Span> = (0..50).map(|round| verified_span(4 * MIB + 77, round)).collect();
        assert!(spans.iter().all(|span| span.len > 0 && span.offset + span.len <= 4 * MIB + 77));
        assert!(spans.windows(2).all(|pair| pair[0].offset != pair[1].offset));
    }
}
