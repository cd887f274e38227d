//! Leases of files: the kernel makes whoever would change the file wait. See `F_SETLEASE` in fcntl(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::{checked, retry};

const F_SETSIG: libc::c_int = 10;

/// Opens a file once more for reading, with a position, flags and leases of its own.
pub(crate) fn reopen(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry(|| rustix::fs::open(path.as_str(), flags, Mode::empty()))
}

/// Takes a read lease on an open file that is shared with nobody.
///
/// The signal that tells of its breaking would end the process by default. So it is first made one that
/// is ignored by default, and then its receiver is taken away.
pub(crate) fn take(file: &OwnedFd) -> io::Result<()> {
    control(file, F_SETSIG, libc::SIGURG)?;
    control(file, libc::F_SETLEASE, libc::F_RDLCK)?;
    control(file, libc::F_SETOWN, 0)?;
    Ok(())
}

/// Whether the lease is still whole: nobody wants to change the file.
pub(crate) fn is_whole(file: &OwnedFd) -> bool {
    control(file, libc::F_GETLEASE, 0).is_ok_and(|kind| i32::try_from(kind) == Ok(libc::F_RDLCK))
}

/// Gives the lease up.
pub(crate) fn give_up(file: &OwnedFd) {
    let _ = control(file, libc::F_SETLEASE, libc::F_UNLCK);
}

fn control(file: &OwnedFd, command: libc::c_int, value: libc::c_int) -> io::Result<u64> {
    // SAFETY: these commands take an integer and touch no memory of this process.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, value) };
    checked(result.into())
}
