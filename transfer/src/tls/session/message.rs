//! What peers say to each other after the handshake: alerts, key updates, tickets. RFC 8446, 4.6 and 6.

use std::fmt;

use crate::tls::record::ContentType;

/// An alert, by its number (RFC 8446, 6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alert(pub(crate) u8);

impl Alert {
    pub(crate) const CLOSE_NOTIFY: Self = Self(0);
    pub(crate) const UNEXPECTED_MESSAGE: Self = Self(10);
    pub(crate) const BAD_RECORD_MAC: Self = Self(20);
    pub(crate) const RECORD_OVERFLOW: Self = Self(22);
    pub(crate) const ILLEGAL_PARAMETER: Self = Self(47);
    pub(crate) const DECODE_ERROR: Self = Self(50);
    pub(crate) const INTERNAL_ERROR: Self = Self(80);
    pub(crate) const USER_CANCELED: Self = Self(90);

    /// Level and description: those that only end a session are warnings.
    pub(super) fn encode(self) -> [u8; 2] {
        let is_fatal = self != Self::CLOSE_NOTIFY && self != Self::USER_CANCELED;
        [if is_fatal { 2 } else { 1 }, self.0]
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // rustls knows the names.
        write!(f, "{:?}", rustls::AlertDescription::from(self.0))
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What we have to say, to be sealed by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// New keys follow; `true` asks the peer for new ones as well.
    KeyUpdate(bool),
    Alert(Alert),
}

impl Message {
    /// The type of its record, its bytes, and how many they are.
    pub(crate) fn encode(self) -> (ContentType, [u8; 5], usize) {
        match self {
            Self::KeyUpdate(asks) => (ContentType::Handshake, key_update(asks), 5),
            Self::Alert(alert) => {
                let [level, description] = alert.encode();
                (ContentType::Alert, [level, description, 0, 0, 0], 2)
            }
        }
    }
}

pub(super) const NEW_SESSION_TICKET: u8 = 4;
pub(super) const KEY_UPDATE: u8 = 24;

/// The longest message that is taken: what rustls allows in a handshake.
pub(super) const MESSAGE_MAX: usize = 0xffff;

/// A `KeyUpdate`; `true` asks the peer to update as well.
pub(super) fn key_update(asks: bool) -> [u8; 5] {
    [KEY_UPDATE, 0, 0, 1, u8::from(asks)]
}

/// The type and the length of a handshake message, if its head is there.
pub(super) fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[kind, high, middle, low] = bytes.first_chunk()?;
    Some((kind, u32::from_be_bytes([0, high, middle, low]) as usize))
}
