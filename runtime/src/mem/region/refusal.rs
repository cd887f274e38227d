//! What can go wrong with a window, as values.

use std::fmt;
use std::io;

/// Why a range of a file cannot be mapped at the moment. The caller reads it instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// As many regions are held as [`Config::regions_max`](crate::Config::regions_max) allows.
    RegionsMax,
    /// As many bytes are held as [`Config::region_bytes_max`](crate::Config::region_bytes_max) allows,
    /// or the range alone is longer.
    BytesMax,
    /// The kernel has no mappings (`vm.max_map_count`), address space or memory left for it.
    Exhausted,
    /// The range ends behind the end of the file, which has this many bytes.
    PastEnd {
        /// Length of the file when it was looked at, in bytes.
        len: u64,
    },
    /// This kind of file, or file system, cannot be mapped; with the errno of mmap(2) or madvise(2).
    NotMappable(i32),
    /// The descriptor is not open for what the access needs, or the file is sealed.
    NotPermitted,
    /// The file system has no room for pages that were to be written.
    NoSpace,
    /// Another handler of `SIGBUS` was installed over the one that contains faults.
    HandlerReplaced,
    /// There is no ring on this thread.
    NoRing,
    /// Another errno.
    Errno(i32),
}

impl Refusal {
    /// The reason in a few words, for a receipt.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::RegionsMax => "all mapped regions are held (Config::regions_max)",
            Self::BytesMax => "all mapped bytes are held (Config::region_bytes_max)",
            Self::Exhausted => "no mappings or memory left (vm.max_map_count, overcommit)",
            Self::PastEnd { .. } => "the file is shorter than the range",
            Self::NotMappable(_) => "this file cannot be mapped",
            Self::NotPermitted => "the file is not open for this access, or is sealed",
            Self::NoSpace => "the file system has no room left",
            Self::HandlerReplaced => "another handler of SIGBUS is installed",
            Self::NoRing => "there is no ring on this thread",
            Self::Errno(_) => "the kernel refused the mapping",
        }
    }

    /// What an errno of mmap(2) means.
    pub(super) fn of_mapping(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOMEM | libc::EAGAIN | libc::ENFILE) => Self::Exhausted,
            Some(libc::EACCES | libc::EPERM | libc::ETXTBSY) => Self::NotPermitted,
            Some(errno @ (libc::ENODEV | libc::EINVAL | libc::EOPNOTSUPP)) => {
                Self::NotMappable(errno)
            }
            Some(errno) => Self::Errno(errno),
            None => Self::Errno(0),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self {
            Self::PastEnd { len } => write!(f, ": it has {len} bytes"),
            Self::NotMappable(errno) | Self::Errno(errno) => write!(f, ": errno {errno}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::RegionsMax | Refusal::BytesMax => io::ErrorKind::QuotaExceeded,
            Refusal::Exhausted => io::ErrorKind::OutOfMemory,
            Refusal::PastEnd { .. } => io::ErrorKind::UnexpectedEof,
            Refusal::NotPermitted => io::ErrorKind::PermissionDenied,
            Refusal::NoSpace => io::ErrorKind::StorageFull,
            Refusal::NotMappable(_) => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, refusal)
    }
}

/// What was looked at in a window, or stored into it, does not count: the pages are not the file's.
///
/// It concerns the whole region and everybody who holds it, and it lasts: map the range again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Poisoned {
    /// What happened.
    pub cause: Cause,
    /// Length of the file when this was found, in bytes, if it could be asked for.
    pub file_len: Option<u64>,
}

/// How a region came to be poisoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A load or a store found no page: the file was truncated, the file system is full, the device has
    /// failed or turned read-only. The process would have died of `SIGBUS`.
    Fault,
    /// The file was found to be shorter than the window. Behind its end, up to the end of its last
    /// page, there are zeros without any fault; and private pages have lost what was stored in them.
    Truncated,
    /// The kernel itself found no page when it was to copy from the window (`EFAULT`).
    Refused,
    /// A flush failed with this errno: what was stored before may be lost.
    Flush(i32),
}

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Fault => f.write_str("a mapped page had gone from the file")?,
            Cause::Truncated => f.write_str("the mapped file was truncated")?,
            Cause::Refused => f.write_str("the kernel found a mapped page gone")?,
            Cause::Flush(errno) => write!(f, "a flush of the mapped file failed: errno {errno}")?,
        }
        match self.file_len {
            Some(len) => write!(f, "; the file has {len} bytes now"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Poisoned {}

impl From<Poisoned> for io::Error {
    fn from(poisoned: Poisoned) -> Self {
        let kind = match poisoned.cause {
            Cause::Truncated => io::ErrorKind::UnexpectedEof,
            Cause::Fault | Cause::Refused | Cause::Flush(_) => io::ErrorKind::Other,
        };
        Self::new(kind, poisoned)
    }
}

/// Why a store does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The bytes do not fit into the window: nothing was stored.
    OutOfRange,
    /// The window is mapped for loads only: nothing was stored.
    ReadOnly,
    /// What was stored may be lost.
    Poisoned(Poisoned),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange => f.write_str("the bytes do not fit into the window"),
            Self::ReadOnly => f.write_str("the window is mapped for reading only"),
            Self::Poisoned(poisoned) => poisoned.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}

impl From<Poisoned> for WriteError {
    fn from(poisoned: Poisoned) -> Self {
        Self::Poisoned(poisoned)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Poisoned(poisoned) => poisoned.into(),
            WriteError::OutOfRange => Self::new(io::ErrorKind::InvalidInput, error),
            WriteError::ReadOnly => Self::new(io::ErrorKind::PermissionDenied, error),
        }
    }
}
