//! An allocator that holds freed blocks back and looks whether somebody still writes into them.
//!
//! A sanitizer instruments the program's own stores. A completion ring has a second writer: the
//! kernel, which fills a buffer whenever the data arrives, whether or not its owner has freed it. Only
//! the memory itself can show that, so it is kept:
//!
//! ```text
//!  dealloc ──▶ fill with PATTERN ──▶ held ────────────────▶ verified again ──▶ really freed
//!                                     │  (ring of blocks)    (when it is the oldest
//!                                     │                       and the ring is full)
//!                                  verify() ──▶ Err(LateWrite) if a byte differs
//! ```
//!
//! ```
//! use ringway_testkit::Quarantine;
//!
//! #[global_allocator]
//! static ALLOCATOR: Quarantine = Quarantine::new();
//!
//! drop(vec![0_u8; 4096]);
//! Quarantine::verify().expect("nobody writes into freed memory");
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a freed byte is overwritten with.
pub const PATTERN: u8 = 0xdb;

/// How many blocks are held at most.
pub const HELD_BLOCKS_MAX: usize = 8192;

/// How many bytes are held at most: 64 MiB.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// Bigger blocks than this (16 MiB) are freed at once, lest one of them push all others out. The
/// system allocator unmaps them, and a late write then fails by itself.
pub const BLOCK_BYTES_MAX: usize = 16 << 20;

/// Smaller blocks than this are freed at once unless [`Quarantine::with_min_size`] says otherwise.
pub const BLOCK_BYTES_MIN_DEFAULT: usize = 64;

static RING: Mutex<Ring> = Mutex::new(Ring::new());
static HOLDING: AtomicBool = AtomicBool::new(true);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The allocator; there is one ring of held blocks for the process, however it is named.
#[derive(Debug)]
pub struct Quarantine {
    block_bytes_min: usize,
}

impl Quarantine {
    /// An allocator that holds blocks from [`BLOCK_BYTES_MIN_DEFAULT`] to [`BLOCK_BYTES_MAX`] bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_min_size(BLOCK_BYTES_MIN_DEFAULT)
    }

    /// An allocator that holds blocks from `block_bytes_min` bytes on. The smaller it is, the sooner
    /// short-lived strings push the buffers out of the ring.
    #[must_use]
    pub const fn with_min_size(block_bytes_min: usize) -> Self {
        Quarantine { block_bytes_min }
    }

    /// Looks at every held block.
    ///
    /// Once a late write was seen, also in a block that has left the ring since, it is reported by
    /// every later call.
    ///
    /// # Errors
    ///
    /// The first byte that was written after its block was freed.
    ///
    /// # Panics
    ///
    /// When this is not the `#[global_allocator]` of the binary, and has therefore watched nothing.
    pub fn verify() -> Result<(), LateWrite> {
        assert!(
            Self::allocations() > 0,
            "Quarantine is not the #[global_allocator] of this binary: it watches nothing"
        );
        ring().verify()
    }

    /// How many times the process has allocated or reallocated until now.
    #[must_use]
    pub fn allocations() -> u64 {
        ALLOCATIONS.load(Ordering::Relaxed)
    }

    /// Switches the holding of freed blocks off or on again; it starts on. What is held stays held.
    pub fn set_holding(on: bool) {
        HOLDING.store(on, Ordering::Relaxed);
    }

    /// How much is held now.
    #[must_use]
    pub fn held() -> Held {
        let ring = ring();
        Held { blocks: ring.count, bytes: ring.bytes }
    }
}

impl Default for Quarantine {
    fn default() -> Self {
        Self::new()
    }
}

/// How much the quarantine holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Freed blocks that are not yet given back to the system.
    pub blocks: usize,
    /// The sum of their sizes.
    pub bytes: usize,
}

/// A freed block that somebody wrote into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateWrite {
    /// Where the block lies.
    pub addr: usize,
    /// How long it is, in bytes.
    pub size: usize,
    /// The first byte in it that is not [`PATTERN`] any more.
    pub offset: usize,
    /// How many bytes after `offset` lie until the last such byte, that one included.
    pub span: usize,
    /// What stands at `offset` and after it; past the end of the block it is [`PATTERN`].
    pub found: [u8; 16],
}

impl fmt::Display for LateWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LateWrite { addr, size, offset, span, found } = self;
        write!(
            f,
            "a freed block of {size} bytes at {addr:#x} was written to: \
             {span} bytes from offset {offset} on, which begin {found:02x?}"
        )
    }
}

impl std::error::Error for LateWrite {}

// SAFETY: every block comes from `System` and goes back to it with the layout it was made with, at once
// or later; in between nobody else is given it. Nothing here allocates or unwinds.
unsafe impl GlobalAlloc for Quarantine {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller promises a layout of a size that is not zero; it is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller promises a layout of a size that is not zero; it is passed on as it is.
        unsafe { System.alloc_zeroed(layout) }
    }

    // `realloc` stays the trait's own, which allocates, copies and deallocates: the block that a
    // growing vector leaves is as worth watching as any other.

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let watched = (self.block_bytes_min..=BLOCK_BYTES_MAX).contains(&layout.size());
        if watched && HOLDING.load(Ordering::Relaxed) {
            // SAFETY: the caller gives up a live block of this size, and nobody else may use it now.
            unsafe { pointer.write_bytes(PATTERN, layout.size()) };
            hold(Block {
                addr: pointer.expose_provenance(),
                size: layout.size(),
                align: layout.align(),
            });
        } else {
            // SAFETY: the caller promises that the block was allocated here, thus by `System`, with
            // this layout.
            unsafe { System.dealloc(pointer, layout) };
        }
    }
}

fn ring() -> MutexGuard<'static, Ring> {
    // A panic with the lock held would leave a consistent ring behind: there is none, but a test's
    // verdict should not hang on it.
    RING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a block into the ring, after as many of the oldest as must leave for it.
fn hold(block: Block) {
    loop {
        let Some(oldest) = ring().admit(block) else { return };
        // Looked at and freed outside the lock, so that other threads go on allocating.
        if let Some(late) = oldest.late_write() {
            ring().late.get_or_insert(late);
        }
        oldest.free();
    }
}

/// A block that its owner has freed and that is kept; the ring is its only owner.
#[derive(Clone, Copy)]
struct Block {
    addr: usize,
    size: usize,
    align: usize,
}

impl Block {
    const NONE: Block = Block { addr: 0, size: 0, align: 1 };

    fn late_write(&self) -> Option<LateWrite> {
        let start = std::ptr::with_exposed_provenance::<u8>(self.addr);
        // SAFETY: the block was filled in its whole size and is not freed while it is held.
        let bytes = unsafe { std::slice::from_raw_parts(start, self.size) };
        if is_untouched(bytes) {
            return None;
        }
        let offset = bytes.iter().position(|&byte| byte != PATTERN)?;
        let last = bytes.iter().rposition(|&byte| byte != PATTERN)?;
        let mut found = [PATTERN; 16];
        found.iter_mut().zip(&bytes[offset..]).for_each(|(to, from)| *to = *from);
        Some(LateWrite { addr: self.addr, size: self.size, offset, span: last - offset + 1, found })
    }

    fn free(self) {
        // An allocator must not unwind; the layout was valid once, and a leak is the harmless answer.
        let Ok(layout) = Layout::from_size_align(self.size, self.align) else { return };
        let start = std::ptr::with_exposed_provenance_mut(self.addr);
        // SAFETY: the block came from `System` with this layout, and has left the ring, so that it is
        // freed once.
        unsafe { System.dealloc(start, layout) };
    }
}

/// Whether every byte is [`PATTERN`]: compared by pieces, which is fast in unoptimised tests too.
fn is_untouched(bytes: &[u8]) -> bool {
    const PIECE: &[u8] = &[PATTERN; 4096];
    bytes.chunks(PIECE.len()).all(|chunk| chunk == &PIECE[..chunk.len()])
}

/// The held blocks, oldest first.
struct Ring {
    blocks: [Block; HELD_BLOCKS_MAX],
    oldest: usize,
    count: usize,
    bytes: usize,
    late: Option<LateWrite>,
}

impl Ring {
    const fn new() -> Self {
        let blocks = [Block::NONE; HELD_BLOCKS_MAX];
        Ring { blocks, oldest: 0, count: 0, bytes: 0, late: None }
    }

    /// Takes the block in if there is room; otherwise hands out the oldest, and is to be asked again.
    fn admit(&mut self, block: Block) -> Option<Block> {
        if self.count < HELD_BLOCKS_MAX && self.bytes + block.size <= HELD_BYTES_MAX {
            self.blocks[(self.oldest + self.count) % HELD_BLOCKS_MAX] = block;
            self.count += 1;
            self.bytes += block.size;
            return None;
        }
        let oldest = self.blocks[self.oldest];
        self.oldest = (self.oldest + 1) % HELD_BLOCKS_MAX;
        self.count -= 1;
        self.bytes -= oldest.size;
        Some(oldest)
    }

    fn verify(&mut self) -> Result<(), LateWrite> {
        if self.late.is_none() {
            let held = (0..self.count).map(|at| self.blocks[(self.oldest + at) % HELD_BLOCKS_MAX]);
            self.late = held.into_iter().find_map(|block| block.late_write());
        }
        self.late.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarantine_that_is_not_installed_says_so() {
        // This binary has the system's allocator; tests/quarantine.rs has the quarantine.
        let outcome = std::panic::catch_unwind(Quarantine::verify);
        assert!(outcome.is_err());
    }

    #[test]
    fn the_ring_is_bounded_by_blocks_and_by_bytes() {
        let mut ring = Box::new(Ring::new());
        let small = Block { addr: 0, size: 64, align: 1 };
        for _ in 0..HELD_BLOCKS_MAX {
            assert!(ring.admit(small).is_none());
        }
        assert!(ring.admit(small).is_some());
        assert!(ring.admit(small).is_none());

        let mut ring = Box::new(Ring::new());
        let large = Block { addr: 0, size: BLOCK_BYTES_MAX, align: 1 };
        for _ in 0..HELD_BYTES_MAX / BLOCK_BYTES_MAX {
            assert!(ring.admit(large).is_none());
        }
        assert_eq!(ring.admit(small).map(|oldest| oldest.size), Some(BLOCK_BYTES_MAX));
        assert!(ring.admit(small).is_none());
        assert_eq!(ring.bytes, HELD_BYTES_MAX - BLOCK_BYTES_MAX + 64);
    }
}
