//! Medians and how far to trust them. Pure: no clock, no randomness that is not seeded here.

use serde::{Deserialize, Serialize};

/// The finalizer of splitmix64: one well-mixed word per counter value.
pub(crate) fn mix(counter: u64) -> u64 {
    let mut word = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A median with its bootstrap 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// Whether both intervals have a value in common; touching counts.
    pub(crate) fn overlaps(&self, other: &Estimate) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// How often the sample is drawn again.
const RESAMPLES: usize = 2000;
/// The same every time: the same samples give the same interval.
const SEED: u64 = 0x0052_494e_4757_4159;

/// The median of `samples` and its percentile-bootstrap 95 % interval; `None` without samples.
pub(crate) fn estimate(samples: &[f64]) -> Option<Estimate> {
    let mut draws = (0u64..).map(|counter| mix(SEED.wrapping_add(counter)));
    let mut resample = vec![0.0; samples.len()];
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for (value, draw) in resample.iter_mut().zip(&mut draws) {
            *value = samples[below(samples.len(), draw)];
        }
        medians.push(median(&mut resample)?);
    }
    medians.sort_unstable_by(f64::total_cmp);
    Some(Estimate {
        median: median(&mut samples.to_vec())?,
        low: medians[RESAMPLES * 25 / 1000],
        high: medians[RESAMPLES * 975 / 1000 - 1],
    })
}

/// The median of ratios that were taken pair by pair, and its interval. Pairs whose baseline is zero have
/// no ratio and are left out.
pub(crate) fn estimate_ratio(samples: &[f64], baseline: &[f64]) -> Option<Estimate> {
    let pairs = samples.iter().zip(baseline).filter(|(_, baseline)| **baseline != 0.0);
    estimate(&pairs.map(|(sample, baseline)| sample / baseline).collect::<Vec<_>>())
}

/// What a group of estimates allows one to say, less being better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This one's interval lies below all others'.
    Winner(usize),
    /// These cannot be told apart: the lowest median and all that overlap with it.
    Tie(Vec<usize>),
}

/// Names a winner only when its interval overlaps with no other; `None` for an empty group.
pub(crate) fn verdict(estimates: &[Estimate]) -> Option<Verdict> {
    let by_median = |a: &&Estimate, b: &&Estimate| a.median.total_cmp(&b.median);
    let best = *estimates.iter().min_by(by_median)?;
    let near: Vec<usize> =
        (0..estimates.len()).filter(|&index| estimates[index].overlaps(&best)).collect();
    Some(if let [only] = near[..] { Verdict::Winner(only) } else { Verdict::Tie(near) })
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let odd = values.len() % 2 == 1;
    Some(if odd { upper } else { f64::midpoint(values[values.len() / 2 - 1], upper) })
}

/// Scales `draw` to an index below `len` (Lemire's multiplication).
fn below(len: usize, draw: u64) -> usize {
    let scaled = (u128::from(draw) * len as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(low: f64, high: f64) -> Estimate {
        Estimate { median: f64::midpoint(low, high), low, high }
    }

    #[test]
    fn medians_of_odd_even_and_no_samples() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn equal_samples_have_no_width() {
        assert_eq!(estimate(&[2.0; 7]), Some(Estimate { median: 2.0, low: 2.0, high: 2.0 }));
    }

    #[test]
    fn interval_holds_the_median_and_lies_within_the_samples() {
        let samples: Vec<f64> = (1..=21).map(f64::from).collect();
        let estimate = estimate(&samples).unwrap();
        assert!((estimate.median - 11.0).abs() < 1e-9);
        assert!(estimate.low >= 1.0 && estimate.low < 11.0);
        assert!(estimate.high > 11.0 && estimate.high <= 21.0);
        // By order statistics the 95 % interval of 21 samples runs from the 6th to the 16th.
        assert!((estimate.low - 6.0).abs() <= 1.0, "{estimate:?}");
        assert!((estimate.high - 16.0).abs() <= 1.0, "{estimate:?}");
    }

    #[test]
    fn interval_covers_the_truth_about_as_often_as_it_says() {
        // Uniform on 0..1: the true median is 0.5.
        let uniform = |counter: u64| (mix(counter) >> 11) as f64 / (1u64 << 53) as f64;
        let covered = (0..300u64)
            .filter(|trial| {
                let samples: Vec<f64> =
                    (0..15).map(|k| uniform((1 << 40) + trial * 15 + k)).collect();
                let estimate = estimate(&samples).unwrap();
                estimate.low <= 0.5 && 0.5 <= estimate.high
            })
            .count();
        assert!((270..=298).contains(&covered), "{covered} of 300");
    }

    #[test]
    fn same_samples_give_the_same_interval() {
        let samples = [0.3, 0.1, 0.9, 0.4, 0.7];
        assert_eq!(estimate(&samples), estimate(&samples));
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // A drift that hits both arms of a round alike leaves the ratio alone.
        let ratio = estimate_ratio(&[2.0, 20.0, 200.0], &[1.0, 10.0, 100.0]).unwrap();
        assert_eq!(ratio, Estimate { median: 2.0, low: 2.0, high: 2.0 });
        assert_eq!(estimate_ratio(&[1.0], &[0.0]), None);
    }

    #[test]
    fn winner_is_named_only_when_no_interval_overlaps() {
        let apart = [range(3.0, 4.0), range(1.0, 2.0), range(2.5, 3.5)];
        assert_eq!(verdict(&apart), Some(Verdict::Winner(1)));
        let touching = [range(2.0, 4.0), range(1.0, 2.0), range(5.0, 6.0)];
        assert_eq!(verdict(&touching), Some(Verdict::Tie(vec![0, 1])));
        assert_eq!(verdict(&[]), None);
    }
}
