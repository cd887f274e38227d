//! Where one transfer stands, and what it must do next.
//!
//! A body is a row of extents, each of them memory or a range of a file. Two positions move over it:
//!
//! ```text
//!            accepted           head = accepted + staged            total
//!  body  |======#|################|=========|---------------------------|
//!        taken by the socket | staged: in a pipe or a buffer | not read yet
//!                            ^------- rewind() ------'
//! ```
//!
//! A route asks [`Progress::next`] what to do, does it, and reports how far it came: [`stage`] when
//! bytes have reached a pipe or a buffer, [`accept`] when the socket has taken some of those,
//! [`pass`] when bytes went to the socket with nothing in between, [`rewind`] when staged bytes were
//! thrown away. A short count is normal at every step. Only the socket's own count moves `accepted`:
//! a byte that entered a pipe has not been sent.
//!
//! What always holds, and is tested against a naive model in `tests/progress_properties.rs`:
//!
//! - `read == (file bytes accepted) + (file bytes staged) + discarded`;
//! - `accepted + staged <= total`, and `total` never changes, whatever the file does meanwhile;
//! - each byte of the body is accepted once, in order.
//!
//! There is no fd here, no clock and nothing asynchronous.
//!
//! [`stage`]: Progress::stage
//! [`accept`]: Progress::accept
//! [`pass`]: Progress::pass
//! [`rewind`]: Progress::rewind

mod cursor;
mod step;

use ringway_runtime::fault::{Sabotage, sabotaged};

use crate::error::{LengthOverflow, Misstep, Truncated};
use cursor::{Count, Cursor};
pub use step::{Extent, Fill, Segment, Segments, Step};

/// The most bytes that one read, splice or send moves: `MAX_RW_COUNT` of the kernel, in bytes.
///
/// A longer `len` is clamped by read(2) and refused with `EINVAL` by splice(2), so no step is longer.
pub const OP_LEN_MAX: u64 = 0x7fff_f000;

/// The greatest end of a file range: the kernel's offset is a signed 64-bit number.
pub const FILE_END_MAX: u64 = i64::MAX as u64;

/// One transfer over a fixed body.
///
/// ```
/// use ringway::progress::{Extent, Fill, Progress, Step};
///
/// let mut progress =
///     Progress::new([Extent::Bytes { len: 5 }, Extent::File { offset: 4096, len: 10 }])?;
/// assert_eq!(progress.next(8), Step::SendBytes { part: 0, start: 0, len: 5, more: true });
/// progress.pass(5)?;
/// assert_eq!(progress.next(8), Step::Fill(Fill { part: 1, offset: 4096, len: 8 }));
/// progress.stage(8)?;
/// progress.accept(3)?; // the socket was nearly full
/// assert_eq!(progress.next(8), Step::Drain { len: 5, more: true });
/// progress.rewind(); // the peer stalls: give the pipe back, read again later
/// assert_eq!(progress.next(8), Step::Fill(Fill { part: 1, offset: 4099, len: 7 }));
/// assert_eq!((progress.accepted(), progress.read(), progress.discarded()), (8, 8, 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Progress {
    extents: Vec<Extent>,
    total: u64,
    tail: Cursor,
    head: Cursor,
    accepted: Count,
    staged: Count,
    read: u64,
    discarded: u64,
    /// A read at the head found the end of the file inside the promised range.
    ended: bool,
}

impl Progress {
    /// Starts a transfer over `extents`, in order. Empty extents are allowed and skipped.
    ///
    /// # Errors
    ///
    /// [`LengthOverflow`] when a file range ends beyond [`FILE_END_MAX`], or when the lengths
    /// together do not fit in 64 bits.
    pub fn new(extents: impl Into<Vec<Extent>>) -> Result<Self, LengthOverflow> {
        let extents = extents.into();
        let mut total = 0u64;
        for (part, &extent) in extents.iter().enumerate() {
            if let Extent::File { offset, len } = extent
                && offset.checked_add(len).is_none_or(|end| end > FILE_END_MAX)
            {
                return Err(LengthOverflow::Range { part, offset, len });
            }
            total = total.checked_add(extent.len()).ok_or(LengthOverflow::Total { part })?;
        }
        let start = Cursor::default().settled(&extents);
        Ok(Self {
            extents,
            total,
            tail: start,
            head: start,
            accepted: Count::default(),
            staged: Count::default(),
            read: 0,
            discarded: 0,
            ended: false,
        })
    }

    /// What to do now, moving at most `quantum` bytes (0 counts as 1).
    ///
    /// The answer depends on the state only: asking twice without reporting gives it twice.
    pub fn next(&self, quantum: u64) -> Step {
        if self.is_complete() {
            return Step::Done;
        }
        if self.staged.all > 0 {
            let len = self.staged.all.min(OP_LEN_MAX);
            return Step::Drain { len, more: self.more_after(len) };
        }
        if let Some(truncated) = self.truncated() {
            return Step::Truncated(truncated);
        }
        match self.head.segment(&self.extents, quantum.max(1)) {
            Some(Segment::Bytes { part, start, len }) => {
                Step::SendBytes { part, start, len, more: self.more_after(len) }
            }
            Some(Segment::File(fill)) => Step::Fill(fill),
            None => Step::Done,
        }
    }

    /// What to read beyond what is staged already, so that a second pipe fills while the first drains.
    ///
    /// `None` when the head stands in memory, at the end of the body, or at the end of a file that
    /// became shorter.
    #[must_use]
    pub fn next_fill(&self, quantum: u64) -> Option<Fill> {
        match self.head.segment(&self.extents, quantum.max(1)) {
            Some(Segment::File(fill)) if !self.ended => Some(fill),
            _ => None,
        }
    }

    /// The segments that follow what is staged, for a route that gathers header, file and trailer
    /// into one send.
    ///
    /// Stops before the file bytes among them would exceed `max_file_bytes`, and after
    /// `max_segments`; memory counts only as a segment, because it needs no buffer.
    #[must_use]
    pub fn window(&self, max_file_bytes: u64, max_segments: usize) -> Segments<'_> {
        Segments {
            extents: &self.extents,
            cursor: self.head,
            file_left: if self.ended { 0 } else { max_file_bytes },
            all_left: u64::MAX,
            segments_left: max_segments,
        }
    }

    /// The segments that are staged and not yet accepted, for the send after a short one.
    #[must_use]
    pub fn residue(&self, max_segments: usize) -> Segments<'_> {
        Segments {
            extents: &self.extents,
            cursor: self.tail,
            file_left: u64::MAX,
            all_left: self.staged.all,
            segments_left: max_segments,
        }
    }

    /// Whether bytes of the body remain after the next `len`: what a send's `MSG_MORE` must say.
    #[must_use]
    pub fn more_after(&self, len: u64) -> bool {
        len < self.remaining() || sabotaged(Sabotage::MoreOnTail)
    }

    /// Records that the next `n` bytes are in a pipe or a buffer now.
    ///
    /// In a file extent, 0 means that the file ended inside the range that was promised. What is
    /// staged may still be sent; after that [`next`](Self::next) answers [`Step::Truncated`]. A
    /// [`rewind`](Self::rewind) forgets the end, because the range is then read again.
    ///
    /// # Errors
    ///
    /// A [`Misstep`] when `n` reaches beyond the extent that the head stands in, or when the file
    /// was already found to end there. Nothing is recorded then.
    pub fn stage(&mut self, n: u64) -> Result<(), Misstep> {
        let rest = self.head.segment_rest(&self.extents);
        let (room, in_file) = rest.unwrap_or((0, false));
        if n > room {
            return Err(Misstep { report: "staged beyond the extent", n, limit: room });
        }
        if in_file && self.ended && n > 0 {
            return Err(Misstep { report: "staged after the end of the file", n, limit: 0 });
        }
        if in_file && n == 0 {
            self.ended = !sabotaged(Sabotage::EndOfFileIgnored);
        }
        let moved = self.head.advance(&self.extents, n);
        self.staged.add(moved);
        self.read = self.read.saturating_add(moved.file);
        Ok(())
    }

    /// Records that the socket took the first `n` of the staged bytes.
    ///
    /// # Errors
    ///
    /// A [`Misstep`] when fewer than `n` bytes are staged. Nothing is recorded then.
    pub fn accept(&mut self, n: u64) -> Result<(), Misstep> {
        if n > self.staged.all {
            return Err(Misstep {
                report: "accepted more than was staged",
                n,
                limit: self.staged.all,
            });
        }
        let moved = self.tail.advance(&self.extents, n);
        self.staged.all -= moved.all;
        self.staged.file -= moved.file;
        self.accepted.add(moved);
        Ok(())
    }

    /// Records that `n` bytes went to the socket with nothing in between: memory that was sent, or
    /// a file range by sendfile(2). 0 in a file extent means what it means for [`stage`](Self::stage).
    ///
    /// # Errors
    ///
    /// A [`Misstep`] when bytes are staged, which would be overtaken, or when `n` reaches beyond the
    /// extent. Nothing is recorded then.
    pub fn pass(&mut self, n: u64) -> Result<(), Misstep> {
        if self.staged.all > 0 {
            return Err(Misstep { report: "overtook staged bytes", n, limit: 0 });
        }
        self.stage(n)?;
        self.accept(n)
    }

    /// Records that the socket has the first `n` bytes already, before anything else is reported;
    /// more than there are means all of them.
    pub fn skip(&mut self, n: u64) {
        let moved = self.head.advance(&self.extents, n);
        self.tail = self.head;
        self.accepted.add(moved);
        self.read = self.read.saturating_add(moved.file);
    }

    /// Records that everything staged was thrown away; it will be read again. Returns how many of
    /// those bytes came from a file.
    pub fn rewind(&mut self) -> u64 {
        self.rewind_behind(0)
    }

    /// The same, but the first `kept` of the staged bytes stay: they lie somewhere from where they can
    /// still be sent, as the rest of a sealed record does. More than are staged means all of them.
    pub fn rewind_behind(&mut self, kept: u64) -> u64 {
        let kept = kept.min(self.staged.all);
        let mut head = self.tail;
        let staged = head.advance(&self.extents, kept);
        let thrown = self.staged.file - staged.file;
        self.discarded = self.discarded.saturating_add(thrown);
        self.staged = staged;
        self.head = head;
        self.ended = false;
        thrown
    }

    /// Bytes in the whole body, fixed at the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that the socket has taken: the `sent` of every outcome.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.all
    }

    /// How many of the accepted bytes came from a file.
    #[must_use]
    pub fn accepted_from_file(&self) -> u64 {
        self.accepted.file
    }

    /// Bytes in a pipe or a buffer that the socket has not taken yet.
    #[must_use]
    pub fn staged(&self) -> u64 {
        self.staged.all
    }

    /// How many of the staged bytes came from a file.
    #[must_use]
    pub fn staged_from_file(&self) -> u64 {
        self.staged.file
    }

    /// File bytes ever read, those that were thrown away included.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// File bytes that were read and thrown away by rewinds.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Bytes that the socket has still to take.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.total - self.accepted.all
    }

    /// Whether the socket has taken the whole body.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.accepted.all == self.total
    }

    /// Whether the file was found to end inside the promised range, with the counts as of now.
    #[must_use]
    pub fn truncated(&self) -> Option<Truncated> {
        self.ended.then_some(Truncated { expected: self.total, sent: self.accepted.all })
    }
}
