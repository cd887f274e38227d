//! How the other end behaves.

use crate::canary::Checker;
use std::time::Duration;

/// How long a receiver waits for a connection, or for the next byte, if nothing else is said: 60 s.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(60);

/// How a receiver behaves. Several can be combined; the default reads all, as fast as it can.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub(super) expected: Option<Checker>,
    pub(super) keep_bytes_max: usize,
    pub(super) pace: Option<(usize, Duration)>,
    pub(super) stall: Option<(u64, Duration)>,
    pub(super) stop: Option<(u64, Stop)>,
    pub(super) receive_buffer: Option<usize>,
    pub(super) patience: Duration,
}

impl Behaviour {
    /// Reads until the end of the stream.
    #[must_use]
    pub fn read_all() -> Self {
        Behaviour {
            expected: None,
            keep_bytes_max: 0,
            pace: None,
            stall: None,
            stop: None,
            receive_buffer: None,
            patience: PATIENCE_DEFAULT,
        }
    }

    /// Checks every byte against the canary.
    #[must_use]
    pub fn expecting(mut self, checker: Checker) -> Self {
        self.expected = Some(checker);
        self
    }

    /// Keeps the first `bytes_max` bytes, for streams that are not canary alone.
    #[must_use]
    pub fn keeping(mut self, bytes_max: usize) -> Self {
        self.keep_bytes_max = bytes_max;
        self
    }

    /// Reads at most `bytes` at a time and sleeps for `pause` after each.
    #[must_use]
    pub fn slowly(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = Some((bytes.max(1), pause));
        self
    }

    /// Reads nothing for `pause` once `after` bytes have come, then goes on; 0 stalls from the start.
    #[must_use]
    pub fn stalling(mut self, after: u64, pause: Duration) -> Self {
        self.stall = Some((after, pause));
        self
    }

    /// Reads exactly `bytes` and then goes away.
    #[must_use]
    pub fn stopping_after(mut self, bytes: u64, how: Stop) -> Self {
        self.stop = Some((bytes, how));
        self
    }

    /// Sets `SO_RCVBUF`, on a listener before it accepts, so that the first window is already small.
    /// The kernel doubles the value and has a minimum of its own, about 2 KiB.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Waits for the connection and for each read no longer than this.
    #[must_use]
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }
}

/// How a receiver goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It closes the socket. With unread bytes in its queue, TCP turns this into a reset as well.
    Close,
    /// It closes the socket with `SO_LINGER` 0, which always sends a reset.
    Reset,
    /// It keeps the socket open, without reading, for this long, and then closes it.
    Hold(Duration),
}
