//! What a receiving transfer did: how much, which way and why, and what was not as planned.

use std::fmt;
use std::time::Duration;

use crate::plan::{Mode, Route};
use crate::receipt::{Fallback, Iec, write_time};
use crate::receive::plan::{Plan, Reason};

/// The account of one body that came out of a stream into a file.
///
/// Its [`Display`](fmt::Display) is one line for a log:
/// `1.00 GiB received by splice (hybrid) in 0.42 s, 2 pipes of 1 MiB, 1024 splices, 1024 writes`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// Bytes of the body that came, those that the caller had received before included.
    pub received: u64,
    /// Bytes of the body that are in the file.
    pub written: u64,
    /// Those of `received` that the caller had received before.
    pub given: u64,
    /// The route that was taken last.
    pub route: Route,
    /// Who wrote: [`Mode::Hybrid`] the ring, [`Mode::Inline`] the loop.
    pub mode: Mode,
    /// Why the route was planned.
    pub reason: Reason,
    /// From the call to its end.
    pub duration: Duration,
    /// Splices out of the stream that brought something.
    pub splices: u64,
    /// Reads out of the stream that brought something.
    pub reads: u64,
    /// Writes into the file, by splice or from a buffer.
    pub writes: u64,
    /// Pipes that were held at the same time, at most.
    pub pipes: usize,
    /// Capacity of each of them, in bytes.
    pub pipe_bytes: u64,
    /// Capacity of the largest buffer, in bytes; 0 when none was used.
    pub buffer_bytes: u64,
    /// Whether the buffers were registered with the ring.
    pub buffer_registered: bool,
    /// Bytes for which blocks were reserved before the first came.
    pub reserved: u64,
    /// What was planned and could not be had, each kind once.
    pub fallbacks: Vec<Fallback>,
    /// Times that the transfer waited for the peer.
    pub stalls: u64,
    /// The time that this took.
    pub stalled: Duration,
    /// The time that the transfer was held back by its own rate limit.
    pub held_back: Duration,
}

impl Received {
    pub(super) fn new(plan: &Plan, given: u64) -> Self {
        Self {
            received: given,
            written: 0,
            given,
            route: plan.route,
            mode: plan.mode,
            reason: plan.reason,
            duration: Duration::ZERO,
            splices: 0,
            reads: 0,
            writes: 0,
            pipes: 0,
            pipe_bytes: 0,
            buffer_bytes: 0,
            buffer_registered: false,
            reserved: 0,
            fallbacks: Vec::new(),
            stalls: 0,
            stalled: Duration::ZERO,
            held_back: Duration::ZERO,
        }
    }

    /// The same fallback again is counted, not repeated.
    pub(super) fn note_fallback(&mut self, what: &'static str, why: &'static str) {
        let known = self.fallbacks.iter_mut().find(|known| known.what == what && known.why == why);
        match known {
            Some(known) => known.times = known.times.saturating_add(1),
            None => self.fallbacks.push(Fallback { what, why, times: 1 }),
        }
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} received by {} ({}) in ", Iec(self.received), self.route, self.mode)?;
        write_time(f, self.duration)?;
        if self.written != self.received {
            write!(f, ", {} written", Iec(self.written))?;
        }
        if self.pipes > 0 {
            let plural = if self.pipes == 1 { "" } else { "s" };
            write!(f, ", {} pipe{plural} of {:#}", self.pipes, Iec(self.pipe_bytes))?;
        }
        if self.buffer_bytes > 0 {
            let kind = if self.buffer_registered { "registered" } else { "plain" };
            write!(f, ", {kind} buffers of {:#}", Iec(self.buffer_bytes))?;
        }
        for (count, one, many) in [
            (self.splices, "splice", "splices"),
            (self.reads, "read", "reads"),
            (self.writes, "write", "writes"),
        ] {
            if count > 0 {
                write!(f, ", {count} {}", if count == 1 { one } else { many })?;
            }
        }
        if self.stalls > 0 {
            write!(f, "; waited {} × for the peer, ", self.stalls)?;
            write_time(f, self.stalled)?;
        }
        if !self.held_back.is_zero() {
            f.write_str("; held back ")?;
            write_time(f, self.held_back)?;
        }
        for fallback in &self.fallbacks {
            write!(f, "; fell back: {fallback}")?;
        }
        Ok(())
    }
}
