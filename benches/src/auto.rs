//! Whether `Auto` chose as well at a point as the best route and mode that was forced there.

use std::fmt;

use crate::results::{Row, passes};
use crate::stats::{Estimate, estimate_ratio_of_passes};

/// How much dearer than the best forced route it may be where intervals tell the two apart.
const TOLERATED: f64 = 1.05;

/// What `Auto` cost at one point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Auto {
    /// The forced one that needed the least CPU.
    pub(crate) best: String,
    /// CPU of `Auto` to CPU of that one, in the same round.
    pub(crate) ratio: Estimate,
    /// Whether the intervals of their costs overlap.
    overlaps: bool,
}

impl Auto {
    /// From the rows of one point; `None` where `Auto` or every forced route is missing.
    pub(crate) fn of(rows: &[Row]) -> Option<Self> {
        let cost = |row: &Row| Some(row.figures.as_ref()?.cpu_s_per_gb);
        let is_auto = |row: &&Row| row.arm.ends_with("ringway-auto");
        let auto = rows.iter().filter(is_auto).find(|row| row.figures.is_some())?;
        let ours = auto.arm.strip_suffix("auto")?;
        let forced = rows.iter().filter(|row| row.arm.starts_with(ours) && !is_auto(row));
        let forced = forced.filter_map(|row| Some((row, cost(row)?)));
        let (best, best_cost) = forced.min_by(|a, b| a.1.median.total_cmp(&b.1.median))?;
        let cpu = |row: &Row| -> Vec<f64> {
            row.samples.iter().map(|sample| sample.usage.cpu_s()).collect()
        };
        let ratio = estimate_ratio_of_passes(&cpu(auto), &cpu(best), &passes(&auto.samples))?;
        let best = best.arm.clone();
        Some(Self { best, ratio, overlaps: cost(auto)?.overlaps(&best_cost) })
    }

    /// Within the tolerance, or not to be told apart.
    pub(crate) fn is_fine(&self) -> bool {
        self.ratio.median <= TOLERATED || self.overlaps
    }
}

impl fmt::Display for Auto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = crate::table::interval(&self.ratio, 2);
        let judged = match self.is_fine() {
            true if self.ratio.median <= TOLERATED => "",
            true => ", not to be told apart",
            false => ", a worse choice",
        };
        write!(f, "Auto: {ratio} × the best forced route, {}{judged}", self.best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::row;

    #[test]
    fn auto_is_judged_by_the_best_that_was_forced() {
        let steady = |cpu_s: f64| [0.99, 1.0, 1.0, 1.01, 1.0, 1.0, 0.99, 1.01].map(|n| n * cpu_s);
        let splice = row("ringway-splice-inline", &steady(0.3), None);
        let copy = row("ringway-copy-inline", &steady(0.6), None);
        let of = |cpu_s: f64| {
            let auto = row("ringway-auto", &steady(cpu_s), None);
            Auto::of(&[copy.clone(), auto, splice.clone()]).unwrap()
        };
        let (good, bad) = (of(0.31), of(0.36));
        assert!(good.is_fine() && !bad.is_fine(), "{good}; {bad}");
        assert_eq!(bad.best, "ringway-splice-inline");
        assert!((bad.ratio.median - 1.2).abs() < 1e-9);
        assert!(bad.to_string().contains("a worse choice"), "{bad}");
        assert_eq!(Auto::of(&[splice, copy]), None);
    }
}
