//! PURE: which part of a file is shown next, and whether the processor gets on.

use std::ops::Range;
use std::time::Duration;

use crate::process::{ProcessorFault, WindowLimits};

/// Windows do not become shorter than this, however slow the processor is, in bytes.
const SHORTENED_MIN: u64 = 64 << 10;
/// The first window has this many bytes: how long a turn takes is not known yet.
const FIRST: u64 = 256 << 10;

/// Bytes of a huge page. A map that begins at a multiple of it and is at least as long has its pages
/// present almost for nothing: measured, CPU seconds per GB with a walk of 0.019, windows of 1 MiB 0.040
/// and of 4 MiB 0.021.
pub const HUGE_PAGE: u64 = 2 << 20;

/// Where a processor stands in one range of a file.
///
/// ```text
///   range.start        at            at + window          range.end
///        |== used =====|#### shown ####|------ not shown yet ---|
/// ```
#[derive(Debug, Clone)]
pub struct Scan {
    at: u64,
    end: u64,
    /// How long windows are now: longer after quick turns, shorter after late ones.
    window: u64,
    /// How long they may become.
    window_most: u64,
    /// How long this one is, if it must be longer because the processor used nothing of the last.
    stretched: u64,
    window_max: u64,
    unused_turns: u32,
    unused_turns_max: u32,
    /// The last turn was over before anything was used.
    hurried: bool,
    /// The last turn was no quick one.
    lingered: bool,
}

impl Scan {
    /// At the beginning of a range of a file.
    #[must_use]
    pub fn new(range: Range<u64>, limits: &WindowLimits) -> Self {
        Self {
            at: range.start,
            end: range.end.max(range.start),
            window: limits.window_bytes.min(FIRST),
            window_most: limits.window_bytes,
            stretched: 0,
            window_max: limits.window_max_bytes,
            unused_turns: 0,
            unused_turns_max: limits.unused_turns_max,
            hurried: false,
            lingered: false,
        }
    }

    /// What to show now; `None` when all is used.
    pub fn next(&self) -> Option<Range<u64>> {
        let len = self.window.max(self.stretched).min(self.end - self.at);
        let mut end = self.at + len;
        if len >= HUGE_PAGE && end < self.end {
            // The one after it then begins where huge pages do.
            let even = end - end % HUGE_PAGE;
            end = if even >= self.at + self.stretched.max(1) { even } else { end };
        }
        (len > 0).then_some(self.at..end)
    }

    /// Whether others come before the next turn. Turns that are not late add up: with four of 0.5 ms to each
    /// quantum of bytes, those who asked for little waited 2 ms.
    pub fn gives_way(&self) -> bool {
        self.lingered
    }

    /// Whether nothing follows what is shown.
    pub fn is_last(&self, shown: &Range<u64>) -> bool {
        shown.end == self.end
    }

    /// The least to be shown now: after a turn that used nothing, more than then.
    pub fn least(&self) -> u64 {
        self.stretched.clamp(1, (self.end - self.at).max(1))
    }

    /// Whether the next turn may take as long as it needs: where the machine is too slow for the budget, a
    /// processor that holds it would never get on.
    pub fn takes_its_time(&self) -> bool {
        self.hurried
    }

    /// The processor has used `used` bytes of what was shown (which may be shorter than [`Self::next`]
    /// had it), and has or has not sent something. `hurried` if it was told that its time is over.
    ///
    /// # Errors
    ///
    /// The fault of a processor that does not get on, or uses more than there is.
    pub fn used(
        &mut self,
        shown: &Range<u64>,
        used: u64,
        sent: bool,
        hurried: bool,
    ) -> Result<(), ProcessorFault> {
        let len = shown.end - shown.start;
        let window = usize::try_from(len).unwrap_or(usize::MAX);
        if used > len {
            let used = usize::try_from(used).unwrap_or(usize::MAX);
            return Err(ProcessorFault::UsedTooMuch { used, window });
        }
        self.at = shown.start + used;
        self.hurried = hurried && used == 0;
        if used > 0 {
            self.stretched = 0;
            self.unused_turns = 0;
            return Ok(());
        }
        if self.hurried {
            // Slow is not stuck: whether it is, the next turn tells.
            self.stretched = if sent { self.stretched.max(len) } else { self.stretched };
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

    /// A turn took this long: windows become longer if that was short, because each costs something, and
    /// shorter if it was too long, so that a processor which never looks at the clock holds its budget all
    /// the same. Whether it was too long.
    pub fn took(&mut self, time: Duration, budget: Duration) -> bool {
        let late = time > budget;
        self.lingered = time >= budget / 4;
        if late {
            self.window = (self.window / 2).max(SHORTENED_MIN.min(self.window));
        } else if time < budget / 4 {
            self.window = self.window.saturating_mul(2).min(self.window_most);
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
                prop_assert!(shown.end - shown.start <= window && shown.start < shown.end);
                let used = uses[turn % uses.len()].min(shown.end - shown.start);
                scan.used(&shown, used, false, false).unwrap();
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
                scan.used(&shown, used, false, false).unwrap();
                turns += 1;
                prop_assert!(turns < 60);
            }
        }
    }

    #[test]
    fn long_windows_end_where_huge_pages_do() {
        let mut scan = Scan::new(5000..1 << 30, &limits(4 << 20, 1 << 30));
        (0..4).for_each(|_| assert!(!scan.took(Duration::ZERO, Duration::from_millis(1))));
        let first = scan.next().unwrap();
        assert_eq!(first, 5000..4 << 20);
        scan.used(&first, first.end - first.start - 100, false, false).unwrap();
        assert_eq!(scan.next(), Some((4 << 20) - 100..6 << 20));
        // But never shorter than it must be.
        scan.used(&((4 << 20) - 100..(6 << 20)), 0, false, false).unwrap();
        let longer = scan.next().unwrap();
        assert!(longer.end - longer.start >= 2 * ((2 << 20) + 100), "{longer:?}");
    }

    #[test]
    fn using_nothing_for_ever_is_an_error() {
        let mut scan = Scan::new(0..1 << 30, &limits(4096, 16_384));
        let mut turns = 0;
        let stuck = loop {
            let shown = scan.next().unwrap();
            turns += 1;
            if let Err(fault) = scan.used(&shown, 0, false, false) {
                break fault;
            }
        };
        assert_eq!((stuck, turns), (ProcessorFault::Stuck { window: 16_384 }, 3));
    }

    #[test]
    fn so_is_sending_without_end_from_the_same_bytes_and_a_rest_that_nobody_uses() {
        let mut scan = Scan::new(0..5000, &limits(4096, 16_384));
        let shown = scan.next().unwrap();
        let turns = (1..).find(|_| scan.used(&shown, 0, true, false).is_err());
        assert_eq!(turns, Some(WindowLimits::default().unused_turns_max));
        let mut scan = Scan::new(0..5000, &limits(4096, 16_384));
        scan.used(&(0..4096), 4000, false, false).unwrap();
        let rest = scan.next().unwrap();
        assert_eq!((rest.clone(), scan.is_last(&rest)), (4000..5000, true));
        assert_eq!(scan.used(&rest, 0, false, false), Err(ProcessorFault::Stuck { window: 1000 }));
    }

    #[test]
    fn a_processor_without_time_is_slow_and_gets_it_before_it_is_taken_for_stuck() {
        let mut scan = Scan::new(0..5000, &limits(4096, 16_384));
        for (turn, sent) in [false, true, false, true].into_iter().cycle().take(400).enumerate() {
            let shown = scan.next().unwrap();
            assert_eq!((shown.start, shown.end), (turn as u64, turn as u64 + 4096));
            assert!(!scan.takes_its_time());
            scan.used(&shown, 0, sent, true).unwrap();
            // Shown as it was, and not longer: nothing says that the record is.
            assert_eq!((scan.next(), scan.takes_its_time()), (Some(shown.clone()), true));
            scan.used(&shown, 1, false, false).unwrap();
        }
        // With all the time there is, it is the processor.
        scan.used(&(400..4496), 4096, false, false).unwrap();
        let rest = scan.next().unwrap();
        scan.used(&rest, 0, false, true).unwrap();
        assert_eq!(scan.used(&rest, 0, false, false), Err(ProcessorFault::Stuck { window: 504 }));
    }

    #[test]
    fn quick_turns_lengthen_windows_and_late_ones_shorten_them_within_bounds() {
        let mut scan = Scan::new(0..1 << 30, &limits(1 << 20, 1 << 20));
        let budget = Duration::from_millis(1);
        assert_eq!(scan.next(), Some(0..256 << 10));
        for expected in [512 << 10, 1 << 20, 1 << 20] {
            assert!(!scan.took(budget / 5, budget) && !scan.gives_way());
            assert_eq!(scan.next(), Some(0..expected));
        }
        assert!(!scan.took(budget, budget) && scan.gives_way(), "in time, but no quick one");
        assert_eq!(scan.next(), Some(0..1 << 20));
        for expected in [512 << 10, 256 << 10, 128 << 10, 64 << 10, 64 << 10] {
            assert!(scan.took(2 * budget, budget) && scan.gives_way());
            assert_eq!(scan.next(), Some(0..expected));
        }
    }
}
