//! What all stream sockets can do, and what a transfer needs of them.

use std::fmt;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::sending::Sending;
use crate::fault::{Sabotage, sabotaged};
use crate::local;
use crate::mem::IoBuf;
use crate::op::{Effect, Flow, Held};
use crate::pipe::PipeLease;
use crate::sys::sqe::{READABLE, Sqe, WRITABLE};
use crate::sys::{self, socket};
use crate::time;

/// A connected stream socket. [`TcpStream`](super::TcpStream) and [`UnixStream`](super::UnixStream)
/// are this, with addresses and options of their own.
///
/// It counts the bytes that the socket has accepted. Dropping it closes the socket, once no op
/// needs it any more.
pub struct Stream {
    pub(super) flow: Arc<Flow>,
}

/// A direction of a stream to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Nothing more is received.
    Read,
    /// Nothing more is sent: the peer sees the end of the stream after what was sent.
    Write,
    /// Both.
    Both,
}

/// A transfer over this stream was dropped in the middle. Nothing more is sent until
/// [`Stream::settle`] has told how much of it the socket accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poisoned;

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a transfer over this stream was dropped in the middle: call settle().await, which \
             tells how many bytes went out, before sending anything else",
        )
    }
}

impl std::error::Error for Poisoned {}

/// What [`Stream::readable_or_writable`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to receive, or the end of the stream.
    pub readable: bool,
    /// The socket takes bytes.
    pub writable: bool,
}

/// What [`TcpStream::drained`](super::TcpStream::drained) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drained {
    /// The peer's host has acknowledged every byte: the file may be overwritten.
    Acknowledged,
    /// The peer is on this host, where pages travel by reference into its receive queue: when it
    /// has read them cannot be known from here.
    Unknowable,
    /// The deadline has passed with this many bytes not acknowledged.
    TimedOut(u64),
}

impl Stream {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { flow: Arc::new(Flow::new(socket)) }
    }

    /// Another handle to the same socket, sharing its count and its poisoning.
    pub(super) fn share(&self) -> Self {
        Self { flow: Arc::clone(&self.flow) }
    }

    async fn ready(&self, events: u32) -> io::Result<u32> {
        let sqe = Sqe::poll(self.as_fd().as_raw_fd(), events);
        let held = Held { flow: Some(Arc::clone(&self.flow)), ..Held::default() };
        local::current()?.port.submit(sqe, held, Effect::None).await.result
    }

    /// Waits until there is something to receive, or the peer has finished, without a buffer.
    ///
    /// # Errors
    ///
    /// Those of waiting; an error of the connection shows when it is used.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(READABLE).await.map(drop)
    }

    /// Waits until the socket takes bytes again.
    ///
    /// # Errors
    ///
    /// As for [`Self::readable`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(WRITABLE).await.map(drop)
    }

    /// Waits until there is something to receive or the socket takes bytes again, by one op, and
    /// tells which. A connection that is broken counts as both.
    ///
    /// # Errors
    ///
    /// As for [`Self::readable`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn readable_or_writable(&self) -> io::Result<Readiness> {
        let events = self.ready(READABLE | WRITABLE).await?;
        let broken = events & !(READABLE | WRITABLE) != 0;
        Ok(Readiness {
            readable: broken || events & READABLE != 0,
            writable: broken || events & WRITABLE != 0,
        })
    }

    /// Bytes that have come and were not received yet (`FIONREAD`, tcp(7)): whether a receive and its
    /// buffer are worth it. At the end of the stream there are none either.
    ///
    /// # Errors
    ///
    /// Those of ioctl(2).
    pub fn unread(&self) -> io::Result<u64> {
        socket::unread(self.as_fd())
    }

    /// Receives what is there; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing; otherwise those of recv(2).
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = crate::inline_len("recv", buffer.len().try_into().unwrap_or(u32::MAX))?;
        self.flow.may_receive()?;
        let received = self.flow.counted(socket::recv(self.as_fd(), &mut buffer[..len]));
        self.flow.set_dry(match &received {
            Ok(count) => *count < len,
            Err(error) => sys::would_block(error),
        });
        received
    }

    /// Receives at least one byte, waiting for it; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    ///
    /// # Cancel safety
    ///
    /// A byte is either in the buffer of a call that resolved, or still in the socket.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // What took all there was will find nothing at once: a call saved.
        if self.flow.is_dry() && !buffer.is_empty() {
            self.readable().await?;
        }
        loop {
            match self.try_recv(buffer) {
                Err(error) if sys::would_block(&error) => self.readable().await?,
                other => return other,
            }
        }
    }

    /// Sends what the socket takes without waiting. `more` lets a partial segment wait for what
    /// follows (`MSG_MORE`).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing; [`Poisoned`]; otherwise those of sendmsg(2).
    pub fn try_send(&self, pieces: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        self.check()?;
        let all: usize = pieces.iter().map(|piece| piece.len()).sum();
        let len = crate::inline_len("send", all.try_into().unwrap_or(u32::MAX))?;
        let sent = match pieces {
            // A fault shortens the call; the first piece stands for all of them then.
            [first, ..] if len < all => {
                let cut = [IoSlice::new(&first[..len.min(first.len())])];
                socket::send_vectored(self.as_fd(), &cut, more)?
            }
            pieces => socket::send_vectored(self.as_fd(), pieces, more)?,
        };
        self.flow.accept(sent as u64);
        Ok(sent)
    }

    /// Sends all bytes, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Poisoned`], and those of send(2). [`Self::accepted`] tells how much went out.
    ///
    /// # Cancel safety
    ///
    /// Part of the bytes may have gone out: [`Self::accepted`] tells how much, exactly.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.try_send(&[IoSlice::new(&bytes[sent..])], false) {
                Ok(count) => sent += count,
                Err(error) if sys::would_block(&error) => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the filled bytes of a buffer from `start` on, as an op in the ring. Resolves with
    /// `WouldBlock` if the socket is full: wait for [`Self::writable`] and submit again.
    ///
    /// # Errors
    ///
    /// Of this call: [`Poisoned`], or no ring. Of the op: those of send(2).
    ///
    /// # Cancel safety
    ///
    /// The buffer belongs to the op, so dropping is safe, but bytes may still go out. For an exact
    /// outcome call [`Sending::cancel`] and await.
    pub fn send<B: IoBuf>(&self, buffer: B, start: usize, more: bool) -> io::Result<Sending<B>> {
        self.send_as(buffer, start, |fd, bytes, len| Sqe::send(fd, bytes, len, more))
    }

    /// The same without copying, where the kernel and the device can: the buffer comes back to its
    /// pool when the peer has acknowledged the bytes, so the future does not return it.
    ///
    /// # Errors
    ///
    /// As for [`Self::send`], and `ENOMEM` or `EOPNOTSUPP` where it cannot be done.
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::send`].
    pub fn send_zero_copy<B: IoBuf>(
        &self,
        buffer: B,
        start: usize,
        more: bool,
    ) -> io::Result<Sending<B>> {
        if let Some(counters) = local::with(|local| std::rc::Rc::clone(&local.counters)) {
            counters.zero_copy_sends.bump();
        }
        self.send_as(buffer, start, |fd, bytes, len| Sqe::send_zero_copy(fd, bytes, len, more))
    }

    fn send_as<B: IoBuf>(
        &self,
        buffer: B,
        start: usize,
        build: impl FnOnce(i32, *const u8, u32) -> Sqe,
    ) -> io::Result<Sending<B>> {
        self.check()?;
        let local = local::current()?;
        let buffer = buffer.into_buffer();
        let bytes = buffer.filled().get(start..).unwrap_or_default();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let sqe = build(self.as_fd().as_raw_fd(), bytes.as_ptr(), len);
        let flow = Some(Arc::clone(&self.flow));
        let held = Held { flow, memory: Some(buffer), ..Held::default() };
        Ok(Sending { op: local.port.submit(sqe, held, Effect::Accepted), kind: PhantomData })
    }

    /// Drains a pipe into the socket inline, as much as it takes without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing; [`Poisoned`]; otherwise those of splice(2).
    pub fn try_drain(&self, pipe: &mut PipeLease, more: bool) -> io::Result<u32> {
        self.check()?;
        let moved = pipe.drain(self.as_fd(), more)?;
        self.flow.accept(moved.into());
        Ok(moved)
    }

    /// Drains a pipe into the socket by a splice op in the ring. Resolves with `WouldBlock` if the
    /// socket is full; no thread of the kernel ever waits for it.
    ///
    /// # Errors
    ///
    /// Of this call: [`Poisoned`], or no ring. Of the op: those of splice(2).
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::send`]. A pipe whose content is uncertain is destroyed.
    pub fn drain(&self, pipe: PipeLease, more: bool) -> io::Result<Sending<PipeLease>> {
        self.check()?;
        let local = local::current()?;
        let fd = self.as_fd().as_raw_fd();
        let sqe = Sqe::splice_to_socket(pipe.read_fd(), fd, pipe.residue(), more);
        let flow = Some(Arc::clone(&self.flow));
        let held = Held { flow, pipe: Some(pipe), ..Held::default() };
        Ok(Sending { op: local.port.submit(sqe, held, Effect::Drained), kind: PhantomData })
    }

    /// Sends file bytes inline by sendfile(2), as much as the socket takes without waiting. Waits
    /// for the disk if they are not resident: ask first. Returns 0 at the end of the file.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket takes nothing; [`Poisoned`]; otherwise those of sendfile(2).
    pub fn try_sendfile(&self, file: BorrowedFd<'_>, offset: u64, len: u32) -> io::Result<u32> {
        self.check()?;
        let len = crate::inline_len("sendfile", len)?;
        let sent = socket_sendfile(self.as_fd(), file, offset, len)?;
        self.flow.accept(sent.into());
        if let Some(counters) = local::with(|local| std::rc::Rc::clone(&local.counters)) {
            counters.sendfiles_inline.bump();
            counters.sendfile_bytes.add(sent.into());
        }
        Ok(sent)
    }

    /// Bytes that the socket has accepted since it was made, exactly.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.flow.accepted()
    }

    /// Marks the stream as the victim of a transfer that began when [`Self::accepted`] was `began`
    /// and was dropped in the middle. For those who write transfers.
    pub fn poison(&self, began: u64) {
        self.flow.poison(began);
    }

    /// Whether a transfer was dropped in the middle.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.flow.is_poisoned()
    }

    /// Waits until nothing of a dropped transfer is in flight any more, and tells how many bytes of
    /// it the socket has accepted. The stream can be used again after it.
    ///
    /// # Cancel safety
    ///
    /// The stream stays poisoned.
    pub async fn settle(&mut self) -> u64 {
        std::future::poll_fn(|context| {
            if self.flow.is_exact() {
                return Poll::Ready(());
            }
            self.flow.wake_when_exact(context.waker());
            // It may have become exact in between, on the ring's own thread.
            if self.flow.is_exact() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let sent = self.flow.forgive();
        // What was dropped may have been corked, for bytes that will not follow.
        self.uncork();
        sent
    }

    /// Whether sends are in flight in the ring, so that the count of accepted bytes may still grow.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        !self.flow.is_exact()
    }

    /// Zero-copy sends on this connection that the kernel copied after all.
    #[must_use]
    pub fn zero_copy_copied(&self) -> u64 {
        self.flow.copied()
    }

    /// Whether zero-copy sends on this connection were copied after all: not worth trying again.
    #[must_use]
    pub fn copies_anyway(&self) -> bool {
        self.flow.copies_anyway()
    }

    /// Remembers that zero-copy sends do not pay on this connection.
    pub fn set_copies_anyway(&self) {
        self.flow.set_copies_anyway();
    }

    /// Bytes that were sent and that the peer has not acknowledged (`SIOCOUTQ`, tcp(7)). On a Unix
    /// socket: that the peer has not read.
    ///
    /// # Errors
    ///
    /// Those of ioctl(2).
    pub fn unacknowledged(&self) -> io::Result<u64> {
        socket::unacknowledged(self.as_fd())
    }

    /// See [`TcpStream::drained`](super::TcpStream::drained).
    pub(super) async fn drained_within(&self, limit: Duration) -> io::Result<Drained> {
        let deadline = time::after(Instant::now(), limit);
        let mut pause = Duration::from_micros(200);
        loop {
            let left = self.unacknowledged()?;
            if left == 0 {
                return Ok(Drained::Acknowledged);
            }
            if Instant::now() >= deadline {
                return Ok(Drained::TimedOut(left));
            }
            time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Shuts a direction down; see shutdown(2).
    ///
    /// # Errors
    ///
    /// `NotConnected` if the peer is gone already.
    pub fn shutdown(&self, half: Half) -> io::Result<()> {
        let how = match half {
            Half::Read => socket::SHUTDOWN_READ,
            Half::Write => socket::SHUTDOWN_WRITE,
            Half::Both => socket::SHUTDOWN_BOTH,
        };
        socket::shutdown(self.as_fd(), how)
    }

    /// Asks for a send buffer of this many bytes (the kernel doubles it; see socket(7)).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        socket::set_send_buffer(self.as_fd(), bytes)
    }

    /// Asks for a receive buffer of this many bytes, likewise.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        socket::set_receive_buffer(self.as_fd(), bytes)
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.flow.is_poisoned() && !sabotaged(Sabotage::PoisonIgnored) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, Poisoned));
        }
        Ok(())
    }
}

fn socket_sendfile(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    len: usize,
) -> io::Result<u32> {
    let sent = sys::pipe::sendfile(socket, file, offset, len)?;
    Ok(u32::try_from(sent).unwrap_or(u32::MAX))
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.flow.as_fd()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("fd", &self.as_fd().as_raw_fd())
            .field("accepted", &self.accepted())
            .field("poisoned", &self.is_poisoned())
            .finish()
    }
}
