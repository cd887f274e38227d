//! Which bytes of a window were changed in place.

use std::ops::Range;

/// The most ranges that are kept apart. Beyond it neighbours are joined: what lies between them is
/// then sent from private memory instead of by reference, which is the same bytes.
const RANGES_MAX: usize = 1024;

/// Ranges in ascending order that neither overlap nor touch.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    ranges: Vec<Range<usize>>,
}

impl Changes {
    /// Adds a range, joining it with those that it overlaps or touches.
    pub fn add(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|known| known.end < range.start);
        let to = from + self.ranges[from..].partition_point(|known| known.start <= range.end);
        if from == to {
            self.insert(from, range);
            return;
        }
        let joined =
            self.ranges[from].start.min(range.start)..self.ranges[to - 1].end.max(range.end);
        self.ranges[from] = joined;
        self.ranges.drain(from + 1..to);
    }

    fn insert(&mut self, at: usize, range: Range<usize>) {
        if self.ranges.len() < RANGES_MAX {
            self.ranges.insert(at, range);
        } else if let Some(before) = at.checked_sub(1) {
            self.ranges[before].end = range.end;
        } else {
            self.ranges[0].start = range.start;
        }
    }

    /// The ranges that overlap `range`.
    pub fn within(&self, range: Range<usize>) -> &[Range<usize>] {
        let from = self.ranges.partition_point(|known| known.end <= range.start);
        let to = self.ranges.partition_point(|known| known.start < range.end);
        self.ranges.get(from..to).unwrap_or_default()
    }

    /// Nothing is changed.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_changed_byte_is_known_and_no_other(
            added in prop::collection::vec((0usize..300, 0usize..40), 0..40),
        ) {
            let (mut changes, mut plain) = (Changes::default(), [false; 400]);
            for (at, len) in added {
                changes.add(at..at + len);
                plain[at..at + len].fill(true);
            }
            let mut found = [false; 400];
            for range in changes.within(0..400) {
                prop_assert!(!range.is_empty());
                found[range.clone()].fill(true);
            }
            prop_assert_eq!(found, plain);
            for pair in changes.ranges.windows(2) {
                prop_assert!(pair[0].end < pair[1].start, "{:?}", pair);
            }
            for (at, is_changed) in plain.into_iter().enumerate() {
                prop_assert_eq!(!changes.within(at..at + 1).is_empty(), is_changed);
            }
        }
    }

    #[test]
    fn too_many_are_joined_and_none_is_lost() {
        let mut changes = Changes::default();
        for at in (1..3000).rev() {
            changes.add(at * 2..at * 2 + 1);
        }
        assert!(changes.ranges.len() <= RANGES_MAX);
        for at in 1..3000 {
            assert!(!changes.within(at * 2..at * 2 + 1).is_empty(), "{at}");
        }
    }
}
