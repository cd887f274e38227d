//! Pages of a file in memory: mapping and unmapping, populating, locking.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::bus::{self, Watch};
use super::checked;

/// Bytes in a page of this machine.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// How pages are mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sharing {
    pub(crate) writable: bool,
    pub(crate) shared: bool,
}

/// Pages of a file that are mapped, and watched for `SIGBUS`, until this is dropped.
pub(crate) struct Pages {
    /// Goes first: an address that is unmapped can be somebody else's a moment later.
    watch: Watch,
    span: Span,
}

/// A mapping, until it is dropped.
struct Span {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; its memory is used by atomic loads and
// stores only, which `mem::region` guarantees, and unmapping takes exclusive ownership.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Pages {
    /// Maps `len` bytes from `offset` on, both of whole pages; see mmap(2). Faults count into `tally`.
    pub(crate) fn map(
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        sharing: Sharing,
        tally: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let protection = libc::PROT_READ | if sharing.writable { libc::PROT_WRITE } else { 0 };
        let flags = if sharing.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let fd = file.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let watch = Watch::new(base.addr().get(), len, sharing.writable, tally);
        Ok(Self { watch, span: Span { base, len } })
    }

    /// Where the pages begin. Valid for atomic loads, and for stores if they are writable, as long as
    /// this lives.
    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.span.base
    }

    /// Bytes that are mapped: whole pages.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.span.len
    }

    /// How many faults were contained in these pages.
    #[inline]
    pub(crate) fn hits(&self) -> u32 {
        self.watch.hits()
    }

    /// Makes pages present, for reading or for writing, and waits for it: for those that are known to
    /// be in memory. See `MADV_POPULATE_READ` in madvise(2), Linux 5.14.
    pub(crate) fn populate(&self, at: usize, len: usize, writing: bool) -> io::Result<()> {
        let len = len.min(self.len().saturating_sub(at));
        let start = self.base().as_ptr().wrapping_add(at).cast();
        // SAFETY: the range lies in this mapping; populating changes no content.
        let result = unsafe { libc::madvise(start, len, populate_advice(writing)) };
        checked(result.into()).map(drop)
    }

    /// Keeps what is present in memory, and what becomes present later; see mlock2(2).
    pub(crate) fn lock(&self) -> io::Result<()> {
        let base = self.base().as_ptr().cast::<libc::c_void>().cast_const();
        // SAFETY: the range is this mapping; locking changes no content. It waits for no page.
        let result = unsafe { libc::mlock2(base, self.len(), 1) };
        checked(result.into()).map(drop)
    }

    /// Lets what was locked go.
    pub(crate) fn unlock(&self) {
        // SAFETY: the range is this mapping; unlocking changes no content.
        unsafe { libc::munlock(self.base().as_ptr().cast(), self.len()) };
    }
}

/// The advice that makes pages present, for an op.
pub(crate) fn populate_advice(writing: bool) -> i32 {
    if writing { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ }
}

impl Drop for Span {
    fn drop(&mut self) {
        if !unmap(self.base, self.len) {
            // The kernel had merged them with a neighbour, and to split it takes a mapping more.
            let freed = bus::spend_reserve() && unmap(self.base, self.len);
            debug_assert!(freed, "pages could not be unmapped");
        }
    }
}

fn unmap(base: NonNull<u8>, len: usize) -> bool {
    // SAFETY: only the drop of `Span` calls this, so nobody refers to the range any more.
    unsafe { libc::munmap(base.as_ptr().cast(), len) == 0 }
}

/// The access mode of a descriptor: whether it may be read, and whether written.
pub(crate) fn modes(fd: impl AsFd) -> io::Result<(bool, bool)> {
    let flags = super::retry(|| rustix::fs::fcntl_getfl(fd.as_fd()))?;
    let mode = flags & rustix::fs::OFlags::RWMODE;
    let writes = mode == rustix::fs::OFlags::WRONLY || mode == rustix::fs::OFlags::RDWR;
    Ok((mode != rustix::fs::OFlags::WRONLY, writes))
}
