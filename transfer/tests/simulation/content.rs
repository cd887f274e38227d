//! Bytes that know where they came from.
//!
//! No byte is stored: a run of them is named by its origin, so that a body of many GiB costs as
//! little as a small one, and a foreign, stale or torn byte is seen whatever its value would be.

use std::collections::VecDeque;

/// The owner of what lies in a buffer before anybody wrote there.
const NOBODY: usize = usize::MAX;

/// Where the first byte of a piece came from; the others follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Memory {
        part: usize,
        at: u64,
    },
    /// The content is a function of the version and the offset.
    File {
        inode: usize,
        at: u64,
        version: u32,
    },
    /// What a buffer held before.
    Stale,
    /// Changed in place, in a private copy of the file's page.
    Changed {
        inode: usize,
        at: u64,
    },
    /// Converted; it counts two for each byte of the file.
    Made {
        at: u64,
    },
    /// A processor's own.
    Own {
        at: u64,
    },
    /// A zero that a map shows where the file has ended.
    Hole,
}

impl Origin {
    /// The byte that lies `by` bytes behind.
    pub(crate) fn moved(self, by: u64) -> Self {
        match self {
            Self::Memory { part, at } => Self::Memory { part, at: at + by },
            Self::File { inode, at, version } => Self::File { inode, at: at + by, version },
            Self::Stale => Self::Stale,
            Self::Changed { inode, at } => Self::Changed { inode, at: at + by },
            Self::Made { at } => Self::Made { at: at + by },
            Self::Own { at } => Self::Own { at: at + by },
            Self::Hole => Self::Hole,
        }
    }

    /// The same place, in whichever version.
    pub(crate) fn is_like(self, expected: Self) -> bool {
        match (self, expected) {
            (Self::File { inode, at, .. }, Self::File { inode: other, at: place, .. }) => {
                (inode, at) == (other, place)
            }
            (Self::Stale | Self::Hole, _) => false,
            _ => self == expected,
        }
    }
}

/// Consecutive bytes of one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The transfer that brought them here.
    pub(crate) owner: usize,
    pub(crate) origin: Origin,
    pub(crate) len: u64,
    /// Which read of the whole simulation brought them; 0 for memory.
    pub(crate) read: u64,
    /// They are pages of the file and not a copy of them.
    pub(crate) by_reference: bool,
}

impl Piece {
    pub(crate) fn of_memory(owner: usize, part: usize, at: u64, len: u64) -> Self {
        let origin = Origin::Memory { part, at };
        Self { owner, origin, len, read: 0, by_reference: false }
    }

    /// What a processor made or has changed.
    pub(crate) fn of_processor(owner: usize, origin: Origin, len: u64) -> Self {
        Self { owner, origin, len, read: 0, by_reference: false }
    }

    pub(crate) fn is_of_file(&self) -> bool {
        matches!(self.origin, Origin::File { .. })
    }

    /// The `len` bytes from `from` on.
    fn cut(self, from: u64, len: u64) -> Self {
        Self { origin: self.origin.moved(from), len, ..self }
    }
}

/// Pieces in a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rope {
    pieces: VecDeque<Piece>,
    len: u64,
}

impl Rope {
    pub(crate) fn stale(len: u64) -> Self {
        let mut rope = Self::default();
        let origin = Origin::Stale;
        rope.push(Piece { owner: NOBODY, origin, len, read: 0, by_reference: false });
        rope
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// The length of the first piece.
    pub(crate) fn front_len(&self) -> Option<u64> {
        self.pieces.front().map(|piece| piece.len)
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.pieces.iter().filter(|piece| piece.is_of_file()).map(|piece| piece.len).sum()
    }

    /// Whether it has this byte of this version of a file.
    pub(crate) fn shows(&self, inode: usize, at: u64, version: u32) -> bool {
        self.pieces().any(|piece| match piece.origin {
            Origin::File { inode: of, at: from, version: seen } => {
                (of, seen) == (inode, version) && (from..from + piece.len).contains(&at)
            }
            _ => false,
        })
    }

    pub(crate) fn push(&mut self, piece: Piece) {
        if piece.len > 0 {
            self.len += piece.len;
            self.pieces.push_back(piece);
        }
    }

    pub(crate) fn append(&mut self, other: &Rope) {
        other.pieces().for_each(|piece| self.push(*piece));
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
    }

    /// Takes the first `len` bytes out, or all if there are fewer.
    pub(crate) fn take(&mut self, len: u64) -> Self {
        let mut taken = Self::default();
        while taken.len < len {
            let Some(front) = self.pieces.pop_front() else { break };
            let part = front.len.min(len - taken.len);
            taken.push(front.cut(0, part));
            self.len -= part;
            if part < front.len {
                self.pieces.push_front(front.cut(part, front.len - part));
            }
        }
        taken
    }

    /// A copy of the bytes from `from` on, at most `len` of them.
    pub(crate) fn slice(&self, from: u64, len: u64) -> Self {
        let mut rest = self.clone();
        rest.take(from);
        rest.take(len)
    }

    /// Writes over the bytes from `start` on, as a read into a buffer does.
    pub(crate) fn overlay(&mut self, start: u64, written: &Rope) {
        let mut whole = self.slice(0, start);
        whole.append(written);
        whole.append(&self.slice(start + written.len, u64::MAX));
        *self = whole;
    }
}

#[test]
fn a_rope_is_cut_at_any_byte() {
    let mut rope = Rope::default();
    rope.push(Piece::of_memory(0, 0, 0, 10));
    rope.push(Piece::of_memory(0, 1, 0, 10));
    let middle: Vec<_> = rope.slice(7, 6).pieces().copied().collect();
    assert_eq!(middle, [Piece::of_memory(0, 0, 7, 3), Piece::of_memory(0, 1, 0, 3)]);
    let mut written = Rope::default();
    written.push(Piece::of_memory(9, 9, 0, 2));
    rope.overlay(9, &written);
    assert_eq!((rope.len(), rope.pieces().count()), (20, 3));
    assert_eq!(rope.take(9).len() + rope.take(100).len(), 20);
}
