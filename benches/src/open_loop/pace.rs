//! When each request is due, which of them wait, and who was late. Pure: times are since the begin.
//!
//! ```text
//!   due ──▶ waiting ──▶ sent ──▶ answered     latency: from due to answered
//!            │                                lateness: from due, and from a free connection, to sent
//!            └─ all connections busy          (the server's waiting is no lateness of the client)
//! ```

use std::collections::VecDeque;
use std::time::Duration;

/// How often is asked, how many times at most, and how long answers are awaited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// Infinite for a closed loop: everything is due at once.
    pub(crate) per_second: f64,
    pub(crate) requests: u32,
    /// After the last request was due; what has no answer by then is given up.
    pub(crate) grace: Duration,
}

/// What is due, and what waits for a connection.
#[derive(Debug)]
pub(super) struct Pace {
    offer: Offer,
    offered: u32,
    limit: u32,
    waiting: VecDeque<Duration>,
}

/// What to do when everything that is due was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for answers, until then at the latest.
    Wait(Duration),
    /// Everything was answered.
    Over,
    /// The grace has ended.
    GiveUp,
}

impl Pace {
    pub(super) fn new(offer: Offer) -> Self {
        Self { offer, offered: 0, limit: offer.requests, waiting: VecDeque::new() }
    }

    /// Nothing is due any more that was not yet.
    pub(super) fn stop(&mut self) {
        self.limit = self.offered;
    }

    fn due(&self, number: u32) -> Duration {
        Duration::from_secs_f64(f64::from(number) / self.offer.per_second)
    }

    /// The request that has waited longest of those that are due at `now`.
    pub(super) fn take(&mut self, now: Duration) -> Option<Duration> {
        self.advance(now);
        self.waiting.pop_front()
    }

    fn advance(&mut self, now: Duration) {
        while self.offered < self.limit && self.due(self.offered) <= now {
            self.waiting.push_back(self.due(self.offered));
            self.offered += 1;
        }
    }

    /// It could not be sent, and waits again.
    pub(super) fn put_back(&mut self, due: Duration) {
        self.waiting.push_front(due);
    }

    /// What comes next at `now`, while so many answers are awaited.
    pub(super) fn next(&mut self, now: Duration, awaited: usize) -> Next {
        self.advance(now);
        let nothing_more = self.offered >= self.limit;
        if nothing_more && self.waiting.is_empty() && awaited == 0 {
            return Next::Over;
        }
        let end = self.due(self.limit.saturating_sub(1)) + self.offer.grace;
        if nothing_more && now >= end {
            return Next::GiveUp;
        }
        Next::Wait(if nothing_more { end } else { self.due(self.offered) })
    }

    /// When those were due that nobody has sent.
    pub(super) fn unsent(self) -> impl Iterator<Item = Duration> {
        self.waiting.into_iter()
    }
}

/// How late the client was with a request, which it could have sent when it was due on a connection that was
/// free since then.
pub(super) fn lateness(due: Duration, free_since: Duration, sent: Duration) -> Duration {
    sent.saturating_sub(due.max(free_since))
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A server of one connection on a clock of the test's: an answer takes 100 µs, and once in each second
    /// nothing happens for `stall`.
    fn answered(start: Duration, stall: Duration) -> Duration {
        let into = Duration::from_nanos(u64::from(start.subsec_nanos()));
        let held = if into < stall { stall - into } else { Duration::ZERO };
        start + held + MS / 10
    }

    /// All requests of `offer`, one after the other; the client takes `delay` before it sends.
    fn simulated(offer: Offer, stall: Duration, delay: Duration) -> Tally {
        let (mut pace, mut tally, mut now) = (Pace::new(offer), Tally::new(), Duration::ZERO);
        let mut free_since = Duration::ZERO;
        loop {
            if let Some(due) = pace.take(now) {
                let sent = now + delay;
                tally.sent(lateness(due, free_since, sent));
                now = answered(sent, stall);
                free_since = now;
                tally.answered(now - due);
                continue;
            }
            match pace.next(now, 0) {
                Next::Wait(until) => now = until,
                Next::Over => return tally,
                Next::GiveUp => panic!("nothing was given up"),
            }
        }
    }

    fn offer(per_second: f64, requests: u32) -> Offer {
        Offer { per_second, requests, grace: Duration::from_secs(1) }
    }

    #[test]
    fn server_that_sleeps_50_ms_once_a_second_shows_it_in_p99_from_the_intended_start() {
        let open = simulated(offer(1000.0, 10_000), 50 * MS, Duration::ZERO);
        // A twentieth of all were due during a stall; of the worst hundredth each waited most of it.
        let p99_us = open.latency_us(99.0);
        assert!((35_000.0..55_000.0).contains(&p99_us), "{p99_us}");
        assert!(open.latency_us(50.0) < 200.0);
        // As a closed loop sees it, one request in a second is hit: what was asked for next waited for that.
        let closed: Vec<Duration> = (0..10)
            .flat_map(|second| (0..1000).map(move |k| Duration::from_secs(second) + MS * k))
            .scan(Duration::ZERO, |free, due| {
                let sent = due.max(*free);
                *free = answered(sent, 50 * MS);
                Some(*free - sent)
            })
            .collect();
        let hit = closed.iter().filter(|latency| **latency > MS).count();
        assert!(hit * 100 < closed.len(), "{hit}: the closed loop's p99 does not see it");
        let right = simulated(offer(1000.0, 10_000), Duration::ZERO, Duration::ZERO);
        assert!(right.latency_us(99.9) < 200.0);
    }

    #[test]
    fn late_client_says_so_and_a_busy_server_is_no_late_client() {
        let busy = simulated(offer(1000.0, 3_000), 50 * MS, Duration::ZERO);
        assert!(busy.lateness_p99_us() < 1.0, "{}", busy.lateness_p99_us());
        let late = simulated(offer(100.0, 300), Duration::ZERO, 2 * MS);
        assert!(late.lateness_p99_us() > 1_900.0, "{}", late.lateness_p99_us());
    }

    #[test]
    fn requests_are_due_at_their_rate_and_all_at_once_in_a_closed_loop() {
        let mut pace = Pace::new(offer(100.0, 3));
        assert_eq!(pace.take(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(pace.take(9 * MS), None);
        assert_eq!(pace.next(9 * MS, 1), Next::Wait(10 * MS));
        // It was late: both are due, and their waiting counts.
        assert_eq!([pace.take(25 * MS), pace.take(25 * MS)], [Some(10 * MS), Some(20 * MS)]);
        assert_eq!(pace.next(25 * MS, 1), Next::Wait(1020 * MS));
        assert_eq!(pace.next(25 * MS, 0), Next::Over);
        assert_eq!(pace.next(1020 * MS, 1), Next::GiveUp);

        let mut closed = Pace::new(offer(f64::INFINITY, 2));
        assert_eq!(closed.take(Duration::ZERO), Some(Duration::ZERO));
        closed.put_back(Duration::ZERO);
        assert_eq!(closed.unsent().count(), 2);
    }

    #[test]
    fn what_is_due_while_all_connections_are_busy_waits_and_is_given_up_in_time() {
        let mut pace = Pace::new(offer(100.0, 3));
        assert!(pace.take(Duration::ZERO).is_some());
        assert_eq!(pace.next(15 * MS, 1), Next::Wait(20 * MS));
        assert_eq!(pace.next(500 * MS, 1), Next::Wait(1020 * MS));
        assert_eq!(pace.next(1020 * MS, 1), Next::GiveUp);
        assert_eq!(pace.unsent().collect::<Vec<_>>(), [10 * MS, 20 * MS]);
    }

    #[test]
    fn nothing_more_is_due_after_a_stop() {
        let mut pace = Pace::new(offer(100.0, 1000));
        assert!(pace.take(Duration::ZERO).is_some());
        pace.stop();
        assert_eq!(pace.take(Duration::from_secs(9)), None);
        assert_eq!(pace.next(MS, 1), Next::Wait(1000 * MS));
        assert_eq!(pace.next(MS, 0), Next::Over);
    }
}
