//! What one transfer may hold and how long, and the measured numbers that choose its route.
//!
//! [`Limits`] bound resources; changing one changes what a transfer can cost at worst. [`Thresholds`]
//! only move the points at which one route becomes cheaper than another.

use std::{fmt, time::Duration};

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

/// The points at which [`plan`](crate::plan::plan) changes its mind, all in bytes.
///
/// The defaults come from a 2 vCPU Zen 4 virtual machine with kernel 6.18 over loopback; the
/// benchmark harness finds those of another machine.
///
/// ```
/// use ringway::limits::Thresholds;
///
/// let here = Thresholds::default().with_copy_max_bytes(32 * 1024);
/// assert!(here.copy_max_bytes > Thresholds::default().copy_max_bytes);
/// ```
///
/// With the feature `serde` they can be read from what `ringway-bench calibrate` has written; a field
/// that is missing there has its default, and one that does not exist is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Thresholds {
    /// Up to this many file bytes in all, the body is copied. Default 4 KiB.
    ///
    /// Measured with the daemon, CPU µs per request on 6.18: 4 KiB 8.0 copied and 7.8 by sendfile,
    /// which holds nothing either but leaves in two calls; 16 KiB 10.2 copied and 7.7 by sendfile.
    pub copy_max_bytes: u64,
    /// The same for a body that is not known to be resident. Default 16 KiB.
    ///
    /// A cold read waits by a callback and a cold splice in a thread of the kernel, so the copy wins
    /// for longer. Measured through the ring, CPU µs per request: 16 KiB 10.7 copied against 12.2
    /// hybrid, 64 KiB 24.6 against 18.5.
    pub cold_copy_max_bytes: u64,
    /// Up to this mean length of several file ranges, they are gathered by copying. Default 16 KiB.
    ///
    /// Measured, CPU seconds per GB: ranges of 1 KiB cost 0.68 to 0.82 spliced one by one and 0.23
    /// to 0.26 copied; ranges of 1 MiB 0.12 spliced and 0.19 or more copied. Between the two nothing
    /// has been measured, so the default is the small body's.
    pub gather_max_bytes: u64,
    /// Up to this many bytes, the resident end of a body leaves by one sendfile(2) instead of two
    /// splices. Default 1 MiB.
    ///
    /// Measured with the daemon over loopback on 6.18, CPU µs per request: 256 KiB 21.6 by two splices
    /// and 19.1 by sendfile, 1 MiB 45.0 and 44.4; and it holds no pipe while the peer takes its time.
    pub sendfile_max_bytes: u64,
    /// Memory that precedes at most this many bytes waits for them, so that they share packets; before
    /// a longer rest it leaves at once. Default 1 MiB.
    ///
    /// Measured over loopback with CUBIC on 6.18, the daemon's CPU per request to that of nginx with
    /// `tcp_nopush`: 256 KiB 1.07 and, corked, 1.00; 1 MiB 1.12 and 1.11.
    pub cork_max_bytes: u64,
    /// The same where the congestion control paces ([`Stream::is_paced`]), if it is less. Default 64 KiB.
    ///
    /// Measured over loopback with BBR on 6.18, CPU µs per request of the daemon at 256 KiB: a corked header
    /// cost 72 to 99 and one that leaves at once 22 to 27, and `tcp_nopush` does the same to nginx
    /// (98 to 101 against 20 to 23).
    ///
    /// [`Stream::is_paced`]: ringway_runtime::net::Stream::is_paced
    pub cork_paced_max_bytes: u64,
    /// The smallest pipe that is worth splicing through. Default 64 KiB.
    ///
    /// Measured, CPU seconds per GB: 64 KiB 0.17 against 0.25 to 0.34 copied. A user beyond
    /// `fs.pipe-user-pages-soft` is given one or two pages, which is far below.
    pub pipe_min_bytes: u64,
    /// The smallest pipe that is worth filling by a worker, so for data not known to be resident.
    /// Default 256 KiB.
    ///
    /// Measured: with 64 KiB pipes and both hops in workers a GB costs 44 000 context switches and
    /// 0.78 CPU seconds; with 256 KiB pipes 0.17.
    pub worker_pipe_min_bytes: u64,
    /// From this length on, a run that a processor keeps unchanged leaves by reference, if it begins and ends
    /// where pages do; shorter ones are gathered. Default 4 KiB.
    ///
    /// Measured, CPU seconds per GB scanned, every second run kept: runs of 1 KiB 0.74 by reference and
    /// 0.26 gathered, of 4 KiB 0.118 and 0.254, of 8 KiB 0.102 and 0.159, of 64 KiB 0.090 and 0.159.
    pub reference_min_bytes: u64,
    /// The same for a run that begins or ends inside of a page. Default 64 KiB.
    ///
    /// Measured likewise, with runs that began and ended in the fourth KiB of a page: of 4 KiB 0.358 by
    /// reference and 0.242 gathered, of 16 KiB 0.215 and 0.157, of 64 KiB 0.135 and 0.143, of 1 MiB 0.083 and
    /// 0.150.
    pub reference_skewed_min_bytes: u64,
    /// Up to this many bytes, a body that is received goes through a buffer. Default 64 KiB.
    pub receive_copy_max_bytes: u64,
    /// From this many bytes on, what has been received is written without waiting for more. Default
    /// 256 KiB; what comes in smaller pieces is gathered for at most
    /// [`Limits::stall_hold`].
    pub receive_batch_min_bytes: u64,
    /// From this length on, blocks are reserved for a body before it is received. Default 1 MiB.
    pub reserve_min_bytes: u64,
}

impl Thresholds {
    /// The default of every field.
    pub const DEFAULT: Self = Self {
        copy_max_bytes: 4 * KIB,
        cold_copy_max_bytes: 16 * KIB,
        gather_max_bytes: 16 * KIB,
        sendfile_max_bytes: MIB,
        cork_max_bytes: MIB,
        cork_paced_max_bytes: 64 * KIB,
        pipe_min_bytes: 64 * KIB,
        worker_pipe_min_bytes: 256 * KIB,
        reference_min_bytes: 4 * KIB,
        reference_skewed_min_bytes: 64 * KIB,
        receive_copy_max_bytes: 64 * KIB,
        receive_batch_min_bytes: 256 * KIB,
        reserve_min_bytes: MIB,
    };
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Thresholds {
    /// Sets [`copy_max_bytes`](Self::copy_max_bytes).
    #[must_use]
    pub fn with_copy_max_bytes(mut self, bytes: u64) -> Self {
        self.copy_max_bytes = bytes;
        self
    }

    /// Sets [`cold_copy_max_bytes`](Self::cold_copy_max_bytes).
    #[must_use]
    pub fn with_cold_copy_max_bytes(mut self, bytes: u64) -> Self {
        self.cold_copy_max_bytes = bytes;
        self
    }

    /// Sets [`gather_max_bytes`](Self::gather_max_bytes).
    #[must_use]
    pub fn with_gather_max_bytes(mut self, bytes: u64) -> Self {
        self.gather_max_bytes = bytes;
        self
    }

    /// Sets [`sendfile_max_bytes`](Self::sendfile_max_bytes).
    #[must_use]
    pub fn with_sendfile_max_bytes(mut self, bytes: u64) -> Self {
        self.sendfile_max_bytes = bytes;
        self
    }

    /// Sets [`cork_max_bytes`](Self::cork_max_bytes).
    #[must_use]
    pub fn with_cork_max_bytes(mut self, bytes: u64) -> Self {
        self.cork_max_bytes = bytes;
        self
    }

    /// Sets [`cork_paced_max_bytes`](Self::cork_paced_max_bytes).
    #[must_use]
    pub fn with_cork_paced_max_bytes(mut self, bytes: u64) -> Self {
        self.cork_paced_max_bytes = bytes;
        self
    }

    /// Whether memory waits for this many bytes behind it; whether the connection is paced is asked only
    /// where it decides.
    pub(crate) fn corks(&self, behind: u64, is_paced: impl FnOnce() -> bool) -> bool {
        let always = self.cork_paced_max_bytes.min(self.cork_max_bytes);
        behind <= always || (behind <= self.cork_max_bytes && !is_paced())
    }

    /// Sets [`pipe_min_bytes`](Self::pipe_min_bytes).
    #[must_use]
    pub fn with_pipe_min_bytes(mut self, bytes: u64) -> Self {
        self.pipe_min_bytes = bytes;
        self
    }

    /// Sets [`receive_copy_max_bytes`](Self::receive_copy_max_bytes).
    #[must_use]
    pub fn with_receive_copy_max_bytes(mut self, bytes: u64) -> Self {
        self.receive_copy_max_bytes = bytes;
        self
    }

    /// Sets [`receive_batch_min_bytes`](Self::receive_batch_min_bytes).
    #[must_use]
    pub fn with_receive_batch_min_bytes(mut self, bytes: u64) -> Self {
        self.receive_batch_min_bytes = bytes;
        self
    }

    /// Sets [`reserve_min_bytes`](Self::reserve_min_bytes).
    #[must_use]
    pub fn with_reserve_min_bytes(mut self, bytes: u64) -> Self {
        self.reserve_min_bytes = bytes;
        self
    }

    /// Sets [`worker_pipe_min_bytes`](Self::worker_pipe_min_bytes).
    #[must_use]
    pub fn with_worker_pipe_min_bytes(mut self, bytes: u64) -> Self {
        self.worker_pipe_min_bytes = bytes;
        self
    }

    /// Sets [`reference_min_bytes`](Self::reference_min_bytes).
    #[must_use]
    pub fn with_reference_min_bytes(mut self, bytes: u64) -> Self {
        self.reference_min_bytes = bytes;
        self
    }

    /// Sets [`reference_skewed_min_bytes`](Self::reference_skewed_min_bytes).
    #[must_use]
    pub fn with_reference_skewed_min_bytes(mut self, bytes: u64) -> Self {
        self.reference_skewed_min_bytes = bytes;
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
    fn a_long_body_holds_its_header_back_only_where_nothing_paces() {
        let never_asked = || unreachable!("what it answers would decide nothing");
        let at = Thresholds::DEFAULT;
        assert!(at.corks(64 * KIB, never_asked) && !at.corks(MIB + 1, never_asked));
        assert!(at.corks(MIB, || false) && !at.corks(64 * KIB + 1, || true));
        let off = at.with_cork_max_bytes(0);
        assert!(!off.corks(1, never_asked));
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
