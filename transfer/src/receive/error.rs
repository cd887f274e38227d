//! How receiving fails: what happened, who is likely to blame, how far it came, and what to do.

use std::{fmt, io};

mod kind;

use crate::error::errno::*;
use crate::error::{Blame, Side};
use crate::receive::receipt::Received;
use crate::tls::{TlsError, TlsErrorKind};

pub use kind::ReceiveErrorKind;

/// A body that is not, or not wholly, in its file.
///
/// [`received`](Self::received) and [`written`](Self::written) are exact: so many bytes of the body
/// have come, and so many of them are in the file, from its offset on. They differ only where the file
/// took no more: bytes that have come are written even if the transfer ends.
///
/// ```
/// use ringway::error::{Blame, Side};
/// use ringway::receive::ReceiveError;
///
/// let full = std::io::Error::from_raw_os_error(28);
/// let error = ReceiveError::from_io("write", Side::Sink, full, (8192, 4096));
/// assert_eq!((error.received(), error.written(), error.blame()), (8192, 4096, Blame::Host));
/// assert!(error.to_string().starts_with("no space is left for the file (write: No space left"));
/// ```
#[derive(Debug)]
pub struct ReceiveError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ReceiveErrorKind,
    counts: (u64, u64),
    source: Option<io::Error>,
    receipt: Option<Received>,
}

impl ReceiveError {
    /// An error of `kind` when so many bytes were received and written.
    #[must_use]
    pub fn new(kind: ReceiveErrorKind, counts: (u64, u64)) -> Self {
        Self(Box::new(Inner { kind, counts, source: None, receipt: None }))
    }

    /// The error of a call `op`; `Side::Source` is the stream and `Side::Sink` the file here.
    #[must_use]
    pub fn from_io(op: &'static str, side: Side, source: io::Error, counts: (u64, u64)) -> Self {
        let kind = kind_of(op, side, &source);
        Self(Box::new(Inner { kind, counts, source: Some(source), receipt: None }))
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &ReceiveErrorKind {
        &self.0.kind
    }

    /// Bytes of the body that have come.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.0.counts.0
    }

    /// Bytes of the body that are in the file.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.counts.1
    }

    /// What the transfer had done until then. `None` if it failed before a route was chosen.
    #[must_use]
    pub fn receipt(&self) -> Option<&Received> {
        self.0.receipt.as_ref()
    }

    pub(super) fn with_receipt(mut self, receipt: Received) -> Self {
        self.0.counts = (receipt.received, receipt.written);
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

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, counts: (received, written), source, .. } = &*self.0;
        write!(f, "{kind}")?;
        if let (ReceiveErrorKind::Foreign { .. } | ReceiveErrorKind::Tls { .. }, Some(source)) =
            (kind, source)
        {
            write!(f, ": {source}")?;
        }
        write!(f, "; {received} bytes had come and {written} had been written. ")?;
        write!(f, "Likely to blame: {}. To do: {}.", self.blame(), self.remedy())
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ReceiveErrorKind::Unfit(unfit) => Some(unfit),
            ReceiveErrorKind::Misstep(misstep) => Some(misstep),
            _ => self.0.source.as_ref().map(|source| source as _),
        }
    }
}

/// The stream ended before the promised length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortBody {
    /// Bytes that the whole body was to have.
    pub expected: u64,
    /// Bytes that have come.
    pub received: u64,
}

/// Numbers that cannot be true together, all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by the sentences")]
pub enum Misfit {
    /// The body is announced to be longer than it may be.
    Announced { expected: u64, most: u64 },
    /// More bytes were given at the start than the body may have.
    Given { given: u64, most: u64 },
    /// No file has such offsets.
    Offset { offset: u64, len: u64 },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announced { expected, most } => {
                write!(f, "the body is to have {expected} bytes, and at most {most} are allowed")
            }
            Self::Given { given, most } => {
                write!(f, "{given} bytes were given as the beginning of a body of at most {most}")
            }
            Self::Offset { offset, len } => {
                write!(f, "{len} bytes from offset {offset} on reach beyond what a file can have")
            }
        }
    }
}

impl std::error::Error for Misfit {}

fn kind_of(op: &'static str, side: Side, error: &io::Error) -> ReceiveErrorKind {
    use ReceiveErrorKind as Kind;
    let inner = error.get_ref();
    if inner.is_some_and(|inner| inner.is::<ringway_runtime::net::Torn>()) {
        return Kind::Torn;
    }
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return match tls.kind() {
            TlsErrorKind::Truncated => Kind::CutOff,
            _ => Kind::Tls { blame: tls.blame() },
        };
    }
    let Some(errno) = error.raw_os_error() else {
        // A decoder has no errnos.
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Kind::CutOff,
            io::ErrorKind::InvalidData => Kind::Malformed,
            _ => Kind::Foreign { op },
        };
    };
    match (side, errno) {
        (Side::Sink, ENOSPC) => Kind::NoSpace { op, errno },
        (Side::Sink, EDQUOT) => Kind::QuotaExceeded { op, errno },
        (Side::Sink, EFBIG) => Kind::FileTooLarge { op, errno },
        // A write through a descriptor that may only read answers EBADF.
        (Side::Sink, EROFS | EBADF | EPERM | EACCES | ETXTBSY) => Kind::ReadOnly { op, errno },
        (Side::Sink, ESPIPE | EISDIR) => Kind::NoOffsets { what: "it is no regular file" },
        (Side::Sink, errno) if of_storage(errno) => Kind::FileUnwritable { op, errno },
        (Side::Source, EPIPE | ECONNABORTED | ECONNRESET | ENOTCONN | ESHUTDOWN | ECONNREFUSED) => {
            Kind::PeerClosed { op, errno }
        }
        (Side::Source, ETIMEDOUT) => Kind::PeerTimedOut { waited: None },
        (Side::Source, ENETDOWN | ENETUNREACH | ENETRESET | EHOSTDOWN | EHOSTUNREACH) => {
            Kind::PeerUnreachable { op, errno }
        }
        (Side::Source, EBADF | ENOTSOCK) => Kind::InvalidHandle { op, errno },
        (_, ECANCELED | ERESTARTSYS | EINTR) => Kind::Cancelled,
        (_, ENOMEM | ENOBUFS | EMFILE | ENFILE) => Kind::HostLimit { op, errno },
        (_, EINVAL | EOPNOTSUPP) | (Side::Source | Side::Sink, ENOSYS) => {
            Kind::Unsupported { op, side, errno }
        }
        (Side::Source | Side::Host, EPERM | EACCES) | (Side::Host, ENOSYS) => {
            Kind::HostDenied { op, errno }
        }
        (Side::Host, EBADF) => Kind::InvalidHandle { op, errno },
        _ => Kind::UnexpectedErrno { op, errno },
    }
}
