//! The only code that talks to the kernel, and it holds no policy.
//!
//! Everything above this module speaks in Ringway's own types; everything the kernel's headers
//! define stays in here. A function does one system call, retries `EINTR` where the call has had no
//! effect, and gives the errno back as [`std::io::Error`].
//!
//! # Safety
//!
//! Two kinds of `unsafe` occur. System calls that no safe wrapper covers take pointers to values
//! that live on the caller's stack for the time of the call. Submission entries carry addresses
//! that the kernel uses *after* the call: for those the rule is that an [`sqe::Sqe`] is only ever
//! pushed together with the slot that owns what it points at (see [`crate::op`]).

pub(crate) mod bus;
pub(crate) mod file;
pub(crate) mod kernel_tls;
pub(crate) mod lease;
pub(crate) mod memory;
pub(crate) mod pipe;
pub(crate) mod probe;
pub(crate) mod ring;
pub(crate) mod socket;
pub(crate) mod sqe;
pub(crate) mod thread;

use std::io;

/// Repeats a call that was interrupted by a signal before it did anything.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, rustix::io::Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(value) => return Ok(value),
        }
    }
}

/// Turns the result of a raw system call into an `io::Result`.
pub(crate) fn checked(result: libc::c_long) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Whether an error says "not now": the caller waits for readiness and tries again.
pub(crate) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
