//! Where a receiving transfer stands, and what it must do next.
//!
//! A body comes out of a stream and goes into a file. Between the two it is *gathered* in a pipe or a
//! buffer, and then *stored*: handed to a write that may wait for a disk, while the next bytes are
//! gathered elsewhere.
//!
//! ```text
//!            written      + storing          + gathered         = received        expected
//!  body  |===============|##################|##################|---------------------|
//!        in the file     | a write under way| in a vessel      | not taken yet
//! ```
//!
//! A route asks [`Progress::next`] what to do, does it, and reports how far it came. A short count is
//! normal at every step. What always holds, and is tested against a naive model in
//! `tests/receive_properties.rs`:
//!
//! - `received == written + storing + gathered`;
//! - `received <= expected` where the length is known, and `received <= most` always, but for the one
//!   byte by which a body of unknown length is found to be too long, which is never written;
//! - each byte of the body is written once, in order, at its own offset.
//!
//! There is no fd here, no clock and nothing asynchronous.

use crate::error::Misstep;
use crate::progress::FILE_END_MAX;
use crate::receive::error::{Misfit, ShortBody};

/// One body on its way into a file.
///
/// ```
/// use ringway::receive::progress::{Progress, Step};
///
/// let mut progress = Progress::new(4096, 0, Some(10), u64::MAX)?;
/// assert_eq!(progress.next(8, false), Step::Receive { len: 8 });
/// progress.receive(8)?;
/// assert_eq!(progress.next(8, false), Step::Store { offset: 4096, len: 8 });
/// progress.begin_store()?;
/// assert_eq!(progress.next(8, false), Step::Receive { len: 2 });
/// progress.receive(0)?; // the peer has closed
/// assert_eq!(progress.next(8, false), Step::Await);
/// progress.store(8)?;
/// assert!(matches!(progress.next(8, false), Step::Short(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Progress {
    offset: u64,
    expected: Option<u64>,
    most: u64,
    received: u64,
    storing: u64,
    written: u64,
    /// The stream has come to its end.
    ended: bool,
    /// A byte beyond `most` was there. It counts as received.
    beyond: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Receive at most so many bytes behind what is gathered.
    Receive {
        /// Bytes.
        len: u64,
    },
    /// As many bytes as may come have come: find out whether that was the end of the stream.
    Probe,
    /// Hand what is gathered to a write, and say [`Progress::begin_store`].
    Store {
        /// Where in the file.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Wait for the write that is under way.
    Await,
    /// The whole body is in the file.
    Done,
    /// The stream ended before the promised length. All that came is in the file.
    Short(ShortBody),
    /// The stream has more than may come. What may is in the file.
    TooLong {
        /// Bytes that may come.
        most: u64,
    },
}

impl Progress {
    /// Begins with `given` bytes that were received before; they are the first of the body. The
    /// body has `expected` bytes, if that is known, and `most` at most.
    ///
    /// # Errors
    ///
    /// [`Misfit`] when these numbers cannot be true together, or reach beyond what a file can have.
    pub fn new(offset: u64, given: u64, expected: Option<u64>, most: u64) -> Result<Self, Misfit> {
        if let Some(expected) = expected.filter(|expected| *expected > most) {
            return Err(Misfit::Announced { expected, most });
        }
        if given > expected.unwrap_or(most) {
            return Err(Misfit::Given { given, most: expected.unwrap_or(most) });
        }
        let room = FILE_END_MAX.checked_sub(offset);
        if room.is_none_or(|room| room < expected.unwrap_or(given)) {
            return Err(Misfit::Offset { offset, len: expected.unwrap_or(given) });
        }
        let most = expected.unwrap_or(most.min(room.unwrap_or(0)));
        Ok(Self {
            offset,
            expected,
            most,
            received: given,
            storing: 0,
            written: 0,
            ended: false,
            beyond: false,
        })
    }

    /// What to do now, if a vessel holds `batch` bytes (0 counts as 1). `dry` says that waiting for
    /// more is not worth it, so that what is there is to be stored first.
    ///
    /// The answer depends on the state only: asking twice without reporting gives it twice.
    #[must_use]
    pub fn next(&self, batch: u64, dry: bool) -> Step {
        let (gathered, batch) = (self.gathered(), batch.max(1));
        let left = self.left();
        let idle = gathered == 0 && self.storing == 0;
        if left > 0 && gathered < batch && (idle || !dry) {
            return Step::Receive { len: left.min(batch - gathered) };
        }
        if self.storing > 0 {
            return Step::Await;
        }
        if gathered > 0 {
            return Step::Store { offset: self.offset + self.written, len: gathered };
        }
        match self.expected {
            _ if self.beyond => Step::TooLong { most: self.most },
            Some(expected) if self.received < expected => {
                Step::Short(ShortBody { expected, received: self.received })
            }
            Some(_) => Step::Done,
            None if self.ended => Step::Done,
            None => Step::Probe,
        }
    }

    /// Bytes that may still be received.
    #[must_use]
    pub fn left(&self) -> u64 {
        if self.ended || self.beyond { 0 } else { self.most - self.received }
    }

    /// Records that `n` bytes have come behind what is gathered; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// A [`Misstep`] when more have come than may. Nothing is recorded then.
    pub fn receive(&mut self, n: u64) -> Result<(), Misstep> {
        let limit = self.left();
        if n > limit {
            return Err(Misstep { report: "received beyond the body", n, limit });
        }
        self.ended |= n == 0;
        self.received += n;
        Ok(())
    }

    /// Records what was found beyond the most that may come: one byte, or the end of the stream.
    pub fn probe(&mut self, found: bool) {
        if found && !self.ended && !self.beyond {
            self.beyond = true;
            self.received += 1;
        } else {
            self.ended = true;
        }
    }

    /// Records that all that is gathered was handed to a write.
    ///
    /// # Errors
    ///
    /// A [`Misstep`] when another write is under way: their order would be open.
    pub fn begin_store(&mut self) -> Result<(), Misstep> {
        if self.storing > 0 {
            return Err(Misstep { report: "stored twice at once", n: self.storing, limit: 0 });
        }
        self.storing = self.gathered();
        Ok(())
    }

    /// Records that the write has brought `n` more bytes into the file. A write of fewer than it was
    /// handed goes on with the rest, which is still under way.
    ///
    /// # Errors
    ///
    /// A [`Misstep`] when that is more than it was handed. Nothing is recorded then.
    pub fn store(&mut self, n: u64) -> Result<(), Misstep> {
        if n > self.storing {
            return Err(Misstep { report: "wrote more than there was", n, limit: self.storing });
        }
        self.storing -= n;
        self.written += n;
        Ok(())
    }

    /// Where in the file the write that is under way goes on.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset + self.written
    }

    /// Bytes in a vessel that no write was handed.
    #[must_use]
    pub fn gathered(&self) -> u64 {
        self.received - self.written - self.storing - u64::from(self.beyond)
    }

    /// Bytes of the write that is under way.
    #[must_use]
    pub fn storing(&self) -> u64 {
        self.storing
    }

    /// Bytes of the body that have come, those that were given at the start included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the body that are in the file.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of the whole body, where that is known.
    #[must_use]
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }
}
