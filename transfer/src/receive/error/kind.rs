//! What can happen to a body that is received, in words, with blame and remedy.

use std::time::Duration;
use std::{fmt, io};

use super::{Misfit, ShortBody};
use crate::error::{Blame, Misstep, Side};
use crate::limits::InvalidLimit;
use crate::pace::TooSlow;
use crate::receive::plan::Unfit;

/// What happened to a body. `op` is the call that failed, `errno` its number in errno(3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields say what the sentence of their variant names")]
pub enum ReceiveErrorKind {
    /// The stream ended before the promised length. What came is in the file.
    ShortBody(ShortBody),
    /// The stream has more than the `most` bytes that may come. They are in the file, no others.
    TooLong { most: u64 },
    /// The numbers of the order cannot be true together. Nothing was received.
    Misfit(Misfit),
    /// The peer reset the connection.
    PeerClosed { op: &'static str, errno: i32 },
    /// The peer sent nothing for too long: `waited` here, or `None` by the kernel's own timer.
    PeerTimedOut { waited: Option<Duration> },
    /// The peer sent fewer bytes per second than it must.
    PeerTooSlow(TooSlow),
    /// There is no way to the peer any more.
    PeerUnreachable { op: &'static str, errno: i32 },
    /// What the peer sent cannot be decoded; the source says why.
    Malformed,
    /// The stream ended without saying that it ends, as TLS must (`close_notify`): what came, which is
    /// in the file, may be only the beginning.
    CutOff,
    /// The TLS session failed; the source says how.
    Tls { blame: Blame },
    /// The transfer had to end within `limit`.
    DeadlineExceeded { limit: Duration },
    /// The transfer was cancelled.
    Cancelled,
    /// The file system of the file is full.
    NoSpace { op: &'static str, errno: i32 },
    /// The quota of the file's owner is spent.
    QuotaExceeded { op: &'static str, errno: i32 },
    /// The file would become longer than its file system or `RLIMIT_FSIZE` allows.
    FileTooLarge { op: &'static str, errno: i32 },
    /// The file was not opened for writing, is immutable, or its file system is read-only.
    ReadOnly { op: &'static str, errno: i32 },
    /// The file could not be written: a failing disk, or a server that is gone.
    FileUnwritable { op: &'static str, errno: i32 },
    /// There are no offsets to write to: a folder, a pipe, a device, or a file in append mode or
    /// past the page cache (`O_DIRECT`).
    NoOffsets { what: &'static str },
    /// The stream or the file does not know this call, and no other route was left.
    Unsupported { op: &'static str, side: Side, errno: i32 },
    /// A limit of the host was reached.
    HostLimit { op: &'static str, errno: i32 },
    /// The host forbids the call.
    HostDenied { op: &'static str, errno: i32 },
    /// A handle is closed or of the wrong kind.
    InvalidHandle { op: &'static str, errno: i32 },
    /// An earlier transfer out of this stream was dropped in the middle.
    Torn,
    /// The wishes cannot be met.
    Unfit(Unfit),
    /// A limit under which no transfer could make progress.
    InvalidLimit(InvalidLimit),
    /// Ringway kept its counts wrongly.
    Misstep(Misstep),
    /// An errno that has no arm of its own.
    UnexpectedErrno { op: &'static str, errno: i32 },
    /// An error without an errno; the source says more.
    Foreign { op: &'static str },
}

impl fmt::Display for ReceiveErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut call = |what: &str, op: &str, errno: i32| {
            write!(f, "{what} ({op}: {})", io::Error::from_raw_os_error(errno))
        };
        match *self {
            Self::PeerClosed { op, errno } => call("the peer closed the connection", op, errno),
            Self::PeerUnreachable { op, errno } => call("the peer cannot be reached", op, errno),
            Self::NoSpace { op, errno } => call("no space is left for the file", op, errno),
            Self::QuotaExceeded { op, errno } => call("the quota is spent", op, errno),
            Self::FileTooLarge { op, errno } => call("the file would become too long", op, errno),
            Self::ReadOnly { op, errno } => call("the file cannot be written to", op, errno),
            Self::FileUnwritable { op, errno } => call("writing the file failed", op, errno),
            Self::Unsupported { op, side: Side::Source, errno } => {
                call("the stream does not support this call", op, errno)
            }
            Self::Unsupported { op, side: Side::Sink, errno } => {
                call("the file does not support this call", op, errno)
            }
            Self::Unsupported { op, side: Side::Host, errno } => {
                call("the kernel does not support this call", op, errno)
            }
            Self::HostLimit { op, errno } => call("a limit of this host was reached", op, errno),
            Self::HostDenied { op, errno } => call("this host forbids the call", op, errno),
            Self::InvalidHandle { op, errno } => call("a handle cannot be used", op, errno),
            Self::UnexpectedErrno { op, errno } => call("an unexpected error", op, errno),
            Self::Foreign { op } => write!(f, "{op} failed"),
            Self::ShortBody(ShortBody { expected, .. }) => {
                write!(f, "the stream ended before the {expected} bytes that were promised")
            }
            Self::TooLong { most } => write!(f, "the stream has more than {most} bytes"),
            Self::Misfit(misfit) => write!(f, "{misfit}"),
            Self::PeerTimedOut { waited: None } => f.write_str("the connection timed out"),
            Self::PeerTimedOut { waited: Some(waited) } => {
                write!(f, "the peer sent nothing for {waited:?}")
            }
            Self::PeerTooSlow(TooSlow { bytes, over, floor }) => {
                write!(f, "the peer sent {bytes} bytes in {over:?}, below {floor} bytes per second")
            }
            Self::Malformed => f.write_str("what the peer sent cannot be decoded"),
            Self::CutOff => f.write_str("the stream was cut off"),
            Self::Tls { .. } => f.write_str("the TLS session cannot go on"),
            Self::DeadlineExceeded { limit } => {
                write!(f, "the transfer had not ended after {limit:?}")
            }
            Self::Cancelled => f.write_str("the transfer was cancelled"),
            Self::NoOffsets { what } => write!(f, "the sink has no offsets to write to: {what}"),
            Self::Torn => f.write_str("an earlier transfer out of this stream was dropped"),
            Self::Unfit(unfit) => write!(f, "{unfit}"),
            Self::InvalidLimit(invalid) => write!(f, "{invalid}"),
            Self::Misstep(misstep) => write!(f, "{misstep}"),
        }
    }
}

impl ReceiveErrorKind {
    /// Who is likely to blame, and what to do.
    pub(super) fn advice(&self) -> (Blame, &'static str) {
        match *self {
            Self::ShortBody(_) | Self::CutOff | Self::PeerClosed { .. } => {
                (Blame::Peer, "let the peer send the rest from the written bytes on")
            }
            Self::TooLong { .. } => (Blame::Peer, "allow more bytes if such bodies are welcome"),
            Self::Misfit(Misfit::Announced { .. }) => {
                (Blame::Peer, "allow more bytes if such bodies are welcome")
            }
            Self::Misfit(_) => (Blame::Caller, "check the offset and the lengths of the order"),
            Self::PeerTimedOut { .. } | Self::PeerUnreachable { .. } => {
                (Blame::Peer, "let the peer try again later, or check the network on the way to it")
            }
            Self::PeerTooSlow(_) => {
                (Blame::Peer, "lower the minimum rate if peers on slow links are welcome")
            }
            Self::Malformed => (Blame::Peer, "close the connection"),
            Self::Tls { blame } => {
                (blame, "make a new connection, and receive the rest from the written bytes on")
            }
            Self::DeadlineExceeded { .. } => {
                (Blame::Caller, "give a longer deadline, or receive the rest later")
            }
            Self::Cancelled => (Blame::Caller, "nothing; to go on, receive the rest"),
            Self::NoSpace { .. } => (Blame::Host, "free space on the file system of the file"),
            Self::QuotaExceeded { .. } => (Blame::Host, "raise the quota of the file's owner"),
            Self::FileTooLarge { .. } => {
                (Blame::Host, "raise RLIMIT_FSIZE, or use a file system with larger files")
            }
            Self::ReadOnly { .. } => {
                (Blame::Caller, "open the file for writing, on a file system that allows it")
            }
            Self::FileUnwritable { .. } => (
                Blame::File,
                "check the disk or the server that holds the file, and the kernel log",
            ),
            Self::NoOffsets { .. } => {
                (Blame::Caller, "give a regular file without O_APPEND and O_DIRECT")
            }
            Self::Unsupported { side: Side::Host, .. } => (Blame::Host, "use a newer kernel"),
            Self::Unsupported { .. } => (Blame::Caller, "do not force a route or forbid the copy"),
            Self::HostLimit { .. } => (
                Blame::Host,
                "raise the limit of descriptors (ulimit -n) or give the process more memory",
            ),
            Self::HostDenied { .. } => {
                (Blame::Host, "check the firewall, the seccomp profile and the security module")
            }
            Self::InvalidHandle { .. } => (Blame::Caller, "give a stream that is connected"),
            Self::Torn => {
                (Blame::Caller, "call settle_received(), which tells how many bytes were taken")
            }
            Self::Unfit(_) => (Blame::Caller, "do not force a route or forbid the copy"),
            Self::InvalidLimit(_) => (Blame::Caller, "give the limit a value in its range"),
            Self::Misstep(_) | Self::UnexpectedErrno { .. } => {
                (Blame::Library, "report it, with this line and the kernel's version")
            }
            Self::Foreign { .. } => (Blame::Host, "see the source of this error"),
        }
    }
}
