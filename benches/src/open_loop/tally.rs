//! What a stretch of the open loop has counted. Histograms of three digits: no memory per request.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies from the intended start, lateness of the client, and what was not answered.
#[derive(Debug)]
pub(crate) struct Tally {
    latency_ns: Histogram<u64>,
    lateness_ns: Histogram<u64>,
    pub(crate) answered: u64,
    /// Connections that ended in an answer, or before it.
    pub(crate) errors: u64,
    /// Due, and still waiting for a connection when the grace ended.
    pub(crate) unsent: u64,
    /// Sent, and not answered when the grace ended.
    pub(crate) unanswered: u64,
    /// From the first intended start to the last answer.
    pub(crate) wall: Duration,
}

/// The longest that is told apart, in nanoseconds: two minutes, which nobody is waited for.
const LONGEST_NS: u64 = 120_000_000_000;

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            latency_ns: histogram(),
            lateness_ns: histogram(),
            answered: 0,
            errors: 0,
            unsent: 0,
            unanswered: 0,
            wall: Duration::ZERO,
        }
    }

    pub(crate) fn sent(&mut self, lateness: Duration) {
        self.lateness_ns.saturating_record(nanoseconds(lateness));
    }

    pub(crate) fn answered(&mut self, latency: Duration) {
        self.answered += 1;
        self.latency_ns.saturating_record(nanoseconds(latency));
    }

    /// No answer came for so long: the latency is at least that, and so it counts.
    pub(super) fn given_up(&mut self, after: Duration, sent: bool) {
        *(if sent { &mut self.unanswered } else { &mut self.unsent }) += 1;
        self.latency_ns.saturating_record(nanoseconds(after));
    }

    /// Microseconds from the intended start to the last byte, of `percent` of all requests.
    pub(crate) fn latency_us(&self, percent: f64) -> f64 {
        self.latency_ns.value_at_percentile(percent) as f64 / 1e3
    }

    pub(crate) fn lateness_p99_us(&self) -> f64 {
        self.lateness_ns.value_at_percentile(99.0) as f64 / 1e3
    }

    /// How many took as long at least.
    #[cfg(test)]
    pub(super) fn as_slow_as(&self, latency: Duration) -> u64 {
        self.latency_ns.count_between(nanoseconds(latency), LONGEST_NS)
    }
}

fn histogram() -> Histogram<u64> {
    #[expect(clippy::unwrap_used, reason = "these bounds are constants that it takes")]
    Histogram::new_with_bounds(1, LONGEST_NS, 3).unwrap()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_counts_as_slow() {
        let mut tally = Tally::new();
        for _ in 0..98 {
            tally.answered(Duration::from_micros(100));
        }
        tally.given_up(Duration::from_secs(2), false);
        tally.given_up(Duration::from_secs(2), true);
        assert_eq!([tally.answered, tally.unsent, tally.unanswered], [98, 1, 1]);
        assert!((tally.latency_us(50.0) - 100.0).abs() < 1.0);
        assert!(tally.latency_us(99.0) > 1_900_000.0);
        assert_eq!(tally.as_slow_as(Duration::from_secs(1)), 2);
    }
}
