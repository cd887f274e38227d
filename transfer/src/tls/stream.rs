//! A TLS connection over a TCP stream of the runtime.

mod establish;
mod kernel;
mod landing;
mod outgoing;
mod reading;
mod ready;

use std::fmt;
use std::io::{self, IoSlice};
use std::task::Waker;

use ringway_runtime::net::{Half, TcpStream};
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion};

use super::engine::{Engine, Stepped};
use super::error::{TlsError, TlsErrorKind};
use super::handshake::Agreed;
use super::kernel::KernelSender;
use super::session::{Fault, KeyUpdates};

pub(crate) use outgoing::Received;
use reading::Shared;
pub use reading::TlsReader;

/// A connection that is sealed by TLS 1.3, or 1.2, and can be the sink of a transfer.
///
/// Made by [`TlsAcceptor::accept`](super::TlsAcceptor::accept) and
/// [`TlsConnector::connect`](super::TlsConnector::connect). It can be sent to another thread; it is
/// used by one at a time. While it is idle it holds no buffer.
///
/// Dropping it closes the connection without a `close_notify`, which the peer sees as a truncation: call
/// [`close`](Self::close) when all has been said. Where the kernel seals ([`Backend::KernelTls`]) a drop
/// may lose the last records as well, although they count as accepted: the kernel keeps what a full socket
/// did not take, and closing overtakes it. `close` waits for them.
pub struct TlsStream {
    stream: TcpStream,
    state: Shared,
    agreed: Box<Agreed>,
    backend: Backend,
}

/// Who seals and opens the records of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Ringway does, in place, in registered buffers.
    Registered {
        /// Why the kernel does not.
        kernel_tls: &'static str,
    },
    /// The kernel does what is sent.
    KernelTls,
    /// rustls does, by copying.
    Rustls {
        /// Why.
        reason: &'static str,
    },
}

struct State {
    engine: Engine,
    /// The kernel seals what is sent.
    kernel: Option<KernelSender>,
    unread_max: usize,
    /// The last receive took all there was, so the next one would find nothing.
    dry: bool,
    /// The connection below has ended.
    ended: bool,
    broken: Option<&'static str>,
    /// The kernel may still send staged records of a transfer that was dropped.
    landing: bool,
    /// Who waits until it does not.
    landed: Option<Waker>,
    /// Where a transfer began that was dropped, in plaintext.
    poisoned: Option<u64>,
    /// Plaintext that was read, in bytes.
    taken: u64,
    /// Where a receiving transfer began that was dropped, on that scale.
    torn: Option<u64>,
    /// Whoever waits in a [`TlsReader`], and whether something has come for it meanwhile.
    reader: Option<Waker>,
    news: bool,
}

impl TlsStream {
    /// Sends all bytes, waiting for room. The peer is heard by [`read`](Self::read), and by transfers while
    /// they send; this only sends.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` after [`close`](Self::close), or after a transfer that was dropped and not
    /// [settled](Self::settle); otherwise as for [`read`](Self::read), and those of send(2).
    ///
    /// # Cancel safety
    ///
    /// Part of the bytes may have gone out: [`accepted`](Self::accepted) and
    /// [`half_sent`](Self::half_sent) tell how much, exactly. The connection can go on.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            self.flush().await?;
            let taken = self.write_ready(rest)?;
            if taken == 0 && !self.owes() {
                self.stream.writable().await?;
            }
            rest = &rest[taken..];
        }
        self.flush().await
    }

    /// Sends what is owed and pending: a `close_notify`, an answer to a key update, the rest of a record.
    ///
    /// # Errors
    ///
    /// As for [`write_all`](Self::write_all).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.landed().await;
        while !self.try_flush()? {
            self.stream.writable().await?;
        }
        Ok(())
    }

    /// Says that nothing more follows (`close_notify`), and ends the sending half of the connection. The
    /// peer may still send, and [`read`](Self::read) reads it.
    ///
    /// # Errors
    ///
    /// As for [`write_all`](Self::write_all).
    ///
    /// # Cancel safety
    ///
    /// Call it again.
    pub async fn close(&mut self) -> io::Result<()> {
        self.check()?;
        self.state.lock().engine.close().map_err(TlsError::into_io)?;
        self.landed().await;
        // The end of the connection follows, and leaves in one packet with these bytes.
        while !self.try_flush_with(true)? {
            self.stream.uncork();
            self.stream.writable().await?;
        }
        self.drain_kernel().await?;
        match self.stream.shutdown(Half::Write) {
            // The peer has taken all and is gone already: there is nothing left to end.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    /// Shuts down the connection below, without a word of TLS: the peer sees a truncation.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the peer is gone already.
    pub fn shutdown(&self, half: Half) -> io::Result<()> {
        self.stream.shutdown(half)
    }

    /// Makes new keys for sending, before the next data; `ask_peer` asks the peer to do the same.
    /// Nothing needs it: keys are updated by themselves before their limit.
    ///
    /// # Errors
    ///
    /// `Unsupported` by TLS 1.2; a [`TlsError`] where the kernel seals and takes no second key.
    pub fn update_keys(&mut self, ask_peer: bool) -> io::Result<()> {
        match &mut self.state.lock().engine {
            Engine::Own(..)
                if self.backend == Backend::KernelTls && !KernelSender::can_update() =>
            {
                Err(TlsError::from(Fault::KeyStays).into_io())
            }
            Engine::Own(session, _) => {
                session.update_keys(ask_peer);
                Ok(())
            }
            Engine::Classic(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "TLS 1.2 cannot update its keys"))
            }
        }
    }

    /// How often keys were updated.
    #[must_use]
    pub fn key_updates(&self) -> KeyUpdates {
        match &self.state.lock().engine {
            Engine::Own(session, _) => session.key_updates(),
            Engine::Classic(_) => KeyUpdates::default(),
        }
    }

    /// The protocol that was agreed on by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.agreed.alpn.as_deref()
    }

    /// The name that the client asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.agreed.server_name.as_deref()
    }

    /// The version of TLS.
    #[must_use]
    pub fn protocol(&self) -> ProtocolVersion {
        self.agreed.protocol
    }

    /// The cipher suite.
    #[must_use]
    pub fn suite(&self) -> CipherSuite {
        self.agreed.suite
    }

    /// Whether the handshake was full or resumed.
    #[must_use]
    pub fn handshake_kind(&self) -> HandshakeKind {
        self.agreed.kind
    }

    /// The certificates that the peer has presented, its own first.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.agreed.peer_certificates.as_deref()
    }

    /// Who seals the records, and why not somebody faster.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The connection below: its addresses and options.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    fn check_broken(&self) -> io::Result<()> {
        match self.state.lock().broken {
            Some(why) => Err(TlsError::new(TlsErrorKind::BrokenOff(why)).into_io()),
            None => Ok(()),
        }
    }

    fn check(&self) -> io::Result<()> {
        self.check_broken()?;
        if self.is_poisoned() {
            let poisoned = ringway_runtime::net::Poisoned;
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, poisoned));
        }
        Ok(())
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("stream", &self.stream)
            .field("protocol", &self.agreed.protocol)
            .field("suite", &self.agreed.suite)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}
