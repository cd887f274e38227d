//! In which order arms run, and whether the time allows another round. Pure.

use std::time::Duration;

/// How many rounds there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// In all passes together.
    pub(crate) least: u32,
    /// Likewise.
    pub(crate) most: u32,
    /// How often all points are gone through, with a new file each time: a machine that drifts from minute to
    /// minute, and a file that lies well by chance, do so within each point then, where the interval shows it,
    /// and not only between two runs.
    pub(crate) passes: u32,
    /// Whether the least is done even when the time is over.
    pub(crate) insists: bool,
}

impl Bounds {
    /// Fewer passes than eight say little of what varies between them; more than forty rounds buy little.
    pub(crate) const QUICK: Self = Self { least: 8, most: 48, passes: 8, insists: true };
    /// Ten pairs at least, and as many as there is time for.
    pub(crate) const FULL: Self = Self { least: 10, most: 2000, passes: 10, insists: false };

    /// Fewer rounds than six say nothing: for modes that do one thing after the other, in pairs of rounds.
    pub(crate) const ONE_PASS: Self = Self { least: 6, most: 42, passes: 1, insists: true };

    /// Those of one pass.
    pub(crate) fn of_a_pass(self) -> Self {
        let share = |rounds: u32| rounds.div_ceil(self.passes);
        Self { least: share(self.least), most: share(self.most), ..self }
    }
}

/// Whether there is time for another point, so that all that are begun have every pass. `pass_of_begun` is what
/// one pass of one round over those takes, `next` what one over the other point is expected to take, `left` the
/// time until the end.
pub(crate) fn admits(
    bounds: Bounds,
    pass_of_begun: Duration,
    next: Duration,
    left: Duration,
) -> bool {
    // The warm-up takes as long as another round.
    let of_another = next * (bounds.passes + 1);
    let nothing_begun = pass_of_begun.is_zero();
    bounds.insists || nothing_begun || pass_of_begun * (bounds.passes - 1) + of_another <= left
}

/// What was reckoned, corrected by what earlier things took of which the same was reckoned.
pub(crate) fn corrected(reckoned: Duration, earlier: Duration, earlier_took: Duration) -> Duration {
    if earlier.is_zero() {
        return reckoned;
    }
    reckoned.mul_f64((earlier_took.as_secs_f64() / earlier.as_secs_f64()).clamp(0.05, 20.0))
}

/// How long a pass over a point may take that needs `least`, while it and the passes behind it, `steps` in
/// all, need `least_of_all`: what nobody needs is shared.
pub(crate) fn share(
    left: Duration,
    least: Duration,
    least_of_all: Duration,
    steps: u32,
) -> Duration {
    least + left.saturating_sub(least_of_all) / steps.max(1)
}

/// The order of the arms in a round: there and back again (ABBA), so that a drift of the machine hits the
/// first and the last alike.
pub(crate) fn order(arms: usize, round: u32) -> Vec<usize> {
    if round % 2 == 1 { (0..arms).collect() } else { (0..arms).rev().collect() }
}

/// Whether another round is run after `done` of them took `spent` of `time`. It depends on the time alone,
/// never on what was measured. Rounds come in pairs, forward and back; those of several passes do so from
/// pass to pass.
pub(crate) fn goes_on(bounds: Bounds, done: u32, spent: Duration, time: Duration) -> bool {
    let at_once = if bounds.passes == 1 { 2 } else { 1 };
    let fits = || spent + spent * at_once / done.max(1) <= time;
    done < bounds.least || done % at_once == 1 || (done < bounds.most && fits())
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
        let rounds = |bounds: Bounds, seconds_each: u64, seconds: u64| {
            let spent = |done: u32| Duration::from_secs(seconds_each) * done;
            let time = Duration::from_secs(seconds);
            (0..).find(|&done| !goes_on(bounds, done, spent(done), time)).unwrap()
        };
        assert_eq!(rounds(Bounds::ONE_PASS, 1, 0), 6);
        assert_eq!(rounds(Bounds::ONE_PASS, 1, 9), 8);
        assert_eq!(rounds(Bounds::ONE_PASS, 1, 10), 10);
        assert_eq!(rounds(Bounds::ONE_PASS, 1, 10_000), 42);
        assert_eq!(rounds(Bounds::QUICK.of_a_pass(), 4, 3), 1);
        assert_eq!(rounds(Bounds::QUICK.of_a_pass(), 1, 3), 3);
    }

    #[test]
    fn passes_together_have_what_is_needed() {
        let pass = Bounds::QUICK.of_a_pass();
        assert_eq!((pass.least, pass.most), (1, 6));
        assert_eq!(Bounds::FULL.of_a_pass().least, 1);
    }

    #[test]
    fn points_are_begun_as_long_as_all_can_have_their_passes() {
        let seconds = Duration::from_secs;
        // Each point takes ten seconds for a pass, and as many to be made ready.
        let begun = |budget: u64| {
            let left = |begun: u32| seconds(budget).saturating_sub(seconds(20) * begun);
            let of = |n: u32| admits(Bounds::FULL, seconds(10) * n, seconds(10), left(n));
            (0..24).find(|&n| !of(n)).unwrap_or(24)
        };
        assert_eq!(begun(0), 1);
        assert_eq!(begun(360), 3);
        assert_eq!(begun(7200), 24);
        assert!(admits(Bounds::QUICK, seconds(70), seconds(10), seconds(0)));
        // A dear one is left out where a cheap one would have fitted.
        assert!(!admits(Bounds::FULL, seconds(10), seconds(80), seconds(700)));
        assert_eq!(corrected(seconds(10), seconds(4), seconds(6)), seconds(15));
        assert_eq!(corrected(seconds(10), seconds(0), seconds(6)), seconds(10));
    }

    #[test]
    fn dear_points_have_all_their_passes_because_cheap_ones_leave_them_their_time() {
        let seconds = Duration::from_secs;
        let least = [seconds(1), seconds(1), seconds(40)];
        let (passes, budget) = (9, seconds(500));
        let (mut left, mut rounds) = (budget, [0; 3]);
        for pass in 0..passes {
            for (point, own) in least.iter().enumerate() {
                let behind: Duration = least[point + 1..].iter().sum();
                let all: Duration = least.iter().sum();
                let least_of_all = *own + behind + all * (passes - 1 - pass);
                let steps = u32::try_from(3 - point).unwrap() + 3 * (passes - 1 - pass);
                let time = share(left, *own, least_of_all, steps);
                // As many rounds as fit, and one in any case.
                let done = u32::try_from(time.as_secs() / own.as_secs()).unwrap().max(1);
                assert!(*own * done <= left, "pass {pass}, point {point}");
                left -= *own * done;
                rounds[point] += done;
            }
        }
        assert!(rounds.iter().all(|&rounds| rounds >= passes), "{rounds:?}");
        assert!(rounds[0] > 4 * passes, "{rounds:?}");
        assert!(left < seconds(40), "{left:?}");
    }
}
