//! Read leases: where the kernel makes those wait who would change a file.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::fs::File;
use crate::sys::lease;

/// As long as this lives, whoever opens the file for writing or truncates it waits: until it is
/// dropped, or until the kernel's patience ends (`fs.lease-break-time`, 45 s). A non-blocking open is
/// refused at once.
///
/// Ask [`Self::is_breaking`] now and then, and drop it soon when it says so. It raises no signal.
///
/// See `F_SETLEASE` in fcntl(2).
pub struct ReadLease {
    file: OwnedFd,
}

/// Why there is no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseRefusal {
    /// Somebody has the file open for writing, perhaps this process.
    OpenForWriting,
    /// The file belongs to another user, and the process lacks `CAP_LEASE`.
    NotOwner,
    /// The file system offers none, or the file is not a regular one, or it cannot be opened again.
    Unsupported,
    /// Another errno.
    Errno(i32),
}

/// Takes a read lease on a file, if the kernel gives one. It is independent of the handle.
///
/// # Errors
///
/// A [`LeaseRefusal`], to be taken as an answer: go on without.
pub fn read_lease(file: &File) -> Result<ReadLease, LeaseRefusal> {
    // The lease is of an open file, not of a descriptor: so that two do not end each other, each has
    // an open file of its own.
    let file = lease::reopen(file.as_fd()).map_err(|_| LeaseRefusal::Unsupported)?;
    lease::take(&file).map_err(|error| refusal(&error))?;
    Ok(ReadLease { file })
}

fn refusal(error: &io::Error) -> LeaseRefusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => LeaseRefusal::OpenForWriting,
        Some(libc::EACCES | libc::EPERM) => LeaseRefusal::NotOwner,
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOLCK) => LeaseRefusal::Unsupported,
        Some(errno) => LeaseRefusal::Errno(errno),
        None => LeaseRefusal::Errno(0),
    }
}

impl ReadLease {
    /// Whether somebody waits to change the file, or has been let by because this lived too long.
    #[must_use]
    pub fn is_breaking(&self) -> bool {
        !lease::is_whole(&self.file)
    }
}

impl Drop for ReadLease {
    fn drop(&mut self) {
        lease::give_up(&self.file);
    }
}

impl fmt::Debug for ReadLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadLease").field("breaking", &self.is_breaking()).finish()
    }
}

impl fmt::Display for LeaseRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenForWriting => f.write_str("no lease: the file is open for writing"),
            Self::NotOwner => f.write_str("no lease: the file is another user's (CAP_LEASE)"),
            Self::Unsupported => f.write_str("no lease: the file system offers none"),
            Self::Errno(errno) => write!(f, "no lease: errno {errno}"),
        }
    }
}

impl std::error::Error for LeaseRefusal {}
