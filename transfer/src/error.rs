//! How a transfer fails: what happened, who is likely to blame, how far it came, and what to do.

use std::{fmt, io};

mod counts;
pub(crate) mod errno;
mod kind;
mod refusal;

use crate::process::{ProcessError, ProcessorFault};
use crate::receipt::Receipt;
use crate::tls::TlsError;

pub use counts::{LengthOverflow, Misstep, Truncated};
pub use kind::ErrorKind;
pub use refusal::Refusal;

/// A transfer that did not send its whole body.
///
/// [`sent`](Self::sent) is exact: these bytes, and no others, were accepted by the socket.
///
/// ```
/// use ringway::error::{Blame, Side, TransferError};
///
/// let broken = std::io::Error::from_raw_os_error(32);
/// let error = TransferError::from_io("send", Side::Sink, broken, 4096);
/// assert_eq!((error.sent(), error.blame()), (4096, Blame::Peer));
/// assert!(error.to_string().starts_with("the peer closed the connection (send: Broken pipe"));
/// ```
#[derive(Debug)]
pub struct TransferError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    sent: u64,
    source: Option<io::Error>,
    receipt: Option<Receipt>,
}

impl TransferError {
    /// An error of `kind` after the socket had accepted `sent` bytes.
    #[must_use]
    pub fn new(kind: ErrorKind, sent: u64) -> Self {
        Self(Box::new(Inner { kind, sent, source: None, receipt: None }))
    }

    /// The error of a call `op` on one `side` of the transfer; see [`classify`].
    #[must_use]
    pub fn from_io(op: &'static str, side: Side, source: io::Error, sent: u64) -> Self {
        let kind =
            source.raw_os_error().map_or_else(|| foreign(op, &source), |n| classify(op, side, n));
        Self(Box::new(Inner { kind, sent, source: Some(source), receipt: None }))
    }

    /// A processor's own error.
    pub(crate) fn from_processor(source: ProcessError, sent: u64) -> Self {
        let kind = ErrorKind::Processor(ProcessorFault::Failed);
        let source = Some(io::Error::other(source));
        Self(Box::new(Inner { kind, sent, source, receipt: None }))
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Bytes of the body that the socket had accepted.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.sent
    }

    /// What the transfer had done until then: route, mode, fallbacks, stalls. `None` if it failed
    /// before a route was chosen.
    #[must_use]
    pub fn receipt(&self) -> Option<&Receipt> {
        self.0.receipt.as_ref()
    }

    /// The same after this many bytes.
    pub(crate) fn after(mut self, sent: u64) -> Self {
        self.0.sent = sent;
        self
    }

    pub(crate) fn with_receipt(mut self, receipt: Receipt) -> Self {
        self.0.receipt = Some(receipt);
        self
    }

    /// Who is likely to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.0.kind.advice().0
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.0.kind.advice().1
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.kind)?;
        let foreign = matches!(
            self.0.kind,
            ErrorKind::Foreign { .. } | ErrorKind::Tls { .. } | ErrorKind::Processor(_)
        );
        if let (true, Some(source)) = (foreign, &self.0.source) {
            write!(f, ": {source}")?;
        }
        match self.0.sent {
            0 => f.write_str("; nothing had been sent. ")?,
            1 => f.write_str("; 1 byte had been sent. ")?,
            sent => write!(f, "; {sent} bytes had been sent. ")?,
        }
        write!(f, "Likely to blame: {}. To do: {}.", self.blame(), self.remedy())
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ErrorKind::Refused(refusal) => Some(refusal),
            ErrorKind::LengthOverflow(overflow) => Some(overflow),
            ErrorKind::Misstep(misstep) => Some(misstep),
            ErrorKind::Processor(fault) if self.0.source.is_none() => Some(fault),
            _ => self.0.source.as_ref().map(|source| source as _),
        }
    }
}

impl From<Refusal> for TransferError {
    fn from(refusal: Refusal) -> Self {
        Self::new(ErrorKind::Refused(refusal), 0)
    }
}

impl From<LengthOverflow> for TransferError {
    fn from(overflow: LengthOverflow) -> Self {
        Self::new(ErrorKind::LengthOverflow(overflow), 0)
    }
}

/// An error that no errno tells of: TLS's own, or another's.
fn foreign(op: &'static str, source: &io::Error) -> ErrorKind {
    let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    inner.map_or(ErrorKind::Foreign { op }, |tls| ErrorKind::Tls { blame: tls.blame() })
}

/// Which part of a transfer a call worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The file.
    Source,
    /// The socket.
    Sink,
    /// Neither: the ring, a pipe, a buffer.
    Host,
}

/// Who is likely to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The peer, or the network on the way to it.
    Peer,
    /// The file, its disk or its server.
    File,
    /// The program that called.
    Caller,
    /// The limits and settings of this host.
    Host,
    /// Ringway.
    Library,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "the peer",
            Self::File => "the file",
            Self::Caller => "the caller",
            Self::Host => "this host",
            Self::Library => "Ringway",
        })
    }
}

/// Names the errno of a call `op` on one `side` of a transfer.
///
/// Routes handle what is not a failure before they come here: `EAGAIN` of a socket, `EINTR` of an
/// inline call (from the ring it means that a running call was cancelled), and `EINVAL` of a splice
/// that has a copy to fall back to.
#[must_use]
pub fn classify(op: &'static str, side: Side, errno: i32) -> ErrorKind {
    use errno::*;
    match (side, errno) {
        (_, ECANCELED | ERESTARTSYS | EINTR) => ErrorKind::Cancelled,
        (_, ENOMEM | ENOBUFS | EMFILE | ENFILE) => ErrorKind::HostLimit { op, errno },
        (_, EBADF) | (Side::Sink, ENOTSOCK | EDESTADDRREQ) => {
            ErrorKind::InvalidHandle { op, errno }
        }
        (_, EINVAL | EOPNOTSUPP) | (Side::Source | Side::Sink, ENOSYS) => {
            ErrorKind::Unsupported { op, side, errno }
        }
        (Side::Source, EISDIR | ESPIPE) => ErrorKind::SourceNotRegular { op, errno },
        (Side::Source, EPERM | ENOENT | EACCES) => ErrorKind::SourceUnreadable { op, errno },
        (Side::Source, errno) if errno::of_storage(errno) => {
            ErrorKind::SourceUnreadable { op, errno }
        }
        (Side::Sink, EPIPE | ECONNABORTED | ECONNRESET | ENOTCONN | ESHUTDOWN | ECONNREFUSED) => {
            ErrorKind::PeerClosed { op, errno }
        }
        (Side::Sink, ETIMEDOUT) => ErrorKind::PeerTimedOut { waited: None },
        (Side::Sink, ENETDOWN | ENETUNREACH | ENETRESET | EHOSTDOWN | EHOSTUNREACH) => {
            ErrorKind::PeerUnreachable { op, errno }
        }
        (Side::Sink, EFBIG | ENOSPC | EDQUOT) => ErrorKind::NoSpace { op, errno },
        (Side::Sink, EPERM | EACCES) | (Side::Host, EPERM | EACCES | ENOSYS) => {
            ErrorKind::HostDenied { op, side, errno }
        }
        (Side::Host, EAGAIN) => ErrorKind::HostLimit { op, errno },
        _ => ErrorKind::UnexpectedErrno { op, errno },
    }
}
