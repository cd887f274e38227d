//! Opening records in place.

use std::ops::Range;

use super::{CIPHERTEXT_MAX, ContentType, HEADER, TAIL, TrafficKey};

/// The receiving half of the record layer.
#[derive(Debug)]
pub(crate) struct Opener {
    key: TrafficKey,
    sequence: u64,
}

/// A record that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) kind: ContentType,
    /// Where its plaintext stands in the record.
    pub(crate) plaintext: Range<usize>,
}

/// Why a record cannot be read. Each ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not a type or a version of TLS 1.3: (type, version).
    NotTls(u8, u16),
    /// Longer than a record may be.
    TooLong(usize),
    /// The tag does not fit the content: it was changed on the way, or sealed with another key.
    BadTag,
    /// Nothing but padding in it, or a content type that is none.
    NoType,
}

/// What the first five bytes of a record say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: ContentType,
    /// Of the whole record, with this header.
    pub(crate) record_len: usize,
}

impl Header {
    /// `None` if there are fewer than five bytes.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Unreadable> {
        let Some(&[kind, major, minor, high, low]) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let version = u16::from_be_bytes([major, minor]);
        let not_tls = Unreadable::NotTls(kind, version);
        let kind = ContentType::from_code(kind).filter(|_| version == 0x0303).ok_or(not_tls)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > CIPHERTEXT_MAX {
            return Err(Unreadable::TooLong(len));
        }
        Ok(Some(Self { kind, record_len: HEADER + len }))
    }
}

impl Opener {
    pub(crate) fn new(key: TrafficKey, sequence: u64) -> Self {
        Self { key, sequence }
    }

    /// Opens one whole record, header included, in place.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<Opened, Unreadable> {
        let Some((&mut header, ciphertext)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(Unreadable::BadTag);
        };
        if ciphertext.len() < TAIL {
            return Err(Unreadable::BadTag);
        }
        let plaintext = self.key.open(self.sequence, header, ciphertext);
        let plaintext = plaintext.ok_or(Unreadable::BadTag)?;
        // A sequence number never wraps: 2⁶⁴ records cannot be received.
        self.sequence = self.sequence.saturating_add(1);
        // Padding is zeros behind the content type.
        let len = plaintext.iter().rposition(|&byte| byte != 0).ok_or(Unreadable::NoType)?;
        let kind = ContentType::from_code(plaintext[len]).ok_or(Unreadable::NoType)?;
        if len > super::PLAINTEXT_MAX {
            return Err(Unreadable::TooLong(len));
        }
        Ok(Opened { kind, plaintext: HEADER..HEADER + len })
    }

    /// The number of the next record.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[cfg(test)]
    pub(super) fn move_to(&mut self, sequence: u64) {
        self.sequence = sequence;
    }
}
