//! One server, once: started, compared, and asked at each rate.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Point, Rate, Stage};
use crate::data::DataFile;
use crate::loopback::{self, PATIENCE};
use crate::neighbours::{Neighbours, Watch};
use crate::open_loop::{Line, Offer, OpenLoop, Question, Tally};
use crate::servers::processes::Meter;
use crate::servers::roster::Installed;
use crate::servers::running::Running;

/// What one stretch at one rate has shown. Microseconds are from the intended start to the last byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) round: u32,
    /// Whether the client was punctual enough for this to count.
    pub(super) counts: bool,
    /// How late one request in a hundred was sent that could have been sent before.
    pub(super) late_p99_us: f64,
    pub(super) answered: u64,
    /// Connections that ended.
    pub(super) errors: u64,
    /// Due, and no connection was free for it to the end.
    pub(super) unsent: u64,
    pub(super) unanswered: u64,
    pub(super) wall_s: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    /// CPU of all processes and threads of the server, both modes.
    pub(super) cpu_s: f64,
    pub(super) neighbours: Neighbours,
}

/// How long a closed loop runs to see what a server can do.
const CLOSED_S: f64 = 0.5;
/// Requests of a first closed loop, from which the length of the second follows.
const FIRST_EACH: u32 = 8;
/// A stretch has so long for what is still due at its end, and more is not asked for.
const GRACE: Duration = Duration::from_secs(1);

fn closed(requests: u32) -> Offer {
    Offer { per_second: f64::INFINITY, requests, grace: loopback::TRANSFER_LONGEST }
}

/// Requests per second in a closed loop.
pub(super) fn capacity(
    stage: &Stage,
    point: &Point,
    server: &Installed,
    data: &DataFile,
) -> Result<f64> {
    with(stage, point, server, data, |_, client| {
        let first = FIRST_EACH * point.connections;
        let tally = client.run(closed(first), || false)?;
        let enough = (f64::from(first) * CLOSED_S / tally.wall.as_secs_f64()).ceil();
        let tally = client.run(closed(format!("{enough:.0}").parse()?), || false)?;
        Ok(tally.answered as f64 / tally.wall.as_secs_f64())
    })
}

/// A sample for each rate, with its index; in the order that is asked for.
pub(super) fn run(
    stage: &Stage,
    point: &Point,
    server: &Installed,
    data: &DataFile,
    rates: &[Rate],
    order: &[usize],
    round: u32,
) -> Result<Vec<(usize, Sample)>> {
    with(stage, point, server, data, |running, client| {
        // Caches and buffers reach their steady state.
        client.run(closed(FIRST_EACH * point.connections), || false)?;
        let sample = |&index: &usize| {
            let per_second = rates[index].per_second;
            let requests = (per_second * stage.stretch.as_secs_f64()).ceil();
            let offer =
                Offer { per_second, requests: format!("{requests:.0}").parse()?, grace: GRACE };
            let (watch, meter) = (Watch::start(), Meter::start(running.processes())?);
            let tally = client.run(offer, || false)?;
            let cpu_s = meter.used()?.total_s;
            Ok((index, Sample::of(&tally, round, cpu_s, watch.seen(), stage.late_us)))
        };
        order.iter().map(sample).collect()
    })
}

/// Starts the server, opens the connections, compares answers on each, and hands both to `work`.
fn with<T>(
    stage: &Stage,
    point: &Point,
    server: &Installed,
    data: &DataFile,
    work: impl FnOnce(&Running, &mut OpenLoop<'_>) -> Result<T>,
) -> Result<T> {
    let running = Running::start(&stage.own, server, &stage.site, stage.server_cpu)?;
    let worked = || {
        let connect = || {
            let socket = loopback::connect(running.address)?;
            loopback::prepare(&socket)?;
            Ok(if point.tls { Line::sealed(socket, &stage.config)? } else { Line::plain(socket) })
        };
        let question = Question::new(&format!("/{}", point.name), point.file_len, data.canary)?;
        let mut client = OpenLoop::new(point.connections, question, connect)?;
        client.run(Offer { grace: PATIENCE, ..closed(2 * point.connections) }, || false)?;
        client.discard();
        work(&running, &mut client)
    };
    worked().map_err(|error| match running.last_words() {
        words if words.is_empty() => error,
        words => error.context(format!("the server said: {words}")),
    })
}

impl Sample {
    fn of(tally: &Tally, round: u32, cpu_s: f64, neighbours: Neighbours, late_us: f64) -> Self {
        let (late_p99_us, p99_us) = (tally.lateness_p99_us(), tally.latency_us(99.0));
        Self {
            round,
            counts: late_p99_us <= late_us.max(p99_us / 10.0),
            late_p99_us,
            answered: tally.answered,
            errors: tally.errors,
            unsent: tally.unsent,
            unanswered: tally.unanswered,
            wall_s: tally.wall.as_secs_f64(),
            p50_us: tally.latency_us(50.0),
            p90_us: tally.latency_us(90.0),
            p99_us,
            p999_us: tally.latency_us(99.9),
            max_us: tally.latency_us(100.0),
            cpu_s,
            neighbours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_client_does_not_count_unless_what_it_saw_is_ten_times_that() {
        let sample = |late_us: u64, latency_us: u64| {
            let mut tally = Tally::new();
            tally.sent(Duration::from_micros(late_us));
            tally.answered(Duration::from_micros(latency_us));
            let neighbours = Neighbours { foreign_cpus: 0.0, stolen_cpus: 0.0 };
            Sample::of(&tally, 1, 0.0, neighbours, 50.0)
        };
        assert!(sample(40, 100).counts);
        assert!(!sample(60, 100).counts);
        assert!(sample(60, 1000).counts);
        assert!(!sample(200, 1000).counts);
    }
}
