//! Where one way becomes cheaper than another, from the ratios of their costs at rising sizes. Pure.
//!
//! A default is left only for a difference that the interval shows.

use crate::stats::Estimate;

/// What a threshold is to the first of its two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The largest size at which it is taken.
    UpTo,
    /// The smallest size at which it is not taken any more.
    From,
}

/// The threshold, from the CPU of the first way to that of the second at each size.
pub(super) fn crossover(limit: Limit, default: u64, ratios: &[(u64, Estimate)]) -> u64 {
    match limit {
        Limit::UpTo => up_to(default, ratios),
        Limit::From => from(default, ratios),
    }
}

/// Lowered to the last size at which the first way is not dearer, raised to the last at which it is cheaper
/// without a break.
fn up_to(default: u64, ratios: &[(u64, Estimate)]) -> u64 {
    let mut limit = 0;
    for (bytes, ratio) in ratios {
        let stays = if *bytes <= default { ratio.low <= 1.0 } else { ratio.high < 1.0 };
        if !stays {
            // Between two sizes nothing is known: the default stands if it lies there.
            return if *bytes > default { limit.max(default) } else { limit };
        }
        limit = *bytes;
    }
    limit.max(default)
}

/// Lowered to the first size from which on the first way is dearer without a break, raised to the next size
/// behind those at which it is cheaper.
fn from(default: u64, ratios: &[(u64, Estimate)]) -> u64 {
    let (below, above): (Vec<_>, Vec<_>) = ratios.iter().partition(|(bytes, _)| *bytes < default);
    let dearer = below.iter().rev().take_while(|(_, ratio)| ratio.low > 1.0);
    if let Some((bytes, _)) = dearer.last() {
        return *bytes;
    }
    let cheaper = above.iter().take_while(|(_, ratio)| ratio.high < 1.0).count();
    match cheaper {
        0 => default,
        _ => above.get(cheaper).or(above.last()).map_or(default, |(bytes, _)| *bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratios(of: &[(u64, f64, f64)]) -> Vec<(u64, Estimate)> {
        of.iter()
            .map(|&(bytes, low, high)| {
                (bytes, Estimate { median: f64::midpoint(low, high), low, high })
            })
            .collect()
    }

    #[test]
    fn threshold_moves_only_for_a_difference_that_is_seen() {
        let up_to = |default, of: &[_]| crossover(Limit::UpTo, default, &ratios(of));
        let even = [(1, 0.9, 1.1), (2, 0.9, 1.1), (4, 0.9, 1.1), (8, 0.9, 1.1)];
        assert_eq!(up_to(4, &even), 4);
        let cheaper_for_longer = [(1, 0.5, 0.6), (4, 0.7, 0.8), (8, 0.8, 0.9), (16, 0.9, 1.1)];
        assert_eq!(up_to(4, &cheaper_for_longer), 8);
        let dearer_sooner = [(1, 0.5, 0.6), (2, 0.9, 1.1), (4, 1.1, 1.2), (8, 1.5, 1.6)];
        assert_eq!(up_to(4, &dearer_sooner), 2);
        assert_eq!(up_to(4, &[(1, 1.1, 1.2)]), 0);
        assert_eq!(up_to(5, &[(4, 0.9, 1.0), (8, 1.1, 1.2)]), 5);
        assert_eq!(up_to(4, &[]), 4);
    }

    #[test]
    fn least_sizes_move_by_the_same_rule() {
        let from = |default, of: &[_]| crossover(Limit::From, default, &ratios(of));
        assert_eq!(from(4, &[(1, 0.9, 1.1), (2, 0.9, 1.1), (4, 0.9, 1.1)]), 4);
        assert_eq!(from(4, &[(1, 1.2, 1.3), (2, 1.1, 1.2), (4, 1.5, 1.6)]), 1);
        assert_eq!(from(4, &[(1, 1.2, 1.3), (2, 0.9, 1.2), (4, 1.5, 1.6)]), 4);
        assert_eq!(from(2, &[(2, 0.8, 0.9), (4, 0.9, 1.1), (8, 1.2, 1.3)]), 4);
        assert_eq!(from(2, &[(2, 0.8, 0.9), (4, 0.8, 0.9)]), 4);
        assert_eq!(from(4, &[]), 4);
    }
}
