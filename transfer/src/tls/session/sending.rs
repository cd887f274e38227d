//! What leaves: sealed records, in an order that nothing can break.
//!
//! ```text
//! pending   the rest of a half-sent record, then control records: goes before anything else
//! staged    records that a caller has sealed and the socket has not yet taken whole
//! owed      control messages that are not sealed yet, because something staged goes before them
//! ```

use ringway_runtime::fault::{Sabotage, sabotaged};

use super::message::Alert;
use crate::tls::record::{ContentType, KeySpent, Sealer};

/// The sending half of a session.
#[derive(Debug)]
pub(super) struct Sending {
    /// `None` where the kernel seals: a key is never used by two.
    pub(super) sealer: Option<Sealer>,
    pub(super) pending: Pending,
    pub(super) owed: Owed,
    /// Records in the hands of a caller.
    staged: u64,
    /// Records of data that were ever sealed; bytes of it where the kernel seals.
    sealed: u64,
    /// Plaintext of records that the socket has taken whole, in bytes.
    accepted: u64,
}

/// Control messages that wait until nothing is staged.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// The peer has asked for new keys, once or more often.
    pub(super) answer: bool,
    /// We want new keys; `true` asks the peer for new ones as well.
    pub(super) update: Option<bool>,
    pub(super) alert: Option<Alert>,
}

/// Sealed bytes that wait for the socket.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    sent: usize,
    /// Of the half-sent record that stands first.
    plaintext: u64,
    half_len: usize,
}

impl Sending {
    pub(super) fn new(sealer: Option<Sealer>) -> Self {
        let (pending, owed) = (Pending::default(), Owed::default());
        Self { sealer, pending, owed, staged: 0, sealed: 0, accepted: 0 }
    }

    pub(super) fn seal(&mut self, slot: &mut [u8], len: usize) -> Result<usize, KeySpent> {
        let sealer = self.sealer.as_mut().ok_or(KeySpent)?;
        let sealed = sealer.seal(slot, len, ContentType::ApplicationData)?;
        self.staged += 1;
        self.sealed += 1;
        Ok(sealed)
    }

    pub(super) fn took(&mut self, records: u64, plaintext: u64) {
        debug_assert!(records <= self.staged, "more records than were staged");
        self.staged = self.staged.saturating_sub(records);
        self.accepted += plaintext;
    }

    pub(super) fn rewind(&mut self, records: u64) {
        debug_assert!(records <= self.staged, "more records than were staged");
        let records = records.min(self.staged);
        self.staged -= records;
        if let Some(sealer) = &mut self.sealer {
            sealer.rewind(records);
        }
    }

    /// The rest of the first staged record, of which the socket has taken the beginning.
    pub(super) fn keep(&mut self, rest: &[u8], plaintext: u64) {
        debug_assert!(self.pending.is_empty(), "pending bytes go before a staged record");
        self.staged = self.staged.saturating_sub(1);
        if !sabotaged(Sabotage::HalfSentRecordForgotten) {
            self.pending.keep(rest, plaintext);
        }
    }

    /// The kernel has sealed and taken so much data in all, in bytes.
    pub(super) fn sealed_elsewhere(&mut self, bytes: u64) {
        (self.sealed, self.accepted) = (bytes, bytes);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.sealer.as_ref().is_some_and(Sealer::is_spent)
    }

    pub(super) fn staged(&self) -> u64 {
        self.staged
    }

    pub(super) fn sealed(&self) -> u64 {
        self.sealed
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The socket has taken this much of what was pending.
    pub(super) fn pending_sent(&mut self, count: usize) {
        self.accepted += self.pending.advance(count);
    }
}

impl Pending {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Plaintext of the half-sent record, in bytes: gone from the caller's view, not yet accepted.
    pub(crate) fn plaintext(&self) -> u64 {
        self.plaintext
    }

    /// Control records; they follow what is there.
    pub(crate) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
    }

    pub(crate) fn keep(&mut self, rest: &[u8], plaintext: u64) {
        self.bytes.extend_from_slice(rest);
        (self.plaintext, self.half_len) = (plaintext, self.bytes.len());
    }

    /// Returns the plaintext that has now gone out. What is empty holds no memory.
    pub(crate) fn advance(&mut self, count: usize) -> u64 {
        self.sent = (self.sent + count).min(self.bytes.len());
        let done = if self.sent >= self.half_len { std::mem::take(&mut self.plaintext) } else { 0 };
        if self.sent == self.bytes.len() {
            *self = Self::default();
        }
        done
    }
}
