//! Mapping a range, and making its pages present before anybody touches them.
//!
//! Populating is an op of the ring (`IORING_OP_MADVISE` with `MADV_POPULATE_READ` or `_WRITE`). The
//! kernel hands every such op to a worker thread when it prepares it, so a disk, or a file system's
//! journal, is waited for there, and the configuration bounds those workers already. No thread of our
//! own is needed. What is in the page cache anyway, and is not long, is populated inline: that is
//! cheaper than handing it to a worker.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use super::shelf::{Key, Shelf};
use super::window::{Intent, Window};
use super::{Access, Hold, Refusal, Region};
use crate::fs::{File, FileKind, Metadata, Residency};
use crate::local;
use crate::op::{Effect, Held, Op};
use crate::sys::memory::{self, Pages};
use crate::sys::{bus, sqe::Sqe};

/// The longest range that is populated inline without being told to: some 10 µs.
const INLINE_MAX: usize = 1 << 20;
/// What one op populates: a bound on how long a worker goes on when nobody waits any more.
const STEP: usize = 64 << 20;
/// How often an interrupted or refused step is repeated.
const TRIES: u32 = 16;

/// Maps a range of a file for reading, with its pages present. The same as `Options::new().map(…)`.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # use ringway_runtime::{Runtime, fs::File, region};
/// # Runtime::new()?.block_on(async {
/// let file = File::open("Cargo.toml").await?;
/// match region::map(&file, 0..1 << 40).await {
///     Err(region::Refusal::PastEnd { len }) => assert_eq!(len, file.metadata()?.len),
///     other => panic!("{other:?}"),
/// }
/// # std::io::Result::Ok(()) })
/// # }
/// ```
#[must_use = "a future does nothing unless it is awaited"]
pub fn map(file: &File, range: Range<u64>) -> Populating {
    Options::new().map(file, range)
}

/// How to map: for reading, with [`Populate::Ask`], unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    access: Access,
    populate: Populate,
}

/// Who makes pages present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Populate {
    /// This thread, if the range is in the page cache and has at most 1 MiB and is only to be read; a
    /// worker of the kernel otherwise. Eviction can race the question; the cost is one wait.
    Ask,
    /// This thread: for a caller who knows that the range is resident. Waits for the disk if not.
    Inline,
    /// A worker of the kernel.
    Worker,
    /// Nobody: the first touch of each page is a fault, and of a cold one a wait.
    No,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// For reading, with [`Populate::Ask`].
    #[must_use]
    pub fn new() -> Self {
        Self { access: Access::ReadOnly, populate: Populate::Ask }
    }

    /// What may be done with the window.
    #[must_use]
    pub fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Who makes the pages present. A shared window is made ready for stores, which allocates blocks;
    /// others for loads.
    #[must_use]
    pub fn populate(self, populate: Populate) -> Self {
        Self { populate, ..self }
    }

    /// Maps a range of a file: any range of bytes, an empty one too, up to the end that the file has
    /// now.
    ///
    /// The future resolves to a [`Refusal`] where that cannot be: at a limit of the configuration
    /// with nothing idle to unmap, at one of the kernel, behind the end of the file.
    #[must_use = "a future does nothing unless it is awaited"]
    pub fn map(self, file: &File, range: Range<u64>) -> Populating {
        let window = open(file, range, self.access).inspect_err(|refusal| {
            // What the file itself forbids is no shortage.
            if !matches!(refusal, Refusal::PastEnd { .. } | Refusal::NoRing)
                && let Some(shelf) = local::with(|local| Arc::clone(&local.regions))
            {
                shelf.tallies().refused.fetch_add(1, Ordering::Relaxed);
            }
        });
        let intent = if self.access == Access::Shared { Intent::Write } else { Intent::Read };
        match window {
            Ok(window) => {
                let all = 0..window.len();
                Populating::of_window(window, all, intent, self.populate)
            }
            Err(refusal) => Populating { state: State::Refused(refusal) },
        }
    }
}

/// Finds or makes the mapping around a range.
fn open(file: &File, range: Range<u64>, access: Access) -> Result<Window, Refusal> {
    let shelf = local::with(|local| Arc::clone(&local.regions)).ok_or(Refusal::NoRing)?;
    let metadata = file.metadata().map_err(|error| Refusal::of_mapping(&error))?;
    let wanted = range.end.checked_sub(range.start).ok_or(Refusal::Errno(libc::EINVAL))?;
    if metadata.kind != FileKind::Regular {
        return Err(Refusal::NotMappable(libc::ENODEV));
    }
    if range.end > metadata.len {
        return Err(Refusal::PastEnd { len: metadata.len });
    }
    // What is mapped already may have been opened by somebody with other rights.
    let (reads, writes) = memory::modes(file).map_err(|error| Refusal::of_mapping(&error))?;
    if !reads || access == Access::Shared && !writes {
        return Err(Refusal::NotPermitted);
    }
    if wanted == 0 {
        return Ok(Window::empty(file.clone(), access, range.start));
    }
    // Asked each time: whoever puts a handler over ours takes containment from what is mapped already.
    match bus::stand_guard() {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::HandlerReplaced),
        Err(error) => return Err(Refusal::of_mapping(&error)),
    }
    let page = memory::page_size() as u64;
    let start = range.start - range.start % page;
    let len = (range.end - start).checked_next_multiple_of(page).ok_or(Refusal::BytesMax)?;
    let key = Key::new(&metadata, start, len, access);
    let hold = match shelf.find(key.as_ref()) {
        Some(hold) => hold,
        None => make(&shelf, file, &metadata, start, len, access)?,
    };
    Ok(Window::new(hold, file.clone(), access, range))
}

/// Maps pages anew.
fn make(
    shelf: &Arc<Shelf>,
    file: &File,
    metadata: &Metadata,
    start: u64,
    len: u64,
    access: Access,
) -> Result<Hold, Refusal> {
    let bytes = usize::try_from(len).map_err(|_| Refusal::BytesMax)?;
    shelf.reserve(len)?;
    let faults = || Arc::clone(&shelf.tallies().faults);
    let pages = loop {
        let mapped = crate::inline_len("mmap", u32::MAX)
            .and_then(|_| Pages::map(file.as_fd(), start, bytes, access.sharing(), faults()));
        match mapped {
            Ok(pages) => break pages,
            Err(error) => {
                let refusal = Refusal::of_mapping(&error);
                // What is idle can make room for what is needed.
                if refusal != Refusal::Exhausted || !shelf.evict_oldest() {
                    shelf.unmapped(len);
                    return Err(refusal);
                }
            }
        }
    };
    shelf.tallies().mapped.fetch_add(1, Ordering::Relaxed);
    Ok(shelf.admit(Region {
        pages,
        start,
        access,
        key: Key::new(metadata, start, len, access),
        shelf: Arc::clone(shelf),
        holds: AtomicU32::new(1),
        stamp: AtomicU64::new(0),
        spoilt: AtomicBool::new(false),
        cut: AtomicBool::new(false),
        flush_errno: AtomicI32::new(0),
        locked: AtomicBool::new(false),
    }))
}

/// A window whose pages are being made present; resolves to it.
///
/// It owns what it needs, and can be kept while something else is done. Dropping it is safe at any
/// time: a worker that still runs keeps the pages mapped until it is done.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Populating {
    state: State,
}

enum State {
    Refused(Refusal),
    Working(Work),
    Done,
}

struct Work {
    window: Window,
    intent: Intent,
    how: Populate,
    /// What is left, counted in the window.
    at: usize,
    end: usize,
    tries: u32,
    op: Option<Op>,
}

impl Populating {
    pub(super) fn of_window(
        window: Window,
        range: Range<usize>,
        intent: Intent,
        how: Populate,
    ) -> Self {
        let end = if how == Populate::No { range.start } else { range.end.min(window.len()) };
        let refused = intent == Intent::Write && window.access() == Access::ReadOnly;
        let state = if refused {
            State::Refused(Refusal::NotPermitted)
        } else {
            let (at, tries, op) = (range.start, 0, None);
            State::Working(Work { window, intent, how, at, end, tries, op })
        };
        Self { state }
    }
}

impl Future for Populating {
    type Output = Result<Window, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Working(work) = &mut self.state {
            let result = ready!(work.go_on(context));
            if let Err(refusal) = result {
                self.state = State::Refused(refusal);
            }
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Working(work) => Poll::Ready(Ok(work.window)),
            State::Refused(refusal) => Poll::Ready(Err(refusal)),
            State::Done => Poll::Ready(Err(Refusal::Errno(0))),
        }
    }
}

impl Work {
    fn go_on(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        while self.at < self.end {
            let len = (self.end - self.at).min(STEP);
            let result = if let Some(op) = &mut self.op {
                let outcome = ready!(Pin::new(op).poll(context));
                self.op = None;
                outcome.result.map(drop)
            } else if self.is_inline() {
                self.populate_inline(len)
            } else {
                self.op = Some(self.start(len)?);
                continue;
            };
            match result {
                Ok(()) => {
                    self.at += len;
                    self.tries = 0;
                    self.count(len);
                }
                Err(error) => self.judge(&error)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_inline(&mut self) -> bool {
        if self.how == Populate::Ask {
            let len = self.end - self.at;
            let resident = self.intent == Intent::Read
                && len <= INLINE_MAX
                && self.window.residency(self.at..self.end) == Residency::Resident;
            self.how = if resident { Populate::Inline } else { Populate::Worker };
        }
        self.how == Populate::Inline
    }

    fn populate_inline(&self, len: usize) -> io::Result<()> {
        let Some(region) = self.window.region() else { return Ok(()) };
        let (start, len) = self.pages(len);
        crate::inline_len("madvise", u32::MAX)?;
        region.pages.populate(start, len, self.intent == Intent::Write)
    }

    fn start(&self, len: usize) -> Result<Op, Refusal> {
        let port = local::with(|local| std::rc::Rc::clone(&local.port)).ok_or(Refusal::NoRing)?;
        let region = self.window.region().map(Arc::clone).ok_or(Refusal::Errno(0))?;
        let (start, len) = self.pages(len);
        let address = region.pages.base().as_ptr().wrapping_add(start).cast_const();
        let advice = memory::populate_advice(self.intent == Intent::Write);
        let sqe = Sqe::madvise(address, u32::try_from(len).unwrap_or(u32::MAX), advice);
        let held = Held { region: Some(region), ..Held::default() };
        Ok(port.submit(sqe, held, Effect::None))
    }

    /// The whole pages around the next `len` bytes.
    fn pages(&self, len: usize) -> (usize, usize) {
        let page = memory::page_size();
        let from = self.window.start() + self.at;
        let start = from - from % page;
        (start, (from + len - start).next_multiple_of(page))
    }

    /// `Ok` if the step is worth repeating.
    fn judge(&mut self, error: &io::Error) -> Result<(), Refusal> {
        self.tries += 1;
        match error.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN) if self.tries < TRIES => Ok(()),
            // Where a load or a store would have been a fault.
            Some(libc::EFAULT | libc::EHWPOISON) => {
                let len = self.window.file().metadata().map_or(0, |metadata| metadata.len);
                if len < self.window.file_range().end {
                    Err(Refusal::PastEnd { len })
                } else if self.intent == Intent::Write {
                    Err(Refusal::NoSpace)
                } else {
                    Err(Refusal::Errno(libc::EFAULT))
                }
            }
            _ => Err(Refusal::of_mapping(error)),
        }
    }

    fn count(&self, len: usize) {
        if let Some(region) = self.window.region() {
            region.tallies().populated_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Populating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Populating").finish_non_exhaustive()
    }
}
