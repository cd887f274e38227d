//! Whether a file holds still: it is taken when it has looked the same for the settle time. Pure.

use std::collections::HashMap;

use super::ledger::{RelativePath, Stamp};

/// The files that were touched and have not been taken yet.
#[derive(Debug)]
pub(crate) struct Settling {
    settle_ms: u64,
    waiting: HashMap<RelativePath, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    stamp: Stamp,
    due_ms: u64,
}

/// What to do with a file that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is whole, as far as anybody can tell.
    Take,
    /// Look again, not before [`Settling::next_ms`].
    Wait,
}

impl Settling {
    pub(crate) fn new(settle_ms: u64) -> Settling {
        Settling { settle_ms, waiting: HashMap::new() }
    }

    /// A file was looked at now. One whose content is older than the settle time needs not wait.
    pub(crate) fn look(&mut self, path: &[u8], stamp: Stamp, now_ms: u64) -> Verdict {
        let written_ms = stamp.modified / 1_000_000;
        let due_ms = match self.waiting.get(path) {
            Some(waiting) if waiting.stamp == stamp => waiting.due_ms,
            Some(_) => now_ms + self.settle_ms,
            // A time in the future says nothing.
            None if written_ms <= now_ms => written_ms + self.settle_ms,
            None => now_ms + self.settle_ms,
        };
        if due_ms <= now_ms {
            self.waiting.remove(path);
            return Verdict::Take;
        }
        self.waiting.insert(path.into(), Waiting { stamp, due_ms });
        Verdict::Wait
    }

    /// There is nothing to wait for any more.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        self.waiting.remove(path);
    }

    /// The files that are to be looked at now.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<RelativePath> {
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.due_ms <= now_ms);
        due.map(|(path, _)| path.clone()).collect()
    }

    /// When the next file is to be looked at.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.waiting.values().map(|waiting| waiting.due_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_at(ms: u64, len: u64) -> Stamp {
        Stamp { inode: 1, len, modified: ms * 1_000_000, changed: 0 }
    }

    #[test]
    fn a_file_is_taken_when_it_has_looked_the_same_for_the_settle_time() {
        let mut settling = Settling::new(500);
        assert_eq!(settling.look(b"a", written_at(1000, 5), 1100), Verdict::Wait);
        assert_eq!((settling.next_ms(), settling.due(1499).len()), (Some(1500), 0));
        // It has grown, without anybody noticing.
        assert_eq!(settling.look(b"a", written_at(1400, 9), 1500), Verdict::Wait);
        assert_eq!(settling.next_ms(), Some(2000));
        assert_eq!(settling.due(2000).len(), 1);
        assert_eq!(settling.look(b"a", written_at(1400, 9), 2000), Verdict::Take);
        assert_eq!(settling.next_ms(), None);
    }

    #[test]
    fn an_old_file_needs_not_wait_and_one_from_the_future_waits_once() {
        let mut settling = Settling::new(500);
        assert_eq!(settling.look(b"a", written_at(100, 5), 1100), Verdict::Take);
        assert_eq!(settling.look(b"b", written_at(9_000_000, 5), 1100), Verdict::Wait);
        assert_eq!(settling.look(b"b", written_at(9_000_000, 5), 1600), Verdict::Take);
        let mut at_once = Settling::new(0);
        assert_eq!(at_once.look(b"c", written_at(1100, 5), 1100), Verdict::Take);
    }

    #[test]
    fn what_is_gone_is_not_waited_for() {
        let mut settling = Settling::new(500);
        settling.look(b"a", written_at(1000, 5), 1100);
        settling.forget(b"a");
        assert!(settling.due(u64::MAX).is_empty());
    }
}
