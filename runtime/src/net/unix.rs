//! Unix stream sockets.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::listener::{self, ListenOptions};
use super::stream::Stream;
use crate::sys::socket;

/// A Unix socket that accepts connections.
#[derive(Debug, Clone)]
pub struct UnixListener {
    socket: Arc<OwnedFd>,
}

impl UnixListener {
    /// Listens on a path, which must not exist yet. Removing it later is the caller's.
    ///
    /// # Errors
    ///
    /// Those of bind(2); `InvalidInput` for a path that is too long.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = socket::stream(socket::UNIX)?;
        socket::bind_unix(socket.as_fd(), path.as_ref())?;
        socket::listen(socket.as_fd(), ListenOptions::new().backlog)?;
        Ok(Self { socket: Arc::new(socket) })
    }

    /// Accepts a connection; see [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// # Errors
    ///
    /// Only what no waiting can mend.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        let (socket, _unnamed) = listener::accept(&self.socket).await?;
        Ok(UnixStream { stream: Stream::new(socket) })
    }

    /// The path that is listened on.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_path(&self) -> io::Result<Option<PathBuf>> {
        socket::local_path(self.socket.as_fd())
    }
}

/// A Unix stream connection. Everything that all streams can do is in [`Stream`].
#[derive(Debug)]
pub struct UnixStream {
    stream: Stream,
}

impl UnixStream {
    /// Connects to a path.
    ///
    /// # Errors
    ///
    /// Those of connect(2); `WouldBlock` if the backlog of the listener is full.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let stream = Stream::new(socket::stream(socket::UNIX)?);
        if !socket::connect_unix(stream.as_fd(), path.as_ref())? {
            stream.writable().await?;
            socket::pending_error(stream.as_fd())?;
        }
        Ok(Self { stream })
    }

    /// Takes over a connection of the standard library.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: Stream::new(stream.into()) })
    }

    /// A second handle to the same connection, for receiving while the first one sends.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { stream: self.stream.share() }
    }
}

impl Deref for UnixStream {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl DerefMut for UnixStream {
    fn deref_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
