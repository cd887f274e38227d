//! In which order arms run, and whether the time allows another round. Pure.

use std::time::Duration;

/// How many rounds there are at least and at most. Even, so that each order runs as often as its reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least: u32,
    pub(crate) most: u32,
}

impl Bounds {
    /// Fewer rounds than six say nothing; more than forty buy little.
    pub(crate) const QUICK: Self = Self { least: 6, most: 40 };
    /// Ten pairs at least, and as many as there is time for.
    pub(crate) const FULL: Self = Self { least: 20, most: 1000 };
}

/// The order of the arms in a round: there and back again (ABBA), so that a drift of the machine hits the
/// first and the last alike.
pub(crate) fn order(arms: usize, round: u32) -> Vec<usize> {
    if round % 2 == 1 { (0..arms).collect() } else { (0..arms).rev().collect() }
}

/// Whether another round is run after `done` of them took `spent` of `time`. It depends on the time alone,
/// never on what was measured, and rounds come in pairs: forward and back.
pub(crate) fn goes_on(bounds: Bounds, done: u32, spent: Duration, time: Duration) -> bool {
    let pair_fits = || spent + spent * 2 / done.max(1) <= time;
    done < bounds.least || done % 2 == 1 || (done < bounds.most && pair_fits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_round_runs_backwards() {
        assert_eq!(order(3, 1), [0, 1, 2]);
        assert_eq!(order(3, 2), [2, 1, 0]);
        assert_eq!(order(3, 3), [0, 1, 2]);
    }

    #[test]
    fn rounds_fill_the_time_within_their_bounds() {
        let rounds = |seconds_each: u64, seconds: u64| {
            let spent = |done: u32| Duration::from_secs(seconds_each) * done;
            let time = Duration::from_secs(seconds);
            (0..).find(|&done| !goes_on(Bounds::QUICK, done, spent(done), time)).unwrap()
        };
        assert_eq!(rounds(1, 0), 6);
        assert_eq!(rounds(1, 9), 8);
        assert_eq!(rounds(1, 10), 10);
        assert_eq!(rounds(1, 10_000), 40);
    }
}
