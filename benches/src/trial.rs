//! One arm, once: start its sender, verify its bytes, time its transfer.

use std::ffi::OsStr;
use std::net::TcpStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::arms::{Arm, Span};
use crate::canary::mix;
use crate::control::{Answer, Order, SenderProcess, Task};
use crate::data::DataFile;
use crate::load::{Compare, Latency, Load, Protocol};
use crate::loopback;
use crate::measure::Usage;
use crate::point::{MIB, Point, Shape};
use crate::receiver;

/// What stays the same for all trials of a run.
#[derive(Debug)]
pub(crate) struct Stage {
    /// This program, to be started as the sender.
    pub(crate) binary: PathBuf,
    pub(crate) sender_cpu: usize,
}

/// What one timed transfer cost its sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    /// Bytes of the file that arrived, headers not counted.
    pub(crate) bytes: u64,
    /// Answers given, in keep-alive points.
    pub(crate) requests: Option<u64>,
    pub(crate) usage: Usage,
    pub(crate) latency: Option<Latency>,
    pub(crate) congestion_sender: String,
    pub(crate) congestion_receiver: String,
}

/// The most that is compared before a stream is timed, in bytes.
const VERIFIED_LEN: u64 = 8 * MIB + 1234;

/// Runs `arm` at `point`: a verified transfer first, then the timed one.
///
/// # Errors
///
/// A byte is wrong, missing or too many; the sender failed or stalled.
pub(crate) fn run(
    stage: &Stage,
    point: &Point,
    arm: &Arm,
    data: &DataFile,
    round: u32,
) -> Result<Sample> {
    attempt(stage, point, arm, data, round)
        .with_context(|| format!("point {}, arm {}, round {round}", point.name, arm.name))
}

fn attempt(stage: &Stage, point: &Point, arm: &Arm, data: &DataFile, round: u32) -> Result<Sample> {
    let mut sender = start(stage, point, arm, data)?;
    let Answer::Listening { port } = sender.answer()? else { bail!("the sender is out of step") };
    let mut sockets = Vec::new();
    let mut congestion_receiver = String::new();
    for _ in 0..point.shape.connections() {
        let socket = loopback::connect(port)?;
        congestion_receiver = loopback::prepare(&socket)?;
        sockets.push(socket);
    }
    let Answer::Connected { congestion: congestion_sender } = sender.answer()? else {
        bail!("the sender is out of step")
    };
    let outcome = match point.shape {
        Shape::Stream => {
            let socket = sockets.pop().context("no connection")?;
            stream(&mut sender, &socket, data, round)?
        }
        Shape::Exchange { requests_each, .. } => {
            exchange(&mut sender, sockets, data, requests_each)?
        }
    };
    let Outcome { bytes, requests, usage, latency } = outcome;
    Ok(Sample { round, bytes, requests, usage, latency, congestion_sender, congestion_receiver })
}

struct Outcome {
    bytes: u64,
    requests: Option<u64>,
    usage: Usage,
    latency: Option<Latency>,
}

fn start(stage: &Stage, point: &Point, arm: &Arm, data: &DataFile) -> Result<SenderProcess> {
    let path = data.path();
    let cpu = stage.sender_cpu.to_string();
    let parent = std::process::id().to_string();
    let arguments: [&OsStr; 10] = [
        OsStr::new("--arm"),
        OsStr::new(arm.name),
        OsStr::new("--point"),
        OsStr::new(point.name),
        OsStr::new("--data"),
        path.as_os_str(),
        OsStr::new("--cpu"),
        OsStr::new(&cpu),
        OsStr::new("--parent"),
        OsStr::new(&parent),
    ];
    SenderProcess::start(&stage.binary, &arguments)
}

fn stream(
    sender: &mut SenderProcess,
    socket: &TcpStream,
    data: &DataFile,
    round: u32,
) -> Result<Outcome> {
    let verified = verified_span(data.len, round);
    measured(sender, Task::Send(verified), || receiver::compare(socket, verified, data.canary))?;
    receiver::expect_silence(socket)?;
    let whole = Span { offset: 0, len: data.len };
    let (usage, ()) =
        measured(sender, Task::Send(whole), || receiver::discard(socket, whole, data.canary))?;
    receiver::expect_silence(socket)?;
    Ok(Outcome { bytes: whole.len, requests: None, usage, latency: None })
}

fn exchange(
    sender: &mut SenderProcess,
    sockets: Vec<TcpStream>,
    data: &DataFile,
    requests_each: u32,
) -> Result<Outcome> {
    let requests = sockets.len() as u64 * u64::from(requests_each);
    let mut load = Load::new(sockets, Protocol::fixed(data.len)?, data.len, data.canary)?;
    measured(sender, Task::Serve { requests_each: 2 }, || load.run(2, Compare::All))?;
    load.expect_silence()?;
    let (usage, latency) = measured(sender, Task::Serve { requests_each }, || {
        load.run(requests_each, Compare::LastOfEachConnection)
    })?;
    load.expect_silence()?;
    let bytes = requests * data.len;
    Ok(Outcome { bytes, requests: Some(requests), usage, latency: Some(latency) })
}

/// Lets the sender run `task` while `receive` takes what it sends.
fn measured<T>(
    sender: &mut SenderProcess,
    task: Task,
    receive: impl FnOnce() -> Result<T>,
) -> Result<(Usage, T)> {
    sender.order(Order::Run(task))?;
    let received = match receive() {
        Ok(received) => received,
        // A sender that failed knows better why bytes are missing.
        Err(error) => return Err(sender.failure().map_or(error, |failure| failure)),
    };
    sender.order(Order::Received)?;
    let Answer::Measured(usage) = sender.answer()? else { bail!("the sender is out of step") };
    ensure!(usage.wall_s > 0.0, "the sender's clock stands still");
    Ok((usage, received))
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
