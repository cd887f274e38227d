//! What a processor has answered to one window, as data.

use bytes::Bytes;

use super::ProcessorFault;
use crate::receipt::Digest;

/// A piece of what is to be sent, in order. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "all fields are bytes, or a number of the answer's own memory")]
pub enum Piece {
    /// Bytes of the window.
    Window { at: usize, len: usize },
    /// Bytes that the processor wrote.
    Made { at: usize, len: usize },
    /// Memory of its own, by its number in `Answer::own`.
    Own { index: usize, len: usize },
}

/// All pieces of one turn. It is used again for the next one, so that nothing is allocated for each.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) own: Vec<Bytes>,
    pub(crate) digests: Vec<Digest>,
    /// Bytes in all pieces.
    pub(crate) bytes: u64,
    /// The first thing that it did wrong.
    pub(crate) fault: Option<ProcessorFault>,
}

impl Answer {
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.own.clear();
        self.digests.clear();
        self.bytes = 0;
        self.fault = None;
    }

    /// Checks the answer to a window of `window` bytes of which it used `used`.
    pub(crate) fn check(&self, used: usize, window: usize) -> Result<(), ProcessorFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if used > window {
            return Err(ProcessorFault::UsedTooMuch { used, window });
        }
        let ends = self.pieces.iter().filter_map(|piece| match *piece {
            Piece::Window { at, len } => Some(at + len),
            Piece::Made { .. } | Piece::Own { .. } => None,
        });
        match ends.max() {
            Some(to) if to > used => Err(ProcessorFault::SentUnused { to, used }),
            _ => Ok(()),
        }
    }
}
