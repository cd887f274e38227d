//! What one transfer may hold and how long, and the measured numbers that choose its route.
//!
//! [`Limits`] bound resources; changing one changes what a transfer can cost at worst. [`Thresholds`]
//! only move the points at which one route becomes cheaper than another.

mod thresholds;

use std::{fmt, time::Duration};

pub use thresholds::Thresholds;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The bounds of one transfer. Each field names its unit, its default and its cost at worst.
///
/// ```
/// use ringway::limits::Limits;
///
/// let limits = Limits::default().with_quantum_bytes(256 * 1024).with_pipes_max(1);
/// limits.check()?;
/// # Ok::<(), ringway::limits::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most that one transfer moves in one turn of the event loop, in bytes. Default 1 MiB.
    ///
    /// At worst every other connection of the ring waits for one such copy or splice per transfer
    /// that is ready: about 0.1 ms for 1 MiB of resident data.
    pub quantum_bytes: u64,
    /// The most bytes that a pipe is filled with. Default 1 MiB, which is also the capacity of the
    /// runtime's pipes.
    ///
    /// At worst this much page cache is held by each pipe.
    pub pipe_bytes: u64,
    /// The most pipes that one transfer holds, so that one fills while the other drains. Default 2.
    ///
    /// At worst `pipes_max` × `pipe_bytes` per transfer, and two fds for each pipe.
    pub pipes_max: usize,
    /// The buffer of the copying route, in bytes. Default 256 KiB.
    ///
    /// At worst this much memory per transfer, charged to `RLIMIT_MEMLOCK` when it is registered.
    pub copy_batch_bytes: u64,
    /// The buffer through which a body goes into a file where it is not spliced, in bytes. Default
    /// 1028 KiB; where such a large one is not free, a smaller one is used.
    ///
    /// At worst two of these per transfer, so that one fills while the other is written.
    pub receive_batch_bytes: u64,
    /// The buffer of the route that seals records, in bytes. Default 1028 KiB, which takes 64 full
    /// records of TLS: 1 MiB of plaintext, read by one call and sent by one.
    ///
    /// At worst two of these per transfer, the second one for reading ahead from a cold file. Measured
    /// over loopback, CPU seconds per GB of AES-256-GCM: 260 KiB 0.36, 520 KiB 0.34, 1028 KiB 0.31.
    pub seal_batch_bytes: u64,
    /// The most segments gathered into one send. Default 64, and no more are used.
    ///
    /// At worst 16 bytes per segment and transfer, for the vector that sendmsg(2) reads.
    pub segments_max: usize,
    /// The most parts of one body. Default 1024.
    ///
    /// At worst 24 bytes per part for as long as the transfer lasts.
    pub parts_max: usize,
    /// How long bytes may wait in a pipe or a buffer for a peer that takes none, before they are
    /// thrown away to be read again later. Default 20 ms.
    ///
    /// At worst a stalled peer keeps its pipes or its buffer this long; a shorter time makes slow
    /// but living peers cost more reads, up to `pipes_max` × `pipe_bytes` per stall.
    pub stall_hold: Duration,
    /// How long a range that was found to be in memory is taken to be there still. Default 10 ms;
    /// zero asks the kernel for each quantum (about 1 µs).
    ///
    /// At worst a range that is evicted within this time makes the event loop wait for the disk,
    /// once for each quantum of it.
    pub residency_age: Duration,
    /// How long a peer may take nothing at all before the transfer fails, or `None` to leave this to
    /// the connection. Default 60 s.
    ///
    /// At worst a dead peer keeps its socket this long, but no pipe and no buffer.
    pub peer_timeout: Option<Duration>,
}

impl Limits {
    /// The default of every field.
    pub const DEFAULT: Self = Self {
        quantum_bytes: MIB,
        pipe_bytes: MIB,
        pipes_max: 2,
        copy_batch_bytes: 256 * KIB,
        receive_batch_bytes: 1028 * KIB,
        seal_batch_bytes: 1028 * KIB,
        segments_max: 64,
        parts_max: 1024,
        stall_hold: Duration::from_millis(20),
        residency_age: Duration::from_millis(10),
        peer_timeout: Some(Duration::from_secs(60)),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// The most bytes of page cache and memory that one transfer holds outside the socket.
    #[must_use]
    pub fn worst_case_bytes(&self) -> u64 {
        let pipes = u64::try_from(self.pipes_max).unwrap_or(u64::MAX);
        let parts = u64::try_from(self.parts_max).unwrap_or(u64::MAX);
        let segments = u64::try_from(self.segments_max).unwrap_or(u64::MAX);
        let tables = parts.saturating_mul(24).saturating_add(segments.saturating_mul(16));
        // A transfer holds pipes or buffers, never both.
        let pair = self.seal_batch_bytes.max(self.receive_batch_bytes).saturating_mul(2);
        let buffers = self.copy_batch_bytes.max(pair);
        pipes.saturating_mul(self.pipe_bytes).max(buffers).saturating_add(tables)
    }

    /// Checks that a transfer can make progress under these limits.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] names the first field that is out of its range.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        const PAGE: u64 = 4096;
        let wrong = |field, range| Err(InvalidLimit { field, range });
        if self.quantum_bytes < PAGE {
            return wrong("quantum_bytes", "at least 4096");
        }
        if self.pipe_bytes < PAGE || self.pipe_bytes > 1 << 31 {
            return wrong("pipe_bytes", "from 4096 to 2147483648");
        }
        if self.pipes_max == 0 {
            return wrong("pipes_max", "at least 1");
        }
        if self.copy_batch_bytes < PAGE {
            return wrong("copy_batch_bytes", "at least 4096");
        }
        if self.receive_batch_bytes < PAGE {
            return wrong("receive_batch_bytes", "at least 4096");
        }
        if self.seal_batch_bytes < PAGE {
            return wrong("seal_batch_bytes", "at least 4096");
        }
        if self.segments_max == 0 || self.segments_max > 1024 {
            return wrong("segments_max", "from 1 to 1024");
        }
        if self.parts_max == 0 {
            return wrong("parts_max", "at least 1");
        }
        Ok(())
    }

    /// Sets [`quantum_bytes`](Self::quantum_bytes).
    #[must_use]
    pub fn with_quantum_bytes(mut self, bytes: u64) -> Self {
        self.quantum_bytes = bytes;
        self
    }

    /// Sets [`pipe_bytes`](Self::pipe_bytes).
    #[must_use]
    pub fn with_pipe_bytes(mut self, bytes: u64) -> Self {
        self.pipe_bytes = bytes;
        self
    }

    /// Sets [`pipes_max`](Self::pipes_max).
    #[must_use]
    pub fn with_pipes_max(mut self, pipes: usize) -> Self {
        self.pipes_max = pipes;
        self
    }

    /// Sets [`receive_batch_bytes`](Self::receive_batch_bytes).
    #[must_use]
    pub fn with_receive_batch_bytes(mut self, bytes: u64) -> Self {
        self.receive_batch_bytes = bytes;
        self
    }

    /// Sets [`copy_batch_bytes`](Self::copy_batch_bytes).
    #[must_use]
    pub fn with_copy_batch_bytes(mut self, bytes: u64) -> Self {
        self.copy_batch_bytes = bytes;
        self
    }

    /// Sets [`seal_batch_bytes`](Self::seal_batch_bytes).
    #[must_use]
    pub fn with_seal_batch_bytes(mut self, bytes: u64) -> Self {
        self.seal_batch_bytes = bytes;
        self
    }

    /// Sets [`segments_max`](Self::segments_max).
    #[must_use]
    pub fn with_segments_max(mut self, segments: usize) -> Self {
        self.segments_max = segments;
        self
    }

    /// Sets [`parts_max`](Self::parts_max).
    #[must_use]
    pub fn with_parts_max(mut self, parts: usize) -> Self {
        self.parts_max = parts;
        self
    }

    /// Sets [`stall_hold`](Self::stall_hold).
    #[must_use]
    pub fn with_stall_hold(mut self, hold: Duration) -> Self {
        self.stall_hold = hold;
        self
    }

    /// Sets [`residency_age`](Self::residency_age).
    #[must_use]
    pub fn with_residency_age(mut self, age: Duration) -> Self {
        self.residency_age = age;
        self
    }

    /// Sets [`peer_timeout`](Self::peer_timeout).
    #[must_use]
    pub fn with_peer_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.peer_timeout = timeout.into();
        self
    }
}

/// A limit under which no transfer could make progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLimit {
    /// The field of [`Limits`].
    pub field: &'static str,
    /// The values that it may have.
    pub range: &'static str,
}

impl fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit {} must be {}", self.field, self.range)
    }
}

impl std::error::Error for InvalidLimit {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bounded() {
        let limits = Limits::default();
        assert_eq!(limits.check(), Ok(()));
        assert_eq!(limits.worst_case_bytes(), 2 * 1028 * KIB + 1024 * 24 + 64 * 16);
    }

    #[test]
    fn a_limit_that_stops_everything_is_named() {
        let wrong = |limits: Limits| limits.check().unwrap_err().field;
        assert_eq!(wrong(Limits::default().with_quantum_bytes(0)), "quantum_bytes");
        assert_eq!(wrong(Limits::default().with_pipe_bytes(u64::MAX)), "pipe_bytes");
        assert_eq!(wrong(Limits::default().with_pipes_max(0)), "pipes_max");
        assert_eq!(wrong(Limits::default().with_copy_batch_bytes(1)), "copy_batch_bytes");
        assert_eq!(wrong(Limits::default().with_receive_batch_bytes(1)), "receive_batch_bytes");
        assert_eq!(wrong(Limits::default().with_seal_batch_bytes(4095)), "seal_batch_bytes");
        assert_eq!(wrong(Limits::default().with_segments_max(1025)), "segments_max");
        assert_eq!(wrong(Limits::default().with_parts_max(0)), "parts_max");
        let said = Limits::default().with_pipes_max(0).check().unwrap_err().to_string();
        assert_eq!(said, "the limit pipes_max must be at least 1");
    }
}
