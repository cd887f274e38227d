//! What one receiver is to have, counted as it happens, so that nobody need look through every file for it.

use std::collections::BTreeSet;

use super::{Delivery, FileId};

/// The versions of files that a receiver is to have, by how far they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// What waits for its turn, oldest first.
    pub(super) waiting: BTreeSet<FileId>,
    pub(super) sending: BTreeSet<FileId>,
    /// Bytes of what waits.
    pub(crate) queued_bytes: u64,
    pub(crate) delivered: u64,
    /// Dead letters.
    pub(crate) given_up: u64,
}

impl Backlog {
    /// A version of so many bytes has come so far.
    pub(super) fn join(&mut self, id: FileId, delivery: &Delivery, bytes: u64) {
        match delivery {
            Delivery::Queued { .. } => {
                self.waiting.insert(id);
                self.queued_bytes = self.queued_bytes.saturating_add(bytes);
            }
            Delivery::Sending { .. } => {
                self.sending.insert(id);
            }
            Delivery::Delivered => self.delivered += 1,
            Delivery::GivenUp { .. } => self.given_up += 1,
        }
    }

    /// It is not there any more.
    pub(super) fn leave(&mut self, id: FileId, delivery: &Delivery, bytes: u64) {
        match delivery {
            Delivery::Queued { .. } => {
                self.waiting.remove(&id);
                self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
            }
            Delivery::Sending { .. } => {
                self.sending.remove(&id);
            }
            Delivery::Delivered => self.delivered = self.delivered.saturating_sub(1),
            Delivery::GivenUp { .. } => self.given_up = self.given_up.saturating_sub(1),
        }
    }

    /// The version that is on its way, or is next.
    pub(super) fn first(&self) -> Option<FileId> {
        self.sending.first().into_iter().chain(self.waiting.first()).min().copied()
    }

    /// Versions that wait for their turn.
    pub(crate) fn queued(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Versions that are on their way.
    pub(crate) fn sending(&self) -> u64 {
        self.sending.len() as u64
    }
}
