//! What a ring's thread needs of the kernel for itself: a doorbell and a signal mask.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;

use rustix::event::EventfdFlags;

use super::retry;

/// Makes the descriptor by which other threads wake a ring; see eventfd(2).
pub(crate) fn doorbell() -> io::Result<OwnedFd> {
    retry(|| rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK))
}

/// Rings the doorbell. A full counter means that it is ringing already.
pub(crate) fn ring_doorbell(bell: BorrowedFd<'_>) {
    let _ = retry(|| rustix::io::write(bell, &1u64.to_ne_bytes()));
}

/// Silences the doorbell, so that the next ring is seen as a new one.
pub(crate) fn silence_doorbell(bell: BorrowedFd<'_>) {
    let mut count = [0u8; 8];
    let _ = retry(|| rustix::io::read(bell, &mut count));
}

/// Blocks `SIGPIPE` in the calling thread: inline splice(2) and sendfile(2) know no flag against it.
pub(crate) fn block_sigpipe() {
    block(libc::SIGPIPE);
}

/// Blocks `SIGXFSZ` in the calling thread, which writes beyond `RLIMIT_FSIZE` raise beside their
/// `EFBIG`, those of the ring too when they are tried inline first.
pub(crate) fn block_sigxfsz() {
    block(libc::SIGXFSZ);
}

/// Blocks a signal in the calling thread, because a library must not change the disposition of the
/// whole process.
fn block(signal: i32) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call initialises the set that the pointer leads to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised by the call above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: the set is initialised, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
}
