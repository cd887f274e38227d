//! What a transfer did: how much, which way and why, and everything that was not as planned.

use std::{fmt, time::Duration};

mod processed;

use crate::plan::{Mode, Overwritable, Plan, Reason, Route};
pub use processed::{Digest, Processed};

/// The account of one transfer.
///
/// Its [`Display`](fmt::Display) is one line for a log:
/// `1.00 GiB by splice (hybrid) in 0.24 s, 2 pipes of 1 MiB, 1024 splice SQEs`, followed by every
/// fallback, stall and change of the source, if there were any.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Bytes that the socket accepted.
    pub bytes: u64,
    /// Those of them that came from files.
    pub file_bytes: u64,
    /// Those of them that came from memory.
    pub memory_bytes: u64,
    /// The route that was taken last.
    pub route: Route,
    /// The mode that was used last.
    pub mode: Mode,
    /// Why the route was planned.
    pub reason: Reason,
    /// When the file may be overwritten in place without the peer reading the new bytes.
    pub overwritable: Overwritable,
    /// From the call to its end.
    pub duration: Duration,
    /// Splices that the ring made.
    pub splice_sqes: u64,
    /// Splices that the loop made by splice(2).
    pub inline_splices: u64,
    /// Calls of sendfile(2).
    pub sendfile_calls: u64,
    /// Reads that the ring made.
    pub read_sqes: u64,
    /// Sends that the ring made.
    pub send_sqes: u64,
    /// Pipes that were held at the same time, at most.
    pub pipes: usize,
    /// Capacity of each of them, in bytes.
    pub pipe_bytes: u64,
    /// Capacity of the buffer, in bytes; 0 when none was used.
    pub buffer_bytes: u64,
    /// Whether that buffer was registered with the ring.
    pub buffer_registered: bool,
    /// TLS records that were sealed here and that the socket took whole.
    pub records: u64,
    /// Bytes of a record of which the socket took only the beginning: its rest goes first when the
    /// stream is used again, so the peer has these bytes then. They are not counted in
    /// [`bytes`](Self::bytes).
    pub half_sent_bytes: u64,
    /// What was planned and could not be had, each kind once.
    pub fallbacks: Vec<Fallback>,
    /// Times that staged bytes were thrown away because the peer stalled.
    pub rewinds: u64,
    /// File bytes that were thrown away by that and read again.
    pub discarded_bytes: u64,
    /// Times that the transfer waited for the peer.
    pub stalls: u64,
    /// The time that this took.
    pub stalled: Duration,
    /// The time that the transfer was held back by its own rate limit.
    pub held_back: Duration,
    /// Zero-copy sends that the kernel copied after all.
    pub zero_copy_copied: u64,
    /// The first source that changed between start and end, if one did.
    pub source_changed: Option<Box<Change>>,
    /// What processing did, where there was a processor.
    pub processed: Option<Box<Processed>>,
}

impl Receipt {
    /// An empty account of what `plan` is about to do.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            bytes: 0,
            file_bytes: 0,
            memory_bytes: 0,
            route: plan.route,
            mode: plan.mode,
            reason: plan.reason,
            overwritable: plan.overwritable,
            duration: Duration::ZERO,
            splice_sqes: 0,
            inline_splices: 0,
            sendfile_calls: 0,
            read_sqes: 0,
            send_sqes: 0,
            pipes: 0,
            pipe_bytes: 0,
            buffer_bytes: 0,
            buffer_registered: false,
            records: 0,
            half_sent_bytes: 0,
            fallbacks: Vec::new(),
            rewinds: 0,
            discarded_bytes: 0,
            stalls: 0,
            stalled: Duration::ZERO,
            held_back: Duration::ZERO,
            zero_copy_copied: 0,
            source_changed: None,
            processed: (plan.route == Route::Mapped).then(Box::default),
        }
    }

    /// Notes that `what` was done because of `why`. The same fallback again is counted, not repeated,
    /// so the list is no longer than the kinds there are, and costs nothing when there is none.
    pub fn note_fallback(&mut self, what: &'static str, why: &'static str) {
        let known = self.fallbacks.iter_mut().find(|known| known.what == what && known.why == why);
        match known {
            Some(known) => known.times = known.times.saturating_add(1),
            None => self.fallbacks.push(Fallback { what, why, times: 1 }),
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} ({}) in ", Iec(self.bytes), self.route, self.mode)?;
        write_time(f, self.duration)?;
        if self.pipes > 0 {
            let plural = if self.pipes == 1 { "" } else { "s" };
            write!(f, ", {} pipe{plural} of {:#}", self.pipes, Iec(self.pipe_bytes))?;
        }
        if self.buffer_bytes > 0 {
            let kind = if self.buffer_registered { "registered buffer" } else { "plain buffer" };
            write!(f, ", {kind} of {:#}", Iec(self.buffer_bytes))?;
        }
        for (count, one, many) in [
            (self.splice_sqes, "splice SQE", "splice SQEs"),
            (self.inline_splices, "inline splice", "inline splices"),
            (self.sendfile_calls, "sendfile call", "sendfile calls"),
            (self.read_sqes, "read SQE", "read SQEs"),
            (self.send_sqes, "send SQE", "send SQEs"),
            (self.zero_copy_copied, "zero-copy send copied", "zero-copy sends copied"),
            (self.records, "record", "records"),
        ] {
            if count > 0 {
                write!(f, ", {count} {}", if count == 1 { one } else { many })?;
            }
        }
        if let Some(processed) = &self.processed {
            write!(f, "; {processed}")?;
        }
        if self.stalls > 0 {
            write!(f, "; waited {} × for the peer, ", self.stalls)?;
            write_time(f, self.stalled)?;
        }
        if self.rewinds > 0 {
            write!(f, "; rewound {} ×, {} read again", self.rewinds, Iec(self.discarded_bytes))?;
        }
        if self.half_sent_bytes > 0 {
            write!(f, "; half a record of {} waits in the stream", Iec(self.half_sent_bytes))?;
        }
        if !self.held_back.is_zero() {
            f.write_str("; held back ")?;
            write_time(f, self.held_back)?;
        }
        for fallback in &self.fallbacks {
            write!(f, "; fell back: {fallback}")?;
        }
        if let Some(change) = &self.source_changed {
            write!(f, "; source changed: {change}")?;
        }
        Ok(())
    }
}

/// Something that was done instead of what was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// What was done instead.
    pub what: &'static str,
    /// The reason.
    pub why: &'static str,
    /// How often.
    pub times: u64,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)?;
        if self.times > 1 { write!(f, " {} ×", self.times) } else { Ok(()) }
    }
}

/// What tells one version of a file from another, from statx(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileStamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, in seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Time of the last change of content or metadata, likewise.
    pub ctime: (i64, u32),
}

impl FileStamp {
    /// How the file differs `later`, if it does.
    #[must_use]
    pub fn change_to(self, later: Self) -> Option<Change> {
        (self != later).then_some(Change { before: self, after: later })
    }
}

/// A file that changed while it was being sent. [`Display`](fmt::Display) tells in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// At the start.
    pub before: FileStamp,
    /// At the end.
    pub after: FileStamp,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after } = self;
        let mut comma = "";
        if before.size != after.size {
            write!(f, "size {} to {}", before.size, after.size)?;
            comma = ", ";
        }
        for (differs, name) in [
            (before.mtime != after.mtime, "mtime"),
            (before.ctime != after.ctime, "ctime"),
            (before.inode != after.inode, "inode"),
            (before.device != after.device, "device"),
        ] {
            if differs {
                write!(f, "{comma}{name}")?;
                comma = ", ";
            }
        }
        Ok(())
    }
}

/// A number of bytes for people, in IEC units with three digits; `{:#}` leaves out a fraction that is
/// zero.
///
/// ```
/// use ringway::receipt::Iec;
///
/// assert_eq!(Iec(1 << 30).to_string(), "1.00 GiB");
/// assert_eq!(format!("{:#}", Iec(1 << 20)), "1 MiB");
/// assert_eq!(Iec(16_700).to_string(), "16.3 KiB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Iec(pub u64);

impl fmt::Display for Iec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let bytes = u128::from(self.0);
        // The first unit in which the number, rounded to three digits, stays below 1024.
        for (power, unit) in (1..).zip(UNITS) {
            let size = 1u128 << (10 * power);
            // Rounded from the exact number each time: rounding twice would turn 99.949 into 100.
            let rounded = |scale: u128| (bytes * scale + size / 2) / size;
            let (hundredths, tenths, whole) = (rounded(100), rounded(10), rounded(1));
            if whole >= 1024 && unit != "EiB" {
                continue;
            }
            if f.alternate() && bytes.is_multiple_of(size) {
                return write!(f, "{whole} {unit}");
            }
            return if hundredths < 1_000 {
                write!(f, "{}.{:02} {unit}", hundredths / 100, hundredths % 100)
            } else if tenths < 1_000 {
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                write!(f, "{whole} {unit}")
            };
        }
        Ok(())
    }
}

pub(crate) fn write_time(f: &mut fmt::Formatter<'_>, time: Duration) -> fmt::Result {
    let micros = time.as_micros();
    if micros < 1_000 {
        write!(f, "{micros} µs")
    } else if micros < 99_950 {
        write!(f, "{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        write!(f, "{:.2} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Thresholds;
    use crate::plan::*;

    fn receipt(file_bytes: u64) -> Receipt {
        let source = SourceFacts {
            total_bytes: file_bytes,
            file_bytes,
            file_parts: 1,
            filesystem: Filesystem::Local,
            direct_io: DirectIo::No,
            residency: Residency::Unknown,
        };
        let sink = SinkFacts { kind: SinkKind::Tcp, same_host: false };
        let host = Capabilities {
            splice: true,
            splice_sqe: true,
            registered_buffers: true,
            pipe_bytes: 1 << 20,
        };
        let wishes = Wishes::default();
        let plan = plan(&source, &sink, &wishes, &host, &Thresholds::default()).unwrap();
        Receipt { bytes: file_bytes, file_bytes, ..Receipt::new(&plan) }
    }

    #[test]
    fn a_large_file_on_one_line() {
        let told = Receipt {
            duration: Duration::from_millis(240),
            pipes: 2,
            pipe_bytes: 1 << 20,
            splice_sqes: 1024,
            ..receipt(1 << 30)
        };
        assert_eq!(
            told.to_string(),
            "1.00 GiB by splice (hybrid) in 0.24 s, 2 pipes of 1 MiB, 1024 splice SQEs"
        );
    }

    #[test]
    fn nothing_that_went_otherwise_is_silent() {
        let before = FileStamp { size: 10, ..FileStamp::default() };
        let after = FileStamp { size: 5, mtime: (1, 0), ctime: (1, 0), ..FileStamp::default() };
        let mut told = Receipt {
            duration: Duration::from_micros(85),
            buffer_bytes: 256 << 10,
            send_sqes: 1,
            stalls: 3,
            stalled: Duration::from_millis(41),
            rewinds: 1,
            discarded_bytes: 100,
            records: 2,
            half_sent_bytes: 1000,
            held_back: Duration::from_secs(2),
            source_changed: before.change_to(after).map(Box::new),
            ..receipt(5)
        };
        told.note_fallback("plain buffer", "RLIMIT_MEMLOCK");
        told.note_fallback("plain buffer", "RLIMIT_MEMLOCK");
        assert_eq!(
            told.to_string(),
            "5 B by copy (ring) in 85 µs, plain buffer of 256 KiB, 1 send SQE, 2 records; waited 3 × \
             for the peer, 41.0 ms; rewound 1 ×, 100 B read again; half a record of 1000 B waits in \
             the stream; held back 2.00 s; fell back: plain buffer \
             (RLIMIT_MEMLOCK) 2 ×; source changed: size 10 to 5, mtime, ctime"
        );
        assert_eq!(before.change_to(before), None);
    }

    #[test]
    fn bytes_keep_three_digits_and_round_into_the_next_unit() {
        for (bytes, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10_234, "9.99 KiB"),
            (10_239, "10.0 KiB"),
            (102_348, "99.9 KiB"),
            (102_399, "100 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_064, "1.00 MiB"),
            (1_048_575, "1.00 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Iec(bytes).to_string(), words, "{bytes}");
        }
        assert_eq!(format!("{:#}", Iec(1536)), "1.50 KiB");
    }
}
