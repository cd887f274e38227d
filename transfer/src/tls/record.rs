//! The record layer of TLS 1.3, in place: RFC 8446, section 5. Bytes in, bytes out.
//!
//! A record lies in a slot, and the payload never moves:
//!
//! ```text
//!  0        5                    5 + len        + 1          + 16
//!  ┌────────┬────────────────────┬──────────────┬────────────┐
//!  │ header │ plaintext          │ content type │ tag        │
//!  └────────┴────────────────────┴──────────────┴────────────┘
//!            sealed in place: len ≤ 16384
//! ```

mod open;
#[cfg(test)]
mod oracle;
mod seal;
mod sent;
mod suite;

pub(crate) use open::{Header, Opener, Unreadable};
pub(crate) use seal::{KeySpent, Sealer};
pub(crate) use sent::Sent;
pub(crate) use suite::{Suite, TrafficKey};

/// What stands before the ciphertext: type, version, length.
pub(crate) const HEADER: usize = 5;
/// The most plaintext of one record.
pub(crate) const PLAINTEXT_MAX: usize = 1 << 14;
/// What stands behind the plaintext: the content type, sealed with it, and the tag.
pub(crate) const TAIL: usize = 1 + TAG;
/// A record at its longest, as we write them.
pub(crate) const SLOT: usize = HEADER + PLAINTEXT_MAX + TAIL;
/// The most ciphertext that a peer may put into one record: it may pad.
pub(crate) const CIPHERTEXT_MAX: usize = PLAINTEXT_MAX + 256;

const TAG: usize = 16;

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    ChangeCipherSpec,
    Alert,
    Handshake,
    ApplicationData,
}

impl ContentType {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::ChangeCipherSpec => 20,
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::ApplicationData => 23,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            _ => None,
        }
    }
}
