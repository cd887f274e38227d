//! Listeners and connections, over TCP on loopback and over Unix sockets.

use super::Behaviour;
use rustix::net::sockopt;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// A TCP listener on a free port of 127.0.0.1.
///
/// # Panics
///
/// When it cannot be bound.
#[must_use]
pub fn loopback_listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback can be bound")
}

/// A Unix listener on a fresh path that is gone again when the folder is dropped.
///
/// # Panics
///
/// When it cannot be bound.
#[must_use]
pub fn unix_listener() -> (UnixListener, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listener = UnixListener::bind(folder.path().join("socket")).expect("a path can be bound");
    (listener, folder)
}

/// A listener of either kind.
#[derive(Debug)]
pub enum Listener {
    /// On loopback.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Listener::Unix(listener)
    }
}

impl Listener {
    pub(super) fn prepare(&self, behaviour: &Behaviour) -> io::Result<()> {
        if let Listener::Tcp(listener) = self {
            let address = listener.local_addr()?;
            assert!(address.ip().is_loopback(), "{address} is not on loopback");
        }
        set_up(self.as_fd(), behaviour)
    }

    pub(super) fn accept(&self) -> io::Result<Connection> {
        Ok(match self {
            Listener::Tcp(listener) => listener.accept()?.0.into(),
            Listener::Unix(listener) => listener.accept()?.0.into(),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A connection of either kind.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        Connection::Tcp(stream)
    }
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Connection::Unix(stream)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Connection::Tcp(stream) => stream.as_fd(),
            Connection::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Tcp(stream) => stream.read(buffer),
            Connection::Unix(stream) => stream.read(buffer),
        }
    }
}

pub(super) fn set_up(socket: BorrowedFd<'_>, behaviour: &Behaviour) -> io::Result<()> {
    // On a listener the timeout bounds `accept` too (socket(7)), and both options are inherited.
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(behaviour.patience))?;
    if let Some(bytes) = behaviour.receive_buffer {
        sockopt::set_socket_recv_buffer_size(socket, bytes)?;
    }
    Ok(())
}
