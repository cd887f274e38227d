//! Storing into a window.

use std::fmt;
use std::ops::{Deref, Range};

use super::view::View;

/// Stores into a window, for the time of a [`Window::write`](super::Window::write), and looks at it.
///
/// A store is all or nothing as far as the window's end is concerned. It is not atomic: who reads at
/// the same time can see a part of it. Only a number that does not cross a multiple of eight bytes is
/// seen whole or not at all.
pub struct Pen<'w> {
    view: View<'w>,
}

impl<'w> Pen<'w> {
    pub(super) fn new(view: View<'w>) -> Self {
        Self { view }
    }

    /// Stores bytes at `at`; `false`, and nothing stored, if they do not fit.
    #[inline]
    #[must_use = "nothing is stored if they do not fit"]
    pub fn put(&self, at: usize, bytes: &[u8]) -> bool {
        let Some(part) = self.view.words().part(at, bytes.len()) else { return false };
        part.store(bytes);
        true
    }

    /// Stores a number of four bytes, the lowest first.
    #[inline]
    #[must_use = "nothing is stored if it does not fit"]
    pub fn put_u32_le(&self, at: usize, value: u32) -> bool {
        self.put(at, &value.to_le_bytes())
    }

    /// Stores a number of eight bytes, the lowest first.
    #[inline]
    #[must_use = "nothing is stored if it does not fit"]
    pub fn put_u64_le(&self, at: usize, value: u64) -> bool {
        self.put(at, &value.to_le_bytes())
    }

    /// Stores one byte all over a range; `false`, and nothing stored, if it does not fit.
    #[must_use = "nothing is stored if it does not fit"]
    pub fn fill(&self, range: Range<usize>, byte: u8) -> bool {
        let Some(len) = range.end.checked_sub(range.start) else { return false };
        if self.view.words().part(range.start, len).is_none() {
            return false;
        }
        let chunk = [byte; 512];
        let steps = range.clone().step_by(chunk.len());
        steps.into_iter().all(|at| self.put(at, &chunk[..chunk.len().min(range.end - at)]))
    }
}

impl<'w> Deref for Pen<'w> {
    type Target = View<'w>;

    fn deref(&self) -> &View<'w> {
        &self.view
    }
}

impl fmt::Debug for Pen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen").field("len", &self.view.len()).finish_non_exhaustive()
    }
}
