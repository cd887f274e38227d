//! Records that the kernel seals: its socket options and its control message, and no policy. See
//! `Documentation/networking/tls.rst` in the kernel's sources, and `linux/tls.h`.

use std::io::{self, IoSlice};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::checked;

const SOL_TLS: libc::c_int = 282;
const TLS_TX: libc::c_int = 1;
const TLS_SET_RECORD_TYPE: libc::c_int = 1;

/// Up to and with `tcpi_bytes_retrans` in `struct tcp_info` of `linux/tcp.h`.
const TCP_INFO_LEN: usize = 216;
/// The value of `tcpi_state` for a connection that has ended.
const TCP_CLOSE: u8 = 7;

/// Puts the kernel's TLS between the socket and TCP (`TCP_ULP`). Until it has a key, nothing changes.
pub(crate) fn attach(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")
}

/// Gives it the key, the vector and the number of the next record for sending (`TLS_TX`), laid out as
/// one of the structures `tls12_crypto_info_*`.
pub(crate) fn set_sending_key(fd: BorrowedFd<'_>, info: &[u8]) -> io::Result<()> {
    set(fd, SOL_TLS, TLS_TX, info)
}

/// Reads the same back; the number has counted on. The length must be exact.
pub(crate) fn sending_key(fd: BorrowedFd<'_>, info: &mut [u8]) -> io::Result<()> {
    get(fd, SOL_TLS, TLS_TX, info).map(drop)
}

/// Bytes that TCP has been given since the connection was made, whether it has sent them or not: what
/// it has sent, without what it has sent again, and what it has not. Linux 4.19. `NotConnected` when
/// the connection is no more.
pub(crate) fn queued(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0; TCP_INFO_LEN];
    if get(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)? < TCP_INFO_LEN {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if info[0] == TCP_CLOSE {
        return Err(io::ErrorKind::NotConnected.into());
    }
    let long = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&info[at..at + 8]);
        u64::from_ne_bytes(number)
    };
    let mut unsent = [0; 4];
    unsent.copy_from_slice(&info[144..148]);
    // `tcpi_bytes_sent`, `tcpi_bytes_retrans` and `tcpi_notsent_bytes`.
    Ok(long(200) - long(208) + u64::from(u32::from_ne_bytes(unsent)))
}

fn get(fd: BorrowedFd<'_>, level: i32, option: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes, which is the length of the slice.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    checked(result.into())?;
    Ok(len as usize)
}

fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the kernel reads at most `len` bytes, which is the length of the slice.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.as_ptr().cast(), len) };
    checked(result.into()).map(drop)
}

/// A control message with one byte in it, aligned and padded as `CMSG_SPACE(1)` asks.
#[repr(C)]
struct RecordType {
    header: libc::cmsghdr,
    kind: u8,
}

/// Sends a record of a type of its own, without waiting. A record of data that `MSG_MORE` has left
/// open goes out before it, and with it alone if the content is empty.
pub(crate) fn send_record(fd: BorrowedFd<'_>, kind: u8, content: &[u8]) -> io::Result<usize> {
    // SAFETY: the structure is made of integers only, for which zero is a value.
    let header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    let mut control = RecordType { header, kind };
    control.header.cmsg_level = SOL_TLS;
    control.header.cmsg_type = TLS_SET_RECORD_TYPE;
    control.header.cmsg_len = size_of::<libc::cmsghdr>() + 1;
    let mut piece = [IoSlice::new(content)];
    // SAFETY: the structure is made of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = piece.as_mut_ptr().cast();
    message.msg_iovlen = usize::from(!content.is_empty());
    message.msg_control = ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<RecordType>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: what the message points to lives until the call returns; `IoSlice` has the layout of
        // an iovec.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
        match checked(sent as libc::c_long) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent.map(|sent| usize::try_from(sent).unwrap_or(usize::MAX)),
        }
    }
}
