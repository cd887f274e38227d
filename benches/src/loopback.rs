//! Sockets, set up the same for every arm, and waiting with an end.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// How long anybody waits for the other side before the run fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that one transfer may take, however steadily it crawls.
pub(crate) const TRANSFER_LONGEST: Duration = Duration::from_secs(60);

/// Listens on a free port of `address`, for as many connections as a point may open at once.
pub(crate) fn listen(address: IpAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind((address, 0)).context("no port to listen on")?;
    // The standard library's backlog is 128; the kernel cuts this one down to net.core.somaxconn.
    rustix::net::listen(&listener, 4096)?;
    Ok(listener)
}

/// Connects to `address`.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&address, PATIENCE).context("the sender does not accept")
}

/// Accepts one connection.
pub(crate) fn accept(listener: &TcpListener) -> Result<TcpStream> {
    await_ready(listener, PollFlags::IN)?;
    Ok(listener.accept()?.0)
}

/// Sets what every measured socket has: no Nagle, CUBIC, and an end to blocking reads and writes. Tells
/// the congestion control that is really in force: an ordinary user may not be allowed to choose CUBIC.
pub(crate) fn prepare(socket: &TcpStream) -> Result<String> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    // A refusal is not an error but a fact, and the answer below records it.
    let _ = rustix::net::sockopt::set_tcp_congestion(socket, "cubic");
    Ok(rustix::net::sockopt::tcp_congestion(socket)?)
}

/// Waits until `fd` is ready for `what`.
///
/// # Errors
///
/// It is not ready within [`PATIENCE`].
pub(crate) fn await_ready(fd: &impl AsFd, what: PollFlags) -> Result<()> {
    let patience = PATIENCE.try_into()?;
    loop {
        match rustix::event::poll(&mut [PollFd::new(fd, what)], Some(&patience)) {
            Ok(0) => bail!("the other side was silent for {PATIENCE:?}"),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
