//! The last hop into a file: from a pipe or from memory, by the ring, which may wait for a disk, or
//! inline, which then makes the loop wait.

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{File, position};
use crate::local;
use crate::mem::IoBuf;
use crate::op::{Effect, Held, Op};
use crate::pipe::PipeLease;
use crate::sys::file as calls;
use crate::sys::sqe::{LENGTH_MAX, Sqe};

impl File {
    /// Drains a pipe to an offset of the file by a splice op in the ring: the disk is waited for in
    /// a worker of the kernel.
    ///
    /// # Errors
    ///
    /// Of this call: no ring, or an offset that no file has. Of the op: those of splice(2) and
    /// write(2).
    ///
    /// # Cancel safety
    ///
    /// The pipe belongs to the op, and is destroyed if its content is uncertain. Part of the bytes
    /// may be written after the drop.
    pub fn drain(&self, pipe: PipeLease, offset: u64) -> io::Result<Storing<PipeLease>> {
        let local = local::current()?;
        let at = position(offset)?;
        let sqe = Sqe::splice_to_file(pipe.read_fd(), self.fd.as_raw_fd(), at, pipe.residue());
        let held = Held { pipe: Some(pipe), ..self.held() };
        Ok(Storing { op: local.port.submit(sqe, held, Effect::Drained), kind: PhantomData })
    }

    /// Drains a pipe to an offset of the file inline. Waits for the disk if it must, and the whole
    /// loop with it: for files in memory.
    ///
    /// # Errors
    ///
    /// Those of splice(2) and write(2).
    pub fn try_drain(&self, pipe: &mut PipeLease, offset: u64) -> io::Result<u32> {
        position(offset)?;
        pipe.drain_to_file(self.as_fd(), offset)
    }

    /// Writes the filled bytes of a buffer from `start` on at an offset, as [`Self::write_at`] does,
    /// but can be kept and looked at later.
    ///
    /// # Errors
    ///
    /// Of this call: no ring, or an offset that no file has. Of the op: those of pwrite(2).
    ///
    /// # Cancel safety
    ///
    /// The buffer belongs to the op; part of the bytes may be written after the drop.
    pub fn store<B: IoBuf>(&self, buffer: B, start: usize, offset: u64) -> io::Result<Storing<B>> {
        let local = local::current()?;
        position(offset)?;
        let buffer = buffer.into_buffer();
        let bytes = buffer.filled().get(start..).unwrap_or_default();
        let len = u32::try_from(bytes.len()).unwrap_or(LENGTH_MAX);
        let fd = self.fd.as_raw_fd();
        let sqe = match buffer.registered() {
            Some(index) => Sqe::write_fixed(fd, bytes.as_ptr(), len, offset, index),
            None => Sqe::write(fd, bytes.as_ptr(), len, offset),
        };
        let held = Held { memory: Some(buffer), ..self.held() };
        Ok(Storing { op: local.port.submit(sqe, held, Effect::None), kind: PhantomData })
    }

    /// Reserves blocks for a range and leaves the length of the file as it is, so that a full disk
    /// is found before the bytes are there; see `FALLOC_FL_KEEP_SIZE` in fallocate(2).
    ///
    /// # Errors
    ///
    /// `StorageFull`, and `Unsupported` on file systems that cannot.
    ///
    /// # Cancel safety
    ///
    /// It may still happen.
    pub async fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let keep_size = libc::FALLOC_FL_KEEP_SIZE;
        self.simple(Sqe::fallocate(self.fd.as_raw_fd(), offset, len, keep_size)).await
    }

    /// Whether writes go to the end of the file whatever offset they name (`O_APPEND`).
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    pub fn is_append(&self) -> io::Result<bool> {
        calls::is_append(self.as_fd())
    }
}

/// Bytes on their way into a file: resolves to how many were written, and to what they were in.
pub struct Storing<T> {
    op: Op,
    kind: PhantomData<fn() -> T>,
}

impl<B: IoBuf> Future for Storing<B> {
    type Output = (io::Result<usize>, Option<B>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.op).poll(context));
        let buffer = outcome.held.memory.and_then(B::from_buffer);
        Poll::Ready((outcome.result.map(|written| written as usize), buffer))
    }
}

impl Future for Storing<PipeLease> {
    type Output = (io::Result<usize>, Option<PipeLease>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.op).poll(context));
        Poll::Ready((outcome.result.map(|written| written as usize), outcome.held.pipe))
    }
}

impl<T> fmt::Debug for Storing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storing").finish_non_exhaustive()
    }
}
