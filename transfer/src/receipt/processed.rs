//! What processing did to a body: the part of a receipt that only processed transfers have.

use std::{fmt, time::Duration};

use super::{Iec, write_time};

/// The account of the processing of one transfer. All numbers are bytes unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Processed {
    /// Bytes of the source that were shown to the processor and dealt with.
    pub scanned_bytes: u64,
    /// Sent unchanged by reference, out of the page cache.
    pub referenced_bytes: u64,
    /// Sent unchanged by copying, because the pieces were short or a snapshot was wanted.
    pub gathered_bytes: u64,
    /// Sent changed in place.
    pub changed_bytes: u64,
    /// Sent from what the processor wrote or brought along.
    pub added_bytes: u64,
    /// Windows that were mapped.
    pub windows_mapped: u64,
    /// Windows that were read into memory.
    pub windows_read: u64,
    /// Turns of the processor.
    pub turns: u64,
    /// Turns that took longer than their budget.
    pub turns_late: u64,
    /// The time that the processor took.
    pub processing: Duration,
    /// What was kept, at most, while the peer stalled, because it could not be made again.
    pub kept_bytes: u64,
    /// Digests, in the order in which they were noted.
    pub digests: Vec<Digest>,
}

impl Processed {
    /// Bytes sent that stood in the file, changed in place or not.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.referenced_bytes + self.gathered_bytes + self.changed_bytes
    }
}

/// A digest over what was sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Its algorithm: `crc32c`, `sha-256`, `blake3`, or the name that a processor gives it.
    pub algorithm: &'static str,
    /// The digest in binary.
    pub bytes: Vec<u8>,
}

/// The algorithm and the digest in hexadecimal: `crc32c e3069283`.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.algorithm)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Processed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} scanned in ", Iec(self.scanned_bytes))?;
        write_time(f, self.processing)?;
        for (bytes, how) in [
            (self.referenced_bytes, "by reference"),
            (self.gathered_bytes, "gathered"),
            (self.changed_bytes, "changed"),
            (self.added_bytes, "added"),
        ] {
            if bytes > 0 {
                write!(f, ", {} {how}", Iec(bytes))?;
            }
        }
        for (count, one, many) in [
            (self.windows_mapped, "window mapped", "windows mapped"),
            (self.windows_read, "window read", "windows read"),
            (self.turns_late, "late turn", "late turns"),
        ] {
            if count > 0 {
                write!(f, ", {count} {}", if count == 1 { one } else { many })?;
            }
        }
        if self.kept_bytes > 0 {
            write!(f, ", {} kept while the peer stalled", Iec(self.kept_bytes))?;
        }
        self.digests.iter().try_for_each(|digest| write!(f, ", {digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_one_line_and_without_what_did_not_happen() {
        let told = Processed {
            scanned_bytes: 1 << 20,
            gathered_bytes: 1024,
            windows_read: 4,
            processing: Duration::from_micros(90),
            digests: vec![Digest { algorithm: "crc32c", bytes: vec![0xe3, 6, 0x92, 0x83] }],
            ..Processed::default()
        };
        assert_eq!(
            told.to_string(),
            "1.00 MiB scanned in 90 µs, 1.00 KiB gathered, 4 windows read, crc32c e3069283"
        );
    }
}
