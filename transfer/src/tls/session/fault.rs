//! What can end a session, and the alert that tells the peer.

use std::fmt;

use super::message::Alert;
use crate::tls::record::Unreadable;

/// What ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A record cannot be read.
    Unreadable(Unreadable),
    /// It can, and has no business here.
    Unexpected(&'static str),
    /// It is not what TLS looks like inside.
    Malformed(&'static str),
    /// A value that TLS does not have.
    Illegal(&'static str),
    /// Too many records that bring nothing.
    Flood,
    /// The peer has ended the session by an alert.
    AlertReceived(Alert),
    /// The connection ended before the peer had said that nothing follows.
    Truncated,
    /// No new key could be made.
    NoKey,
    /// A new key is due, and the kernel that seals takes none.
    KeyStays,
}

impl Fault {
    /// What the peer is told; nothing if it has told us, or is gone.
    pub(crate) fn alert(self) -> Option<Alert> {
        match self {
            Self::Unreadable(Unreadable::BadTag) => Some(Alert::BAD_RECORD_MAC),
            Self::Unreadable(Unreadable::TooLong(_)) => Some(Alert::RECORD_OVERFLOW),
            Self::Unreadable(Unreadable::NoType | Unreadable::NotTls(..))
            | Self::Unexpected(_)
            | Self::Flood => Some(Alert::UNEXPECTED_MESSAGE),
            Self::Malformed(_) => Some(Alert::DECODE_ERROR),
            Self::Illegal(_) => Some(Alert::ILLEGAL_PARAMETER),
            Self::NoKey | Self::KeyStays => Some(Alert::INTERNAL_ERROR),
            Self::AlertReceived(_) | Self::Truncated => None,
        }
    }
}

impl From<Unreadable> for Fault {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(Unreadable::BadTag) => f.write_str(
                "a record fails its authentication: it was changed on the way, or sealed with \
                 another key",
            ),
            Self::Unreadable(Unreadable::TooLong(len)) => {
                write!(f, "the peer sent a record of {len} bytes, longer than TLS allows")
            }
            Self::Unreadable(Unreadable::NotTls(kind, version)) => write!(
                f,
                "the peer sent what is no record of TLS (type {kind}, version {version:#06x})"
            ),
            Self::Unreadable(Unreadable::NoType) => {
                f.write_str("the peer sent a record without a content type")
            }
            Self::Unexpected(what) | Self::Malformed(what) | Self::Illegal(what) => {
                write!(f, "the peer sent {what}")
            }
            Self::Flood => f.write_str("the peer sent too many records that bring nothing"),
            Self::AlertReceived(alert) => write!(f, "the peer ended the session: {alert}"),
            Self::Truncated => f.write_str(
                "truncated: the connection ended without a close_notify, so more may have been meant",
            ),
            Self::NoKey => f.write_str("no new key could be made"),
            Self::KeyStays => f.write_str(
                "a new key is due, and the kernel that seals takes only one (Linux 6.14 takes more)",
            ),
        }
    }
}

impl std::error::Error for Fault {}
