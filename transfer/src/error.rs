//! How a transfer fails: what happened, who is likely to blame, how far it came, and what to do.

use std::{fmt, io, time::Duration};

use crate::pace::TooSlow;
use crate::plan::{Obstacle, Route};
use crate::progress::FILE_END_MAX;

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
}

impl TransferError {
    /// An error of `kind` after the socket had accepted `sent` bytes.
    #[must_use]
    pub fn new(kind: ErrorKind, sent: u64) -> Self {
        Self(Box::new(Inner { kind, sent, source: None }))
    }

    /// The error of a call `op` on one `side` of the transfer; see [`classify`].
    #[must_use]
    pub fn from_io(op: &'static str, side: Side, source: io::Error, sent: u64) -> Self {
        let kind =
            source.raw_os_error().map_or(ErrorKind::Foreign { op }, |n| classify(op, side, n));
        Self(Box::new(Inner { kind, sent, source: Some(source) }))
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
        if let (ErrorKind::Foreign { .. }, Some(source)) = (&self.0.kind, &self.0.source) {
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

/// What happened to a transfer. `op` is the call that failed, `errno` its number in errno(3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields say what the sentence of their variant names")]
pub enum ErrorKind {
    /// The file ended before the promised length; all that it had may have been sent.
    Truncated(Truncated),
    /// The peer closed or reset the connection.
    PeerClosed { op: &'static str, errno: i32 },
    /// The peer took nothing for too long: `waited` here, or `None` by the kernel's own timer.
    PeerTimedOut { waited: Option<Duration> },
    /// The peer took fewer bytes per second than it must.
    PeerTooSlow(TooSlow),
    /// There is no way to the peer any more.
    PeerUnreachable { op: &'static str, errno: i32 },
    /// The transfer had to end within `limit`.
    DeadlineExceeded { limit: Duration },
    /// The transfer was cancelled.
    Cancelled,
    /// A range that reaches beyond the file, all in bytes.
    InvalidRange { offset: u64, len: u64, file_len: u64 },
    /// A body whose lengths do not fit in 64 bits, or whose offsets in a file's 63.
    LengthOverflow(LengthOverflow),
    /// The parts have `given` bytes where `promised` were announced.
    SizeMismatch { promised: u64, given: u64 },
    /// The source has no offsets to read from: a directory, a pipe, a socket.
    SourceNotRegular { op: &'static str, errno: i32 },
    /// The source could not be read.
    SourceUnreadable { op: &'static str, errno: i32 },
    /// The file or the socket does not know this call, and no other route was left.
    Unsupported { op: &'static str, side: Side, errno: i32 },
    /// The place that is written to is full.
    NoSpace { op: &'static str, errno: i32 },
    /// A limit of the host was reached.
    HostLimit { op: &'static str, errno: i32 },
    /// The host forbids the call.
    HostDenied { op: &'static str, side: Side, errno: i32 },
    /// A handle is closed, of the wrong kind, or opened without the needed access.
    InvalidHandle { op: &'static str, errno: i32 },
    /// An earlier transfer on this sink was dropped and its last bytes are not settled.
    Poisoned,
    /// The wishes cannot be met.
    Refused(Refusal),
    /// Ringway kept its counts wrongly.
    Misstep(Misstep),
    /// An errno that has no arm of its own.
    UnexpectedErrno { op: &'static str, errno: i32 },
    /// An error without an errno; the source says more.
    Foreign { op: &'static str },
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut call = |what: &str, op: &str, errno: i32| {
            write!(f, "{what} ({op}: {})", io::Error::from_raw_os_error(errno))
        };
        match *self {
            Self::PeerClosed { op, errno } => call("the peer closed the connection", op, errno),
            Self::PeerUnreachable { op, errno } => call("the peer cannot be reached", op, errno),
            Self::SourceNotRegular { op, errno } => {
                call("the source is not a file with offsets", op, errno)
            }
            Self::SourceUnreadable { op, errno } => call("the file cannot be read", op, errno),
            Self::Unsupported { op, side: Side::Sink, errno } => {
                call("the sink does not support this call", op, errno)
            }
            Self::Unsupported { op, side: Side::Source, errno } => {
                call("the file does not support this call", op, errno)
            }
            Self::Unsupported { op, side: Side::Host, errno } => {
                call("the kernel does not support this call", op, errno)
            }
            Self::NoSpace { op, errno } => call("the sink has no space left", op, errno),
            Self::HostLimit { op, errno } => call("a limit of this host was reached", op, errno),
            Self::HostDenied { op, errno, .. } => call("this host forbids the call", op, errno),
            Self::InvalidHandle { op, errno } => call("a handle cannot be used", op, errno),
            Self::UnexpectedErrno { op, errno } => call("an unexpected error", op, errno),
            Self::Foreign { op } => write!(f, "{op} failed"),
            Self::Truncated(Truncated { expected, .. }) => {
                write!(f, "the file ended before the {expected} bytes that were promised")
            }
            Self::PeerTimedOut { waited: None } => f.write_str("the connection timed out"),
            Self::PeerTimedOut { waited: Some(waited) } => {
                write!(f, "the peer took nothing for {waited:?}")
            }
            Self::PeerTooSlow(TooSlow { bytes, over, floor }) => {
                write!(f, "the peer took {bytes} bytes in {over:?}, below {floor} bytes per second")
            }
            Self::DeadlineExceeded { limit } => {
                write!(f, "the transfer had not ended after {limit:?}")
            }
            Self::Cancelled => f.write_str("the transfer was cancelled"),
            Self::InvalidRange { offset, len, file_len } => {
                write!(f, "{len} bytes at offset {offset} reach beyond a file of {file_len} bytes")
            }
            Self::LengthOverflow(overflow) => write!(f, "{overflow}"),
            Self::SizeMismatch { promised, given } => {
                write!(f, "{promised} bytes were promised and the parts have {given}")
            }
            Self::Poisoned => f.write_str("an earlier transfer on this sink is not settled"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Misstep(misstep) => write!(f, "{misstep}"),
        }
    }
}

impl ErrorKind {
    /// Who is likely to blame, and what to do.
    fn advice(&self) -> (Blame, &'static str) {
        match *self {
            Self::Truncated(_) => (
                Blame::File,
                "close the connection, replace files by rename instead of shortening them",
            ),
            Self::PeerClosed { .. } => (Blame::Peer, "let the peer resume from the bytes it has"),
            Self::PeerTimedOut { .. } | Self::PeerUnreachable { .. } => {
                (Blame::Peer, "retry later, or check the network on the way to the peer")
            }
            Self::PeerTooSlow(_) => {
                (Blame::Peer, "lower the minimum rate if peers on slow links are welcome")
            }
            Self::DeadlineExceeded { .. } => {
                (Blame::Caller, "give a longer deadline, or send the rest as a range")
            }
            Self::Cancelled => (Blame::Caller, "nothing; to go on, send the rest as a range"),
            Self::InvalidRange { .. } => (Blame::Caller, "ask for bytes that the file has"),
            Self::LengthOverflow(_) => {
                (Blame::Caller, "check the offsets and lengths of the parts")
            }
            Self::SizeMismatch { .. } => {
                (Blame::Caller, "announce the sum of the lengths of the parts")
            }
            Self::SourceNotRegular { .. } => (Blame::Caller, "give a regular file"),
            Self::SourceUnreadable { errno, .. } => unreadable_advice(errno),
            Self::Unsupported { side: Side::Host, .. } => (Blame::Host, "use a newer kernel"),
            Self::Unsupported { .. } => (Blame::Caller, "do not force a route or forbid the copy"),
            Self::NoSpace { .. } => (Blame::Host, "free space or raise the quota"),
            Self::HostLimit { errno, .. } => (Blame::Host, limit_advice(errno)),
            Self::HostDenied { side: Side::Host, .. } => (
                Blame::Host,
                "allow it: kernel.io_uring_disabled=0, a seccomp profile with io_uring, or a \
                 higher fs.pipe-user-pages-soft when it was the size of a pipe",
            ),
            Self::HostDenied { .. } => (Blame::Host, "check the firewall and the security module"),
            Self::InvalidHandle { .. } => {
                (Blame::Caller, "open the file for reading and connect the stream")
            }
            Self::Poisoned => {
                (Blame::Caller, "call settle().await, which tells how many bytes went out")
            }
            Self::Refused(refusal) => (refusal.blame(), refusal.remedy()),
            Self::Misstep(_) | Self::UnexpectedErrno { .. } => {
                (Blame::Library, "report it, with this line and the kernel's version")
            }
            Self::Foreign { .. } => (Blame::Host, "see the source of this error"),
        }
    }
}

fn unreadable_advice(errno: i32) -> (Blame, &'static str) {
    match errno {
        errno::EACCES | errno::EPERM => (Blame::Host, "give this process the right to read it"),
        errno::ESTALE | errno::ENOENT => (Blame::File, "open the file again: it was replaced"),
        errno::ENOKEY => (Blame::Host, "load the key of the encrypted folder"),
        _ => (Blame::File, "check the disk or the server that holds the file, and the kernel log"),
    }
}

fn limit_advice(errno: i32) -> &'static str {
    match errno {
        errno::EMFILE => "raise RLIMIT_NOFILE (ulimit -n) or allow fewer connections",
        errno::ENFILE => "raise fs.file-max",
        errno::ENOMEM => "raise RLIMIT_MEMLOCK (ulimit -l) or give the process more memory",
        errno::ENOBUFS => "raise net.core.wmem_max and net.ipv4.tcp_mem",
        _ => "raise RLIMIT_NPROC (ulimit -u)",
    }
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
        (
            Side::Source,
            EPERM | ENOENT | EIO | ENXIO | EACCES | ENODEV | ENODATA | EBADMSG | EILSEQ | ETIMEDOUT
            | EHOSTDOWN | ESTALE | EUCLEAN | EREMOTEIO | ENOKEY,
        ) => ErrorKind::SourceUnreadable { op, errno },
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

/// Wishes that cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Every route is forbidden.
    AllForbidden,
    /// The same route is forced and forbidden.
    ForcedAndForbidden(Route),
    /// A snapshot must be copied, and the copy is ruled out.
    SnapshotNeedsCopy,
    /// Only the splice is left, and it would fail.
    SpliceImpossible(Obstacle),
}

impl Refusal {
    /// Who is likely to blame.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::SpliceImpossible(Obstacle::PseudoFile) => Blame::File,
            Self::SpliceImpossible(
                Obstacle::SpliceUnusable | Obstacle::NoPipe | Obstacle::NoSpliceSqe,
            ) => Blame::Host,
            _ => Blame::Caller,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::AllForbidden => "allow at least one route",
            Self::ForcedAndForbidden(_) => "do not forbid the route that is forced",
            Self::SnapshotNeedsCopy => "allow the copy, or ask for Consistency::Shared",
            Self::SpliceImpossible(obstacle) => match obstacle {
                Obstacle::SpliceUnusable => "allow the copy, or let the sandbox permit splice(2)",
                Obstacle::PseudoFile => "allow the copy",
                Obstacle::MisalignedDirectIo => "allow the copy, or align the range to 4096 bytes",
                Obstacle::NoPipe => "allow the copy, or raise fs.pipe-user-pages-soft",
                Obstacle::NoSpliceSqe => "allow the copy, or the mode Inline",
            },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllForbidden => f.write_str("every route is forbidden"),
            Self::ForcedAndForbidden(route) => write!(f, "{route} is both forced and forbidden"),
            Self::SnapshotNeedsCopy => {
                f.write_str("a snapshot was asked for, but only a splice is allowed")
            }
            Self::SpliceImpossible(obstacle) => {
                write!(f, "only a splice is allowed, but {obstacle}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// The file ended before the promised length. A body that was promised is never padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// Bytes that the whole body was to have.
    pub expected: u64,
    /// Bytes that the socket has accepted.
    pub sent: u64,
}

/// A body whose offsets or lengths cannot be expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`part` is the index of the extent, the others are bytes")]
pub enum LengthOverflow {
    /// A file range that ends beyond the greatest offset, 2^63 − 1.
    Range { part: usize, offset: u64, len: u64 },
    /// With this part, the lengths together exceed 64 bits.
    Total { part: usize },
}

impl fmt::Display for LengthOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { part, offset, len } => write!(
                f,
                "part {part} asks for {len} bytes at offset {offset}, which ends beyond the last \
                 offset that a file can have ({FILE_END_MAX})"
            ),
            Self::Total { part } => {
                write!(f, "with part {part} the body is longer than 64 bits can count")
            }
        }
    }
}

impl std::error::Error for LengthOverflow {}

/// A report of `n` bytes where at most `limit` could be true. The route that made it has a bug; the
/// counts are unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by the sentence above")]
pub struct Misstep {
    pub report: &'static str,
    pub n: u64,
    pub limit: u64,
}

impl fmt::Display for Misstep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes where at most {} are possible", self.report, self.n, self.limit)
    }
}

impl std::error::Error for Misstep {}

/// The numbers that x86-64, `AArch64` and RISC-V share (`asm-generic/errno.h` of the kernel).
#[rustfmt::skip]
mod errno {
    macro_rules! numbers {
        ($($name:ident = $number:literal),+ $(,)?) => { $(pub(super) const $name: i32 = $number;)+ };
    }
    numbers! {
        EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, EBADF = 9, EAGAIN = 11, ENOMEM = 12,
        EACCES = 13, ENODEV = 19, EISDIR = 21, EINVAL = 22, ENFILE = 23, EMFILE = 24, EFBIG = 27,
        ENOSPC = 28, ESPIPE = 29, EPIPE = 32, ENOSYS = 38, ENODATA = 61, EBADMSG = 74, EILSEQ = 84,
        ENOTSOCK = 88, EDESTADDRREQ = 89, EOPNOTSUPP = 95, ENETDOWN = 100, ENETUNREACH = 101,
        ENETRESET = 102, ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, ENOTCONN = 107,
        ESHUTDOWN = 108, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112, EHOSTUNREACH = 113,
        ESTALE = 116, EUCLEAN = 117, EREMOTEIO = 121, EDQUOT = 122, ECANCELED = 125, ENOKEY = 126,
        ERESTARTSYS = 512,
    }
}
