//! Sending through the kernel's TLS: what it takes, and nothing of the session above it.

use std::io;
use std::os::fd::AsFd;

use super::TcpStream;
use crate::sys::kernel_tls as calls;

impl TcpStream {
    /// Puts the kernel's TLS between this socket and TCP (`TCP_ULP`). It stays as it is until
    /// [`set_sealing_key`](Self::set_sealing_key) has given it a key.
    ///
    /// # Errors
    ///
    /// `NotFound` if the kernel has none; `NotConnected`; those of setsockopt(2).
    pub fn attach_kernel_tls(&self) -> io::Result<()> {
        crate::inline_len("setsockopt", 0)?;
        calls::attach(self.as_fd())
    }

    /// Lets the kernel seal what is sent from now on, with the key, the vector and the record number in
    /// `info`: one of the structures `tls12_crypto_info_*` of `linux/tls.h`.
    ///
    /// [`Stream::accepted`](super::Stream::accepted) counts plaintext from now on. A send with `more`
    /// leaves a record open, which [`Self::try_send_record`] closes and
    /// [`Stream::uncork`](super::Stream::uncork) does not.
    ///
    /// # Errors
    ///
    /// `NotFound` or `InvalidInput` for a cipher that the kernel lacks; `ResourceBusy` for a second key
    /// before Linux 6.14; those of setsockopt(2). The socket is as before then.
    pub fn set_sealing_key(&self, info: &[u8]) -> io::Result<()> {
        crate::inline_len("setsockopt", 0)?;
        calls::set_sending_key(self.as_fd(), info)
    }

    /// Reads the same back, with the number of the next record. `info` must have the length of what was
    /// set. It holds the key: wipe it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn sealing_key(&self, info: &mut [u8]) -> io::Result<()> {
        calls::sending_key(self.as_fd(), info)
    }

    /// Sends a record of another type than data, whole, without waiting; what a send with `more` has
    /// left open goes out first. With no content it does only that. It does not count as
    /// [accepted](super::Stream::accepted).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket is full, and nothing was taken; those of sendmsg(2).
    pub fn try_send_record(&self, kind: u8, content: &[u8]) -> io::Result<()> {
        crate::inline_len("sendmsg", 0)?;
        let sent = calls::send_record(self.as_fd(), kind, content)?;
        // At most some bytes, which are never split.
        if sent == content.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Bytes that TCP itself has been given since the connection was made. Records that the kernel has
    /// sealed for a full socket are not among them yet; a shutdown would overtake them.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the connection has ended; `Unsupported` before Linux 4.19; those of
    /// getsockopt(2).
    pub fn queued(&self) -> io::Result<u64> {
        calls::queued(self.as_fd())
    }
}
