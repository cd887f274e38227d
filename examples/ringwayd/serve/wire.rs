//! What a conversation needs of a stream, plain or encrypted. Each kind has its own conversation made by
//! the compiler, so that the plain one pays nothing for the other.

use std::io::{self, IoSlice};

use ringway::runtime::net::{Arrivals, Half, TcpStream};
use ringway::tls::{TlsError, TlsErrorKind, TlsStream};
use ringway::{Origin, Sink};

/// A stream to a client.
pub(crate) trait Wire: Sink + Sized {
    /// Whether the end of what is sent must be said.
    const SAYS_ITS_END: bool;

    /// Whether nobody on the way can read along.
    const IS_ENCRYPTED: bool;

    /// The connection below: its options, its address, its room.
    fn tcp(&self) -> &TcpStream;

    /// Where bodies come from.
    fn origin(&mut self) -> Origin<'_>;

    /// The certificate that the client has shown, if it has, and that was found good.
    fn certificate(&self) -> Option<&[u8]>;

    /// Receives what is there; 0 at the end of the stream, `WouldBlock` if nothing is.
    fn try_receive(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Waits until something has come; `arrivals` are those of the connection below.
    async fn wait_readable(&mut self, arrivals: &mut Arrivals) -> io::Result<()>;

    /// Takes bytes to be sent; `WouldBlock` if it takes none.
    fn try_take(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// What the client did, if it broke the protocol under HTTP by it.
    fn breach(error: &io::Error) -> Option<&TlsError>;

    /// Whether all that was taken is out.
    fn try_settle(&mut self) -> io::Result<bool>;

    /// Tells the client that nothing more follows.
    async fn finish(&mut self) -> io::Result<()>;
}

impl Wire for TcpStream {
    const SAYS_ITS_END: bool = false;
    const IS_ENCRYPTED: bool = false;

    #[inline]
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn origin(&mut self) -> Origin<'_> {
        self.into()
    }

    fn certificate(&self) -> Option<&[u8]> {
        None
    }

    #[inline]
    fn try_receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.try_recv(into)
    }

    async fn wait_readable(&mut self, arrivals: &mut Arrivals) -> io::Result<()> {
        arrivals.next().await
    }

    #[inline]
    fn try_take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_send(&[IoSlice::new(bytes)], false)
    }

    fn breach(_error: &io::Error) -> Option<&TlsError> {
        None
    }

    #[inline]
    fn try_settle(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Half::Write)
    }
}

impl Wire for TlsStream {
    const SAYS_ITS_END: bool = true;
    const IS_ENCRYPTED: bool = true;

    fn tcp(&self) -> &TcpStream {
        TlsStream::tcp(self)
    }

    fn origin(&mut self) -> Origin<'_> {
        self.into()
    }

    fn certificate(&self) -> Option<&[u8]> {
        self.peer_certificates()?.first().map(AsRef::as_ref)
    }

    fn try_receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.try_read(into)
    }

    /// What has come may be half a record, and what is not received may be opened already.
    async fn wait_readable(&mut self, _arrivals: &mut Arrivals) -> io::Result<()> {
        self.readable().await
    }

    fn try_take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn breach(error: &io::Error) -> Option<&TlsError> {
        let error: &TlsError = error.get_ref()?.downcast_ref()?;
        // Just leaving is no breach: many clients do.
        let is_breach = matches!(
            error.kind(),
            TlsErrorKind::BadRecord
                | TlsErrorKind::Broken(_)
                | TlsErrorKind::Misbehaved(_)
                | TlsErrorKind::AlertReceived(_)
        );
        is_breach.then_some(error)
    }

    fn try_settle(&mut self) -> io::Result<bool> {
        self.try_flush()
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.close().await
    }
}
