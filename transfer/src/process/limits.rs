//! The bounds of a transfer that is processed on its way.

use std::time::Duration;

use crate::limits::InvalidLimit;

/// What processing may hold, and how long one turn of it may take.
///
/// ```
/// use ringway::process::WindowLimits;
///
/// let limits = WindowLimits::default().with_window_bytes(64 << 10);
/// limits.check()?;
/// # Ok::<(), ringway::limits::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowLimits {
    /// The most bytes that a processor is shown at once. Default 4 MiB. The first window has at most
    /// 256 KiB; they become longer while turns are quick.
    ///
    /// At worst two windows of this are mapped, or one is read, for each transfer. Windows that are read into
    /// a buffer are no longer than it; those beside a processor that writes much have at most 256 KiB. After a stall what cannot be
    /// made again stays, at worst one window: see [`crate::Limits::stall_hold`]. Measured, filtering 1 %
    /// of 1 GiB, CPU seconds per GB: windows of 1 MiB 0.065, of 4 MiB 0.045, of 8 MiB 0.041.
    pub window_bytes: u64,
    /// The longest window that is shown to a processor that uses nothing of a shorter one, in bytes: the
    /// longest record. Default 16 MiB.
    ///
    /// At worst this much is mapped, or read into memory, for each transfer.
    pub window_max_bytes: u64,
    /// The most pieces that a processor may ask for in one turn. Default 4096.
    ///
    /// At worst 120 bytes per piece and transfer.
    pub pieces_max: usize,
    /// How often in a row a processor may use nothing while it sends bytes of its own. Default 64.
    ///
    /// At worst this many buffers of output without progress.
    pub unused_turns_max: u32,
    /// How long one turn of a processor on the event loop may take. Default 250 µs.
    ///
    /// A processor that asks [`Window::is_due`](super::Window::is_due) holds it, unless it could use nothing
    /// in that time: then the next turn has no end. For one that does not ask, windows become shorter, down
    /// to 64 KiB. At worst all other connections of the ring wait for the time that it takes for that.
    pub turn_budget: Duration,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self {
            window_bytes: 4 << 20,
            window_max_bytes: 16 << 20,
            pieces_max: 4096,
            unused_turns_max: 64,
            turn_budget: Duration::from_micros(250),
        }
    }
}

impl WindowLimits {
    /// Checks that a transfer can make progress under these limits.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first field that is out of its range.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        const PAGE: u64 = 4096;
        let wrong = |field, range| Err(InvalidLimit { field, range });
        if !(PAGE..=1 << 30).contains(&self.window_bytes) {
            return wrong("window_bytes", "from 4096 to 1073741824");
        }
        if !(self.window_bytes..=1 << 30).contains(&self.window_max_bytes) {
            return wrong("window_max_bytes", "from window_bytes to 1073741824");
        }
        if self.pieces_max == 0 {
            return wrong("pieces_max", "at least 1");
        }
        Ok(())
    }

    /// Sets [`window_bytes`](Self::window_bytes).
    #[must_use]
    pub fn with_window_bytes(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets [`window_max_bytes`](Self::window_max_bytes).
    #[must_use]
    pub fn with_window_max_bytes(mut self, bytes: u64) -> Self {
        self.window_max_bytes = bytes;
        self
    }

    /// Sets [`pieces_max`](Self::pieces_max).
    #[must_use]
    pub fn with_pieces_max(mut self, pieces: usize) -> Self {
        self.pieces_max = pieces;
        self
    }

    /// Sets [`unused_turns_max`](Self::unused_turns_max).
    #[must_use]
    pub fn with_unused_turns_max(mut self, turns: u32) -> Self {
        self.unused_turns_max = turns;
        self
    }

    /// Sets [`turn_budget`](Self::turn_budget).
    #[must_use]
    pub fn with_turn_budget(mut self, budget: Duration) -> Self {
        self.turn_budget = budget;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_stops_everything_is_named() {
        let wrong = |limits: WindowLimits| limits.check().unwrap_err().field;
        assert_eq!(WindowLimits::default().check(), Ok(()));
        assert_eq!(wrong(WindowLimits::default().with_window_bytes(1)), "window_bytes");
        assert_eq!(wrong(WindowLimits::default().with_window_max_bytes(9000)), "window_max_bytes");
        assert_eq!(wrong(WindowLimits::default().with_pieces_max(0)), "pieces_max");
    }
}
