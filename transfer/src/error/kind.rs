//! What can happen to a transfer, in words, with blame and remedy.

use std::{fmt, io, time::Duration};

use super::{Blame, LengthOverflow, Misstep, Refusal, Side, Truncated, errno};
use crate::limits::InvalidLimit;
use crate::pace::TooSlow;
use crate::process::ProcessorFault;
use crate::receipt::Change;

/// What happened to a transfer. `op` is the call that failed, `errno` its number in errno(3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields say what the sentence of their variant names")]
pub enum ErrorKind {
    /// The file ended before the promised length; all that it had may have been sent.
    Truncated(Truncated),
    /// A file is not as the caller had seen it, and was to be sent only so.
    SourceChanged(Box<Change>),
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
    /// The TLS session failed or was closed; the source of the error says how.
    Tls { blame: Blame },
    /// The wishes cannot be met.
    Refused(Refusal),
    /// A limit under which no transfer could make progress.
    InvalidLimit(InvalidLimit),
    /// The body has more parts than [`Limits::parts_max`](crate::limits::Limits::parts_max).
    TooManyParts { given: usize, max: usize },
    /// Ringway kept its counts wrongly.
    Misstep(Misstep),
    /// An errno that has no arm of its own.
    UnexpectedErrno { op: &'static str, errno: i32 },
    /// An error without an errno; the source says more.
    Foreign { op: &'static str },
    /// The caller's processor ended the transfer.
    Processor(ProcessorFault),
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
            Self::SourceChanged(ref change) => {
                write!(f, "the file is not as it was seen: {change}")
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
            Self::Tls { .. } => f.write_str("the TLS session cannot go on"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::InvalidLimit(invalid) => write!(f, "{invalid}"),
            Self::TooManyParts { given, max } => {
                write!(f, "the body has {given} parts, and at most {max} are allowed")
            }
            Self::Misstep(misstep) => write!(f, "{misstep}"),
            Self::Processor(fault) => write!(f, "{fault}"),
        }
    }
}

impl ErrorKind {
    /// Who is likely to blame, and what to do.
    pub(super) fn advice(&self) -> (Blame, &'static str) {
        match *self {
            Self::Truncated(_) => (
                Blame::File,
                "close the connection, replace files by rename instead of shortening them",
            ),
            Self::SourceChanged(_) => {
                (Blame::File, "look at the file again, and announce what it has now")
            }
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
            Self::Tls { blame } => (blame, "make a new connection, and resume from the bytes sent"),
            Self::Refused(refusal) => (refusal.blame(), refusal.remedy()),
            Self::InvalidLimit(_) => (Blame::Caller, "give the limit a value in its range"),
            Self::TooManyParts { .. } => (Blame::Caller, "raise Limits::parts_max or send less"),
            Self::Misstep(_) | Self::UnexpectedErrno { .. } => {
                (Blame::Library, "report it, with this line and the kernel's version")
            }
            Self::Foreign { .. } => (Blame::Host, "see the source of this error"),
            Self::Processor(fault) => (Blame::Caller, fault.remedy()),
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
