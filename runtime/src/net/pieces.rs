//! Sending from memory and from mapped windows in one call.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use super::Stream;
use crate::region::Window;
use crate::sys::socket;

/// Pieces that one call takes; the kernel would take 1024.
const PIECES_MAX: usize = 512;

/// Something to send.
#[derive(Debug, Clone)]
pub enum Piece<'a> {
    /// Memory of the caller.
    Bytes(&'a [u8]),
    /// A range of a mapped window. The kernel copies from it, so this thread never faults.
    Window(&'a Window, Range<usize>),
}

impl Piece<'_> {
    /// Bytes in the piece.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Window(_, range) => range.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn vector(&self) -> io::Result<libc::iovec> {
        let (base, len) = match self {
            Self::Bytes(bytes) => (bytes.as_ptr(), bytes.len()),
            Self::Window(window, range) => {
                window.known_poison()?;
                window.address(range).ok_or(io::ErrorKind::InvalidInput)?
            }
        };
        Ok(libc::iovec { iov_base: base.cast_mut().cast(), iov_len: len })
    }
}

impl Stream {
    /// Sends what the socket takes without waiting, of the first 512 pieces, in one call and without
    /// allocating. `more` lets a partial segment wait for what follows.
    ///
    /// A window is asked for known poison before, but not for the length of its file: call
    /// [`Window::check`] before, and again before its bytes count as sent. A cold page makes the thread
    /// wait: populate first.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing; `InvalidInput` if a range does not lie in its window; a
    /// [`region::Poisoned`](crate::region::Poisoned) inside, if a window is poisoned or the kernel
    /// found a page of the first piece gone; otherwise as for [`Self::try_send`].
    pub fn try_send_pieces(&self, pieces: &[Piece<'_>], more: bool) -> io::Result<usize> {
        self.check()?;
        let mut vectors = [const { socket::NOTHING }; PIECES_MAX];
        let taken = &pieces[..pieces.len().min(PIECES_MAX)];
        let mut all = 0usize;
        for (vector, piece) in vectors.iter_mut().zip(taken) {
            *vector = piece.vector()?;
            all = all.saturating_add(vector.iov_len);
        }
        let len = crate::inline_len("send", all.try_into().unwrap_or(u32::MAX))?;
        let mut count = taken.len();
        if len < all {
            // A fault shortens the call; the first piece stands for all of them then.
            count = count.min(1);
            vectors[0].iov_len = vectors[0].iov_len.min(len);
        }
        let more = more || count < pieces.len();
        match socket::send_raw(self.as_fd(), &vectors[..count], more) {
            Ok(sent) => {
                self.flow.accept(sent as u64);
                Ok(sent)
            }
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                // Nothing went out, so the page that is gone is in the first piece that has bytes.
                let first = taken.iter().find(|piece| !piece.is_empty());
                match first {
                    Some(Piece::Window(window, _)) => Err(window.refused_by_kernel().into()),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}
