//! Regions: pages of files that are mapped, counted, shared by those who hold them, and unmapped when
//! nobody does.
//!
//! ```text
//!   Window ─┐
//!   Window ─┼─ Hold ──▶ Region ──▶ Pages: the mapping, watched for SIGBUS
//!   View ───┘  (counted)   │
//!                          ▼
//!                        Shelf: caps, what is shared, what is idle (oldest first)
//! ```
//!
//! # Safety
//!
//! Memory that is mapped from a file is never a Rust slice here. Other processes and other threads
//! change it at any time, truncation replaces it by zeros (private pages too), and containment does the
//! same. So [`words`] is the only way to it: relaxed atomic loads and stores of aligned words of 64
//! bits, and of nothing else, so that accesses of different sizes never race. What they find is
//! whatever is there, which is all that is promised. A word lives as long as the [`Pages`] do, and
//! those live as long as anybody holds the region: a [`Hold`], or an op in the kernel.

mod flush;
mod forget;
mod lease;
mod pen;
mod populate;
mod refusal;
mod shelf;
mod view;
mod window;
mod words;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

pub use flush::preallocate;
pub use forget::forget;
pub use lease::{LeaseRefusal, ReadLease, read_lease};
pub use pen::Pen;
pub use populate::{Options, Populate, Populating, map};
pub use refusal::{Cause, Poisoned, Refusal, WriteError};
pub(crate) use shelf::Shelf;
use shelf::{Key, Tallies};
pub use view::View;
pub use window::{Intent, Window};

use crate::fault::{Sabotage, sabotaged};
use crate::sys::memory::{Pages, Sharing};

/// What may be done with a window, and who sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Loads only. Changes of the file are seen.
    ReadOnly,
    /// Stores stay with this window and its clones (copy-on-write): the file does not change. A page
    /// that was not written yet still shows changes of the file, so it is no snapshot.
    Private,
    /// Stores change the file, at once for all who map or read it. The file must be open for reading
    /// and writing.
    Shared,
}

impl Access {
    fn sharing(self) -> Sharing {
        Sharing { writable: self != Self::ReadOnly, shared: self != Self::Private }
    }
}

/// One mapping, and everything that is known about it.
pub(crate) struct Region {
    pages: Pages,
    /// Where in the file the pages begin.
    start: u64,
    access: Access,
    /// What it can be found by; private ones are nobody else's.
    key: Option<Key>,
    shelf: Arc<Shelf>,
    /// Windows that hold it; changes to and from 0 are made by the shelf.
    holds: AtomicU32,
    /// Since it is idle: its place in the queue of the cleaner.
    stamp: AtomicU64,
    /// The kernel refused to copy from it.
    spoilt: AtomicBool,
    /// The file was seen to be shorter.
    cut: AtomicBool,
    /// The errno of a flush that failed: what was written before may be lost.
    flush_errno: AtomicI32,
    locked: AtomicBool,
}

impl Region {
    /// What is wrong with the region as far as it is known here: no system call.
    fn known_poison(&self) -> Result<(), Cause> {
        if self.pages.hits() > 0 && !sabotaged(Sabotage::RegionFaultForgotten) {
            return Err(Cause::Fault);
        }
        if self.cut.load(Ordering::Acquire) {
            return Err(Cause::Truncated);
        }
        if self.spoilt.load(Ordering::Acquire) {
            return Err(Cause::Refused);
        }
        match self.flush_errno.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(Cause::Flush(errno)),
        }
    }

    fn spoil(&self, cause: Cause) {
        match cause {
            Cause::Truncated => self.cut.store(true, Ordering::Release),
            Cause::Flush(errno) => self.flush_errno.store(errno, Ordering::Release),
            Cause::Fault | Cause::Refused => self.spoilt.store(true, Ordering::Release),
        }
    }

    fn tallies(&self) -> &Tallies {
        self.shelf.tallies()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.shelf.unmapped(self.pages.len() as u64);
    }
}

/// A reference to a region that keeps it from becoming idle.
pub(crate) struct Hold(Arc<Region>);

impl Hold {
    fn region(&self) -> &Arc<Region> {
        &self.0
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        // It is held already, so it does not come from idleness.
        self.0.holds.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.shelf.release(&self.0);
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("start", &self.start)
            .field("len", &self.pages.len())
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
