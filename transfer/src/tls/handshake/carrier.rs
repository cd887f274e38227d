//! Bytes between a socket and rustls during the handshake.

use crate::tls::error::{TlsError, TlsErrorKind};
use crate::tls::record::{HEADER, PLAINTEXT_MAX};

/// Handshake bytes that are kept at most: the longest message that rustls takes, in records.
const INCOMING_MAX: usize = 80 << 10;
/// A length that no record may have: TLS 1.2 allows 2 KiB more than the plaintext.
const RECORD_MAX: usize = PLAINTEXT_MAX + 2048 + 1;
/// Room for one receive.
const ROOM: usize = 4 << 10;

/// What has come and what is to go.
#[derive(Default)]
pub(crate) struct Carrier {
    pub(crate) incoming: Vec<u8>,
    filled: usize,
    pub(crate) outgoing: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) closed_by_peer: bool,
    first: [u8; 8],
    first_len: usize,
    /// Bytes of `incoming` that rustls may see: it must not open what stands behind the handshake. It would
    /// answer a key update only before its own next record, which never comes.
    pub(super) shown: usize,
    /// rustls opens the records after the handshake as well, so it sees everything.
    pub(crate) shows_all: bool,
}

impl Carrier {
    /// Room for a receive.
    pub(crate) fn room(&mut self) -> Result<&mut [u8], TlsError> {
        if self.filled >= INCOMING_MAX {
            let error = rustls::InvalidMessage::HandshakePayloadTooLarge.into();
            return Err(TlsError::new(TlsErrorKind::Misbehaved(error)));
        }
        self.incoming.resize(self.filled + ROOM, 0);
        Ok(&mut self.incoming[self.filled..])
    }

    pub(crate) fn received(&mut self, count: usize) {
        if self.first_len == 0 {
            self.first_len = count.min(self.first.len());
            self.first[..self.first_len].copy_from_slice(&self.incoming[..self.first_len]);
        }
        self.filled += count;
    }

    /// The first bytes of the peer, for the sentence of an error.
    pub(super) fn first(&self) -> &[u8] {
        &self.first[..self.first_len]
    }

    /// What was received and not yet opened, for rustls.
    pub(crate) fn shown_mut(&mut self) -> &mut [u8] {
        &mut self.incoming[..self.shown]
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.incoming[..self.filled]
    }

    /// Puts bytes in that were received elsewhere.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.incoming.truncate(self.filled);
        self.incoming.extend_from_slice(bytes);
        self.received(bytes.len());
    }

    /// Bytes of the peer that nobody has opened.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.filled().to_vec();
        (self.incoming, self.filled, self.shown) = (Vec::new(), 0, 0);
        rest
    }

    pub(crate) fn discard(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.incoming.copy_within(count..self.filled, 0);
        self.filled -= count;
        self.shown = self.shown.saturating_sub(count);
    }

    /// Shows one whole record more, or all of what is no record; `false` if there is none.
    pub(super) fn show_more(&mut self) -> bool {
        let before = self.shown;
        self.shown += match &self.incoming[self.shown..self.filled] {
            all if self.shows_all => all.len(),
            [] => 0,
            &[20..=23, 3, _, high, low, ref rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                match len {
                    // Longer than any record: rustls says so.
                    RECORD_MAX.. => HEADER + rest.len(),
                    _ if rest.len() >= len => HEADER + len,
                    _ => 0,
                }
            }
            [20..=23] | [20..=23, 3] | [20..=23, 3, _] | [20..=23, 3, _, _] => 0,
            garbage => {
                // What follows is its rest, whatever it looks like, until rustls has enough to refuse it.
                self.shows_all = true;
                garbage.len()
            }
        };
        self.shown > before
    }
}
