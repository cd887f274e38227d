//! Medians and how far to trust them. Pure: no clock, no randomness that is not seeded here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The finalizer of splitmix64: one well-mixed word per counter value.
pub(crate) fn mix(counter: u64) -> u64 {
    let mut word = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A median with its 95 % interval.
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

/// The median of independent `samples` and its 95 % interval; `None` without samples. Of one sample it has no
/// width, because nothing is known of it.
pub(crate) fn estimate(samples: &[f64]) -> Option<Estimate> {
    estimate_of_passes(samples, &[])
}

/// The median of `samples` and its 95 % interval, if samples of one pass are alike because they were taken in
/// the same minute, of the same file: what varies from pass to pass decides, not how many samples there are.
///
/// Whole passes are drawn again, and within each its samples (a two-stage cluster bootstrap); few passes are
/// known to look alike by chance, so the percentiles are widened as Student's t is against the normal
/// distribution, and by √(p ÷ (p − 1)), as Hesterberg proposes (The American Statistician 69, 2015).
/// `passes` says to which pass each sample belongs; without that, or with one pass, each is one of its own.
pub(crate) fn estimate_of_passes(samples: &[f64], passes: &[u32]) -> Option<Estimate> {
    let clusters = clusters(samples, passes);
    let mut draws = (0u64..).map(|counter| mix(SEED.wrapping_add(counter)));
    let mut draw = |len: usize| below(len, draws.next().unwrap_or_default());
    let mut resample = Vec::with_capacity(samples.len());
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        resample.clear();
        for _ in 0..clusters.len() {
            let cluster = &clusters[draw(clusters.len())];
            resample.extend((0..cluster.len()).map(|_| cluster[draw(cluster.len())]));
        }
        medians.push(median(&mut resample)?);
    }
    medians.sort_unstable_by(f64::total_cmp);
    let median = median(&mut samples.to_vec())?;
    let wider = widening(clusters.len());
    let low = median - wider * (median - medians[RESAMPLES * 25 / 1000]).max(0.0);
    let high = median + wider * (medians[RESAMPLES * 975 / 1000 - 1] - median).max(0.0);
    // No time, count or ratio is less than nothing.
    let least = if samples.iter().all(|sample| *sample >= 0.0) { 0.0 } else { f64::NEG_INFINITY };
    Some(Estimate { median, low: low.max(least), high })
}

/// The median of ratios that were taken pair by pair, and its interval. Pairs whose baseline is zero have
/// no ratio and are left out.
pub(crate) fn estimate_ratio(samples: &[f64], baseline: &[f64]) -> Option<Estimate> {
    estimate_ratio_of_passes(samples, baseline, &[])
}

/// The same of samples that were taken in passes.
pub(crate) fn estimate_ratio_of_passes(
    samples: &[f64],
    baseline: &[f64],
    passes: &[u32],
) -> Option<Estimate> {
    let passes = passes.iter().copied().map(Some).chain(std::iter::repeat(None));
    let pairs = samples.iter().zip(baseline).zip(passes);
    let (ratios, passes): (Vec<f64>, Vec<Option<u32>>) = pairs
        .filter(|((_, baseline), _)| **baseline != 0.0)
        .map(|((sample, baseline), pass)| (sample / baseline, pass))
        .unzip();
    estimate_of_passes(&ratios, &passes.into_iter().flatten().collect::<Vec<_>>())
}

/// Samples by their pass; each alone if nothing is said, or if there is but one pass.
fn clusters(samples: &[f64], passes: &[u32]) -> Vec<Vec<f64>> {
    let mut by_pass: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (sample, pass) in samples.iter().zip(passes) {
        by_pass.entry(*pass).or_default().push(*sample);
    }
    if passes.len() < samples.len() || by_pass.len() == 1 {
        return samples.iter().map(|sample| vec![*sample]).collect();
    }
    by_pass.into_values().collect()
}

/// By how much an interval from this many independent parts is too narrow.
fn widening(parts: usize) -> f64 {
    if parts < 2 {
        return 1.0;
    }
    let freedom = (parts - 1) as f64;
    student(parts - 1) / NORMAL * ((freedom + 1.0) / freedom).sqrt()
}

/// The 97.5th percentile of the normal distribution.
const NORMAL: f64 = 1.959_964;

/// The 97.5th percentile of Student's t: by table for few degrees of freedom, then by Fisher's series.
fn student(freedom: usize) -> f64 {
    const FEW: [f64; 4] = [12.706, 4.303, 3.182, 2.776];
    if let Some(known) = freedom.checked_sub(1).and_then(|index| FEW.get(index)) {
        return *known;
    }
    let (n, z) = (freedom as f64, NORMAL);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + first / n + second / (n * n)
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

/// The same as a sentence about `costs` with their names, which are of `what`; `None` for an empty group.
pub(crate) fn verdict_in_words(what: &str, costs: &[(&str, Estimate)]) -> Option<String> {
    let estimates: Vec<Estimate> = costs.iter().map(|(_, cost)| *cost).collect();
    Some(match verdict(&estimates)? {
        Verdict::Winner(_) if costs.len() == 1 => "one arm: nothing to compare".to_owned(),
        Verdict::Winner(index) => format!("least {what}: {}", costs[index].0),
        Verdict::Tie(near) => {
            let names: Vec<&str> = near.iter().map(|&index| costs[index].0).collect();
            format!("no winner: the intervals of {} overlap", names.join(", "))
        }
    })
}

fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let highest_below = || below.iter().copied().max_by(f64::total_cmp);
    Some(if odd { *upper } else { f64::midpoint(highest_below()?, *upper) })
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

    /// Even on 0..1.
    fn uniform(counter: u64) -> f64 {
        (mix(counter) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Eight passes of four samples around `level`: each pass has a drift of 2 %, of which a third is that of
    /// the pass before, each sample noise of 2 %, and one in twelve is dearer by up to 20 %.
    fn drifting(seed: u64, level: f64) -> (Vec<f64>, Vec<u32>) {
        let mut counter = (seed + 1) << 20;
        let mut next = || {
            counter += 1;
            uniform(counter)
        };
        // The sum of twelve even ones is normal enough.
        let mut normal = || (0..12).map(|_| next()).sum::<f64>() - 6.0;
        let (mut samples, mut passes, mut drift) = (Vec::new(), Vec::new(), normal());
        for pass in 1..=8u32 {
            for k in 0..4u64 {
                let rare = mix(seed * 64 + u64::from(pass) * 4 + k);
                let spike = if rare.is_multiple_of(12) {
                    (rare >> 32) as f64 / 2f64.powi(32) * 0.2
                } else {
                    0.0
                };
                samples.push(level * (1.0 + 0.02 * drift + 0.02 * normal() + spike));
                passes.push(pass);
            }
            drift = drift / 3.0 + (8.0f64 / 9.0).sqrt() * normal();
        }
        (samples, passes)
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
        let covered = (0..300u64)
            .filter(|trial| {
                let samples: Vec<f64> =
                    (0..15).map(|k| uniform((1 << 40) + trial * 15 + k)).collect();
                let estimate = estimate(&samples).unwrap();
                estimate.low <= 0.5 && 0.5 <= estimate.high
            })
            .count();
        assert!((279..=299).contains(&covered), "{covered} of 300");
    }

    #[test]
    fn passes_cover_the_truth_where_samples_alone_do_not() {
        let covers = |estimate: Estimate| estimate.low <= 1.0 && 1.0 <= estimate.high;
        let (mut by_pass, mut by_sample) = (0, 0);
        for trial in 0..60 {
            let (samples, passes) = drifting(trial, 1.0);
            by_pass += usize::from(covers(estimate_of_passes(&samples, &passes).unwrap()));
            by_sample += usize::from(covers(estimate(&samples).unwrap()));
        }
        assert!(by_pass >= 54, "{by_pass} of 60");
        assert!(by_sample < 48, "{by_sample} of 60: the series does not drift");
    }

    #[test]
    fn two_runs_overlap_and_a_tenth_more_is_still_seen() {
        let (mut same, mut found) = (0, 0);
        for trial in 0..60 {
            let of = |seed, level| {
                let (samples, passes) = drifting(seed, level);
                estimate_of_passes(&samples, &passes).unwrap()
            };
            let before = of(trial, 1.0);
            same += usize::from(before.overlaps(&of(trial + 1000, 1.0)));
            let after = of(trial + 2000, 1.1);
            found += usize::from(!before.overlaps(&after) && after.median > before.median);
        }
        assert!(same >= 58, "{same} of 60");
        assert!(found >= 54, "{found} of 60");
    }

    #[test]
    fn widening_is_that_of_tables() {
        for (freedom, known) in [(5, 2.571), (7, 2.365), (9, 2.262), (30, 2.042), (120, 1.980)] {
            assert!((student(freedom) - known).abs() < 0.03, "{freedom}: {}", student(freedom));
        }
        assert!((widening(1) - 1.0).abs() < 1e-9);
        assert!(widening(3) > widening(8) && widening(1000) < 1.01);
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
