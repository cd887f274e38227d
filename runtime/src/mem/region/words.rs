//! The only way to the memory of a region: aligned words of 64 bits, loaded and stored atomically.
//!
//! Relaxed atomics compile to plain loads and stores. Bytes at the edges of a store are merged into
//! their word by compare-and-swap, so that a neighbour who writes the rest of the word loses nothing.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::memory::Pages;

const WORD: usize = size_of::<u64>();

/// A range of mapped bytes, as long as its pages are held.
#[derive(Clone, Copy)]
pub(super) struct Words<'p> {
    /// Where the pages begin, which is aligned to more than a word.
    base: NonNull<AtomicU64>,
    /// Where the range begins in them, in bytes.
    start: usize,
    len: usize,
    pages: PhantomData<&'p Pages>,
}

impl<'p> Words<'p> {
    /// The bytes `start..start + len` of the pages, cut to what is mapped.
    pub(super) fn new(pages: &'p Pages, start: usize, len: usize) -> Self {
        let start = start.min(pages.len());
        let len = len.min(pages.len() - start);
        Self { base: pages.base().cast(), start, len, pages: PhantomData }
    }

    /// No bytes at all.
    pub(super) fn none() -> Self {
        Self { base: NonNull::dangling(), start: 0, len: 0, pages: PhantomData }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The part `at..at + len`, if it lies inside.
    #[inline]
    pub(super) fn part(self, at: usize, len: usize) -> Option<Self> {
        (at <= self.len && len <= self.len - at).then(|| Self {
            start: self.start + at,
            len,
            ..self
        })
    }

    /// The word that holds byte `at` of the pages; for those whose range covers a byte of it.
    #[inline]
    fn word(&self, at: usize) -> &'p AtomicU64 {
        debug_assert!(at < self.start + self.len, "a word outside of the range");
        let word = self.base.as_ptr().cast_const().wrapping_add(at / WORD);
        // SAFETY: the range lies in pages that are held for 'p and whose length is a multiple of a
        // word, so the word of each of its bytes is mapped; everybody uses them as atomics of 64 bits.
        unsafe { &*word }
    }

    /// Asks for the cache line of byte `at` of the range and does not wait for it. On machines without a stable
    /// instruction for it nothing is asked.
    #[inline]
    pub(super) fn prefetch(&self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        if at < self.len {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let word = self.base.as_ptr().cast_const().wrapping_add((self.start + at) / WORD);
            // SAFETY: a prefetch is a hint that loads nothing into a register and raises no fault, whatever
            // the address is.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(word.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }

    /// Copies all of the range; `into` has its length.
    #[inline]
    pub(super) fn load(&self, into: &mut [u8]) {
        debug_assert_eq!(into.len(), self.len);
        let lead = self.lead().min(into.len());
        let (head, rest) = into.split_at_mut(lead);
        let mut at = self.start;
        if !head.is_empty() {
            let word = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
            head.copy_from_slice(&word[at % WORD..][..lead]);
            at += lead;
        }
        let (whole, tail) = rest.as_chunks_mut::<WORD>();
        for chunk in whole {
            *chunk = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
            at += WORD;
        }
        if !tail.is_empty() {
            let word = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
            tail.copy_from_slice(&word[..tail.len()]);
        }
    }

    /// The first `N` bytes of the range, which has so many; `N` is at most 8.
    #[inline]
    pub(super) fn first<const N: usize>(&self) -> [u8; N] {
        let shift = self.start % WORD;
        if shift + N > WORD {
            return self.first_across();
        }
        let word = self.word(self.start).load(Ordering::Relaxed).to_ne_bytes();
        let mut bytes = [0; N];
        bytes.copy_from_slice(&word[shift..shift + N]);
        bytes
    }

    /// The same where they lie in two words. Apart from the other, so that that stays short enough to be
    /// inlined where a scan loads one number of each record.
    #[cold]
    #[inline(never)]
    fn first_across<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.load(&mut bytes);
        bytes
    }

    /// Copies `from` over all of the range; both have one length, and the pages are writable.
    #[inline]
    pub(super) fn store(&self, from: &[u8]) {
        debug_assert_eq!(from.len(), self.len);
        let lead = self.lead().min(from.len());
        let (head, rest) = from.split_at(lead);
        let mut at = self.start;
        if !head.is_empty() {
            self.merge(at, head);
            at += lead;
        }
        let (whole, tail) = rest.as_chunks::<WORD>();
        for chunk in whole {
            self.word(at).store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
            at += WORD;
        }
        if !tail.is_empty() {
            self.merge(at, tail);
        }
    }

    /// Stores some bytes of one word, and leaves the others to whoever writes them.
    fn merge(&self, at: usize, bytes: &[u8]) {
        let shift = at % WORD;
        let merged = |word: u64| {
            let mut word = word.to_ne_bytes();
            word[shift..shift + bytes.len()].copy_from_slice(bytes);
            Some(u64::from_ne_bytes(word))
        };
        let _ = self.word(at).fetch_update(Ordering::Relaxed, Ordering::Relaxed, merged);
    }

    /// Bytes up to the next word, 0 if the range begins with one.
    #[inline]
    fn lead(&self) -> usize {
        self.start.wrapping_neg() % WORD
    }
}
