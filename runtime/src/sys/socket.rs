//! Sockets: making them, naming them, their options, and the calls that never wait.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};

use super::{checked, retry};

/// Makes a stream socket that never waits.
pub(crate) fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    retry(|| rustix::net::socket_with(family, SocketType::STREAM, flags, None))
}

/// The family of an internet address.
pub(crate) fn family_of(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

pub(crate) const UNIX: AddressFamily = AddressFamily::UNIX;

pub(crate) fn bind(fd: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    retry(|| rustix::net::bind(fd, address))
}

pub(crate) fn bind_unix(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let address = SocketAddrUnix::new(path)?;
    retry(|| rustix::net::bind(fd, &address))
}

pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    retry(|| rustix::net::listen(fd, backlog))
}

/// Accepts a connection if one is waiting, and tells whose it is where the socket is an internet one.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (connection, peer) = retry(|| rustix::net::acceptfrom_with(fd, flags))?;
    Ok((connection, peer.and_then(|peer| internet(peer).ok())))
}

/// Begins to connect; `true` if that is done already, `false` if the socket becomes writable later.
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<bool> {
    begun(rustix::net::connect(fd, address))
}

/// The same to the path of a Unix socket.
pub(crate) fn connect_unix(fd: BorrowedFd<'_>, path: &Path) -> io::Result<bool> {
    begun(rustix::net::connect(fd, &SocketAddrUnix::new(path)?))
}

/// An interrupted connect goes on by itself, so it must not be repeated; see connect(2).
fn begun(result: Result<(), rustix::io::Errno>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The error that waits at a socket, taken.
pub(crate) fn pending_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// The address of this end, where the socket is an internet one.
pub(crate) fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    internet(retry(|| rustix::net::getsockname(fd))?)
}

/// The address of the other end, likewise.
pub(crate) fn peer_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    internet(retry(|| rustix::net::getpeername(fd))?.ok_or(io::ErrorKind::NotConnected)?)
}

fn internet(address: SocketAddrAny) -> io::Result<SocketAddr> {
    SocketAddr::try_from(address).map_err(|_| io::ErrorKind::Unsupported.into())
}

/// The path that a Unix socket is bound to; `None` for an unnamed or abstract one.
pub(crate) fn local_path(fd: BorrowedFd<'_>) -> io::Result<Option<PathBuf>> {
    let address = retry(|| rustix::net::getsockname(fd))?;
    let unix = SocketAddrUnix::try_from(address).map_err(io::Error::from)?;
    Ok(unix.path().map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()))))
}

/// Sends without waiting and without `SIGPIPE`; see sendmsg(2).
pub(crate) fn send_vectored(
    fd: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    more: bool,
) -> io::Result<usize> {
    let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    flags.set(SendFlags::MORE, more);
    if let [piece] = pieces {
        return retry(|| rustix::net::send(fd, piece, flags));
    }
    let mut control = SendAncillaryBuffer::default();
    retry(|| rustix::net::sendmsg(fd, pieces, &mut control, flags))
}

/// An empty piece.
pub(crate) const NOTHING: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// The same from memory that is not a slice of Rust's: the kernel copies from it, or answers `EFAULT`.
///
/// Whoever calls holds what the pieces point to.
pub(crate) fn send_raw(
    fd: BorrowedFd<'_>,
    pieces: &[libc::iovec],
    more: bool,
) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: a header is plain data, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = pieces.as_ptr().cast_mut();
    header.msg_iovlen = pieces.len();
    loop {
        // SAFETY: the header and the pieces live until the call returns; the kernel only reads, and what
        // it cannot read is an errno.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, flags) };
        match checked(sent as libc::c_long) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            other => return other.map(|sent| usize::try_from(sent).unwrap_or(usize::MAX)),
        }
    }
}

/// Receives what is there, without waiting.
pub(crate) fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT)).map(|(_, len)| len)
}

/// Bytes that have come and were not received; see `FIONREAD` in tcp(7). 0 at the end of the stream.
pub(crate) fn unread(fd: BorrowedFd<'_>) -> io::Result<u64> {
    retry(|| rustix::io::ioctl_fionread(fd))
}

/// Shuts one or both directions down.
pub(crate) fn shutdown(fd: BorrowedFd<'_>, how: rustix::net::Shutdown) -> io::Result<()> {
    retry(|| rustix::net::shutdown(fd, how))
}

pub(crate) const SHUTDOWN_READ: rustix::net::Shutdown = rustix::net::Shutdown::Read;
pub(crate) const SHUTDOWN_WRITE: rustix::net::Shutdown = rustix::net::Shutdown::Write;
pub(crate) const SHUTDOWN_BOTH: rustix::net::Shutdown = rustix::net::Shutdown::Both;

/// Bytes that this end has queued and the peer has not acknowledged; see `SIOCOUTQ` in tcp(7).
pub(crate) fn unacknowledged(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the ioctl writes one int, which lives until the call returns.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    checked(result.into())?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

pub(crate) fn set_reuse_address(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseaddr(fd, on)?)
}

pub(crate) fn set_reuse_port(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseport(fd, on)?)
}

pub(crate) fn set_v6_only(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_ipv6_v6only(fd, on)?)
}

pub(crate) fn set_nodelay(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(fd, on)?)
}

/// Pushes what is pending: setting `TCP_NODELAY` does that even if it is set already (tcp(7)). The
/// option is left as it was. A connection that is broken has nothing to push.
pub(crate) fn uncork(fd: BorrowedFd<'_>) {
    if let Ok(before) = sockopt::tcp_nodelay(fd) {
        let _ = sockopt::set_tcp_nodelay(fd, true);
        if !before {
            let _ = sockopt::set_tcp_nodelay(fd, false);
        }
    }
}

/// Keeps partial segments back as long as it is on (`TCP_CORK`, tcp(7)), 200 ms at most.
pub(crate) fn set_cork(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_cork(fd, on)?)
}

pub(crate) fn set_keep_alive(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_socket_keepalive(fd, on)?)
}

pub(crate) fn set_linger(fd: BorrowedFd<'_>, linger: Option<Duration>) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(fd, linger)?)
}

pub(crate) fn set_send_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(fd, bytes)?)
}

pub(crate) fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_recv_buffer_size(fd, bytes)?)
}

pub(crate) fn set_congestion_control(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    Ok(sockopt::set_tcp_congestion(fd, name)?)
}

pub(crate) fn congestion_control(fd: BorrowedFd<'_>) -> io::Result<String> {
    Ok(sockopt::tcp_congestion(fd)?)
}

/// Bounds the bytes that wait unsent in the kernel; see `TCP_NOTSENT_LOWAT` in tcp(7).
pub(crate) fn set_unsent_low_water(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    // SAFETY: the option is an int, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            4,
        )
    };
    checked(result.into()).map(drop)
}
