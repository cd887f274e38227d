//! Whose a byte is that does not belong where it was found.

use super::{INDEX_BITS, INDEX_MASK, OFFSET_MAX, fill, length, unmix};
use crate::quarantine;

/// Whose a foreign byte is, as far as the bytes after it tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It and those after it are canary bytes of a file.
    File {
        /// The file's number.
        file_id: u64,
        /// The offset of the foreign byte in that file.
        offset: u64,
    },
    /// Zeros: a hole, padding, or memory that nobody filled.
    Zeros,
    /// The quarantine's pattern: memory that was freed.
    Freed,
    /// Only few bytes differ, and those after them are right.
    Flipped {
        /// How many bytes lie from the first wrong to the last wrong one.
        span: usize,
    },
    /// Nothing can be said.
    Unknown,
}

/// How many bytes from the first foreign one on are looked at.
pub(super) const WINDOW: usize = 64;

/// How many bytes must agree before an origin is named: by chance they do so once in 2^32 streams.
const CERTAIN: usize = 4;

impl Origin {
    pub(super) fn of(seen: &[u8], wanted: &[u8]) -> Self {
        let begins_with =
            |byte| seen.len() >= CERTAIN && seen[..CERTAIN].iter().all(|&b| b == byte);
        if begins_with(0) {
            return Origin::Zeros;
        }
        if begins_with(quarantine::PATTERN) {
            return Origin::Freed;
        }
        if let Some(file) = (0..8).find_map(|lead| Self::canary(seen, lead)) {
            return file;
        }
        let wrong = seen.iter().zip(wanted).rposition(|(seen, wanted)| seen != wanted);
        match wrong {
            Some(last) if seen.len() - (last + 1) >= CERTAIN => Origin::Flipped { span: last + 1 },
            _ => Origin::Unknown,
        }
    }

    /// Reads the word that starts `lead` bytes after the first foreign one as canary, and believes it
    /// if the bytes around it agree.
    fn canary(seen: &[u8], lead: usize) -> Option<Self> {
        let word = seen.get(lead..)?.first_chunk::<8>()?;
        let key = unmix(u64::from_le_bytes(*word));
        let (file_id, index) = (key >> INDEX_BITS, key & INDEX_MASK);
        let offset = (index * 8).checked_sub(length(lead))?;
        let count = (lead + 8).max(8 + CERTAIN);
        let witness = seen.get(..count)?;
        if offset + length(count) > OFFSET_MAX {
            return None;
        }
        let mut own = [0; 8 + 8 + CERTAIN];
        fill(file_id, offset, &mut own[..count]);
        (own[..count] == *witness).then_some(Origin::File { file_id, offset })
    }
}
