//! What a body is made of, and what is to be done next with it.

use super::cursor::Cursor;
use crate::error::Truncated;

/// A piece of the body, in the order of sending. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Memory of the caller.
    Bytes {
        /// Its length.
        len: u64,
    },
    /// A range of a file.
    File {
        /// Where the range begins in the file.
        offset: u64,
        /// Its length.
        len: u64,
    },
}

impl Extent {
    /// Its length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty extent is nothing special here")]
    pub fn len(self) -> u64 {
        match self {
            Self::Bytes { len } | Self::File { len, .. } => len,
        }
    }
}

/// The next thing that a route must do. No `len` is 0 or above [`OP_LEN_MAX`](super::OP_LEN_MAX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The socket has taken everything.
    Done,
    /// Move `len` staged bytes into the socket, then [`Progress::accept`](super::Progress::accept).
    Drain {
        /// Bytes to move.
        len: u64,
        /// Whether bytes of the body follow these `len`. Who drains fewer asks
        /// [`Progress::more_after`](super::Progress::more_after).
        more: bool,
    },
    /// Send memory, then [`Progress::pass`](super::Progress::pass).
    SendBytes {
        /// Index of the extent.
        part: usize,
        /// First byte within the extent.
        start: u64,
        /// Bytes to send.
        len: u64,
        /// Whether bytes of the body follow these `len`.
        more: bool,
    },
    /// Read from the file into a pipe or a buffer, then [`Progress::stage`](super::Progress::stage).
    Fill(Fill),
    /// The file is shorter than promised, and what it had is sent: end the transfer.
    Truncated(Truncated),
}

/// File bytes to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Index of the extent.
    pub part: usize,
    /// First byte, counted in the file and not in the extent.
    pub offset: u64,
    /// Bytes to read.
    pub len: u64,
}

/// A run of bytes within one extent. Its `len` is at least 1 and at most [`OP_LEN_MAX`](super::OP_LEN_MAX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Memory of the caller.
    Bytes {
        /// Index of the extent.
        part: usize,
        /// First byte within the extent.
        start: u64,
        /// Bytes in this segment.
        len: u64,
    },
    /// A range of a file.
    File(Fill),
}

/// Consecutive segments of the body; see [`Progress::window`](super::Progress::window) and [`Progress::residue`](super::Progress::residue).
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    pub(super) extents: &'a [Extent],
    pub(super) cursor: Cursor,
    pub(super) file_left: u64,
    pub(super) all_left: u64,
    pub(super) segments_left: usize,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let (_, in_file) = self.cursor.segment_rest(self.extents)?;
        let limit = if in_file { self.all_left.min(self.file_left) } else { self.all_left };
        if limit == 0 || self.segments_left == 0 {
            return None;
        }
        let segment = self.cursor.segment(self.extents, limit)?;
        let len = match segment {
            Segment::Bytes { len, .. } | Segment::File(Fill { len, .. }) => len,
        };
        let moved = self.cursor.advance(self.extents, len);
        self.file_left -= moved.file;
        self.all_left -= moved.all;
        self.segments_left -= 1;
        Some(segment)
    }
}
