//! Where a body comes from: a stream, with how much of it is the body.

use std::fmt;
use std::io;

use bytes::Bytes;
use ringway_runtime::net::{Stream, TcpStream, UnixStream};

/// A body in a stream: how long it is, and what of it the caller has received already.
///
/// ```no_run
/// # async fn example(mut stream: ringway::runtime::net::TcpStream, mut file: ringway::runtime::fs::File)
/// # -> Result<(), ringway::receive::ReceiveError> {
/// use ringway::{Incoming, transfer_file};
///
/// // A parser has read a header, and the first bytes of the body with it.
/// let body = Incoming::exactly(&mut stream, 1_000_000).after("the first bytes");
/// let receipt = transfer_file(body, &mut file).await?;
/// assert_eq!(receipt.written, 1_000_000);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Incoming<'t> {
    pub(super) origin: Origin<'t>,
    pub(super) expected: Option<u64>,
    pub(super) most: u64,
    pub(super) given: Bytes,
}

impl<'t> Incoming<'t> {
    /// A body of so many bytes. The stream can be used on behind them.
    #[must_use]
    pub fn exactly(origin: impl Into<Origin<'t>>, bytes: u64) -> Self {
        Self { expected: Some(bytes), ..Self::to_the_end(origin) }
    }

    /// A body that ends where the stream ends. Give it a bound by [`Self::at_most`].
    #[must_use]
    pub fn to_the_end(origin: impl Into<Origin<'t>>) -> Self {
        Self { origin: origin.into(), expected: None, most: u64::MAX, given: Bytes::new() }
    }

    /// Bytes of the body that were received before: they come first, and they count.
    #[must_use]
    pub fn after(mut self, given: impl Into<Bytes>) -> Self {
        self.given = given.into();
        self
    }

    /// Fails if the body has more than so many bytes: before anything is received if its length is
    /// known, else when one more byte has come. Of that one, nothing is written.
    #[must_use]
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }
}

/// What bytes come out of.
pub struct Origin<'t>(pub(super) Kind<'t>);

pub(super) enum Kind<'t> {
    /// Bytes of the socket are bytes of the body.
    Plain(&'t Stream),
    /// They are decrypted or decoded first.
    Decoded(&'t mut dyn Decoded),
}

/// A stream whose bytes must pass through memory on their way: TLS, or a transfer coding. A
/// [`TlsStream`](crate::tls::TlsStream) is one.
///
/// It never waits: a transfer waits for its socket, and tries again.
pub trait Decoded {
    /// Puts what can be had now into the buffer; 0 at the end of the body, or if the buffer is empty.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket must be readable first; `InvalidData` if what came cannot be
    /// decoded; otherwise those of recv(2).
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// The socket that it reads from.
    fn stream(&self) -> &Stream;

    /// Bytes that were taken out of what it reads from, since that was made. It says whether a transfer
    /// that is dropped has lost any.
    fn taken(&self) -> u64 {
        self.stream().received()
    }

    /// A transfer that began when [`Self::taken`] was `began` was dropped in the middle.
    fn tear(&self, began: u64) {
        self.stream().tear(began);
    }

    /// Whether one was, and nobody has asked what it had taken.
    fn is_torn(&self) -> bool {
        self.stream().is_torn()
    }

    /// Whether buffers must be wiped behind it.
    fn is_secret(&self) -> bool {
        false
    }
}

impl<'t> Origin<'t> {
    /// A stream that decodes what its socket receives.
    #[must_use]
    pub fn decoded(stream: &'t mut dyn Decoded) -> Self {
        Self(Kind::Decoded(stream))
    }

    pub(super) fn is_decoded(&self) -> bool {
        matches!(self.0, Kind::Decoded(_))
    }
}

/// What comes out of an origin can be decoded again: chunks within TLS.
impl Decoded for Origin<'_> {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(stream) => stream.try_recv(buffer),
            Kind::Decoded(decoded) => decoded.try_read(buffer),
        }
    }

    fn stream(&self) -> &Stream {
        match &self.0 {
            Kind::Plain(stream) => stream,
            Kind::Decoded(decoded) => decoded.stream(),
        }
    }

    fn taken(&self) -> u64 {
        match &self.0 {
            Kind::Plain(stream) => stream.received(),
            Kind::Decoded(decoded) => decoded.taken(),
        }
    }

    fn tear(&self, began: u64) {
        match &self.0 {
            Kind::Plain(stream) => stream.tear(began),
            Kind::Decoded(decoded) => decoded.tear(began),
        }
    }

    fn is_torn(&self) -> bool {
        match &self.0 {
            Kind::Plain(stream) => stream.is_torn(),
            Kind::Decoded(decoded) => decoded.is_torn(),
        }
    }

    fn is_secret(&self) -> bool {
        matches!(&self.0, Kind::Decoded(decoded) if decoded.is_secret())
    }
}

impl<'t> From<&'t mut TcpStream> for Origin<'t> {
    fn from(stream: &'t mut TcpStream) -> Self {
        Self(Kind::Plain(stream))
    }
}

impl<'t> From<&'t mut UnixStream> for Origin<'t> {
    fn from(stream: &'t mut UnixStream) -> Self {
        Self(Kind::Plain(stream))
    }
}

impl<'t> From<&'t mut TcpStream> for Incoming<'t> {
    fn from(stream: &'t mut TcpStream) -> Self {
        Self::to_the_end(stream)
    }
}

impl<'t> From<&'t mut UnixStream> for Incoming<'t> {
    fn from(stream: &'t mut UnixStream) -> Self {
        Self::to_the_end(stream)
    }
}

impl fmt::Debug for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_decoded() { "decoded" } else { "plain" };
        f.debug_struct("Origin").field("kind", &kind).field("stream", self.stream()).finish()
    }
}
