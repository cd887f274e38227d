//! Looking at a window.

use std::fmt;
use std::ops::{ControlFlow, Range};

use memchr::memmem;

use super::words::Words;

/// Bytes that a scan copies at a time: they stay in the processor's first cache.
const CHUNK: usize = 8192;

/// The bytes of a window, for the time of a [`Window::read`](super::Window::read).
///
/// They are the file's, not a copy: other processes change them at any time, so two looks at the same
/// place can differ, and a number that was checked must not be looked up again. What must be consistent
/// is copied first, and then looked at.
#[derive(Clone, Copy)]
pub struct View<'w> {
    words: Words<'w>,
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident: $number:ident by $convert:ident,)+) => {
        $($(#[$doc])*
        #[inline]
        #[must_use]
        pub fn $name(&self, at: usize) -> Option<$number> {
            let part = self.words.part(at, size_of::<$number>())?;
            Some($number::$convert(part.first()))
        })+
    };
}

impl<'w> View<'w> {
    pub(super) fn new(words: Words<'w>) -> Self {
        Self { words }
    }

    pub(super) fn words(&self) -> Words<'w> {
        self.words
    }

    /// Bytes in the view.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says that this byte will be looked at soon, so that its cache line is on the way by then. A scan that
    /// touches little of much memory waits for lines, and this overlaps the waits. It touches no page that is
    /// not present, and outside of the view it does nothing.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        self.words.prefetch(at);
    }

    numbers! {
        /// One byte; `None` outside of the view, as for all of these.
        byte: u8 by from_ne_bytes,
        /// A number of two bytes, the lowest first.
        u16_le: u16 by from_le_bytes,
        /// A number of four bytes, the lowest first.
        u32_le: u32 by from_le_bytes,
        /// A number of eight bytes, the lowest first.
        u64_le: u64 by from_le_bytes,
        /// A number of two bytes, the highest first.
        u16_be: u16 by from_be_bytes,
        /// A number of four bytes, the highest first.
        u32_be: u32 by from_be_bytes,
        /// A number of eight bytes, the highest first.
        u64_be: u64 by from_be_bytes,
    }

    /// Copies from `at` on, and returns how many bytes that were: fewer than asked for only at the end.
    #[inline]
    pub fn copy_to(&self, at: usize, into: &mut [u8]) -> usize {
        let len = into.len().min(self.len().saturating_sub(at));
        match self.words.part(at, len) {
            Some(part) => part.load(&mut into[..len]),
            None => return 0,
        }
        len
    }

    /// Whether these bytes stand at `at`.
    #[must_use]
    pub fn matches(&self, at: usize, bytes: &[u8]) -> bool {
        let Some(part) = self.words.part(at, bytes.len()) else { return false };
        let inside = View { words: part };
        let mut compared = 0;
        let differs = inside.scan(0..bytes.len(), |at, chunk| {
            compared += chunk.len();
            if chunk == &bytes[at..at + chunk.len()] {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        differs.is_none() && compared == bytes.len()
    }

    /// Goes over a range (cut to the view) from its beginning to its end, in copies of up to 8 KiB; each
    /// comes with its place in the view. Returns what the closure breaks with.
    pub fn scan<B>(
        &self,
        range: Range<usize>,
        mut look: impl FnMut(usize, &[u8]) -> ControlFlow<B>,
    ) -> Option<B> {
        let end = range.end.min(self.len());
        let mut chunk = [0u8; CHUNK];
        let mut at = range.start;
        while at < end {
            let copied = self.copy_to(at, &mut chunk[..CHUNK.min(end - at)]);
            if let ControlFlow::Break(found) = look(at, &chunk[..copied]) {
                return Some(found);
            }
            at += copied;
        }
        None
    }

    /// The first place in a range (cut to the view) at which these bytes stand, all of them inside of
    /// it. Nothing stands everywhere.
    #[must_use]
    pub fn find(&self, range: Range<usize>, needle: &[u8]) -> Option<usize> {
        let end = range.end.min(self.len());
        if needle.is_empty() || needle.len() > CHUNK / 2 {
            let last = end.checked_sub(needle.len())?;
            return (range.start..=last).find(|at| self.matches(*at, needle));
        }
        let finder = memmem::Finder::new(needle);
        let mut chunk = [0u8; CHUNK];
        let mut at = range.start;
        while at < end {
            let copied = self.copy_to(at, &mut chunk[..CHUNK.min(end - at)]);
            if let Some(found) = finder.find(&chunk[..copied]) {
                return Some(at + found);
            }
            if at + copied == end {
                return None;
            }
            // What begins in the last bytes may end in the next chunk.
            at += copied - (needle.len() - 1);
        }
        None
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("len", &self.len()).finish_non_exhaustive()
    }
}
