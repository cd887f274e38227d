//! In which order arms run, and whether the time allows another round. Pure.

use std::time::Duration;

/// How many rounds there are. Even, so that each order runs as often as its reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// In all passes together.
    pub(crate) least: u32,
    /// Likewise.
    pub(crate) most: u32,
    /// How often all points are gone through: a machine that drifts from minute to minute does so within each
    /// point then, where the interval shows it, and not only between two runs.
    pub(crate) passes: u32,
    /// Whether the least is done even when the time is over.
    pub(crate) insists: bool,
}

impl Bounds {
    /// Fewer rounds than six say nothing; more than forty buy little.
    pub(crate) const QUICK: Self = Self { least: 6, most: 42, passes: 3, insists: true };
    /// Ten pairs at least, and as many as there is time for; a point takes minutes.
    pub(crate) const FULL: Self = Self { least: 20, most: 1000, passes: 1, insists: false };
    /// The least of `QUICK`, one point after the other.
    pub(crate) const ONE_PASS: Self = Self { passes: 1, ..Self::QUICK };

    /// Those of one pass.
    pub(crate) fn of_a_pass(self) -> Self {
        let share = |rounds: u32| rounds.div_ceil(self.passes).next_multiple_of(2);
        Self { least: share(self.least), most: share(self.most), passes: 1, ..self }
    }
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
            (0..).find(|&done| !goes_on(Bounds::ONE_PASS, done, spent(done), time)).unwrap()
        };
        assert_eq!(rounds(1, 0), 6);
        assert_eq!(rounds(1, 9), 8);
        assert_eq!(rounds(1, 10), 10);
        assert_eq!(rounds(1, 10_000), 42);
    }

    #[test]
    fn passes_together_have_what_is_needed() {
        let pass = Bounds::QUICK.of_a_pass();
        assert_eq!((pass.least, pass.most), (2, 14));
        assert_eq!(Bounds::FULL.of_a_pass(), Bounds::FULL);
    }
}
