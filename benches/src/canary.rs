//! Bytes that know where they belong: each is a function of its position, so a lost, doubled, foreign or
//! shifted byte is seen as such.

use std::fmt;

/// The step of splitmix64, the generator behind the canary and the bootstrap.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of splitmix64: one well-mixed word per counter value.
pub(crate) fn mix(counter: u64) -> u64 {
    let mut word = counter.wrapping_mul(STEP);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The contents of one file: two files with different seeds differ everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canary {
    seed: u64,
}

/// Bytes that are not those of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Position in the file.
    pub(crate) position: u64,
    pub(crate) expected: u8,
    pub(crate) found: u8,
}

impl Canary {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed: mix(seed) }
    }

    /// Writes the bytes that belong at `position` and after it.
    pub(crate) fn fill(&self, position: u64, out: &mut [u8]) {
        let mut index = position / 8;
        let skip = (position % 8) as usize;
        let (head, rest) = out.split_at_mut(((8 - skip) % 8).min(out.len()));
        if !head.is_empty() {
            head.copy_from_slice(&self.word(index)[skip..skip + head.len()]);
            index += 1;
        }
        for chunk in rest.chunks_mut(8) {
            chunk.copy_from_slice(&self.word(index)[..chunk.len()]);
            index += 1;
        }
    }

    /// Compares `found` with what belongs at `position`.
    ///
    /// # Errors
    ///
    /// The first byte that differs.
    pub(crate) fn check(&self, position: u64, found: &[u8]) -> Result<(), Mismatch> {
        let mut expected = [0; 4096];
        let mut at = position;
        for part in found.chunks(expected.len()) {
            let expected = &mut expected[..part.len()];
            self.fill(at, expected);
            if part != expected {
                let pairs = part.iter().zip(expected.iter());
                for ((&found, &expected), position) in pairs.zip(at..) {
                    if found != expected {
                        return Err(Mismatch { position, expected, found });
                    }
                }
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    fn word(&self, index: u64) -> [u8; 8] {
        mix(self.seed.wrapping_add(index)).to_le_bytes()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, expected, found } = self;
        write!(
            f,
            "wrong bytes: byte {position} of the file arrived as {found:#04x}, not {expected:#04x}"
        )
    }
}

impl std::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_equals_the_same_part_of_the_whole() {
        let canary = Canary::new(7);
        let mut whole = vec![0; 300];
        canary.fill(0, &mut whole);
        for from in 0..40 {
            for len in [0, 1, 3, 7, 8, 9, 64, 201] {
                let mut part = vec![0; len];
                canary.fill(from as u64, &mut part);
                assert_eq!(part, whole[from..from + len], "from {from}, {len} bytes");
            }
        }
    }

    #[test]
    fn first_wrong_byte_is_named() {
        let canary = Canary::new(7);
        let mut bytes = vec![0; 10_000];
        canary.fill(123, &mut bytes);
        assert_eq!(canary.check(123, &bytes), Ok(()));
        bytes[9_000] ^= 1;
        let mismatch = canary.check(123, &bytes).unwrap_err();
        assert_eq!(mismatch.position, 9_123);
        assert_eq!(mismatch.found, bytes[9_000]);
    }

    #[test]
    fn shifted_or_foreign_bytes_do_not_pass() {
        let mut bytes = vec![0; 4096];
        Canary::new(7).fill(8, &mut bytes);
        assert!(Canary::new(7).check(0, &bytes).is_err());
        assert!(Canary::new(8).check(8, &bytes).is_err());
    }
}
