//! TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::listener::{self, ListenOptions};
use super::stream::{Drained, Stream};
use crate::sys::socket;

/// A TCP socket that accepts connections.
#[derive(Debug, Clone)]
pub struct TcpListener {
    socket: Arc<OwnedFd>,
}

impl TcpListener {
    /// Listens on an address with the default options.
    ///
    /// # Errors
    ///
    /// Those of bind(2): `AddrInUse`, `PermissionDenied` for ports below 1024, ….
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind_with(address, ListenOptions::new())
    }

    /// Listens on an address.
    ///
    /// # Errors
    ///
    /// As for [`Self::bind`].
    pub fn bind_with(address: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        let socket = socket::stream(socket::family_of(&address))?;
        socket::set_reuse_address(socket.as_fd(), true)?;
        socket::set_reuse_port(socket.as_fd(), options.reuse_port)?;
        if address.is_ipv6() {
            socket::set_v6_only(socket.as_fd(), options.v6_only)?;
        }
        socket::bind(socket.as_fd(), &address)?;
        socket::listen(socket.as_fd(), options.backlog)?;
        Ok(Self { socket: Arc::new(socket) })
    }

    /// Takes over a listener of the standard library.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { socket: Arc::new(listener.into()) })
    }

    /// Accepts a connection. When descriptors run out, accepting pauses and goes on by itself.
    ///
    /// # Errors
    ///
    /// Only what no waiting can mend.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost: it stays in the backlog.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.accept_from().await?.0)
    }

    /// Accepts a connection and tells the address of the other end, which a connection that was reset
    /// meanwhile does not tell any more.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// No connection is lost: it stays in the backlog.
    pub async fn accept_from(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            // Every connection over TCP has a peer; one without has gone away while it waited.
            if let (socket, Some(peer)) = listener::accept(&self.socket).await? {
                return Ok((TcpStream { stream: Stream::new(socket) }, peer));
            }
        }
    }

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        socket::local_address(self.socket.as_fd())
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a connection is to have from its first packet on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectOptions {
    congestion_control: Option<&'static str>,
}

impl ConnectOptions {
    /// The host's own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The congestion control to ask for, by its name (`TCP_CONGESTION`, tcp(7)); where it is not to be
    /// had, the host's own stays. One that paces, as BBR does, marks the socket when the connection is
    /// made, so it is asked for before.
    #[must_use]
    pub fn congestion_control(mut self, name: &'static str) -> Self {
        self.congestion_control = Some(name);
        self
    }
}

/// A TCP connection. Everything that all streams can do is in [`Stream`].
#[derive(Debug)]
pub struct TcpStream {
    stream: Stream,
}

impl TcpStream {
    /// Connects to an address.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with(address, &ConnectOptions::new()).await
    }

    /// Connects to an address with options that must stand before that.
    ///
    /// # Errors
    ///
    /// As for [`Self::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    pub async fn connect_with(address: SocketAddr, options: &ConnectOptions) -> io::Result<Self> {
        let stream = Stream::new(socket::stream(socket::family_of(&address))?);
        if let Some(name) = options.congestion_control {
            // The host may not have it, or not allow it: its own does as well.
            let _ = socket::set_congestion_control(stream.as_fd(), name);
        }
        if !socket::connect(stream.as_fd(), &address)? {
            stream.writable().await?;
            socket::pending_error(stream.as_fd())?;
        }
        Ok(Self { stream })
    }

    /// Takes over a connection of the standard library, or (by its `into_std`) of tokio.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: Stream::new(stream.into()) })
    }

    /// The address of the peer.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2).
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        socket::peer_address(self.as_fd())
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        socket::local_address(self.as_fd())
    }

    /// Whether the peer is known to be on this host: both ends have the same address, or loopback.
    ///
    /// A peer in another network namespace of this host is not recognised.
    #[must_use]
    pub fn is_same_host(&self) -> bool {
        self.stream.flow.same_host(|| match (self.local_address(), self.peer_address()) {
            (Ok(local), Ok(peer)) => {
                let peer = peer.ip().to_canonical();
                is_loopback(peer) || peer == local.ip().to_canonical()
            }
            _ => false,
        })
    }

    /// Waits until the peer has acknowledged everything that was sent, for at most `limit`.
    ///
    /// Routes that send by reference leave pages of the file in the socket until then: this is when
    /// the file may be overwritten in place, if the peer is on another host.
    ///
    /// # Errors
    ///
    /// Those of ioctl(2).
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub async fn drained(&self, limit: Duration) -> io::Result<Drained> {
        if self.is_same_host() {
            return Ok(Drained::Unknowable);
        }
        self.stream.drained_within(limit).await
    }

    /// Sends small writes at once (`TCP_NODELAY`), and flushes what is corked now.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        socket::set_nodelay(self.as_fd(), on)
    }

    /// Probes a silent peer (`SO_KEEPALIVE`).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_keep_alive(&self, on: bool) -> io::Result<()> {
        socket::set_keep_alive(self.as_fd(), on)
    }

    /// What closing does with unsent bytes (`SO_LINGER`); zero resets the connection.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        socket::set_linger(self.as_fd(), linger)
    }

    /// Bounds the bytes that wait unsent in the kernel (`TCP_NOTSENT_LOWAT`).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_unsent_low_water(&self, bytes: u32) -> io::Result<()> {
        socket::set_unsent_low_water(self.as_fd(), bytes)
    }

    /// Chooses the congestion control by its name (`TCP_CONGESTION`).
    ///
    /// # Errors
    ///
    /// `NotFound` if the kernel has none of that name.
    pub fn set_congestion_control(&self, name: &str) -> io::Result<()> {
        let set = socket::set_congestion_control(self.as_fd(), name);
        self.stream.flow.forget_paced();
        set
    }

    /// The name of the congestion control.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn congestion_control(&self) -> io::Result<String> {
        socket::congestion_control(self.as_fd())
    }

    /// A second handle to the same connection, for receiving while the first one sends.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { stream: self.stream.share() }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4 == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(v6) => v6.is_loopback() || v6 == Ipv6Addr::UNSPECIFIED,
    }
}

impl Deref for TcpStream {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl DerefMut for TcpStream {
    fn deref_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
