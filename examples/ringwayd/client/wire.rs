//! A connection to a server, whatever it is made of.
//!
//! This is the one place that knows what lies under HTTP: a connection is made in [`reach`], shared for
//! reading in [`Wire::ear`], and sent to by the same `transfer_file` in [`Wire::transfer`], whether it is
//! encrypted or not.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringway::runtime::net::{ConnectOptions, Stream, TcpStream};
use ringway::runtime::time;
use ringway::tls::rustls::pki_types::ServerName;
use ringway::tls::{TlsConnector, TlsReader, TlsStream};
use ringway::{Incoming, Origin, Source, Transfer, transfer_file};

use super::distrust;
use super::outcome::Failure;
use super::resolve::resolve;
use super::url::{Scheme, Url};

/// A connection that takes requests and gives answers.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    Encrypted(Box<TlsStream>),
}

/// The half of a connection that listens while the other half sends.
#[derive(Debug)]
pub(crate) enum Ear {
    Plain(TcpStream),
    Encrypted(TlsReader),
}

/// What a connection is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'t> {
    /// For each address.
    pub(crate) connect_timeout: Duration,
    /// Bytes that may wait unsent in the kernel.
    pub(crate) unsent_bytes_max: u32,
    /// What shakes hands over https.
    pub(crate) tls: Option<&'t TlsConnector>,
}

/// How long a peer has to take the word that nothing more follows.
const FAREWELL: Duration = Duration::from_secs(1);

/// Finds a server by its name and connects to it.
///
/// # Errors
///
/// [`Failure::Unresolved`], [`Failure::Unreachable`] and [`Failure::NoTls`].
///
/// # Cancel safety
///
/// Dropping the future closes the socket.
pub(crate) async fn reach(url: &Url, terms: Terms<'_>) -> Result<Wire, Failure> {
    let addresses = resolve(&url.host, url.port, terms.connect_timeout).await;
    let addresses = addresses.map_err(|error| Failure::Unresolved(error.to_string()))?;
    let stream = connect(&addresses, terms).await;
    let stream = stream.map_err(|error| Failure::Unreachable(error.to_string()))?;
    if url.scheme == Scheme::Http {
        return Ok(Wire::Plain(stream));
    }
    let Some(connector) = terms.tls else {
        return Err(Failure::NoTls("https was not expected here".to_owned()));
    };
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| Failure::NoTls("its name cannot stand in a certificate".to_owned()))?;
    match connector.connect(stream, name).await {
        Ok(stream) => Ok(Wire::Encrypted(Box::new(stream))),
        Err(error) => Err(distrust::failure(&error)),
    }
}

/// Connects to the first of these addresses that answers.
async fn connect(addresses: &[SocketAddr], terms: Terms<'_>) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for &address in addresses {
        // Nothing is lost and nobody else queues within a host: pacing (BBR) only costs there. A gibibyte
        // to each of eight takes 0.5 CPU seconds without it, and 2 to 3 with it.
        let options = match address.ip().is_loopback() {
            true => ConnectOptions::new().congestion_control("cubic"),
            false => ConnectOptions::new(),
        };
        let connecting = TcpStream::connect_with(address, &options);
        let tried = time::timeout(terms.connect_timeout, connecting).await;
        match tried.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(stream) => {
                // What these save are delays and memory; a connection that refuses them works.
                _ = stream.set_nodelay(true);
                _ = stream.set_keep_alive(true);
                _ = stream.set_unsent_low_water(terms.unsent_bytes_max);
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

impl Wire {
    /// The half that listens, to be used beside a transfer.
    pub(crate) fn ear(&self) -> Ear {
        match self {
            Wire::Plain(stream) => Ear::Plain(stream.share()),
            Wire::Encrypted(stream) => Ear::Encrypted(stream.reader()),
        }
    }

    /// Sends a small thing, such as a head whose body must wait.
    ///
    /// # Errors
    ///
    /// Those of send(2).
    ///
    /// # Cancel safety
    ///
    /// Part of it may have gone out.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.write_all(bytes).await,
            Wire::Encrypted(stream) => stream.write_all(bytes).await,
        }
    }

    /// Says that nothing more follows, where that is said: a peer that misses it has everything.
    pub(crate) async fn close(mut self) {
        if let Wire::Encrypted(stream) = &mut self {
            _ = time::timeout(FAREWELL, stream.close()).await;
        }
    }

    /// The body behind a head that was received: so many bytes, or all there are.
    pub(crate) fn body(&mut self, length: Option<u64>) -> Incoming<'_> {
        let origin: Origin<'_> = match self {
            Wire::Plain(stream) => stream.into(),
            Wire::Encrypted(stream) => (&mut **stream).into(),
        };
        match length {
            Some(length) => Incoming::exactly(origin, length),
            None => Incoming::to_the_end(origin),
        }
    }

    /// A transfer into the connection, to be given its options and awaited.
    pub(crate) fn transfer(&mut self, source: impl Into<Source>) -> Transfer<'_> {
        match self {
            Wire::Plain(stream) => transfer_file(source, stream),
            Wire::Encrypted(stream) => transfer_file(source, &mut **stream),
        }
    }
}

impl Ear {
    /// Receives at least one byte; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    ///
    /// # Cancel safety
    ///
    /// A byte is either in the buffer of a call that resolved, or still in the socket.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Ear::Plain(stream) => stream.read(buffer).await,
            Ear::Encrypted(reader) => reader.read(buffer).await,
        }
    }

    /// Receives what is there; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there; otherwise those of recv(2).
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Ear::Plain(stream) => stream.try_recv(buffer),
            Ear::Encrypted(reader) => reader.try_read(buffer),
        }
    }

    /// The socket, to wait for.
    pub(crate) fn stream(&self) -> &Stream {
        match self {
            Ear::Plain(stream) => stream,
            Ear::Encrypted(reader) => reader.tcp(),
        }
    }
}
