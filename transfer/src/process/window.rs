//! What a processor sees of a file.

use std::fmt;
use std::ops::{ControlFlow, Range};

use ringway_runtime::region;

use super::{Changes, Due};

/// Bytes that are copied at once where a window cannot be looked at in place.
const CHUNK: usize = 16 << 10;

/// A part of a file, to be looked at and changed.
///
/// A window on the page cache can be changed by other processes at any time, so it is never handed out
/// as a slice: reading it gives copies. What is written to it stays private; the file keeps its content.
pub struct Window<'w> {
    view: View<'w>,
    offset: u64,
    last: bool,
    changes: &'w mut Changes,
    writable: bool,
    due: &'w Due,
}

/// Where the bytes of a window are.
pub(crate) enum View<'w> {
    /// In memory of our own.
    Memory(&'w mut [u8]),
    /// Mapped, for looking.
    Shared(region::View<'w>),
    /// Mapped, for looking and changing.
    Private(&'w region::Pen<'w>),
}

impl View<'_> {
    /// The mapped bytes.
    #[inline]
    fn map(&self) -> Option<&region::View<'_>> {
        match self {
            Self::Memory(_) => None,
            Self::Shared(view) => Some(view),
            Self::Private(pen) => Some(pen),
        }
    }
}

/// A change that was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotChanged {
    /// It begins or ends outside of the window.
    OutsideWindow,
    /// The processor has not said that it changes anything: see
    /// [`Processor::changes`](super::Processor::changes).
    ReadOnly,
}

impl fmt::Display for NotChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutsideWindow => "these bytes do not lie within the window",
            Self::ReadOnly => "a processor that changes windows says so by Processor::changes",
        })
    }
}

impl std::error::Error for NotChanged {}

impl<'w> Window<'w> {
    pub(crate) fn new(
        view: View<'w>,
        offset: u64,
        last: bool,
        changes: &'w mut Changes,
        writable: bool,
        due: &'w Due,
    ) -> Self {
        Self { view, offset, last, changes, writable, due }
    }

    /// Bytes in the window.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        match &self.view {
            View::Memory(bytes) => bytes.len(),
            View::Shared(view) => view.len(),
            View::Private(pen) => pen.len(),
        }
    }

    /// Whether it has none, which no processor is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the window begins in its file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether nothing of this file follows. All of the last window must be used, in one turn or more.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Whether the turn has taken its time: return what was used so far. It asks a clock, so ask it
    /// once in a while only.
    ///
    /// On a busy machine it can say so before anything was used. After a turn that used nothing for that
    /// reason comes one in which it never says so.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.due.has_come()
    }

    /// A copy of one byte; `None` behind the end.
    #[must_use]
    #[inline]
    pub fn byte(&self, at: usize) -> Option<u8> {
        match &self.view {
            View::Memory(bytes) => bytes.get(at).copied(),
            View::Shared(view) => view.byte(at),
            View::Private(pen) => pen.byte(at),
        }
    }

    /// A copy of `N` bytes; `None` if they do not lie within the window.
    ///
    /// ```
    /// # use ringway::process::Window;
    /// fn length(window: &Window<'_>, at: usize) -> Option<u32> {
    ///     window.read(at).map(u32::from_le_bytes)
    /// }
    /// ```
    #[must_use]
    #[inline]
    pub fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        match &self.view {
            View::Memory(bytes) => bytes.get(at..)?.first_chunk().copied(),
            View::Shared(_) | View::Private(_) => numbers(self.view.map()?, at),
        }
    }

    /// Says that this byte will be looked at soon: see [`region::View::prefetch`]. For a processor that looks
    /// at few bytes of each record.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        if let Some(map) = self.view.map() {
            map.prefetch(at);
        }
    }

    /// Copies from `at` on into `into`, and returns how many bytes there were.
    pub fn copy_to(&self, at: usize, into: &mut [u8]) -> usize {
        match &self.view {
            View::Memory(bytes) => {
                let from = bytes.get(at..).unwrap_or_default();
                let len = from.len().min(into.len());
                into[..len].copy_from_slice(&from[..len]);
                len
            }
            View::Shared(view) => view.copy_to(at, into),
            View::Private(pen) => pen.copy_to(at, into),
        }
    }

    /// The bytes themselves, where the window is memory of our own: under
    /// [`Consistency::Snapshot`](crate::Consistency::Snapshot) always.
    #[must_use]
    pub fn snapshot(&self) -> Option<&[u8]> {
        match &self.view {
            View::Memory(bytes) => Some(bytes),
            View::Shared(_) | View::Private(_) => None,
        }
    }

    /// Shows a range in chunks of at most 16 KiB: in place where the window is memory of our own, and
    /// copies otherwise. What lies outside of the window is left out.
    pub fn visit(&self, range: Range<usize>, mut visitor: impl FnMut(&[u8])) {
        let to = range.end.min(self.len());
        let from = range.start.min(to);
        if let Some(bytes) = self.snapshot() {
            bytes[from..to].chunks(CHUNK).for_each(visitor);
            return;
        }
        if let Some(map) = self.view.map() {
            map.scan(from..to, |_, chunk| {
                visitor(chunk);
                ControlFlow::<()>::Continue(())
            });
        }
    }

    /// Where these bytes stand next, from `at` on.
    #[must_use]
    pub fn find(&self, at: usize, bytes: &[u8]) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        match &self.view {
            View::Memory(memory) => {
                let found = memchr::memmem::find(memory.get(at..)?, bytes)?;
                Some(at + found)
            }
            View::Shared(view) => view.find(at..view.len(), bytes),
            View::Private(pen) => pen.find(at..pen.len(), bytes),
        }
    }

    /// Changes bytes of the window, all or none. The file stays as it is.
    ///
    /// # Errors
    ///
    /// [`NotChanged`].
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), NotChanged> {
        let outside = NotChanged::OutsideWindow;
        let end = at.checked_add(bytes.len()).filter(|end| *end <= self.len()).ok_or(outside)?;
        if !self.writable {
            return Err(NotChanged::ReadOnly);
        }
        match &mut self.view {
            View::Memory(memory) => {
                memory.get_mut(at..end).ok_or(outside)?.copy_from_slice(bytes);
            }
            View::Private(pen) if pen.put(at, bytes) => {}
            View::Private(_) => return Err(outside),
            View::Shared(_) => return Err(NotChanged::ReadOnly),
        }
        self.changes.add(at..end);
        Ok(())
    }
}

/// Copies `N` bytes. The usual sizes are single loads, which is what a filter's first look should cost.
#[inline]
fn numbers<const N: usize>(map: &region::View<'_>, at: usize) -> Option<[u8; N]> {
    let mut copy = [0; N];
    match N {
        1 => copy.copy_from_slice(&[map.byte(at)?]),
        2 => copy.copy_from_slice(&map.u16_le(at)?.to_le_bytes()),
        4 => copy.copy_from_slice(&map.u32_le(at)?.to_le_bytes()),
        8 => copy.copy_from_slice(&map.u64_le(at)?.to_le_bytes()),
        _ if map.copy_to(at, &mut copy) < N => return None,
        _ => {}
    }
    Some(copy)
}

impl fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("offset", &self.offset)
            .field("len", &self.len())
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
