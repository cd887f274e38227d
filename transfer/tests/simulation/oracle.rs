//! The naive oracle: it hears from the kernel what happened and from the driver what is believed, and
//! keeps its own books of both, byte by byte in order, with none of the cursors of `Progress`.

mod processed;

use std::time::Duration;

use ringway::error::{ErrorKind, Truncated};
use ringway::progress::{Extent, Progress};

use crate::content::{Origin, Piece, Rope};
use crate::event::{ECANCELED, EINTR};
use crate::scenario::TransferSpec;
use processed::Books;
pub(crate) use processed::total;

pub(crate) struct Oracle {
    accounts: Vec<Account>,
    violation: Option<String>,
    /// Files that were cut and have grown again, and from where on.
    undone: Vec<(usize, u64)>,
}

/// The books of one transfer.
struct Account {
    spec: TransferSpec,
    /// The files that it opened, by part.
    inodes: Vec<usize>,
    started: Duration,
    total: u64,
    /// What the socket took, in all.
    taken: u64,
    taken_at: Duration,
    /// Taken by the socket, and not yet reported by the driver.
    unreported: Rope,
    /// What the last read brought, as far as it is not staged.
    reported: Rope,
    /// What the driver staged and did not report as accepted.
    staged: Rope,
    accepted: u64,
    accepted_from_file: u64,
    read: u64,
    discarded: u64,
    /// Where a read last found the end of a file.
    end_seen: Option<(usize, u64)>,
    errnos: Vec<i32>,
    cancelled: bool,
    books: Books,
}

/// How a transfer ended, as the driver tells it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) kind: ErrorKind,
    pub(crate) sent: u64,
}

impl Oracle {
    pub(crate) fn new(transfers: &[TransferSpec]) -> Self {
        Self {
            accounts: transfers.iter().map(Account::new).collect(),
            violation: None,
            undone: Vec::new(),
        }
    }

    /// The first violation is kept; what follows may follow from it.
    pub(crate) fn violate(&mut self, transfer: usize, what: &str) {
        self.violation.get_or_insert_with(|| format!("transfer {transfer}: {what}"));
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.violation.is_some()
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(crate) fn started(&mut self, transfer: usize, inodes: &[usize], now: Duration) {
        let account = &mut self.accounts[transfer];
        account.inodes = inodes.to_vec();
        (account.started, account.taken_at) = (now, now);
    }

    pub(crate) fn cancelled(&mut self, transfer: usize) {
        self.accounts[transfer].cancelled = true;
    }

    pub(crate) fn may_fail(&mut self, transfer: usize, errno: i32) {
        self.accounts[transfer].errnos.push(errno);
    }

    pub(crate) fn saw_end(&mut self, transfer: usize, inode: usize, at: u64) {
        self.accounts[transfer].end_seen = Some((inode, at));
    }

    pub(crate) fn taken_bytes(&self, transfer: usize) -> u64 {
        self.accounts[transfer].taken
    }

    /// The caller's memory, which the kernel reads from a shared handle.
    pub(crate) fn memory(&self, transfer: usize, part: usize, start: u64, len: u64) -> Rope {
        let mut rope = Rope::default();
        let there = self.accounts[transfer].spec.extents.get(part).map_or(0, |part| part.len());
        let len = len.min(there.saturating_sub(start));
        rope.push(Piece::of_memory(transfer, part, start, len));
        rope
    }

    /// The socket is offered `len` bytes: `more` must be false exactly on the last ones.
    pub(crate) fn offered(&mut self, transfer: usize, len: u64, more: bool) {
        let account = &self.accounts[transfer];
        let (end, total) = (account.taken + len, account.total);
        if end > total {
            self.violate(transfer, &format!("it offers bytes up to {end} of a body of {total}"));
        } else if account.spec.script.is_some() && !more {
            // What a processor adds is not known beforehand, so nothing waits for it.
        } else if more != (end < total) {
            self.violate(transfer, &format!("MORE is {more} for bytes up to {end} of {total}"));
        }
    }

    /// The socket took these bytes: they must be the next of the body, and nobody else's.
    pub(crate) fn taken(&mut self, transfer: usize, bytes: &Rope, now: Duration) {
        let mut wrong = None;
        for piece in bytes.pieces() {
            let began = self.accounts[transfer].taken;
            let (mut position, end) = (began, began + piece.len);
            while position < end && wrong.is_none() {
                let (expected, rest) = self.accounts[transfer].expected(position);
                let origin = piece.origin.moved(position - began);
                let len = rest.min(end - position).max(1);
                wrong = self.wrong_with(transfer, piece, (origin, expected), len);
                position += len;
            }
            let account = &mut self.accounts[transfer];
            if piece.by_reference && account.is_snapshot() {
                wrong.get_or_insert_with(|| format!("a snapshot goes by reference: {piece:?}"));
            }
            account.taken = end;
        }
        let account = &mut self.accounts[transfer];
        account.taken_at = now;
        account.unreported.append(bytes);
        if account.taken > account.total {
            wrong.get_or_insert_with(|| "more than the body was sent".to_owned());
        }
        if let Some(wrong) = wrong {
            self.violate(transfer, &wrong);
        }
    }

    /// Why `len` bytes of a piece are not those that are due, if they are not.
    fn wrong_with(
        &mut self,
        transfer: usize,
        piece: &Piece,
        (origin, expected): (Origin, Origin),
        len: u64,
    ) -> Option<String> {
        let is_processed = self.accounts[transfer].spec.script.is_some();
        if piece.owner == transfer && is_processed {
            return self.judge(transfer, piece, (origin, expected), len);
        }
        let at = self.accounts[transfer].taken;
        (piece.owner != transfer || !origin.is_like(expected))
            .then(|| format!("behind {at} it sends {piece:?}, not {expected:?}"))
    }

    /// The driver is told that a read brought these bytes. Returns their number.
    pub(crate) fn reported(&mut self, transfer: usize, read: Rope) -> u64 {
        let len = read.len();
        self.accounts[transfer].reported = read;
        len
    }

    /// The driver says that the next `len` bytes are in a pipe or a buffer.
    pub(crate) fn staged(&mut self, transfer: usize, mut len: u64) {
        let account = &mut self.accounts[transfer];
        if account.spec.script.is_some() {
            account.books.staged += len;
            return;
        }
        while len > 0 {
            let position = account.accepted + account.staged.len();
            let (expected, rest) = account.expected(position);
            let part = len.min(rest);
            let staged = match expected {
                Origin::Memory { part: index, at } => {
                    let mut rope = Rope::default();
                    rope.push(Piece::of_memory(transfer, index, at, part));
                    rope
                }
                Origin::File { .. } => account.reported.take(part),
                _ => Rope::default(),
            };
            let is_right = staged.pieces().all(|piece| piece.origin.is_like(expected));
            if staged.len() < part || !is_right || part == 0 {
                let what =
                    format!("at {position} it stages {part} of {expected:?}, read: {staged:?}");
                return self.violate(transfer, &what);
            }
            account.read += staged.file_len();
            account.staged.append(&staged);
            len -= part;
        }
    }

    /// The driver says that the socket took the first `len` of the staged bytes.
    pub(crate) fn accepted(&mut self, transfer: usize, len: u64, now: Duration) {
        let account = &mut self.accounts[transfer];
        if account.spec.script.is_some() {
            return self.accepted_of_processed(transfer, len, now);
        }
        let (believed, taken) = (account.staged.take(len), account.unreported.take(len));
        account.accepted += believed.len();
        account.accepted_from_file += believed.file_len();
        if taken.len() < len {
            let what = format!("it counts {len} as accepted, the socket took {}", taken.len());
            return self.violate(transfer, &what);
        }
        if !same(&believed, &taken) {
            let what = format!("it staged {believed:?} and the socket took {taken:?}");
            return self.violate(transfer, &what);
        }
        self.check_rate(transfer, now);
    }

    fn check_rate(&mut self, transfer: usize, now: Duration) {
        let account = &self.accounts[transfer];
        if let Some((rate, burst)) = account.spec.rate {
            let time = now.saturating_sub(account.started).as_nanos();
            let most = u128::from(burst) + time * u128::from(rate.get()) / 1_000_000_000;
            if u128::from(account.accepted) > most {
                let what = format!("{} bytes at a rate that allows {most}", account.accepted);
                self.violate(transfer, &what);
            }
        }
    }

    pub(crate) fn rewound(&mut self, transfer: usize) {
        let account = &mut self.accounts[transfer];
        account.discarded += account.staged.file_len();
        account.staged.clear();
        account.books.staged = 0;
    }

    /// Compares all books; called after each report.
    pub(crate) fn compare(&mut self, transfer: usize, progress: &Progress) {
        let account = &self.accounts[transfer];
        if account.spec.script.is_some() {
            return self.compare_processed(transfer, progress);
        }
        let believed = [
            progress.total(),
            progress.accepted(),
            progress.accepted_from_file(),
            progress.staged(),
            progress.staged_from_file(),
            progress.read(),
            progress.discarded(),
        ];
        let known = [
            account.total,
            account.accepted,
            account.accepted_from_file,
            account.staged.len(),
            account.staged.file_len(),
            account.read,
            account.discarded,
        ];
        let balance = known[2] + known[4] + known[6];
        if believed != known || account.read != balance || account.accepted > account.taken {
            let names = "total, accepted, of file, staged, of file, read, discarded";
            let what = format!("counts ({names}) {believed:?}, in truth {known:?}");
            self.violate(transfer, &what);
        }
    }

    /// A transfer has resolved, with nothing of its own in flight.
    pub(crate) fn ended(
        &mut self,
        transfer: usize,
        end: &Result<u64, End>,
        corked: bool,
        now: Duration,
    ) {
        let account = &self.accounts[transfer];
        let wrong = match end {
            _ if corked => Some("it ends and leaves the socket corked".to_owned()),
            Ok(sent) | Err(End { sent, .. }) if *sent != account.taken => {
                Some(format!("{end:?}, and the socket took {}", account.taken))
            }
            Ok(_) if account.taken != account.total => {
                Some(format!("it ends well with {} of {}", account.taken, account.total))
            }
            Ok(_) => self.misgiving(transfer),
            Err(End { kind, .. }) => (!account.justifies(kind, now))
                .then(|| format!("{kind:?} for no reason, errnos {:?}", account.errnos)),
        };
        if let Some(wrong) = wrong {
            self.violate(transfer, &wrong);
        }
    }
}

impl Account {
    fn new(spec: &TransferSpec) -> Self {
        Self {
            total: total(spec),
            spec: spec.clone(),
            inodes: Vec::new(),
            started: Duration::ZERO,
            taken: 0,
            taken_at: Duration::ZERO,
            unreported: Rope::default(),
            reported: Rope::default(),
            staged: Rope::default(),
            accepted: 0,
            accepted_from_file: 0,
            read: 0,
            discarded: 0,
            end_seen: None,
            errnos: Vec::new(),
            cancelled: false,
            books: Books::default(),
        }
    }

    /// What stands at a position of the body, and how much of it follows.
    fn expected(&self, position: u64) -> (Origin, u64) {
        if let Some(script) = &self.spec.script {
            return processed::expected(script, &self.spec, &self.inodes, position);
        }
        let mut begin = 0;
        for (part, extent) in self.spec.extents.iter().enumerate() {
            let within = position - begin;
            if within < extent.len() {
                let origin = match *extent {
                    Extent::Bytes { .. } => Origin::Memory { part, at: within },
                    Extent::File { offset, .. } => {
                        Origin::File { inode: self.inodes[part], at: offset + within, version: 0 }
                    }
                };
                return (origin, extent.len() - within);
            }
            begin += extent.len();
        }
        (Origin::Stale, 0)
    }

    /// Whether something happened that lets a transfer end so.
    fn justifies(&self, kind: &ErrorKind, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.started);
        if let Some(justified) = self.justifies_processed(kind) {
            return justified;
        }
        match *kind {
            ErrorKind::Truncated(Truncated { expected, sent }) => {
                let Origin::File { inode, at, .. } = self.expected(sent).0 else { return false };
                expected == self.total && sent == self.taken && self.end_seen == Some((inode, at))
            }
            // Only wishes that contradict each other are refused, before anything is sent.
            ErrorKind::Refused(_) => self.spec.contradicts_itself() && self.taken == 0,
            ErrorKind::Cancelled => {
                self.cancelled || self.errnos.iter().any(|errno| [ECANCELED, EINTR].contains(errno))
            }
            ErrorKind::DeadlineExceeded { limit } => {
                self.spec.deadline == Some(limit) && elapsed >= limit
            }
            ErrorKind::PeerTimedOut { waited: Some(waited) } => {
                self.spec.limits.peer_timeout == Some(waited)
                    && now.saturating_sub(self.taken_at) >= waited
            }
            ErrorKind::PeerTooSlow(slow) => self.spec.floor.is_some_and(|(rate, grace)| {
                slow.floor == rate && slow.over >= grace && elapsed >= grace
            }),
            ErrorKind::PeerClosed { errno, .. }
            | ErrorKind::SourceUnreadable { errno, .. }
            | ErrorKind::Unsupported { errno, .. }
            | ErrorKind::HostLimit { errno, .. } => self.errnos.contains(&errno),
            _ => false,
        }
    }
}

/// Whether two ropes are the same bytes of the same reads, and so of the same versions.
fn same(one: &Rope, other: &Rope) -> bool {
    let (mut one, mut other) = (one.clone(), other.clone());
    while let (Some(a), Some(b)) = (one.front_len(), other.front_len()) {
        let len = a.min(b);
        if !one.take(len).pieces().eq(other.take(len).pieces()) {
            return false;
        }
    }
    one.len() == other.len()
}
