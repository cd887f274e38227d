//! How TLS fails: what happened, and whose fault it likely is.

use std::time::Duration;
use std::{fmt, io};

use rustls::AlertDescription;

use super::session::{Fault, Unsealed};
use crate::error::Blame;

/// A handshake or a session that failed.
///
/// The peer has been told by an alert where there was something to tell. Reads and writes give it
/// inside an [`io::Error`].
#[derive(Debug)]
pub struct TlsError(Box<TlsErrorKind>);

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The connection below failed.
    Io(io::Error),
    /// The handshake had not ended after `limit`.
    TimedOut {
        /// [`TlsLimits::handshake_timeout`](super::TlsLimits::handshake_timeout).
        limit: Duration,
    },
    /// What the peer sent is no TLS.
    NotTls {
        /// It looks like plain HTTP: a request, or an answer.
        looks_like_http: bool,
    },
    /// The peer closed the connection in the middle of the handshake.
    Unfinished,
    /// The connection ended without a `close_notify`: what was read may be only the beginning.
    Truncated,
    /// The peer ended it by an alert. One that came before the peer's first sealed record may have been
    /// in the clear, so somebody on the way can have made it up.
    AlertReceived(AlertDescription),
    /// The peer presented no certificate, and one is required.
    NoCertificate,
    /// The peer's certificate was refused.
    Certificate(rustls::Error),
    /// The two have no version, suite, group or protocol in common.
    Incompatible(rustls::Error),
    /// The peer broke the protocol in the handshake.
    Misbehaved(rustls::Error),
    /// The peer broke the protocol in the session; the text says how.
    Broken(String),
    /// A record failed its authentication.
    BadRecord,
    /// Our own configuration cannot be used.
    Configuration(rustls::Error),
    /// The stream was used after [`close`](super::TlsStream::close).
    Closed,
    /// Sealed records were lost before they were sent, so the order of records cannot be kept; the text
    /// says how.
    BrokenOff(&'static str),
}

impl TlsError {
    pub(crate) fn new(kind: TlsErrorKind) -> Self {
        Self(Box::new(kind))
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &TlsErrorKind {
        &self.0
    }

    /// Who is likely to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match *self.0 {
            TlsErrorKind::Io(_)
            | TlsErrorKind::TimedOut { .. }
            | TlsErrorKind::NotTls { .. }
            | TlsErrorKind::Unfinished
            | TlsErrorKind::Truncated
            | TlsErrorKind::NoCertificate
            | TlsErrorKind::Certificate(_)
            | TlsErrorKind::Incompatible(_)
            | TlsErrorKind::Misbehaved(_)
            | TlsErrorKind::Broken(_)
            | TlsErrorKind::BadRecord => Blame::Peer,
            TlsErrorKind::AlertReceived(alert) => match alert {
                // The peer does not like what it was shown.
                AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::AccessDenied => Blame::Caller,
                _ => Blame::Peer,
            },
            TlsErrorKind::Configuration(_) | TlsErrorKind::Closed | TlsErrorKind::BrokenOff(_) => {
                Blame::Caller
            }
        }
    }

    /// As the error of a read or a write.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match *self.0 {
            TlsErrorKind::Io(error) => return error,
            TlsErrorKind::TimedOut { .. } => io::ErrorKind::TimedOut,
            TlsErrorKind::Truncated | TlsErrorKind::Unfinished => io::ErrorKind::UnexpectedEof,
            TlsErrorKind::AlertReceived(_) => io::ErrorKind::ConnectionAborted,
            TlsErrorKind::Closed | TlsErrorKind::BrokenOff(_) => io::ErrorKind::BrokenPipe,
            TlsErrorKind::Configuration(_) => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }

    /// What rustls says about a handshake.
    pub(crate) fn of_handshake(error: rustls::Error, first_bytes: &[u8]) -> Self {
        use rustls::Error as E;
        let kind = match error {
            E::AlertReceived(alert) => TlsErrorKind::AlertReceived(alert),
            E::NoCertificatesPresented => TlsErrorKind::NoCertificate,
            E::InvalidCertificate(_) | E::InvalidCertRevocationList(_) => {
                TlsErrorKind::Certificate(error)
            }
            E::PeerIncompatible(_) | E::NoApplicationProtocol | E::UnsupportedNameType => {
                TlsErrorKind::Incompatible(error)
            }
            E::InvalidMessage(_) if !looks_like_tls(first_bytes) => {
                TlsErrorKind::NotTls { looks_like_http: looks_like_http(first_bytes) }
            }
            E::InvalidMessage(_)
            | E::PeerMisbehaved(_)
            | E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. }
            | E::PeerSentOversizedRecord
            | E::InvalidEncryptedClientHello(_) => TlsErrorKind::Misbehaved(error),
            E::DecryptError => TlsErrorKind::BadRecord,
            _ => TlsErrorKind::Configuration(error),
        };
        Self::new(kind)
    }
}

/// A handshake begins with a record of type 22 (or an alert, 21) and a version 3.x.
fn looks_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [] | [21 | 22] | [21 | 22, 3, ..])
}

fn looks_like_http(bytes: &[u8]) -> bool {
    const METHODS: &[&[u8]] = &[
        b"HTTP/",
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"PRI ",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            TlsErrorKind::Io(error) => write!(f, "the connection failed: {error}"),
            TlsErrorKind::TimedOut { limit } => {
                write!(f, "the TLS handshake had not ended after {limit:?}")
            }
            TlsErrorKind::NotTls { looks_like_http: true } => {
                f.write_str("the peer speaks plain HTTP where TLS is expected")
            }
            TlsErrorKind::NotTls { looks_like_http: false } => {
                f.write_str("the peer does not speak TLS")
            }
            TlsErrorKind::Unfinished => {
                f.write_str("the peer closed the connection in the middle of the TLS handshake")
            }
            TlsErrorKind::Truncated => write!(f, "{}", Fault::Truncated),
            TlsErrorKind::AlertReceived(alert) => {
                write!(f, "the peer ended TLS with the alert {alert:?}")
            }
            TlsErrorKind::NoCertificate => {
                f.write_str("the peer presented no certificate, and one is required")
            }
            TlsErrorKind::Certificate(error) => {
                write!(f, "the peer's certificate was refused: {error}")
            }
            TlsErrorKind::Incompatible(error) => {
                write!(f, "the peer and this configuration have too little in common: {error}")
            }
            TlsErrorKind::Misbehaved(error) => write!(f, "the peer broke the protocol: {error}"),
            TlsErrorKind::Broken(how) => write!(f, "TLS was broken: {how}"),
            TlsErrorKind::BadRecord => write!(
                f,
                "a record fails its authentication: it was changed on the way, or sealed with \
                 another key"
            ),
            TlsErrorKind::Configuration(error) => {
                write!(f, "the TLS configuration cannot be used: {error}")
            }
            TlsErrorKind::Closed => f.write_str("this TLS stream was closed"),
            TlsErrorKind::BrokenOff(why) => write!(f, "this TLS stream cannot go on: {why}"),
        }?;
        write!(f, " (likely to blame: {})", self.blame())
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            TlsErrorKind::Io(error) => Some(error),
            TlsErrorKind::Certificate(error)
            | TlsErrorKind::Incompatible(error)
            | TlsErrorKind::Misbehaved(error)
            | TlsErrorKind::Configuration(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::new(TlsErrorKind::Io(error))
    }
}

impl From<Unsealed> for TlsError {
    fn from(unsealed: Unsealed) -> Self {
        match unsealed {
            Unsealed::Failed(fault) => fault.into(),
            Unsealed::Closed => Self::new(TlsErrorKind::Closed),
            Unsealed::PrepareFirst => {
                Self::new(TlsErrorKind::BrokenOff("something must go out before further data"))
            }
        }
    }
}

impl From<Fault> for TlsError {
    fn from(fault: Fault) -> Self {
        use super::record::Unreadable;
        Self::new(match fault {
            Fault::Truncated => TlsErrorKind::Truncated,
            Fault::AlertReceived(alert) => TlsErrorKind::AlertReceived(alert.0.into()),
            Fault::Unreadable(Unreadable::BadTag) => TlsErrorKind::BadRecord,
            other => TlsErrorKind::Broken(other.to_string()),
        })
    }
}
