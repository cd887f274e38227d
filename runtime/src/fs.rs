//! Files: opening, looking, positional reading and writing, and the first hop of a splice.

mod names;
mod open;
mod slots;
mod store;

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

pub use crate::sys::file::{FileKind, FileSystem, Metadata};
pub use names::{metadata, remove_file, remove_in, rename, rename_in};
pub use open::{NotRegular, OpenOptions};
pub use slots::Reading;
pub use store::Storing;

use crate::fault::{Sabotage, sabotaged};
use crate::local;
use crate::mem::{Buffer, IoBuf, IoBufMut, Lease};
use crate::op::{Effect, Held, Op};
use crate::pipe::PipeLease;
use crate::sys::file as calls;
use crate::sys::sqe::{LENGTH_MAX, Sqe};

/// Bytes in a page, as far as residency is counted.
const PAGE: u64 = 4096;

/// An open file. Clones share the descriptor, which is closed with the last of them.
#[derive(Clone)]
pub struct File {
    fd: Arc<OwnedFd>,
    known: Arc<Known>,
}

/// What was found out about an open file.
#[derive(Default)]
struct Known {
    /// What never changes while it is open.
    nature: OnceLock<Nature>,
    /// The range that was last found to be in memory, and when.
    resident: Mutex<Option<(Range<u64>, Instant)>>,
}

#[derive(Debug, Clone, Copy)]
struct Nature {
    file_system: FileSystem,
    direct: bool,
}

/// Whether a range of a file can be read without asking a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Residency {
    /// All of it was in the page cache when asked. It can be evicted at any time.
    Resident,
    /// Some of it was not.
    Cold,
    /// The kernel does not tell.
    Unknown,
}

/// How a range of a file will be used; see posix_fadvise(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// From the beginning to the end: the kernel reads further ahead.
    Sequential,
    /// Soon: the kernel begins to read it.
    WillNeed,
    /// No more: the kernel drops what is clean.
    DontNeed,
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// Those of openat2(2).
    ///
    /// # Cancel safety
    ///
    /// A file that was opened nevertheless is closed.
    pub async fn open(path: impl AsRef<std::path::Path>) -> io::Result<Self> {
        OpenOptions::new().open(path).await
    }

    /// Takes over a file of the standard library.
    #[must_use]
    pub fn from_std(file: std::fs::File) -> Self {
        // With O_NONBLOCK a cold read would fail instead of wait. A pipe or a device may keep it.
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let _ = calls::clear_nonblocking(file.as_fd());
        }
        Self::from_fd(file.into())
    }

    fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd), known: Arc::default() }
    }

    /// The file's attributes now. Answers at once on local file systems.
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    pub fn metadata(&self) -> io::Result<Metadata> {
        calls::metadata(self.as_fd())
    }

    /// The class of the file system that the file is on.
    ///
    /// # Errors
    ///
    /// Those of fstatfs(2).
    pub fn file_system(&self) -> io::Result<FileSystem> {
        Ok(self.nature()?.file_system)
    }

    /// Whether the file was opened with `O_DIRECT`. Switching it later by fcntl(2) is not seen.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    pub fn is_direct(&self) -> io::Result<bool> {
        Ok(self.nature()?.direct)
    }

    fn nature(&self) -> io::Result<Nature> {
        if let Some(nature) = self.known.nature.get() {
            return Ok(*nature);
        }
        let file_system = calls::file_system(self.as_fd())?;
        let nature = Nature { file_system, direct: calls::is_direct(self.as_fd())? };
        Ok(*self.known.nature.get_or_init(|| nature))
    }

    /// Whether a range is in the page cache: by cachestat(2), confirmed by a read of its last byte
    /// that refuses to wait, because pages that are still being read are counted too.
    #[must_use]
    pub fn residency(&self, offset: u64, len: u64) -> Residency {
        let Some(last) = len.checked_sub(1).and_then(|last| offset.checked_add(last)) else {
            return Residency::Resident;
        };
        let pages = last / PAGE - offset / PAGE + 1;
        let counted = match calls::cached_pages(self.as_fd(), offset, len) {
            Ok(cached) if cached < pages => return Residency::Cold,
            Ok(_) => true,
            // Before 6.5 nothing counts, but what is made of memory is in memory.
            Err(_) if matches!(self.file_system(), Ok(FileSystem::Memory)) => true,
            Err(_) => false,
        };
        let mut byte = [0u8];
        match calls::read_resident(self.as_fd(), &mut byte, last) {
            Ok(_) if counted || pages == 1 => Residency::Resident,
            Ok(_) => Residency::Unknown,
            Err(error) if crate::sys::would_block(&error) => Residency::Cold,
            // Some file systems do not know the flag: what counts is the count.
            Err(_) if counted => Residency::Resident,
            Err(_) => Residency::Unknown,
        }
    }

    /// The same, but believes for `age` what it found last: a server that sends a hot file over and
    /// over asks the kernel once in that time. Within it, eviction goes unseen.
    #[must_use]
    pub fn residency_lately(&self, offset: u64, len: u64, age: Duration) -> Residency {
        let end = offset.saturating_add(len);
        let now = Instant::now();
        let Ok(mut resident) = self.known.resident.lock() else { return Residency::Unknown };
        if let Some((range, since)) = &*resident
            && range.start <= offset
            && end <= range.end
            && now.saturating_duration_since(*since) < age
        {
            return Residency::Resident;
        }
        let found = self.residency(offset, len);
        *resident = (found == Residency::Resident).then_some((offset..end, now));
        found
    }

    /// Reads at an offset what is in memory already, behind what the lease holds, up to its
    /// capacity and to `len` bytes. Returns 0 at the end of the file.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where a disk would be asked; `Unsupported` on file systems that cannot tell.
    pub fn try_read(&self, lease: &mut Lease, offset: u64, len: usize) -> io::Result<usize> {
        let start = lease.len();
        let room = len.min(lease.capacity() - start);
        let room = crate::inline_len("pread", u32::try_from(room).unwrap_or(LENGTH_MAX))?;
        let buffer = &mut lease.spare_mut()[start..start + room];
        let read = calls::read_resident(self.as_fd(), buffer, offset)?;
        let all = sabotaged(Sabotage::ShortReadIgnored);
        lease.set_filled(start + if all { room } else { read });
        if let Some(counters) = local::with(|local| std::rc::Rc::clone(&local.counters)) {
            counters.file_read_bytes.add(read as u64);
        }
        Ok(read)
    }

    /// Reads at an offset into a buffer from `start` on, at most `len` bytes, as an op in the ring.
    /// The buffer then counts up to what was read. Resolves to 0 at the end of the file.
    ///
    /// # Errors
    ///
    /// Those of pread(2). The buffer is lost if there is no ring on this thread.
    ///
    /// # Cancel safety
    ///
    /// The buffer belongs to the op; dropping the future gives it up.
    pub async fn read_at<B: IoBufMut>(
        &self,
        buffer: B,
        start: usize,
        len: usize,
        offset: u64,
    ) -> (io::Result<usize>, Option<B>) {
        let local = match local::current() {
            Ok(local) => local,
            Err(error) => return (Err(error), Some(buffer)),
        };
        if let Err(error) = position(offset) {
            return (Err(error), Some(buffer));
        }
        let mut buffer = buffer.into_buffer();
        let (base, room) = buffer.room();
        let start = start.min(room);
        let len = u32::try_from(len.min(room - start)).unwrap_or(LENGTH_MAX);
        let (fd, target) = (self.fd.as_raw_fd(), base.wrapping_add(start));
        let sqe = match buffer.registered() {
            Some(index) => Sqe::read_fixed(fd, target, len, offset, index),
            None => Sqe::read(fd, target, len, offset),
        };
        let held = Held { memory: Some(buffer), ..self.held() };
        let outcome = local.port.submit(sqe, held, Effect::None).await;
        let mut memory = outcome.held.memory;
        if let (Ok(read), Some(memory)) = (&outcome.result, &mut memory) {
            let all = sabotaged(Sabotage::ShortReadIgnored);
            memory.set_filled(start + if all { len } else { *read } as usize);
            local.counters.file_read_bytes.add((*read).into());
        }
        (outcome.result.map(|read| read as usize), memory.and_then(B::from_buffer))
    }

    /// Writes the filled bytes of a buffer from `start` on at an offset.
    ///
    /// # Errors
    ///
    /// Those of pwrite(2).
    ///
    /// # Cancel safety
    ///
    /// The buffer belongs to the op; part of the bytes may be written after the drop.
    pub async fn write_at<B: IoBuf>(
        &self,
        buffer: B,
        start: usize,
        offset: u64,
    ) -> (io::Result<usize>, Option<B>) {
        let local = match local::current() {
            Ok(local) => local,
            Err(error) => return (Err(error), Some(buffer)),
        };
        if let Err(error) = position(offset) {
            return (Err(error), Some(buffer));
        }
        let buffer: Buffer = buffer.into_buffer();
        let bytes = buffer.filled().get(start..).unwrap_or_default();
        let len = u32::try_from(bytes.len()).unwrap_or(LENGTH_MAX);
        let sqe = Sqe::write(self.fd.as_raw_fd(), bytes.as_ptr(), len, offset);
        let held = Held { memory: Some(buffer), ..self.held() };
        let outcome = local.port.submit(sqe, held, Effect::None).await;
        let buffer = outcome.held.memory.and_then(B::from_buffer);
        (outcome.result.map(|written| written as usize), buffer)
    }

    /// Fills a pipe from the file inline. Waits for the disk if the range is not resident, and the
    /// whole loop with it: ask [`Self::residency`] first. Returns 0 at the end of the file.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the pipe is full; otherwise those of splice(2).
    pub fn try_fill(&self, pipe: &mut PipeLease, offset: u64, len: u32) -> io::Result<u32> {
        pipe.fill(self.as_fd(), offset, len)
    }

    /// Fills a pipe from the file by a splice op in the ring: a cold file then waits in a worker of
    /// the kernel, not here. Resolves to 0 at the end of the file.
    ///
    /// # Errors
    ///
    /// Of this call: no ring, or an offset that no file has. Of the op: those of splice(2).
    ///
    /// # Cancel safety
    ///
    /// The pipe belongs to the op, and is destroyed if its content is uncertain.
    pub fn fill(&self, pipe: PipeLease, offset: u64, len: u32) -> io::Result<Filling> {
        let local = local::current()?;
        let offset = position(offset)?;
        let sqe = Sqe::splice_from_file(self.fd.as_raw_fd(), offset, pipe.write_fd(), len);
        let held = Held { pipe: Some(pipe), ..self.held() };
        Ok(Filling { op: local.port.submit(sqe, held, Effect::Staged) })
    }

    /// Makes content and attributes durable; with [`Self::sync_data`] not those that can wait.
    ///
    /// # Errors
    ///
    /// Those of fsync(2): after one, what was written before may be lost.
    ///
    /// # Cancel safety
    ///
    /// Nothing is known about durability.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.simple(Sqe::fsync(self.fd.as_raw_fd(), false)).await
    }

    /// Makes the content durable; see fdatasync(2).
    ///
    /// # Errors
    ///
    /// As for [`Self::sync_all`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::sync_all`].
    pub async fn sync_data(&self) -> io::Result<()> {
        self.simple(Sqe::fsync(self.fd.as_raw_fd(), true)).await
    }

    /// Allocates blocks for a range, and grows the file to its end; see fallocate(2).
    ///
    /// # Errors
    ///
    /// `StorageFull`, and `Unsupported` on file systems that cannot.
    ///
    /// # Cancel safety
    ///
    /// It may still happen.
    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.simple(Sqe::fallocate(self.fd.as_raw_fd(), offset, len, 0)).await
    }

    /// Announces how a range will be used; a `len` of 0 means to the end.
    ///
    /// # Errors
    ///
    /// Those of posix_fadvise(2).
    ///
    /// # Cancel safety
    ///
    /// It may still happen.
    pub async fn advise(&self, offset: u64, len: u64, advice: Advice) -> io::Result<()> {
        let advice = match advice {
            Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
        };
        let len = i64::try_from(len).unwrap_or(0);
        self.simple(Sqe::fadvise(self.fd.as_raw_fd(), offset, len, advice)).await
    }

    async fn simple(&self, sqe: Sqe) -> io::Result<()> {
        local::current()?.port.submit(sqe, self.held(), Effect::None).await.result.map(drop)
    }

    pub(crate) fn held(&self) -> Held {
        Held { file: Some(Arc::clone(&self.fd)), ..Held::default() }
    }
}

/// An offset as the kernel counts it. Beyond `i64::MAX` no file has bytes, and in the ring −1 would
/// mean the position of the descriptor.
fn position(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        Self::from_std(file)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("fd", &self.fd.as_raw_fd()).finish()
    }
}

/// A fill of a pipe in the ring: resolves to the bytes that came into it, and to the pipe.
pub struct Filling {
    op: Op,
}

impl Filling {
    /// Asks for cancellation. Await the future all the same.
    pub fn cancel(&mut self) {
        self.op.cancel();
    }
}

impl Future for Filling {
    type Output = (io::Result<u32>, Option<PipeLease>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.op).poll(context));
        Poll::Ready((outcome.result, outcome.held.pipe))
    }
}

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filling").finish_non_exhaustive()
    }
}
