//! The pool of registered buffers: arenas in size classes, lent as leases.
//!
//! ```text
//!   Pool ── class 0: arena ┌──────┬──────┬──────┬ … ┐   16 KiB each, one registration per arena
//!        │                 │ free │ lent │ free │   │
//!        │                 └──────┴──┬───┴──────┴ … ┘
//!        │                           └── Lease: exclusive; returns the slot when dropped
//!        └─ class 1: arena …
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Poll, Waker};

use memmap2::MmapMut;

use super::{Slots, Vector};
use crate::config::BufferClass;
use crate::stats::Counters;
use crate::wake::{Crowd, Ticket};

const PAGE: usize = 4096;

/// Buffers of one size, in one mapping.
struct Class {
    /// Only kept: everything goes through `base`.
    _arena: MmapMut,
    base: NonNull<u8>,
    arena_bytes: usize,
    bytes: usize,
    free: RefCell<Vec<u32>>,
}

/// All buffers of one ring.
pub(crate) struct Pool {
    classes: Vec<Class>,
    registered: Cell<bool>,
    /// Empty vectors of reads that are over, for the next ones.
    vectors: RefCell<Vec<Vec<libc::iovec>>>,
    waiters: Crowd,
    counters: Rc<Counters>,
}

impl Pool {
    /// Maps the arenas. They cost address space until they are used.
    pub(crate) fn new(classes: &[BufferClass], counters: Rc<Counters>) -> io::Result<Self> {
        let mut classes = classes.to_vec();
        classes.sort_by_key(|class| class.bytes);
        let classes = classes.iter().map(Class::new).collect::<io::Result<_>>()?;
        let (registered, vectors) = (Cell::new(false), RefCell::default());
        Ok(Self { classes, registered, vectors, waiters: Crowd::default(), counters })
    }

    /// The arenas, for registration with a ring.
    pub(crate) fn arenas(&self) -> Vec<libc::iovec> {
        let arena = |class: &Class| libc::iovec {
            iov_base: class.base.as_ptr().cast(),
            iov_len: class.arena_bytes,
        };
        self.classes.iter().map(arena).collect()
    }

    pub(crate) fn set_registered(&self, registered: bool) {
        self.registered.set(registered);
    }

    /// The largest buffer there is, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.classes.last().map_or(0, |class| class.bytes)
    }

    /// Lends the smallest free buffer of at least `bytes`, or else the largest free one below:
    /// `None` only if every buffer is lent.
    pub(crate) fn try_lease(self: &Rc<Self>, bytes: usize) -> Option<Lease> {
        let fits = self.classes.partition_point(|class| class.bytes < bytes);
        let upward = fits..self.classes.len();
        let downward = (0..fits).rev();
        let (class, slot) = upward.chain(downward).find_map(|class| {
            self.classes[class].free.borrow_mut().pop().map(|slot| (class, slot))
        })?;
        self.counters.leases.bump();
        Some(Lease { pool: Rc::clone(self), class, slot, filled: 0, secret: 0 })
    }

    /// Lends a buffer as [`Self::try_lease`] does, and waits for one if every buffer is lent.
    pub(crate) async fn lease(self: &Rc<Self>, bytes: usize) -> io::Result<Lease> {
        if self.classes.is_empty() {
            return Err(io::Error::other("the configuration has no buffers (Config::buffers)"));
        }
        let mut ticket = Ticket::default();
        poll_fn(|context| {
            if let Some(lease) = self.try_lease(bytes) {
                return Poll::Ready(Ok(lease));
            }
            if self.waiters.join(&mut ticket, context.waker()) {
                self.counters.lease_waits.bump();
            }
            Poll::Pending
        })
        .await
    }

    /// An empty vector for a read. There are never more of them than there were reads at once.
    pub(super) fn vector(&self) -> Vec<libc::iovec> {
        self.vectors.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn keep_vector(&self, mut vector: Vec<libc::iovec>) {
        vector.clear();
        self.vectors.borrow_mut().push(vector);
    }

    fn give_back(&self, class: usize, slot: u32) {
        self.classes[class].free.borrow_mut().push(slot);
        self.counters.leases.sub(1);
        self.waiters.leave().into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("registered", &self.registered.get())
            .field("largest", &self.largest())
            .finish_non_exhaustive()
    }
}

impl Class {
    fn new(class: &BufferClass) -> io::Result<Self> {
        let whole = class.bytes.max(1).checked_next_multiple_of(PAGE);
        let bytes = whole.ok_or(io::ErrorKind::OutOfMemory)?;
        let count = usize::try_from(class.count.max(1)).unwrap_or(1);
        let arena_bytes = bytes.saturating_mul(count);
        let mut arena = MmapMut::map_anon(arena_bytes)?;
        let base = NonNull::from(&mut arena[..]).cast();
        // Popped from the end: low slots are used first and stay warm.
        let free = (0..class.count.max(1)).rev().collect();
        Ok(Self { _arena: arena, base, arena_bytes, bytes, free: RefCell::new(free) })
    }
}

/// The exclusive right to one buffer of the pool. Dropping it gives the buffer back.
///
/// As a slice it shows only what was filled; the rest holds whatever an earlier user left there,
/// which is why it can be written to but is never sent.
pub struct Lease {
    pool: Rc<Pool>,
    class: usize,
    slot: u32,
    filled: usize,
    /// Bytes at the start that are wiped when the lease ends.
    secret: usize,
}

impl Lease {
    /// Bytes that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pool.classes[self.class].bytes
    }

    /// The whole buffer, to be written to; say with [`Self::set_filled`] how much of it counts.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let capacity = self.capacity();
        // SAFETY: `pointer` leads to `capacity` initialised bytes of the arena, which this lease
        // alone may use (see the module above), and which live as long as the pool it refers to.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), capacity) }
    }

    /// Says that the first `len` bytes count; more than fits is cut.
    pub fn set_filled(&mut self, len: usize) {
        self.filled = len.min(self.capacity());
    }

    /// Says that the first `len` bytes must not outlive the lease: they are overwritten with zeros
    /// when it ends, whoever ends it, the kernel included. 0 takes that back. An empty lease wipes
    /// nothing.
    pub fn set_secret(&mut self, len: usize) {
        self.secret = len.min(self.capacity());
    }

    /// The parts of the buffer that a vectored op reads into.
    pub(crate) fn vector(&self, slots: &Slots, from: usize, len: usize) -> Vector {
        Vector::new(&self.pool, (self.pointer(), self.capacity()), slots.ranges(from, len))
    }

    /// The index of the registration that covers this buffer, if the ring knows it.
    pub(crate) fn registered(&self) -> Option<u16> {
        self.pool.registered.get().then(|| u16::try_from(self.class).ok()).flatten()
    }

    /// Whether the buffer is registered with the ring.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registered().is_some()
    }

    fn pointer(&self) -> *mut u8 {
        let class = &self.pool.classes[self.class];
        class.base.as_ptr().wrapping_add(self.slot as usize * class.bytes)
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `spare_mut`, and `filled` never exceeds the capacity.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.filled) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let secret = self.secret;
        if secret > 0 {
            self.spare_mut()[..secret].fill(0);
        }
        self.pool.give_back(self.class, self.slot);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("capacity", &self.capacity())
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Rc<Pool> {
        let classes = [BufferClass { bytes: 8192, count: 1 }, BufferClass { bytes: 100, count: 2 }];
        Rc::new(Pool::new(&classes, Rc::default()).unwrap())
    }

    #[test]
    fn leases_do_not_overlap_and_come_back() {
        let pool = pool();
        let mut leases: Vec<_> = (0..3).map(|_| pool.try_lease(10).unwrap()).collect();
        assert!(pool.try_lease(1).is_none());
        for (mark, lease) in (1u8..).zip(&mut leases) {
            lease.spare_mut().fill(mark);
            lease.set_filled(usize::MAX);
        }
        for (mark, lease) in (1u8..).zip(&leases) {
            assert!(lease.iter().all(|byte| *byte == mark));
            assert_eq!(lease.len(), lease.capacity());
        }
        drop(leases);
        assert_eq!(pool.counters.leases.value(), 0);
        assert!(pool.try_lease(10).is_some());
    }

    #[test]
    fn a_larger_request_takes_a_larger_class_and_else_what_there_is() {
        let pool = pool();
        let large = pool.try_lease(5000).unwrap();
        assert_eq!(large.capacity(), 8192);
        assert_eq!(pool.try_lease(5000).unwrap().capacity(), PAGE, "the next smaller one");
    }

    #[test]
    fn what_is_secret_is_wiped_when_the_lease_ends_and_nothing_else_is() {
        let pool = pool();
        for (secret, left) in [(0, 9), (4, 0), (usize::MAX, 0)] {
            let mut lease = pool.try_lease(10).unwrap();
            lease.spare_mut().fill(9);
            lease.set_secret(secret);
            drop(lease);
            let mut lease = pool.try_lease(10).unwrap();
            assert_eq!(lease.spare_mut()[..4], [left; 4]);
            assert_eq!(lease.spare_mut()[4], if secret > 4 { 0 } else { 9 });
        }
    }

    #[test]
    fn the_vector_of_a_read_is_used_again() {
        let pool = pool();
        let lease = pool.try_lease(5000).unwrap();
        let slots = Slots { start: 0, gap: 5, room: 100, tail: 17 };
        let first = lease.vector(&slots, 0, 8192);
        let (at, parts) = first.parts();
        assert_eq!(parts, 64, "as many as there may be");
        drop(first);
        let second = lease.vector(&slots, 8100, 8192);
        assert_eq!((second.parts(), pool.vectors.borrow().len()), ((at, 0), 0), "beyond the end");
        drop(second);
        assert_eq!(pool.vectors.borrow().len(), 1);
    }

    #[test]
    fn a_lease_shows_only_what_was_filled() {
        let pool = pool();
        let mut lease = pool.try_lease(10).unwrap();
        lease.spare_mut().fill(9);
        lease.set_filled(4);
        drop(lease);
        let lease = pool.try_lease(10).unwrap();
        assert!(lease.is_empty(), "what the last user left is not shown");
    }
}
