//! What can happen, one thing at a time. A script of these and a scenario are a whole run.
//!
//! Everything is named by place, and not by a running number, so that a script from which events
//! were removed still means something: what cannot happen at its turn is skipped.

/// How a call or an op ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As much as can be.
    Full,
    /// At most this many bytes, and at least one.
    Short(u64),
    Errno(i32),
}

/// A call that is made inline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Fill,
    Drain,
    Read,
    Send,
    Sendfile,
    /// Mapping a window; any outcome is a refusal.
    Map,
    /// A turn of a processor: short for so few records because its time is over, failed otherwise.
    Turn,
    /// Lending a pipe; any outcome is a refusal.
    Lend,
    /// Waiting for the socket; any outcome is a wake for nothing.
    Writable,
}

/// One step. `transfer` and `file` are indices into the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Start {
        transfer: usize,
    },
    Poll {
        transfer: usize,
    },
    /// The kernel does the op; its completion is not seen yet.
    Execute {
        transfer: usize,
        nth: usize,
        outcome: Outcome,
    },
    /// The completion is seen.
    Reap {
        transfer: usize,
        nth: usize,
    },
    /// The next inline call of this kind ends so.
    Arm {
        transfer: usize,
        call: Call,
        outcome: Outcome,
    },
    Cancel {
        transfer: usize,
    },
    Drop {
        transfer: usize,
    },
    PeerReads {
        transfer: usize,
        bytes: u64,
    },
    PeerResets {
        transfer: usize,
    },
    Advance {
        micros: u64,
    },
    Truncate {
        file: usize,
        len: u64,
    },
    Grow {
        file: usize,
        by: u64,
    },
    Overwrite {
        file: usize,
    },
    /// Another file is renamed over this one.
    Replace {
        file: usize,
        len: u64,
    },
    Residency {
        file: usize,
        resident: bool,
    },
    Pipes {
        max: usize,
    },
}

pub(crate) const EINTR: i32 = 4;
pub(crate) const EIO: i32 = 5;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EFAULT: i32 = 14;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const EPIPE: i32 = 32;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const ECONNRESET: i32 = 104;
pub(crate) const ECANCELED: i32 = 125;
