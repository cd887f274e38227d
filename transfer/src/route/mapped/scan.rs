//! PURE: which part of a file is shown next, and whether the processor gets on.

use std::ops::Range;
use std::time::Duration;

use crate::process::{ProcessorFault, WindowLimits};

/// Windows do not become shorter than this, however slow the processor is, in bytes.
const SHORTENED_MIN: u64 = 64 << 10;

/// Where a processor stands in one range of a file.
///
/// ```text
///   range.start        at            at + window          range.end
///        |== used =====|#### shown ####|------ not shown yet ---|
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    at: u64,
    end: u64,
    /// How long windows are now: shorter after late turns.
    window: u64,
    /// How long this one is, if it must be longer because the processor used nothing of the last.
    stretched: u64,
    window_max: u64,
    unused_turns: u32,
    unused_turns_max: u32,
}

impl Scan {
    pub(crate) fn new(range: Range<u64>, limits: &WindowLimits) -> Self {
        Self {
            at: range.start,
            end: range.end.max(range.start),
            window: limits.window_bytes,
            stretched: 0,
            window_max: limits.window_max_bytes,
            unused_turns: 0,
            unused_turns_max: limits.unused_turns_max,
        }
    }

    /// What to show now; `None` when all is used.
    pub(crate) fn next(&self) -> Option<Range<u64>> {
        let len = self.window.max(self.stretched).min(self.end - self.at);
        (len > 0).then(|| self.at..self.at + len)
    }

    /// Whether nothing follows what is shown.
    pub(crate) fn is_last(&self, shown: &Range<u64>) -> bool {
        shown.end == self.end
    }

    /// The least to be shown now: after a turn that used nothing, more than then.
    pub(crate) fn least(&self) -> u64 {
        self.stretched.clamp(1, (self.end - self.at).max(1))
    }

    /// The processor has used `used` bytes of what was shown (which may be shorter than [`Self::next`]
    /// had it), and has or has not sent something.
    pub(crate) fn used(
        &mut self,
        shown: &Range<u64>,
        used: u64,
        sent: bool,
    ) -> Result<(), ProcessorFault> {
        let len = shown.end - shown.start;
        let window = usize::try_from(len).unwrap_or(usize::MAX);
        if used > len {
            let used = usize::try_from(used).unwrap_or(usize::MAX);
            return Err(ProcessorFault::UsedTooMuch { used, window });
        }
        self.at = shown.start + used;
        if used > 0 {
            self.stretched = 0;
            self.unused_turns = 0;
            return Ok(());
        }
        if sent {
            // It makes more of the same bytes than fits into one turn.
            self.unused_turns += 1;
            if self.unused_turns >= self.unused_turns_max {
                return Err(ProcessorFault::Stuck { window });
            }
            self.stretched = self.stretched.max(len);
            return Ok(());
        }
        if shown.end == self.end || len >= self.window_max {
            return Err(ProcessorFault::Stuck { window });
        }
        self.stretched = len.saturating_mul(2).min(self.window_max);
        Ok(())
    }

    /// A turn took this long: windows become shorter if that was too long, so that a processor which
    /// never looks at the clock holds its budget all the same.
    pub(crate) fn took(&mut self, time: Duration, budget: Duration) -> bool {
        let late = time > budget;
        if late {
            self.window = (self.window / 2).max(SHORTENED_MIN.min(self.window));
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(window: u64, max: u64) -> WindowLimits {
        WindowLimits::default().with_window_bytes(window).with_window_max_bytes(max)
    }

    proptest! {
        #[test]
        fn every_byte_is_used_once_and_in_order(
            from in 0u64..10_000,
            len in 0u64..100_000,
            window in 1u64..5000,
            uses in prop::collection::vec(1u64..6000, 1..20),
        ) {
            let mut scan = Scan::new(from..from + len, &limits(window, 1 << 20));
            let (mut at, mut turn) = (from, 0);
            while let Some(shown) = scan.next() {
                prop_assert_eq!(shown.start, at);
                prop_assert!(shown.end - shown.start <= window);
                let used = uses[turn % uses.len()].min(shown.end - shown.start);
                scan.used(&shown, used, false).unwrap();
                at += used;
                turn += 1;
            }
            prop_assert_eq!(at, from + len);
        }

        #[test]
        fn a_record_of_any_length_up_to_the_longest_window_is_seen_whole(
            window in 1u64..100,
            record in 1u64..10_000,
        ) {
            let mut scan = Scan::new(0..3 * record, &limits(window, 10_000));
            let mut turns = 0;
            while let Some(shown) = scan.next() {
                let used = (shown.end - shown.start) / record * record;
                scan.used(&shown, used, false).unwrap();
                turns += 1;
                prop_assert!(turns < 60);
            }
        }
    }

    #[test]
    fn using_nothing_for_ever_is_an_error() {
        let mut scan = Scan::new(0..1 << 30, &limits(4096, 16_384));
        let mut turns = 0;
        let stuck = loop {
            let shown = scan.next().unwrap();
            turns += 1;
            if let Err(fault) = scan.used(&shown, 0, false) {
                break fault;
            }
        };
        assert_eq!((stuck, turns), (ProcessorFault::Stuck { window: 16_384 }, 3));
    }

    #[test]
    fn so_is_sending_without_end_from_the_same_bytes_and_a_rest_that_nobody_uses() {
        let mut scan = Scan::new(0..5000, &limits(4096, 16_384));
        let shown = scan.next().unwrap();
        let turns = (1..).find(|_| scan.used(&shown, 0, true).is_err());
        assert_eq!(turns, Some(WindowLimits::default().unused_turns_max));
        let mut scan = Scan::new(0..5000, &limits(4096, 16_384));
        scan.used(&(0..4096), 4000, false).unwrap();
        let rest = scan.next().unwrap();
        assert_eq!((rest.clone(), scan.is_last(&rest)), (4000..5000, true));
        assert_eq!(scan.used(&rest, 0, false), Err(ProcessorFault::Stuck { window: 1000 }));
    }

    #[test]
    fn late_turns_shorten_windows_and_not_below_the_least() {
        let mut scan = Scan::new(0..1 << 30, &limits(1 << 20, 1 << 20));
        let budget = Duration::from_millis(1);
        assert!(!scan.took(budget, budget));
        assert_eq!(scan.next(), Some(0..1 << 20));
        for expected in [512 << 10, 256 << 10, 128 << 10, 64 << 10, 64 << 10] {
            assert!(scan.took(2 * budget, budget));
            assert_eq!(scan.next(), Some(0..expected));
        }
    }
}
