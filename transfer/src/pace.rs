//! How fast a transfer may go, how slow its peer may be, and when it must have ended.
//!
//! Every time here is a [`Duration`] since one start that the caller chose, such as the start of the
//! transfer; nothing reads a clock. A time earlier than the last one counts as that one.

use std::{num::NonZeroU64, time::Duration};

const NANOS_PER_SEC: u128 = 1_000_000_000;

/// A token bucket: a rate that holds exactly over the long run, and a burst.
///
/// By time `t`, at most `burst + rate × t` bytes are granted. Who always asks again in time gets
/// all of that but for the last piece, which is a tenth of a second's worth at most.
///
/// ```
/// use std::{num::NonZeroU64, time::Duration};
/// use ringway::pace::{Allowance, Pace};
///
/// let mut pace = Pace::new(NonZeroU64::new(1000).unwrap(), 500);
/// assert_eq!(pace.allow(Duration::ZERO, 500), Allowance::Now(500));
/// assert_eq!(pace.allow(Duration::ZERO, 500), Allowance::After(Duration::from_millis(100)));
/// assert_eq!(pace.allow(Duration::from_millis(100), 500), Allowance::Now(100));
/// assert_eq!(pace.held_back(), Duration::from_millis(100));
/// ```
#[derive(Debug, Clone)]
pub struct Pace {
    rate: NonZeroU64,
    burst: u64,
    /// What may be granted, in byte-nanoseconds per second, so that nothing is ever rounded off.
    credit: u128,
    now: Duration,
    waiting: bool,
    held_back: Duration,
}

/// The answer of [`Pace::allow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Allowance {
    /// This many bytes may go now; they are taken out of the bucket.
    Now(u64),
    /// Nothing may go now; ask again after this time.
    After(Duration),
}

impl Pace {
    /// A full bucket: `rate` in bytes per second, `burst` in bytes (0 counts as 1).
    #[must_use]
    pub fn new(rate: NonZeroU64, burst: u64) -> Self {
        let burst = burst.max(1);
        Self {
            rate,
            burst,
            credit: u128::from(burst) * NANOS_PER_SEC,
            now: Duration::ZERO,
            waiting: false,
            held_back: Duration::ZERO,
        }
    }

    /// How much of `want` bytes may go at `now`.
    ///
    /// A piece is granted when it is worth a send: all of `want`, or a tenth of a second's worth, or
    /// the whole burst, whichever is least.
    pub fn allow(&mut self, now: Duration, want: u64) -> Allowance {
        self.advance(now);
        let piece = want.min(self.burst).min((self.rate.get() / 10).max(1));
        let needed = u128::from(piece) * NANOS_PER_SEC;
        self.waiting = self.credit < needed;
        if self.waiting {
            let nanos = (needed - self.credit).div_ceil(u128::from(self.rate.get()));
            return Allowance::After(duration_of_nanos(nanos));
        }
        // The credit never exceeds the burst, so it fits.
        let whole = u64::try_from(self.credit / NANOS_PER_SEC).unwrap_or(u64::MAX);
        let granted = want.min(whole);
        self.credit -= u128::from(granted) * NANOS_PER_SEC;
        Allowance::Now(granted)
    }

    /// Puts back bytes that were granted and that the socket did not take.
    pub fn give_back(&mut self, bytes: u64) {
        self.add(u128::from(bytes) * NANOS_PER_SEC);
    }

    /// The time spent waiting for this bucket so far, between an [`Allowance::After`] and the call
    /// that follows it.
    #[must_use]
    pub fn held_back(&self) -> Duration {
        self.held_back
    }

    fn advance(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.now);
        self.now += elapsed;
        if self.waiting {
            self.held_back += elapsed;
        }
        self.add(elapsed.as_nanos().saturating_mul(u128::from(self.rate.get())));
    }

    fn add(&mut self, credit: u128) {
        let full = u128::from(self.burst) * NANOS_PER_SEC;
        self.credit = self.credit.saturating_add(credit).min(full);
    }
}

/// The least rate that a peer must keep up, judged over one grace period after another.
///
/// A peer that takes one byte now and then is alive and yet holds its connection for ever; a timeout
/// on silence does not see it. Time in which the peer had nothing to take (a cold disk, a [`Pace`])
/// is excused.
///
/// ```
/// use std::time::Duration;
/// use ringway::pace::{Floor, TooSlow};
///
/// let mut floor = Floor::new(1000, Duration::from_secs(10));
/// assert_eq!(floor.check(Duration::from_secs(10), 50_000, Duration::ZERO), Ok(()));
/// let slow = floor.check(Duration::from_secs(20), 50_100, Duration::ZERO);
/// assert_eq!(slow, Err(TooSlow { bytes: 100, over: Duration::from_secs(10), floor: 1000 }));
/// ```
#[derive(Debug, Clone)]
pub struct Floor {
    rate: u64,
    grace: Duration,
    since: Duration,
    accepted: u64,
}

/// A peer took fewer bytes than it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow {
    /// Bytes that the peer took.
    pub bytes: u64,
    /// The time that it had for them.
    pub over: Duration,
    /// The rate that was asked of it, in bytes per second.
    pub floor: u64,
}

impl Floor {
    /// A floor of `rate` bytes per second, judged every `grace`.
    #[must_use]
    pub fn new(rate: u64, grace: Duration) -> Self {
        Self { rate, grace, since: Duration::ZERO, accepted: 0 }
    }

    /// Judges a peer that has taken `accepted` bytes since the start, of which the sender kept it
    /// waiting for `excused`.
    ///
    /// # Errors
    ///
    /// [`TooSlow`] when a grace period is over and the peer took less in it than the floor.
    pub fn check(
        &mut self,
        now: Duration,
        accepted: u64,
        excused: Duration,
    ) -> Result<(), TooSlow> {
        let served = now.saturating_sub(excused);
        let over = served.saturating_sub(self.since);
        if over < self.grace {
            return Ok(());
        }
        let bytes = accepted.saturating_sub(self.accepted);
        let asked = over.as_nanos().saturating_mul(u128::from(self.rate));
        if u128::from(bytes) * NANOS_PER_SEC < asked {
            return Err(TooSlow { bytes, over, floor: self.rate });
        }
        self.since = served;
        self.accepted = accepted;
        Ok(())
    }

    /// When the next judgement falls due, so that a timer can wake a transfer whose peer is silent.
    #[must_use]
    pub fn due(&self, excused: Duration) -> Duration {
        self.since.saturating_add(self.grace).saturating_add(excused)
    }
}

/// The time by which a transfer must have ended.
///
/// ```
/// use std::time::Duration;
/// use ringway::pace::Deadline;
///
/// let deadline = Deadline(Duration::from_secs(5));
/// assert_eq!(deadline.left(Duration::from_secs(2)), Some(Duration::from_secs(3)));
/// assert_eq!(deadline.left(Duration::from_secs(5)), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Duration);

impl Deadline {
    /// The time left at `now`, or `None` when there is none.
    #[must_use]
    pub fn left(self, now: Duration) -> Option<Duration> {
        self.0.checked_sub(now).filter(|left| !left.is_zero())
    }
}

fn duration_of_nanos(nanos: u128) -> Duration {
    let secs = u64::try_from(nanos / NANOS_PER_SEC);
    let rest = u32::try_from(nanos % NANOS_PER_SEC);
    match (secs, rest) {
        (Ok(secs), Ok(rest)) => Duration::new(secs, rest),
        _ => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn never_above_burst_plus_rate_times_time(
            per_s in 1u64..1 << 40, burst in 0u64..1 << 40,
            calls in prop::collection::vec((0u64..3_000_000_000, 0u64..1 << 41, 0u64..100), 1..60),
        ) {
            let mut pace = Pace::new(rate(per_s), burst);
            let (mut now, mut sent) = (Duration::ZERO, 0u128);
            for (nanos, want, back_percent) in calls {
                now += Duration::from_nanos(nanos);
                if let Allowance::Now(n) = pace.allow(now, want) {
                    prop_assert!(n <= want);
                    let back = n / 100 * back_percent;
                    pace.give_back(back);
                    sent += u128::from(n - back);
                }
                let most = u128::from(burst.max(1)) * NANOS_PER_SEC + now.as_nanos() * u128::from(per_s);
                prop_assert!(sent * NANOS_PER_SEC <= most);
            }
            prop_assert!(pace.held_back() <= now);
        }

        #[test]
        fn always_hungry_stays_within_one_piece_of_the_line(
            per_s in 1u64..1 << 40, burst in 1u64..1 << 40, want in 1u64..1 << 32,
        ) {
            let mut pace = Pace::new(rate(per_s), burst);
            let (mut now, mut sent, mut granted) = (Duration::ZERO, 0u128, true);
            for _ in 0..200 {
                match pace.allow(now, want) {
                    Allowance::Now(n) => { prop_assert!(n > 0); sent += u128::from(n); granted = true; }
                    Allowance::After(wait) => {
                        prop_assert!(granted, "asked again in time and was not served");
                        granted = false;
                        let most = u128::from(burst) * NANOS_PER_SEC + now.as_nanos() * u128::from(per_s);
                        let piece = u128::from(want.min(burst).min((per_s / 10).max(1)));
                        prop_assert!((sent + piece) * NANOS_PER_SEC > most);
                        now += wait;
                    }
                }
            }
            if granted { prop_assert_eq!(pace.held_back(), now); }
        }
    }

    #[test]
    fn a_slow_rate_is_served_in_small_pieces() {
        let mut pace = Pace::new(rate(1024), 1 << 20);
        assert_eq!(pace.allow(Duration::ZERO, 1 << 20), Allowance::Now(1 << 20));
        let Allowance::After(wait) = pace.allow(Duration::ZERO, 1 << 20) else { panic!() };
        assert!(wait <= Duration::from_millis(100));
    }

    #[test]
    fn an_idle_bucket_holds_no_more_than_its_burst() {
        let mut pace = Pace::new(rate(1000), 500);
        assert_eq!(pace.allow(Duration::from_secs(3600), 10_000), Allowance::Now(500));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut pace = Pace::new(rate(u64::MAX), u64::MAX);
        assert_eq!(pace.allow(Duration::MAX, u64::MAX), Allowance::Now(u64::MAX));
        assert_eq!(pace.allow(Duration::ZERO, 0), Allowance::Now(0));
        pace.give_back(u64::MAX);
        pace.give_back(u64::MAX);
        assert_eq!(pace.allow(Duration::ZERO, 1), Allowance::Now(1));
        let mut floor = Floor::new(u64::MAX, Duration::ZERO);
        assert!(floor.check(Duration::MAX, 0, Duration::ZERO).is_err());
        assert_eq!(floor.due(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn a_trickle_is_too_slow_and_a_cold_disk_is_not() {
        let s = Duration::from_secs;
        let mut floor = Floor::new(100, s(10));
        assert_eq!(floor.check(s(9), 0, s(0)), Ok(()));
        assert_eq!(floor.check(s(25), 1500, s(16)), Ok(()), "16 s were the disk's");
        assert_eq!(floor.due(s(16)), s(26));
        assert_eq!(floor.check(s(26), 1500, s(16)), Ok(()));
        assert_eq!(
            floor.check(s(36), 1510, s(16)),
            Err(TooSlow { bytes: 10, over: s(10), floor: 100 })
        );
    }
}
