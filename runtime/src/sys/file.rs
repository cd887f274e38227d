//! Calls on files that answer at once: attributes, residency, and reads that refuse to wait.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::{Duration, SystemTime};

use rustix::io::ReadWriteFlags;

use super::{checked, retry};

const SYS_CACHESTAT: libc::c_long = 451;

/// What kind of thing an open descriptor or a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file: it has a length and positions.
    Regular,
    /// A folder.
    Folder,
    /// A symbolic link, looked at without following it.
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

/// The attributes of a file at one moment; see statx(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes.
    pub len: u64,
    /// Bytes that are allocated for it on its device.
    pub allocated: u64,
    /// Device number, major and minor packed as in `st_dev`.
    pub device: u64,
    /// Number of the inode on that device.
    pub inode: u64,
    /// Permission bits.
    pub permissions: u32,
    /// Last change of the content, as time since the epoch (before it: zero).
    pub modified: Duration,
    /// Last change of the content or of the attributes, likewise.
    pub changed: Duration,
}

impl Metadata {
    /// The time of the last change of the content.
    #[must_use]
    pub fn modified_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.modified
    }
}

/// The class of the file system that a file lives on, as far as it matters to a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileSystem {
    /// A local disk file system with a page cache: ext4, xfs, btrfs, f2fs, overlay, …
    Local,
    /// Memory: tmpfs, ramfs, hugetlbfs.
    Memory,
    /// Over a network: NFS, SMB, Ceph, 9p, AFS.
    Network,
    /// FUSE and the shared folders of virtual machines.
    Fuse,
    /// Generated on reading: procfs, sysfs, debugfs; lengths mean nothing there.
    Pseudo,
    /// Not known to this list, with the magic number of statfs(2).
    Unknown(u64),
}

/// Attributes of an open descriptor.
pub(crate) fn metadata(fd: BorrowedFd<'_>) -> io::Result<Metadata> {
    let stat = retry(|| rustix::fs::fstat(fd))?;
    Ok(Metadata {
        kind: kind_of(stat.st_mode),
        len: u64::try_from(stat.st_size).unwrap_or(0),
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        device: stat.st_dev,
        inode: stat.st_ino,
        permissions: stat.st_mode & 0o7777,
        modified: since_epoch(i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec)),
        changed: since_epoch(i128::from(stat.st_ctime), i128::from(stat.st_ctime_nsec)),
    })
}

/// An empty answer for a statx op to write to.
pub(crate) fn blank_statx() -> libc::statx {
    // SAFETY: the structure is made of integers only, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// The same from the answer of a statx op.
pub(crate) fn metadata_from_statx(stat: &libc::statx) -> Metadata {
    let time = |t: &libc::statx_timestamp| since_epoch(t.tv_sec.into(), t.tv_nsec.into());
    Metadata {
        kind: kind_of(u32::from(stat.stx_mode)),
        len: stat.stx_size,
        allocated: stat.stx_blocks.saturating_mul(512),
        device: libc::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        permissions: u32::from(stat.stx_mode) & 0o7777,
        modified: time(&stat.stx_mtime),
        changed: time(&stat.stx_ctime),
    }
}

fn kind_of(mode: u32) -> FileKind {
    match mode & libc::S_IFMT {
        libc::S_IFREG => FileKind::Regular,
        libc::S_IFDIR => FileKind::Folder,
        libc::S_IFLNK => FileKind::Link,
        _ => FileKind::Special,
    }
}

fn since_epoch(seconds: i128, nanoseconds: i128) -> Duration {
    match (u64::try_from(seconds), u32::try_from(nanoseconds)) {
        (Ok(seconds), Ok(nanoseconds)) => Duration::new(seconds, nanoseconds),
        _ => Duration::ZERO,
    }
}

/// The class of the file system under a descriptor; the numbers are those of statfs(2).
pub(crate) fn file_system(fd: BorrowedFd<'_>) -> io::Result<FileSystem> {
    let magic = retry(|| rustix::fs::fstatfs(fd))?.f_type.cast_unsigned();
    Ok(match magic {
        0xef53 | 0x5846_5342 | 0x9123_683e | 0xf2f5_2010 | 0x794c_7630 | 0x2fc1_2fc1
        | 0x3153_464a | 0x5265_4973 | 0xe0f5_e1e2 | 0x7371_7368 | 0x4d44 | 0xca45_1a4e
        | 0x2011_bab0 | 0x9660 => FileSystem::Local,
        0x0102_1994 | 0x8584_58f6 | 0x9584_58f6 => FileSystem::Memory,
        0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42 | 0x00c3_6400 | 0x0102_1997 | 0x5346_414f
        | 0x0bd0_0bd0 | 0x0102_3456 | 0x7461_636f => FileSystem::Network,
        0x6573_5546 | 0x786f_4256 | 0xbacb_acbc | 0x00c0_ffee => FileSystem::Fuse,
        0x9fa0 | 0x6265_6572 | 0x6462_6720 | 0x7472_6163 | 0x0027_e0eb | 0x6367_7270
        | 0x7363_6673 | 0x6e73_6673 | 0xcafe_4a11 | 0x6265_6570 => FileSystem::Pseudo,
        other => FileSystem::Unknown(other),
    })
}

/// Whether a descriptor was opened with `O_DIRECT`.
pub(crate) fn is_direct(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(retry(|| rustix::fs::fcntl_getfl(fd))?.contains(rustix::fs::OFlags::DIRECT))
}

/// Whether a descriptor was opened with `O_APPEND`.
pub(crate) fn is_append(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(retry(|| rustix::fs::fcntl_getfl(fd))?.contains(rustix::fs::OFlags::APPEND))
}

/// Clears `O_NONBLOCK`, which would make ring ops on a regular file fail instead of wait.
pub(crate) fn clear_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = retry(|| rustix::fs::fcntl_getfl(fd))?;
    if flags.contains(rustix::fs::OFlags::NONBLOCK) {
        retry(|| rustix::fs::fcntl_setfl(fd, flags - rustix::fs::OFlags::NONBLOCK))?;
    }
    Ok(())
}

/// Reads at an offset only what is in memory already; `WouldBlock` where a disk would be asked.
///
/// See `RWF_NOWAIT` in preadv2(2).
pub(crate) fn read_resident(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    read_resident_into(fd, &mut [IoSliceMut::new(buffer)], offset)
}

/// The same into several pieces, one after the other.
pub(crate) fn read_resident_into(
    fd: BorrowedFd<'_>,
    pieces: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    match retry(|| rustix::io::preadv2(fd, pieces, offset, ReadWriteFlags::NOWAIT)) {
        // tmpfs before 6.6 does not know the flag, and has nothing to wait for but swap space.
        Err(error)
            if error.raw_os_error() == Some(libc::EOPNOTSUPP)
                && matches!(file_system(fd), Ok(FileSystem::Memory)) =>
        {
            retry(|| rustix::io::preadv(fd, pieces, offset))
        }
        read => read,
    }
}

/// `struct cachestat_range` and `struct cachestat` of cachestat(2).
#[repr(C)]
struct CacheRange {
    offset: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// How many pages of a range are in the page cache, pages still being read included.
///
/// Linux 6.5; `EPERM` for files that the process neither owns nor may write.
pub(crate) fn cached_pages(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<u64> {
    let range = CacheRange { offset, len };
    let mut stat = CacheStat::default();
    // SAFETY: both structures have the kernel's layout and live until the call returns.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, fd.as_raw_fd(), &raw const range, ptr::from_mut(&mut stat), 0)
    };
    checked(result)?;
    Ok(stat.cached)
}
