//! Where a processor says what to send.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::{Answer, Piece, ProcessorFault};
use crate::receipt::Digest;

/// Takes what a processor wants to be sent, in the order of the calls.
pub struct Output<'o> {
    answer: &'o mut Answer,
    made: &'o mut [u8],
    filled: &'o mut usize,
    pieces_max: usize,
    window: usize,
}

/// There is no room for these bytes in this turn: return what was used so far, and write them in the
/// next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for these bytes in this turn: return early and write them in the next")
    }
}

impl std::error::Error for Full {}

impl<'o> Output<'o> {
    pub(crate) fn new(
        answer: &'o mut Answer,
        made: &'o mut [u8],
        filled: &'o mut usize,
        pieces_max: usize,
        window: usize,
    ) -> Self {
        Self { answer, made, filled, pieces_max, window }
    }

    /// Sends these bytes of the window, as they are when the turn ends. Long unchanged ones leave by
    /// reference. A range outside of the window, or one that is not used up, ends the transfer.
    #[inline]
    pub fn send(&mut self, range: Range<usize>) {
        let Range { start: from, end: to } = range;
        if from > to || to > self.window {
            self.fault(ProcessorFault::OutsideWindow { from, to, window: self.window });
            return;
        }
        let more = to - from;
        if more == 0 {
            return;
        }
        self.answer.bytes += more as u64;
        if let Some(Piece::Window { at, len }) = self.answer.pieces.last_mut()
            && *at + *len == from
        {
            *len += more;
            return;
        }
        self.push(Piece::Window { at: from, len: more });
    }

    /// Sends memory of the processor's own, by reference.
    pub fn insert(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return;
        }
        let (index, len) = (self.answer.own.len(), bytes.len());
        self.answer.bytes += len as u64;
        self.push(Piece::Own { index, len });
        self.answer.own.push(bytes);
    }

    /// Sends a copy of these bytes.
    ///
    /// # Errors
    ///
    /// [`Full`] if they do not fit into what is left of the room; none of them is sent then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let spare = self.spare();
        spare.get_mut(..bytes.len()).ok_or(Full)?.copy_from_slice(bytes);
        self.wrote(bytes.len());
        Ok(())
    }

    /// Room to write to in place, for a conversion: say with [`Self::wrote`] how much of it counts.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.made[*self.filled..]
    }

    /// Sends the first `len` bytes of [`Self::spare`]; more than there is room for is cut.
    pub fn wrote(&mut self, len: usize) {
        let len = len.min(self.room());
        if len == 0 {
            return;
        }
        let from = *self.filled;
        *self.filled += len;
        self.answer.bytes += len as u64;
        if let Some(Piece::Made { at, len: known }) = self.answer.pieces.last_mut()
            && *at + *known == from
        {
            *known += len;
            return;
        }
        self.push(Piece::Made { at: from, len });
    }

    /// Bytes that can still be written in this turn.
    #[must_use]
    pub fn room(&self) -> usize {
        self.made.len() - *self.filled
    }

    /// Whether it takes no further piece in this turn: return what was used so far.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.answer.pieces.len() >= self.pieces_max
    }

    /// Bytes to be sent so far, in this turn.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.answer.bytes
    }

    /// Whether nothing is to be sent so far, in this turn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answer.bytes == 0
    }

    /// Puts a digest into the receipt.
    pub fn note_digest(&mut self, digest: Digest) {
        self.answer.digests.push(digest);
    }

    /// What was asked for since there were `seen` pieces of `before` bytes in all, and the written bytes
    /// that they point to.
    #[cfg(feature = "digest")]
    pub(super) fn pieces(&self) -> (&[Piece], &[u8], &[Bytes]) {
        (&self.answer.pieces, self.made, &self.answer.own)
    }

    fn push(&mut self, piece: Piece) {
        if self.is_full() {
            self.fault(ProcessorFault::TooManyPieces { max: self.pieces_max });
        } else {
            self.answer.pieces.push(piece);
        }
    }

    fn fault(&mut self, fault: ProcessorFault) {
        self.answer.fault.get_or_insert(fault);
    }
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("bytes", &self.answer.bytes)
            .field("pieces", &self.answer.pieces.len())
            .field("room", &self.room())
            .finish()
    }
}
