//! The books of a body that is processed on its way: what must stand where is told by the script, what
//! went out by the kernel, and the account by the driver.

use std::time::Duration;

use ringway::Consistency;
use ringway::error::{ErrorKind, Truncated};
use ringway::process::ProcessorFault;
use ringway::progress::{Extent, Progress};
use ringway::receipt::Processed;

use super::{Account, Oracle};
use crate::content::{Origin, Piece, Rope};
use crate::scenario::TransferSpec;
use crate::script::Script;

/// What only a processed transfer has.
#[derive(Default)]
pub(super) struct Books {
    /// The window that was looked at last.
    inspected: Rope,
    /// What the socket took: by reference, gathered, changed, added.
    kinds: [u64; 4],
    /// Zeros that were sent where the file had ended.
    holes: u64,
    /// What the driver has in a pipe.
    pub(super) staged: u64,
    /// Somebody found the file shorter than it was.
    pub(super) cut_seen: bool,
    /// The processor failed, or was lost.
    pub(super) faulted: bool,
}

/// Bytes that the body has in all.
pub(crate) fn total(spec: &TransferSpec) -> u64 {
    let Some(script) = &spec.script else {
        return spec.extents.iter().map(|extent| extent.len()).sum();
    };
    let of = |extent: &Extent| match *extent {
        Extent::Bytes { len } => len,
        Extent::File { len, .. } => script.output_len(len),
    };
    spec.extents.iter().map(of).sum::<u64>() + script.trailer
}

/// What stands at a position of the body, and how much of it follows.
pub(super) fn expected(
    script: &Script,
    spec: &TransferSpec,
    inodes: &[usize],
    mut position: u64,
) -> (Origin, u64) {
    let is_file = |extent: &Extent| matches!(extent, Extent::File { .. });
    let end = spec.extents.iter().rposition(is_file).unwrap_or(spec.extents.len());
    for (part, extent) in spec.extents.iter().enumerate() {
        let len = match *extent {
            Extent::Bytes { len } if position < len => {
                return (Origin::Memory { part, at: position }, len - position);
            }
            Extent::Bytes { len } => len,
            Extent::File { offset, len } => {
                let out = script.output_len(len);
                if position < out {
                    return script.locate(inodes[part], offset, len, position);
                }
                out
            }
        };
        position -= len;
        if part == end {
            if position < script.trailer {
                return script.trailer_at(position);
            }
            position -= script.trailer;
        }
    }
    if position < script.trailer { script.trailer_at(position) } else { (Origin::Stale, 0) }
}

impl Oracle {
    /// Somebody asked, and the file was shorter.
    pub(crate) fn saw_cut(&mut self, transfer: usize) {
        self.accounts[transfer].books.cut_seen = true;
    }

    pub(crate) fn processor_fails(&mut self, transfer: usize) {
        self.accounts[transfer].books.faulted = true;
    }

    /// From here on a file was cut, and has grown again: what a map shows of it may be anything, for
    /// nobody who asks for the length sees that.
    pub(crate) fn cut_and_grown(&mut self, inode: usize, from: u64) {
        self.undone.push((inode, from));
    }

    /// The processor was shown this.
    pub(crate) fn inspected(&mut self, transfer: usize, window: Rope) {
        self.accounts[transfer].books.inspected = window;
    }

    /// Why a piece that the socket took of a processed body is wrong, if it is.
    pub(super) fn judge(
        &mut self,
        transfer: usize,
        piece: &Piece,
        (origin, expected): (Origin, Origin),
        len: u64,
    ) -> Option<String> {
        let undone = self.undone.clone();
        let account = &mut self.accounts[transfer];
        let snapshot = account.is_snapshot();
        let kind = match expected {
            Origin::File { .. } if piece.by_reference => Some(0),
            Origin::File { .. } => Some(1),
            Origin::Changed { .. } => Some(2),
            Origin::Made { .. } | Origin::Own { .. } => Some(3),
            Origin::Memory { .. } | Origin::Stale | Origin::Hole => None,
        };
        if let Some(kind) = kind {
            account.books.kinds[kind] += len;
        }
        let lost = match expected {
            Origin::File { inode, at, .. } | Origin::Changed { inode, at } => Some((inode, at)),
            Origin::Made { at } => account.inodes.first().map(|inode| (*inode, at / 2)),
            _ => None,
        };
        let reaches = |(inode, at): (usize, u64)| {
            let file = |from: &(usize, u64)| from.0 == inode || account.inodes.len() > 1;
            undone.iter().any(|from| file(from) && at + len > from.1)
        };
        let may_be_lost = lost.is_some_and(reaches) && !snapshot;
        if origin == Origin::Hole && lost.is_some() {
            account.books.holes += if may_be_lost { 0 } else { len };
            return snapshot.then(|| format!("a snapshot has zeros: {piece:?}"));
        }
        let is_right = origin.is_like(expected)
            || may_be_lost && matches!(origin, Origin::File { .. } | Origin::Changed { .. });
        if !is_right {
            let at = account.taken;
            return Some(format!("at {at} it sends {piece:?}, not {expected:?}"));
        }
        let Origin::File { inode, at, version } = origin else { return None };
        if snapshot && !account.books.inspected.shows(inode, at, version) {
            return Some(format!("{piece:?} is not what was inspected"));
        }
        None
    }

    /// The driver says that the socket took so many bytes, those in the pipe first.
    pub(super) fn accepted_of_processed(&mut self, transfer: usize, len: u64, now: Duration) {
        let account = &mut self.accounts[transfer];
        let taken = account.unreported.take(len).len();
        account.books.staged = account.books.staged.saturating_sub(len);
        account.accepted += len;
        if taken < len {
            let what = format!("it counts {len} as accepted, the socket took {taken}");
            return self.violate(transfer, &what);
        }
        self.check_rate(transfer, now);
    }

    pub(super) fn compare_processed(&mut self, transfer: usize, progress: &Progress) {
        let account = &self.accounts[transfer];
        let believed = [progress.accepted(), progress.staged()];
        let known = [account.accepted, account.books.staged];
        if believed != known || account.accepted > account.taken {
            let what = format!("counts (accepted, staged) {believed:?}, in truth {known:?}");
            self.violate(transfer, &what);
        }
    }

    /// The driver's account at the end: each byte counts as what it is.
    pub(crate) fn told(&mut self, transfer: usize, told: &Processed, progress: &Progress) {
        let account = &self.accounts[transfer];
        let by_kind =
            [told.referenced_bytes, told.gathered_bytes, told.changed_bytes, told.added_bytes];
        if by_kind != account.books.kinds || progress.accepted() != account.taken {
            let what = format!(
                "its account is {by_kind:?} of {}, in truth {:?} of {}",
                progress.accepted(),
                account.books.kinds,
                account.taken
            );
            self.violate(transfer, &what);
        }
    }

    /// What is wrong with a processed transfer that says it went well.
    pub(super) fn misgiving(&self, transfer: usize) -> Option<String> {
        let Account { books, inodes, .. } = &self.accounts[transfer];
        let undone = self.undone.iter().any(|(inode, _)| inodes.contains(inode));
        (books.holes > 0 && !undone)
            .then(|| format!("it ends well, and {} zeros went out", books.holes))
    }
}

impl Account {
    /// Whether something happened that lets a processed transfer end so; `None` where that is judged as for
    /// others.
    pub(super) fn justifies_processed(&self, kind: &ErrorKind) -> Option<bool> {
        let script = self.spec.script.as_ref()?;
        let file_bytes: u64 = self.spec.extents.iter().map(of_file).sum();
        match *kind {
            ErrorKind::Truncated(Truncated { expected, sent }) => {
                let seen = self.books.cut_seen || self.end_seen.is_some();
                Some(expected == file_bytes && sent == self.taken && seen)
            }
            ErrorKind::Processor(ProcessorFault::Failed | ProcessorFault::Lost) => {
                Some(self.books.faulted)
            }
            ErrorKind::SizeMismatch { promised, .. } => Some(
                script.promised.is_some_and(|less| less != 0)
                    && self.taken <= promised
                    && self.spec.promised() == Some(promised),
            ),
            _ => None,
        }
    }

    pub(super) fn is_snapshot(&self) -> bool {
        self.spec.wishes.consistency == Consistency::Snapshot
    }
}

fn of_file(extent: &Extent) -> u64 {
    match *extent {
        Extent::File { len, .. } => len,
        Extent::Bytes { .. } => 0,
    }
}
