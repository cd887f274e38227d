//! Bytes that know whose they are.
//!
//! Every byte is a function of a file's number and the offset in it, so that a receiver can tell a
//! right byte from a foreign one without having the file, and mostly even whose the foreign one is.
//! Each aligned word of eight bytes is a bijection of (file, word index):
//!
//! ```text
//!   63            44 43                      0
//!  ┌────────────────┬─────────────────────────┐   mix    ┌───────────────┐
//!  │ file id, 20 bit│ offset / 8, 44 bit      │ ───────▶ │ 8 bytes, LE   │
//!  └────────────────┴─────────────────────────┘ ◀─────── └───────────────┘
//!                                                 unmix
//! ```

mod checker;
mod origin;

pub use checker::{Checker, Foreign};
pub use origin::Origin;

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The greatest number that a file may have.
pub const FILE_ID_MAX: u64 = (1 << (64 - INDEX_BITS)) - 1;

/// The greatest offset that a byte may have: 128 TiB.
pub const OFFSET_MAX: u64 = (1 << (INDEX_BITS + 3)) - 1;

/// The distance of two islands in a sparse file: 256 MiB.
pub const SPARSE_STRIDE: u64 = 256 << 20;

/// The length of an island in a sparse file, 128 KiB; it lies around a multiple of
/// [`SPARSE_STRIDE`], and thus across the borders at 2 GiB and 4 GiB.
pub const SPARSE_ISLAND: u64 = 128 << 10;

const INDEX_BITS: u32 = 44;

/// The byte at `offset` of file `file_id`.
///
/// # Panics
///
/// When a number is beyond [`FILE_ID_MAX`] or [`OFFSET_MAX`].
#[must_use]
pub fn byte_at(file_id: u64, offset: u64) -> u8 {
    mix(word_key(file_id, offset)).to_le_bytes()[byte_in_word(offset)]
}

/// Fills `buffer` with the bytes of file `file_id` from `offset` on.
///
/// # Panics
///
/// When a number is beyond [`FILE_ID_MAX`] or [`OFFSET_MAX`].
pub fn fill(file_id: u64, offset: u64, buffer: &mut [u8]) {
    let lead = (8 - byte_in_word(offset)) % 8;
    let (head, rest) = buffer.split_at_mut(lead.min(buffer.len()));
    for (byte, at) in head.iter_mut().zip(offset..) {
        *byte = byte_at(file_id, at);
    }
    if rest.is_empty() {
        return;
    }
    // The last byte's number is checked by itself, and all between are smaller.
    let _ = word_key(file_id, offset + length(lead) + length(rest.len()) - 1);
    let mut key = word_key(file_id, offset + length(lead));
    let (words, tail) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = mix(key).to_le_bytes();
        key = key.wrapping_add(1);
    }
    let tail_bytes = mix(key).to_le_bytes();
    tail.copy_from_slice(&tail_bytes[..tail.len()]);
}

/// The `len` bytes of a canary file from an offset on.
///
/// # Panics
///
/// As [`fill`] does.
#[must_use]
pub fn bytes(file_id: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(file_id, offset, &mut bytes);
    bytes
}

/// Writes a new file of `len` bytes, all canary.
///
/// # Errors
///
/// Whatever creating or writing the file gives.
pub fn write_file(path: impl AsRef<Path>, file_id: u64, len: u64) -> io::Result<()> {
    write_islands(path.as_ref(), file_id, len, Layout::Dense)
}

/// Writes a new file of `len` bytes that is a hole with islands of canary: one of
/// [`SPARSE_ISLAND`] bytes around every multiple of [`SPARSE_STRIDE`], and half a one at the end.
///
/// # Errors
///
/// Whatever creating or writing the file gives.
pub fn write_sparse_file(path: impl AsRef<Path>, file_id: u64, len: u64) -> io::Result<()> {
    write_islands(path.as_ref(), file_id, len, Layout::Sparse { len })
}

/// Which bytes of a file are canary; the others are zeros.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Dense,
    Sparse { len: u64 },
}

impl Layout {
    /// Whether there is canary at `offset`, and for how many bytes this holds.
    fn run(self, offset: u64) -> (bool, u64) {
        let Layout::Sparse { len } = self else { return (true, u64::MAX) };
        let last_island = len.saturating_sub(SPARSE_ISLAND / 2);
        if offset >= last_island {
            return (true, u64::MAX);
        }
        let phase = (offset + SPARSE_ISLAND / 2) % SPARSE_STRIDE;
        let island = phase < SPARSE_ISLAND;
        let end = if island { SPARSE_ISLAND } else { SPARSE_STRIDE };
        (island, (end - phase).min(last_island - offset))
    }

    fn fill(self, file_id: u64, mut offset: u64, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let (island, run) = self.run(offset);
            let count = usize::try_from(run).unwrap_or(usize::MAX).min(buffer.len());
            let (piece, rest) = buffer.split_at_mut(count);
            if island {
                fill(file_id, offset, piece);
            } else {
                piece.fill(0);
            }
            offset += length(count);
            buffer = rest;
        }
    }
}

fn write_islands(path: &Path, file_id: u64, len: u64, layout: Layout) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(len)?;
    let mut block = vec![0; 1 << 18];
    let mut offset = 0;
    while offset < len {
        let (island, run) = layout.run(offset);
        let run = run.min(len - offset);
        if island {
            let count = usize::try_from(run).unwrap_or(usize::MAX).min(block.len());
            let piece = &mut block[..count];
            fill(file_id, offset, piece);
            file.write_all_at(piece, offset)?;
            offset += length(count);
        } else {
            offset += run;
        }
    }
    Ok(())
}

const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const FILE_IDS: RangeInclusive<u64> = 0..=FILE_ID_MAX;

fn word_key(file_id: u64, offset: u64) -> u64 {
    assert!(FILE_IDS.contains(&file_id), "file id {file_id} is beyond {FILE_ID_MAX}");
    assert!(offset <= OFFSET_MAX, "offset {offset} is beyond {OFFSET_MAX}");
    (file_id << INDEX_BITS) | (offset / 8)
}

fn byte_in_word(offset: u64) -> usize {
    usize::from((offset % 8).to_le_bytes()[0])
}

/// A length as an offset; `usize` has at most 64 bits on every target of Rust.
fn length(bytes: usize) -> u64 {
    bytes as u64
}

// Odd factors have an inverse modulo 2^64, and `x ^ x >> 32` is its own: so the way back is exact.
// The addend keeps word 0 of file 0 from being zeros, which are what a hole looks like.
const ADDEND: u64 = 0x9e37_79b9_7f4a_7c15;
const FIRST: u64 = 0xbf58_476d_1ce4_e5b9;
const SECOND: u64 = 0x94d0_49bb_1331_11eb;
const FIRST_INVERSE: u64 = inverse(FIRST);
const SECOND_INVERSE: u64 = inverse(SECOND);

const fn mix(key: u64) -> u64 {
    let key = key.wrapping_add(ADDEND);
    let key = (key ^ key >> 32).wrapping_mul(FIRST);
    let key = (key ^ key >> 32).wrapping_mul(SECOND);
    key ^ key >> 32
}

const fn unmix(word: u64) -> u64 {
    let key = (word ^ word >> 32).wrapping_mul(SECOND_INVERSE);
    let key = (key ^ key >> 32).wrapping_mul(FIRST_INVERSE);
    (key ^ key >> 32).wrapping_sub(ADDEND)
}

/// Newton's iteration: each round doubles the number of right low bits, and an odd number is its own
/// inverse in the lowest three.
const fn inverse(odd: u64) -> u64 {
    let mut guess = odd;
    let mut round = 0;
    while round < 5 {
        guess = guess.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(guess)));
        round += 1;
    }
    guess
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::Instant;

    fn bytes(file_id: u64, offset: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        fill(file_id, offset, &mut buffer);
        buffer
    }

    #[test]
    fn filling_agrees_with_the_single_byte() {
        for offset in (0..20).chain([4095, (1 << 32) - 3, OFFSET_MAX - 40]) {
            for len in 0..40 {
                let naive: Vec<u8> =
                    (offset..).take(len).map(|offset| byte_at(11, offset)).collect();
                assert_eq!(bytes(11, offset, len), naive, "offset {offset}, length {len}");
            }
        }
    }

    #[test]
    fn the_way_back_is_exact() {
        for key in [0, 1, u64::MAX, 7 << INDEX_BITS | 12345] {
            assert_eq!(unmix(mix(key)), key);
        }
    }

    #[test]
    #[should_panic(expected = "file id 1048576 is beyond 1048575")]
    fn a_file_id_that_would_alias_another_is_refused() {
        let _ = byte_at(FILE_ID_MAX + 1, 0);
    }

    #[test]
    #[should_panic(expected = "is beyond")]
    fn a_range_that_ends_beyond_the_last_offset_is_refused() {
        fill(0, OFFSET_MAX - 10, &mut [0; 20]);
    }

    #[test]
    fn a_file_holds_what_the_checker_expects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("canary");
        write_file(&path, 5, 1_000_003).unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), 1_000_003);
        Checker::new(5, 0).feed(&content).unwrap();
    }

    #[test]
    fn a_sparse_file_has_canary_across_the_borders_and_zeros_between() {
        let len = (4 << 30) + 12_345;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        write_sparse_file(&path, 5, len).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), len);

        let mut window = vec![0; 1 << 18];
        let border = 1_u64 << 31;
        for start in [0, border - (1 << 17), border + 1, 1000 << 20, (4 << 30) - (1 << 17), len - 9]
        {
            let count = usize::try_from(len - start).unwrap().min(window.len());
            file.read_exact_at(&mut window[..count], start).unwrap();
            Checker::sparse(5, start, len).feed(&window[..count]).unwrap();
        }
        file.read_exact_at(&mut window[..8], border - 4).unwrap();
        assert_eq!(window[..8], bytes(5, border - 4, 8));

        let found = Checker::sparse(5, 1 << 20, len).feed(&bytes(5, 1 << 20, 100)).unwrap_err();
        assert_eq!(found.origin, Origin::File { file_id: 5, offset: 1 << 20 });
    }

    #[test]
    fn filling_is_fast_enough_not_to_be_the_thing_measured() {
        let mut buffer = vec![0; 1 << 20];
        let start = Instant::now();
        (0..16).for_each(|round| fill(1, round << 20, black_box(&mut buffer)));
        let rate = 16.0 / 1024.0 / start.elapsed().as_secs_f64();
        println!("{rate:.2} GiB/s");
        assert!(rate > 0.005, "{rate:.3} GiB/s, unoptimised and on a loaded machine");
    }
}
