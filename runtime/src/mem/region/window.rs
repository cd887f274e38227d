//! A window: a range of a file that is mapped and held.

use std::fmt;
use std::ops::Range;

use super::pen::Pen;
use super::populate::{Populate, Populating};
use super::view::View;
use super::words::Words;
use super::{Access, Cause, Hold, Poisoned, Region, WriteError};
use crate::fault::{Sabotage, sabotaged};
use crate::fs::{File, Residency};
use crate::sys::bus;

/// A range of a file, mapped into memory. Clones and slices share the mapping; it is unmapped only when
/// the last of them is dropped, so nothing can pull it from under a reader.
///
/// A map locks nothing and keeps nobody from changing or truncating the file. A page that is gone does
/// not end the process (see the [module](crate::region)), it *poisons* the region: everybody who holds
/// it is told, by the result of [`Self::read`], [`Self::write`] or [`Self::check`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use ringway_runtime::{Runtime, fs::File, region};
///
/// Runtime::new()?.block_on(async {
///     let file = File::open("Cargo.toml").await?;
///     let window = region::map(&file, 0..file.metadata()?.len).await?;
///     let place = window.read(|view| view.find(0..view.len(), b"[dependencies]"))?;
///     assert!(place.is_some());
///     std::io::Result::Ok(())
/// })
/// # }
/// ```
///
/// Dropping a window releases it. It cannot be released twice, nor used afterwards:
///
/// ```compile_fail,E0382
/// # fn release(window: ringway_runtime::region::Window) {
/// drop(window);
/// drop(window);
/// # }
/// ```
#[derive(Clone)]
pub struct Window {
    /// Absent where there is nothing to map: the range is empty.
    hold: Option<Hold>,
    file: File,
    access: Access,
    /// Where in the file the window begins.
    offset: u64,
    /// Where in the pages.
    start: usize,
    len: usize,
}

/// What pages are to be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Loads.
    Read,
    /// Stores: private pages are copied now, blocks of the file are allocated now.
    Write,
}

impl Window {
    pub(super) fn new(hold: Hold, file: File, access: Access, range: Range<u64>) -> Self {
        // Both differences are less than what is mapped, which has a length in memory.
        let inside = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let start = inside(range.start - hold.region().start);
        let len = inside(range.end - range.start);
        Self { hold: Some(hold), file, access, offset: range.start, start, len }
    }

    pub(super) fn empty(file: File, access: Access, offset: u64) -> Self {
        Self { hold: None, file, access, offset, start: 0, len: 0 }
    }

    /// Bytes in the window.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where in the file the window is, in bytes.
    #[must_use]
    pub fn file_range(&self) -> Range<u64> {
        self.offset..self.offset + self.len as u64
    }

    /// What may be done with it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// A part of the window, which holds the same pages; `None` if it does not lie inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let len = range.end.checked_sub(range.start).filter(|_| range.end <= self.len)?;
        let (offset, start) = (self.offset + range.start as u64, self.start + range.start);
        Some(Self { offset, start, len, ..self.clone() })
    }

    /// Looks at the bytes, and then at whether that counts: see [`Self::check`]. Nothing should act on
    /// what the closure has seen before this has returned it.
    ///
    /// A page that is not in memory any more makes the thread wait for the disk.
    ///
    /// # Errors
    ///
    /// [`Poisoned`]: what was seen may not be the file's.
    pub fn read<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> Result<T, Poisoned> {
        bus::unblock();
        let seen = look(&self.view());
        self.check()?;
        Ok(seen)
    }

    /// Stores into the window, and then looks at whether that counts: see [`Self::check`]. A store is
    /// in the file's pages (or in this window's own) when this has returned; it is not durable before
    /// a [`Self::flush`].
    ///
    /// The first store into a page can wait for the file system: see [`Self::populate`].
    ///
    /// # Errors
    ///
    /// [`WriteError::ReadOnly`], and [`WriteError::Poisoned`]: any of the stores may be lost.
    pub fn write<T>(&self, change: impl FnOnce(&Pen<'_>) -> T) -> Result<T, WriteError> {
        if self.access == Access::ReadOnly {
            return Err(WriteError::ReadOnly);
        }
        bus::unblock();
        let done = change(&Pen::new(self.view()));
        self.check()?;
        Ok(done)
    }

    /// Copies bytes out, from `at` on, and returns how many this call has copied: fewer than asked for
    /// only at the end of the window.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub fn copy_to(&self, at: usize, into: &mut [u8]) -> Result<usize, Poisoned> {
        self.read(|view| view.copy_to(at, into))
    }

    /// Stores all of these bytes at `at`, or none.
    ///
    /// # Errors
    ///
    /// [`WriteError::OutOfRange`] if they do not fit, and those of [`Self::write`].
    pub fn put(&self, at: usize, bytes: &[u8]) -> Result<(), WriteError> {
        if self.write(|pen| pen.put(at, bytes))? { Ok(()) } else { Err(WriteError::OutOfRange) }
    }

    /// Whether everything that was seen in or stored into the region so far counts: no page had gone,
    /// and the file still reaches to the end of the window. One fstat(2).
    ///
    /// It cannot see a truncation that was undone before the question. Where that matters, take a
    /// [`ReadLease`](super::ReadLease), or work on a copy.
    ///
    /// # Errors
    ///
    /// [`Poisoned`], from then on always.
    pub fn check(&self) -> Result<(), Poisoned> {
        let Some(region) = self.region() else { return Ok(()) };
        let file_len = self.file.metadata().ok().map(|metadata| metadata.len);
        let end = self.offset + self.len as u64;
        match file_len {
            Some(len) if len < end && !sabotaged(Sabotage::RegionLengthUnchecked) => {
                region.spoil(Cause::Truncated);
            }
            Some(_) => {}
            // A file that cannot be asked for its length is not to be relied on.
            None => region.spoil(Cause::Refused),
        }
        region.known_poison().map_err(|cause| Poisoned { cause, file_len })
    }

    /// Whether the region is known to be poisoned: no system call, and so not the whole truth, which
    /// [`Self::check`] tells.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.region().is_some_and(|region| region.known_poison().is_err())
    }

    /// Makes pages of a range (cut to the window) present before they are touched. A page can be
    /// taken away again when memory is short.
    ///
    /// Ready for stores does not last: after the system has written a page of a shared window out, the
    /// next store asks the file system again.
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn populate(&self, range: Range<usize>, intent: Intent, how: Populate) -> Populating {
        Populating::of_window(self.clone(), range, intent, how)
    }

    /// Whether a range (cut to the window) is in the page cache: see [`File::residency`].
    #[must_use]
    pub fn residency(&self, range: Range<usize>) -> Residency {
        let end = range.end.min(self.len);
        let len = end.saturating_sub(range.start);
        self.file.residency(self.offset + range.start as u64, len as u64)
    }

    /// Asks that the pages of the region stay in memory as long as anybody holds it: best effort. Waits
    /// for no page: populate first. See mlock2(2).
    ///
    /// # Errors
    ///
    /// `ENOMEM` or `EPERM` where the limit of locked memory (`RLIMIT_MEMLOCK`) forbids it.
    pub fn lock_in_memory(&self) -> std::io::Result<()> {
        let Some(region) = self.region() else { return Ok(()) };
        region.pages.lock()?;
        region.locked.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// The region, unless the window is empty.
    pub(super) fn region(&self) -> Option<&std::sync::Arc<Region>> {
        self.hold.as_ref().map(Hold::region)
    }

    /// Where in the pages the window begins, in bytes.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    fn view(&self) -> View<'_> {
        let words = match self.region() {
            Some(region) => Words::new(&region.pages, self.start, self.len),
            None => Words::none(),
        };
        View::new(words)
    }

    /// Where a range (which must lie inside) is in memory, for a system call that copies from it while
    /// the window is held.
    pub(crate) fn address(&self, range: &Range<usize>) -> Option<(*const u8, usize)> {
        let len = range.end.checked_sub(range.start).filter(|_| range.end <= self.len)?;
        let base = self.region().map_or(std::ptr::dangling(), |region| {
            region.pages.base().as_ptr().wrapping_add(self.start + range.start).cast_const()
        });
        Some((base, len))
    }

    /// The kernel found no page when it copied from the window.
    pub(crate) fn refused_by_kernel(&self) -> Poisoned {
        if let Some(region) = self.region() {
            region.spoil(Cause::Refused);
        }
        let file_len = self.file.metadata().ok().map(|metadata| metadata.len);
        Poisoned { cause: Cause::Refused, file_len }
    }

    /// The poison as far as it is known without a system call.
    pub(crate) fn known_poison(&self) -> Result<(), Poisoned> {
        let Some(region) = self.region() else { return Ok(()) };
        region.known_poison().map_err(|cause| Poisoned { cause, file_len: None })
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("file", &self.file)
            .field("range", &self.file_range())
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
