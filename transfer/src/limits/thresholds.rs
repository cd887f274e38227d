//! The measured numbers that choose a route.

use super::{KIB, MIB};

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
    /// hybrid, 64 KiB 24.6 against 18.5. The ring sends such a body as well as reads it: 4 KiB 11.2 against
    /// 12.3 sent by the loop.
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
    /// From this many bytes on, a transfer over plain TCP holds back partial segments until its end (`TCP_CORK`,
    /// tcp(7)), where nothing paces. Default 512 KiB.
    ///
    /// It costs two calls. Measured over loopback with CUBIC on 6.18: bodies of 1 MiB left in 22.4 packets
    /// instead of 26.7, for 1.00 instead of 1.10 of nginx's CPU; files of 16 MiB cost 0.88 of sendfile(2) and
    /// 0.97 without. At 256 KiB it changed nothing, at 64 KiB it cost 8 %.
    pub hold_cork_min_bytes: u64,
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
    /// [`Limits::stall_hold`](super::Limits::stall_hold).
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
        hold_cork_min_bytes: 512 * KIB,
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

    /// Sets [`hold_cork_min_bytes`](Self::hold_cork_min_bytes).
    #[must_use]
    pub fn with_hold_cork_min_bytes(mut self, bytes: u64) -> Self {
        self.hold_cork_min_bytes = bytes;
        self
    }

    /// Whether a transfer of this many bytes holds partial segments back until its end.
    pub(crate) fn holds_cork(&self, bytes: u64, is_paced: impl FnOnce() -> bool) -> bool {
        bytes >= self.hold_cork_min_bytes && !is_paced()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_holds_its_header_back_only_where_nothing_paces() {
        let never_asked = || unreachable!("what it answers would decide nothing");
        let at = Thresholds::DEFAULT;
        assert!(at.corks(64 * KIB, never_asked) && !at.corks(MIB + 1, never_asked));
        assert!(at.corks(MIB, || false) && !at.corks(64 * KIB + 1, || true));
        assert!(at.holds_cork(MIB, || false) && !at.holds_cork(MIB, || true));
        assert!(!at.holds_cork(512 * KIB - 1, never_asked));
        let off = at.with_cork_max_bytes(0);
        assert!(!off.corks(1, never_asked));
    }
}
