//! The receiving side of a stream, for those who write transfers: splicing what has arrived into a
//! pipe, and an exact count of what was taken out of the socket.

use std::io;
use std::os::fd::AsFd;

use super::Stream;
use crate::pipe::PipeLease;

impl Stream {
    /// Fills a pipe with what has arrived, inline, by reference and without waiting: at most `len`
    /// bytes, and what fits. Returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has arrived, or if the pipe, which must then hold something, is full;
    /// [`Torn`](super::Torn); otherwise those of splice(2).
    pub fn try_fill(&self, pipe: &mut PipeLease, len: u32) -> io::Result<u32> {
        self.flow.may_receive()?;
        let moved = pipe.fill_from_socket(self.as_fd(), len)?;
        self.flow.counted(Ok(moved as usize))?;
        Ok(moved)
    }

    /// Bytes that were taken out of the socket since it was made, exactly.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.flow.received()
    }

    /// Marks the stream as the source of a transfer that began when [`Self::received`] was `began`
    /// and was dropped in the middle. For those who write transfers.
    pub fn tear(&self, began: u64) {
        self.flow.tear(began);
    }

    /// Whether a transfer out of this stream was dropped in the middle.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.flow.may_receive().is_err()
    }

    /// Tells how many bytes a transfer that was dropped had taken out of the socket. They may be
    /// lost; what follows them can be received again after this.
    pub fn settle_received(&mut self) -> u64 {
        self.flow.mend()
    }
}
