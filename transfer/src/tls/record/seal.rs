//! Sealing records in place.

use std::fmt;

use ringway_runtime::fault::{Sabotage, sabotaged};

use super::{ContentType, HEADER, PLAINTEXT_MAX, TAIL, TrafficKey};

/// Records that a key keeps for messages of the protocol itself when it is spent for data: the
/// `KeyUpdate` that replaces it, an alert, and one to spare.
const RESERVED: u64 = 3;

/// The sending half of the record layer: a key, and how often it may still be used.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: TrafficKey,
    sequence: u64,
    left: u64,
}

/// This key has sealed all the records that it may: update it, then go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeySpent;

impl fmt::Display for KeySpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key has sealed as many records as it may")
    }
}

impl std::error::Error for KeySpent {}

impl Sealer {
    /// `sequence` records have been sealed with this key already; `records_max` is the bound for all.
    pub(crate) fn new(key: TrafficKey, sequence: u64, records_max: u64) -> Self {
        let records_max = records_max.min(key.suite().records_max());
        Self { key, sequence, left: records_max.saturating_sub(sequence) }
    }

    /// At any number and with any limit, as no handshake would give them.
    #[cfg(test)]
    pub(super) fn at(key: TrafficKey, sequence: u64, left: u64) -> Self {
        Self { key, sequence, left }
    }

    #[cfg(test)]
    pub(super) fn move_to(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Seals the `len` bytes of plaintext that stand behind the [`HEADER`] of the slot, in place; the
    /// slot has room for [`TAIL`] more. Returns the length of the record.
    ///
    /// # Errors
    ///
    /// [`KeySpent`]; nothing was touched then.
    ///
    /// # Panics
    ///
    /// If the slot is too short, or `len` is more than [`PLAINTEXT_MAX`].
    pub(crate) fn seal(
        &mut self,
        slot: &mut [u8],
        len: usize,
        kind: ContentType,
    ) -> Result<usize, KeySpent> {
        assert!(len <= PLAINTEXT_MAX, "a record holds at most {PLAINTEXT_MAX} bytes");
        let reserved = if kind == ContentType::ApplicationData { RESERVED } else { 0 };
        let spent = self.left <= reserved && !sabotaged(Sabotage::KeyLimitIgnored);
        if spent || self.sequence == u64::MAX {
            return Err(KeySpent);
        }
        let (header, rest) = slot[..HEADER + len + TAIL].split_at_mut(HEADER);
        let (plaintext, tail) = rest.split_at_mut(len);
        let [high, low] = u16::try_from(len + TAIL).unwrap_or(u16::MAX).to_be_bytes();
        let text = [ContentType::ApplicationData.code(), 3, 3, high, low];
        header.copy_from_slice(&text);
        if !self.key.seal(self.sequence, text, plaintext, kind.code(), tail) {
            // The library fails only for lengths beyond what TLS has; nothing must leave then.
            return Err(KeySpent);
        }
        self.sequence += 1;
        self.left = self.left.saturating_sub(1);
        Ok(HEADER + len + TAIL)
    }

    /// Takes back the last `records` records, of which no byte may have reached the socket: their
    /// numbers are used again for what is sealed next.
    pub(crate) fn rewind(&mut self, records: u64) {
        debug_assert!(records <= self.sequence, "more records than were sealed");
        self.sequence = self.sequence.saturating_sub(records);
        self.left = self.left.saturating_add(records);
    }

    /// The number of the next record.
    #[cfg(test)]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether data can still be sealed before the key must be updated.
    pub(crate) fn is_spent(&self) -> bool {
        self.left <= RESERVED && !sabotaged(Sabotage::KeyLimitIgnored)
    }
}
