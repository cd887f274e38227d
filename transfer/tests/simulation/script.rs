//! What the simulated processor does to each record, and where that lands in the body: one told by the
//! window, the other by arithmetic that knows nothing of windows.

use std::ops::Range;

use ringway::mapped::{Changes, Piece};

use crate::chance::Chance;
use crate::content::{Origin, Piece as Bytes, Rope};
use crate::scenario::PAGE;

/// Where in [`Origin::Own`] the trailer begins; what is inserted behind records lies below.
const TRAILER_AT: u64 = 1 << 62;
/// The most bytes that are inserted behind one record.
const OWN_MAX: u64 = 64;

/// What is done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Keep,
    Skip,
    /// Its first bytes become others, in place.
    Change(u64),
    /// It is converted into twice its length, out of memory.
    Double,
    /// It is kept, and followed by bytes of the processor's own.
    Insert(u64),
}

/// Records of one size, counted from the beginning of each range, to which these things are done in turn.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) owner: usize,
    pub(crate) record: u64,
    pub(crate) acts: Vec<Act>,
    /// Bytes that follow the last file.
    pub(crate) trailer: u64,
    pub(crate) window_bytes: u64,
    pub(crate) window_max_bytes: u64,
    pub(crate) pieces_max: usize,
    /// Room for what it converts, and whether a buffer is lent for that.
    pub(crate) room: u64,
    pub(crate) lends_room: bool,
    pub(crate) elsewhere: bool,
    /// The least run that leaves by reference.
    pub(crate) reference_min: u64,
    /// Bytes that are promised to go out, counted from what truly does.
    pub(crate) promised: Option<i64>,
}

/// What a turn came to.
pub(crate) struct Turn {
    pub(crate) used: u64,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) changes: Changes,
    /// What was converted, and what was brought along.
    pub(crate) made: Rope,
    pub(crate) own: Vec<Rope>,
    pub(crate) bytes: u64,
    /// It ended because it was told to.
    pub(crate) hurried: bool,
}

impl Script {
    pub(crate) fn of(chance: &mut Chance, owner: usize, scale: u64, buffer_bytes: u64) -> Self {
        let own = |chance: &mut Chance| 1 + chance.below(OWN_MAX);
        let act = |chance: &mut Chance| match chance.below(8) {
            0..3 => Act::Keep,
            3 => Act::Skip,
            4 => Act::Change(1 + chance.below(20)),
            5 => Act::Double,
            _ => Act::Insert(own(chance)),
        };
        let acts: Vec<_> = match chance.below(6) {
            0 => vec![Act::Keep],
            1 => vec![Act::Keep, Act::Skip],
            _ => (0..chance.within(1, 5)).map(|_| act(chance)).collect(),
        };
        let lends_room = chance.one_in(4);
        let record = 1 + scale / chance.within(1, 40);
        let record = if lends_room { record.min(buffer_bytes / 2) } else { record };
        let record = if chance.one_in(2) { record.next_multiple_of(PAGE) } else { record };
        let record = if lends_room { record.min(buffer_bytes / 2) } else { record };
        let window_bytes = (scale / chance.within(1, 8)).max(record / chance.within(1, 3)).max(1);
        Self {
            room: if lends_room { buffer_bytes } else { 2 * record * chance.within(1, 4) },
            owner,
            acts,
            trailer: if chance.one_in(2) { own(chance) } else { 0 },
            window_bytes,
            window_max_bytes: 4 * window_bytes.max(record),
            pieces_max: chance.index(12) + 2,
            lends_room,
            elsewhere: !lends_room && chance.one_in(4),
            reference_min: chance.of(&[1, PAGE, 1 + scale / 4, u64::MAX]),
            promised: chance.one_in(6).then(|| chance.of(&[0, 0, -1, 7])),
            record,
        }
    }

    fn act(&self, record: u64) -> Act {
        self.acts[usize::try_from(record % self.acts.len() as u64).unwrap_or(0)]
    }

    /// The processor: looks at `shown` of the range `all`, whose bytes are `seen`, for at most so many
    /// records.
    pub(crate) fn turn(
        &self,
        all: &Range<u64>,
        shown: &Range<u64>,
        seen: &Rope,
        records: u64,
    ) -> Turn {
        let mut turn = Turn::empty();
        let mut at = shown.start;
        let mut left = records;
        while at < shown.end && turn.pieces.len() + 1 < self.pieces_max {
            let end = (at + self.record).min(all.end);
            if end > shown.end {
                break;
            }
            turn.hurried = left == 0;
            if turn.hurried || !self.take(&mut turn, all, at..end, shown.start, seen) {
                break;
            }
            (at, left) = (end, left - 1);
        }
        turn.used = at - shown.start;
        turn
    }

    /// One record; `false` if there is no room for what becomes of it.
    fn take(
        &self,
        turn: &mut Turn,
        all: &Range<u64>,
        record: Range<u64>,
        base: u64,
        seen: &Rope,
    ) -> bool {
        let (index, len) = ((record.start - all.start) / self.record, record.end - record.start);
        let at = to_usize(record.start - base);
        match self.act(index) {
            Act::Skip => {}
            Act::Keep => turn.keep(at, to_usize(len)),
            Act::Change(most) => {
                let changed = to_usize(most.min(len));
                turn.changes.add(at..at + changed);
                turn.keep(at, to_usize(len));
            }
            Act::Double => {
                if turn.made.len() + 2 * len > self.room {
                    return false;
                }
                let whole = seen.slice(record.start - base, len).pieces().all(Bytes::is_of_file);
                let made = Origin::Made { at: 2 * record.start };
                turn.make(self.owner, if whole { made } else { Origin::Hole }, 2 * len);
            }
            Act::Insert(own) => {
                turn.keep(at, to_usize(len));
                turn.insert(self.owner, index * OWN_MAX, own);
            }
        }
        true
    }

    /// The end: what follows the last window.
    pub(crate) fn end(&self) -> Turn {
        let mut turn = Turn::empty();
        if self.trailer > 0 {
            turn.make(self.owner, Origin::Own { at: TRAILER_AT }, self.trailer);
        }
        turn
    }

    /// The trailer, and how much of it follows a place in it.
    pub(crate) fn trailer_at(&self, at: u64) -> (Origin, u64) {
        (Origin::Own { at: TRAILER_AT + at }, self.trailer - at)
    }

    /// How long record number `index` of a range of `len` bytes is, and how long what becomes of it.
    fn lengths(&self, index: u64, len: u64) -> (u64, u64) {
        let bytes = self.record.min(len.saturating_sub(index.saturating_mul(self.record)));
        let out = match self.act(index) {
            _ if bytes == 0 => 0,
            Act::Skip => 0,
            Act::Keep | Act::Change(_) => bytes,
            Act::Double => 2 * bytes,
            Act::Insert(own) => bytes + own,
        };
        (bytes, out)
    }

    /// Bytes that become of as many whole records as there are acts.
    fn cycle(&self) -> u64 {
        let all = self.record * (self.acts.len() as u64 + 1);
        (0..self.acts.len() as u64).map(|index| self.lengths(index, all).1).sum()
    }

    /// Whole cycles in a range.
    fn cycles(&self, len: u64) -> u64 {
        len / self.record / self.acts.len() as u64
    }

    /// Bytes that become of a range.
    pub(crate) fn output_len(&self, len: u64) -> u64 {
        let cycles = self.cycles(len);
        let first = cycles * self.acts.len() as u64;
        let rest = (first..=first + self.acts.len() as u64).map(|index| self.lengths(index, len).1);
        cycles * self.cycle() + rest.sum::<u64>()
    }

    /// What stands at `position` of what becomes of `len` bytes of a file from `offset` on, and how much of
    /// it follows.
    pub(crate) fn locate(
        &self,
        inode: usize,
        offset: u64,
        len: u64,
        position: u64,
    ) -> (Origin, u64) {
        let cycle = self.cycle();
        let cycles = position.checked_div(cycle).unwrap_or(u64::MAX).min(self.cycles(len));
        let mut index = cycles * self.acts.len() as u64;
        let mut within = position - cycles * cycle;
        loop {
            let (bytes, out) = self.lengths(index, len);
            if bytes == 0 {
                return (Origin::Stale, 0);
            }
            if within < out {
                return self.within(inode, offset + index * self.record, index, bytes, within);
            }
            (index, within) = (index + 1, within - out);
        }
    }

    /// The same inside of one record, which begins at `at` of its file.
    fn within(&self, inode: usize, at: u64, index: u64, len: u64, within: u64) -> (Origin, u64) {
        let file = Origin::File { inode, at: at + within, version: 0 };
        match self.act(index) {
            Act::Change(most) if within < most.min(len) => {
                (Origin::Changed { inode, at: at + within }, most.min(len) - within)
            }
            Act::Double => (Origin::Made { at: 2 * at + within }, 2 * len - within),
            Act::Insert(own) if within >= len => {
                let into = within - len;
                (Origin::Own { at: index * OWN_MAX + into }, own - into)
            }
            _ => (file, len - within),
        }
    }
}

impl Turn {
    fn empty() -> Self {
        Self {
            used: 0,
            pieces: Vec::new(),
            changes: Changes::default(),
            made: Rope::default(),
            own: Vec::new(),
            bytes: 0,
            hurried: false,
        }
    }

    /// As `Output::send` has it: neighbours are one piece.
    fn keep(&mut self, at: usize, more: usize) {
        self.bytes += more as u64;
        if let Some(Piece::Window { at: from, len }) = self.pieces.last_mut()
            && *from + *len == at
        {
            *len += more;
            return;
        }
        self.pieces.push(Piece::Window { at, len: more });
    }

    fn make(&mut self, owner: usize, origin: Origin, len: u64) {
        let at = to_usize(self.made.len());
        self.made.push(Bytes::of_processor(owner, origin, len));
        self.bytes += len;
        self.pieces.push(Piece::Made { at, len: to_usize(len) });
    }

    fn insert(&mut self, owner: usize, at: u64, len: u64) {
        let mut own = Rope::default();
        own.push(Bytes::of_processor(owner, Origin::Own { at }, len));
        self.bytes += len;
        self.pieces.push(Piece::Own { index: self.own.len(), len: to_usize(len) });
        self.own.push(own);
    }
}

pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[test]
fn what_becomes_of_a_range_is_the_same_by_turns_and_by_arithmetic() {
    for seed in 0..200 {
        let chance = &mut Chance::new(seed);
        let script = Script::of(chance, 0, 3 * PAGE, PAGE);
        let (offset, len) = (chance.below(9000), chance.below(9 * PAGE));
        let (all, mut at, mut position) = (offset..offset + len, offset, 0);
        let mut seen = Rope::default();
        let file = Origin::File { inode: 0, at: offset, version: 0 };
        seen.push(Bytes { owner: 0, origin: file, len, read: 1, by_reference: false });
        while at < all.end {
            let shown = at..all.end;
            let seen = seen.slice(at - offset, u64::MAX);
            let turn = script.turn(&all, &shown, &seen, u64::MAX);
            assert!(turn.used > 0, "{script:?}");
            for piece in &turn.pieces {
                let (origin, rest) = script.locate(0, offset, len, position);
                let len = match *piece {
                    Piece::Window { at: from, len } => {
                        let (Origin::File { at: place, .. } | Origin::Changed { at: place, .. }) =
                            origin
                        else {
                            panic!("{origin:?}")
                        };
                        assert_eq!(place, at + from as u64);
                        len
                    }
                    Piece::Made { at: from, len } => {
                        let made = turn.made.slice(from as u64, 1);
                        assert_eq!(made.pieces().next().unwrap().origin, origin);
                        assert_eq!(rest, len as u64);
                        len
                    }
                    Piece::Own { index, len } => {
                        assert_eq!(turn.own[index].pieces().next().unwrap().origin, origin);
                        len
                    }
                };
                position += len as u64;
            }
            at += turn.used;
        }
        assert_eq!(position, script.output_len(len), "{script:?}");
    }
}
