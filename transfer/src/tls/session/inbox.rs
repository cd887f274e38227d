//! What has been received and not yet read: one buffer, held only while something is in it.
//!
//! ```text
//!  0      plain.start   plain.end      cipher.start        cipher.end       len
//!  ┌──────┬─────────────┬──────────────┬───────────────────┬───────────────┐
//!  │ read │ plaintext   │ opened       │ ciphertext        │ room          │
//!  └──────┴─────────────┴──────────────┴───────────────────┴───────────────┘
//! ```

use std::ops::Range;

use super::{Event, Fault, Session};
use crate::tls::record::{CIPHERTEXT_MAX, HEADER, Header};

/// The first room that is made, in bytes: a request fits.
const ROOM_FIRST: usize = 4 << 10;
/// The most room that is made at once, in bytes: four records.
const ROOM_MAX: usize = 64 << 10;

/// Received bytes, opened in place record by record.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    plain: Range<usize>,
    cipher: Range<usize>,
    /// Room for the next receive: grows while the peer fills it.
    appetite: usize,
}

impl Inbox {
    /// With what a handshake has left: plaintext that was read already, and ciphertext behind it.
    pub(crate) fn with_leftover(plaintext: &[u8], ciphertext: &[u8]) -> Self {
        let bytes = [plaintext, ciphertext].concat();
        let (plain, cipher) = (0..plaintext.len(), plaintext.len()..bytes.len());
        Self { bytes, plain, cipher, appetite: 0 }
    }

    /// Plaintext that can be taken, in bytes.
    pub(crate) fn unread(&self) -> usize {
        self.plain.len()
    }

    /// Bytes of memory held.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes plaintext, as much as there is and fits.
    pub(crate) fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.plain.len());
        into[..count].copy_from_slice(&self.bytes[self.plain.start..self.plain.start + count]);
        self.plain.start += count;
        self.settle();
        count
    }

    /// Room for a receive: enough for the rest of the record that has begun.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let begun = self.cipher.len();
        let needed = match Header::read(&self.bytes[self.cipher.clone()]) {
            Ok(Some(header)) => header.record_len.saturating_sub(begun),
            _ => HEADER,
        };
        let want = needed.max(self.appetite.max(ROOM_FIRST));
        let free = self.bytes.len() - self.cipher.end;
        if free < want && self.bytes.capacity() - self.cipher.end < want {
            self.compact();
        }
        let end = self.cipher.end + want;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.cipher.end..]
    }

    /// So many bytes were received into the room.
    pub(crate) fn received(&mut self, count: usize) {
        let room = self.bytes.len() - self.cipher.end;
        self.cipher.end += count.min(room);
        self.appetite = if count >= room { (room * 2).min(ROOM_MAX) } else { self.appetite / 2 };
    }

    /// Opens the next record, if it is there whole. `None` if more must be received.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the session is over.
    pub(crate) fn step(&mut self, session: &mut Session) -> Result<Option<Event>, Fault> {
        if let Some(fault) = session.fault() {
            return Err(fault);
        }
        if session.is_closed_by_peer() {
            // What follows a close_notify is ignored (RFC 8446, 6.1).
            self.cipher = self.cipher.end..self.cipher.end;
            self.settle();
            return Ok(Some(Event::Closed));
        }
        let waiting = &self.bytes[self.cipher.clone()];
        let header = Header::read(waiting).map_err(|unreadable| session.fail(unreadable.into()))?;
        let Some(header) = header.filter(|header| header.record_len <= waiting.len()) else {
            return Ok(None);
        };
        let at = self.cipher.start;
        let record = &mut self.bytes[at..at + header.record_len];
        let event = session.receive(header, record)?;
        self.cipher.start += header.record_len;
        if let Event::Data(data) = &event {
            let data = at + data.start..at + data.end;
            if self.plain.is_empty() {
                self.plain = data;
            } else {
                let end = self.plain.end;
                self.bytes.copy_within(data.clone(), end);
                self.plain.end = end + data.len();
            }
        }
        self.settle();
        Ok(Some(event))
    }

    /// Moves everything to the front of the buffer.
    fn compact(&mut self) {
        let plain = self.plain.len();
        self.bytes.copy_within(self.plain.clone(), 0);
        self.bytes.copy_within(self.cipher.clone(), plain);
        self.cipher = plain..plain + self.cipher.len();
        self.plain = 0..plain;
    }

    /// Begins again at the front when all was read. The memory stays until [`Self::rest`].
    fn settle(&mut self) {
        if self.plain.is_empty() && self.cipher.is_empty() {
            (self.plain, self.cipher) = (0..0, 0..0);
        } else if self.plain.is_empty() {
            self.plain = self.cipher.start..self.cipher.start;
        }
    }

    /// Nothing will come for a while: gives back what is not needed for what is there.
    pub(crate) fn rest(&mut self) {
        if self.cipher.is_empty() && self.plain.is_empty() {
            self.bytes = Vec::new();
        } else if self.bytes.capacity() > ROOM_FIRST + HEADER + CIPHERTEXT_MAX + self.plain.len() {
            self.compact();
            self.bytes.truncate(self.cipher.end);
            self.bytes.shrink_to_fit();
        }
    }
}
