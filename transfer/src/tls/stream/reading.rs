//! Reading, by the stream itself and by a half of it that listens while the stream sends.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use ringway_runtime::net::{Stream, Torn};

use super::*;
use crate::receive::{Decoded, Incoming, Origin};
use crate::tls::engine::Unread;

/// The session of a stream, shared with its readers. Nobody holds it across an await, and nobody calls
/// the stream while holding it.
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsStream {
    /// Receives at least one byte of plaintext, waiting for it; 0 after the peer's `close_notify`.
    ///
    /// Answers the peer's key updates on the way, as far as the socket takes them without waiting.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the connection ends without a `close_notify`: what was read may be only the
    /// beginning. `InvalidData` if the peer breaks the protocol, `ConnectionAborted` for its alerts; both
    /// hold a [`TlsError`]. [`Torn`] after a transfer that was dropped. Otherwise those of recv(2).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = self.read_ready(buffer)? {
                return Ok(count);
            }
            self.stream.readable().await?;
            self.state.lock().dry = false;
        }
    }

    /// Reads what is there, without waiting; 0 after the peer's `close_notify`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there: wait for [`readable`](Self::readable). Otherwise as for
    /// [`read`](Self::read).
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_ready(buffer)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Reads what is there without waiting; `None` if that is nothing.
    fn read_ready(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.check_broken()?;
        loop {
            let mut state = self.state.lock();
            let read = state.take(buffer);
            let owes = state.engine.owes();
            drop(state);
            if owes {
                // What cannot be said now is said before the next data.
                let _ = self.try_flush();
            }
            match read? {
                Unread::Bytes(count) => return Ok(Some(count)),
                Unread::End => return Ok(Some(0)),
                Unread::Nothing => {}
            }
            if !self.state.lock().fill(&self.stream)? {
                return Ok(None);
            }
        }
    }

    /// A half that reads while this one sends: for protocols in which the peer may answer before it has
    /// everything. Who reads here and there gets each byte once, at one of the two.
    #[must_use]
    pub fn reader(&self) -> TlsReader {
        TlsReader { stream: self.stream.share(), state: self.state.share() }
    }

    /// Whether a transfer out of this stream was dropped in the middle.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.state.lock().torn.is_some()
    }

    /// Plaintext that was read since the handshake, in bytes.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.state.lock().taken
    }

    /// Tells how many bytes of plaintext a transfer that was dropped had taken. They may be lost; what
    /// follows them can be read again after this.
    pub fn settle_received(&mut self) -> u64 {
        let mut state = self.state.lock();
        let taken = state.taken;
        state.torn.take().map_or(0, |began| taken - began)
    }
}

/// A half of a [`TlsStream`] that reads while the stream sends; see [`TlsStream::reader`].
///
/// It answers nothing: what the peer asks for in between (new keys) is said by the half that sends,
/// before its next data.
pub struct TlsReader {
    stream: TcpStream,
    state: Shared,
}

impl TlsReader {
    /// Receives at least one byte of plaintext, waiting for it; 0 after the peer's `close_notify`.
    ///
    /// # Errors
    ///
    /// As for [`TlsStream::read`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = self.read_ready(buffer)? {
                return Ok(count);
            }
            let mut readable = pin!(self.stream.readable());
            // The sending half may take what comes out of the socket, which then tells nobody else.
            poll_fn(|context| {
                let mut state = self.state.lock();
                if state.news {
                    return Poll::Ready(Ok(()));
                }
                state.reader = Some(context.waker().clone());
                drop(state);
                readable.as_mut().poll(context)
            })
            .await?;
            self.state.lock().dry = false;
        }
    }

    /// Reads what is there, without waiting; 0 after the peer's `close_notify`. The call after one that
    /// found nothing asks the socket.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there: wait until the [socket](Self::tcp) is readable. Otherwise as
    /// for [`TlsStream::read`].
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read_ready(buffer)? {
            Some(count) => Ok(count),
            None => {
                self.state.lock().dry = false;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    /// The connection below, to wait for.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    fn read_ready(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut state = self.state.lock();
        state.news = false;
        if let Some(why) = state.broken {
            return Err(TlsError::new(TlsErrorKind::BrokenOff(why)).into_io());
        }
        loop {
            match state.take(buffer)? {
                Unread::Bytes(count) => return Ok(Some(count)),
                Unread::End => return Ok(Some(0)),
                Unread::Nothing => {}
            }
            if !state.fill(&self.stream)? {
                return Ok(None);
            }
        }
    }
}

impl fmt::Debug for TlsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsReader").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl State {
    /// Takes plaintext, opening what must be opened for it, and counts it.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Unread> {
        if self.torn.is_some() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, Torn));
        }
        let read = self.engine.read(buffer).map_err(TlsError::into_io)?;
        if let Unread::Bytes(count) = read {
            self.taken += count as u64;
        }
        Ok(read)
    }

    /// Receives ciphertext; `false` if there is none now.
    pub(super) fn fill(&mut self, stream: &TcpStream) -> io::Result<bool> {
        if self.dry {
            self.engine.rest();
            return Ok(false);
        }
        let room = self.engine.room().map_err(TlsError::into_io)?;
        let len = room.len();
        match stream.try_recv(room) {
            Ok(0) => {
                self.ended = true;
                self.engine.end_of_stream().map_err(TlsError::into_io)?;
                Ok(true)
            }
            Ok(count) => {
                self.dry = count < len;
                self.engine.received(count);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.dry = true;
                self.engine.rest();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a read would find something without receiving.
    pub(super) fn has_more(&mut self) -> bool {
        loop {
            if self.engine.unread() > 0 {
                return true;
            }
            match self.engine.step() {
                Ok(Stepped::Opened) => {}
                Ok(Stepped::NeedsMore) => return false,
                Ok(Stepped::End) | Err(_) => return true,
            }
        }
    }

    /// Something is there for whoever waits beside the transfer that has found it.
    pub(super) fn tell_reader(&mut self) {
        self.news = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// As the source of a transfer into a file.
impl Decoded for TlsStream {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.read_ready(buffer)? {
            Some(count) => Ok(count),
            None => {
                // It is waited for before the next call.
                self.state.lock().dry = false;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn taken(&self) -> u64 {
        self.received()
    }

    fn tear(&self, began: u64) {
        self.state.lock().torn.get_or_insert(began);
    }

    fn is_torn(&self) -> bool {
        TlsStream::is_torn(self)
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl<'t> From<&'t mut TlsStream> for Origin<'t> {
    fn from(stream: &'t mut TlsStream) -> Self {
        Origin::decoded(stream)
    }
}

impl<'t> From<&'t mut TlsStream> for Incoming<'t> {
    fn from(stream: &'t mut TlsStream) -> Self {
        Incoming::to_the_end(stream)
    }
}
