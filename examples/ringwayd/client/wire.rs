//! A connection to a server, whatever it is made of.
//!
//! This is the one place that knows what lies under HTTP. A connection over TLS will be a second
//! variant of [`Wire`]: connected in [`Wire::connect`], shared for reading in [`Wire::ear`], and sent to
//! by the same `transfer_file` in [`Wire::transfer`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringway::runtime::net::{Stream, TcpStream};
use ringway::runtime::time;
use ringway::{Incoming, Source, Transfer, transfer_file};

use super::outcome::Failure;
use super::resolve::resolve;
use super::url::{Scheme, Url};

/// A connection that takes requests and gives answers.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
}

/// The half of a connection that listens while the other half sends.
#[derive(Debug)]
pub(crate) enum Ear {
    Plain(TcpStream),
}

/// What a connection is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// For each address.
    pub(crate) connect_timeout: Duration,
    /// Bytes that may wait unsent in the kernel.
    pub(crate) unsent_bytes_max: u32,
}

/// Whether a scheme can be spoken, before anything is tried.
///
/// # Errors
///
/// What to do instead.
pub(crate) fn check(scheme: Scheme) -> Result<(), &'static str> {
    match scheme {
        Scheme::Http => Ok(()),
        Scheme::Https => Err("https is not spoken yet: use http, within a network that you trust"),
    }
}

/// Finds a server by its name and connects to it.
///
/// # Errors
///
/// [`Failure::Unresolved`] and [`Failure::Unreachable`].
///
/// # Cancel safety
///
/// Dropping the future closes the socket.
pub(crate) async fn reach(url: &Url, terms: Terms) -> Result<Wire, Failure> {
    let addresses = resolve(&url.host, url.port, terms.connect_timeout).await;
    let addresses = addresses.map_err(|error| Failure::Unresolved(error.to_string()))?;
    let wire = Wire::connect(&addresses, terms).await;
    wire.map_err(|error| Failure::Unreachable(error.to_string()))
}

impl Wire {
    /// Connects to the first of these addresses that answers.
    ///
    /// # Errors
    ///
    /// That of the last address, which is named.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    async fn connect(addresses: &[SocketAddr], terms: Terms) -> io::Result<Wire> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for &address in addresses {
            let tried = time::timeout(terms.connect_timeout, TcpStream::connect(address)).await;
            match tried.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                Ok(stream) => {
                    // What these save are delays and memory; a connection that refuses them works.
                    _ = stream.set_nodelay(true);
                    _ = stream.set_keep_alive(true);
                    _ = stream.set_unsent_low_water(terms.unsent_bytes_max);
                    return Ok(Wire::Plain(stream));
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    /// The half that listens, to be used beside a transfer.
    pub(crate) fn ear(&self) -> Ear {
        match self {
            Wire::Plain(stream) => Ear::Plain(stream.share()),
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
        }
    }

    /// The body behind a head that was received: so many bytes, or all there are.
    pub(crate) fn body(&mut self, length: Option<u64>) -> Incoming<'_> {
        match (self, length) {
            (Wire::Plain(stream), Some(length)) => Incoming::exactly(stream, length),
            (Wire::Plain(stream), None) => Incoming::to_the_end(stream),
        }
    }

    /// A transfer into the connection, to be given its options and awaited.
    pub(crate) fn transfer(&mut self, source: impl Into<Source>) -> Transfer<'_> {
        match self {
            Wire::Plain(stream) => transfer_file(source, stream),
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
        }
    }

    /// The socket, to wait for.
    pub(crate) fn stream(&self) -> &Stream {
        match self {
            Ear::Plain(stream) => stream,
        }
    }
}
