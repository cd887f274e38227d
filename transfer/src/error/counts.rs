//! Counts that do not come out: a short file, an impossible length, a wrong report.

use std::fmt;

use crate::progress::FILE_END_MAX;

/// The file ended before the promised length. A body that was promised is never padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// Bytes that the whole body was to have.
    pub expected: u64,
    /// Bytes that the socket has accepted.
    pub sent: u64,
}

/// A body whose offsets or lengths cannot be expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`part` is the index of the extent, the others are bytes")]
pub enum LengthOverflow {
    /// A file range that ends beyond the greatest offset, 2^63 − 1.
    Range { part: usize, offset: u64, len: u64 },
    /// With this part, the lengths together exceed 64 bits.
    Total { part: usize },
}

impl fmt::Display for LengthOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { part, offset, len } => write!(
                f,
                "part {part} asks for {len} bytes at offset {offset}, which ends beyond the last \
                 offset that a file can have ({FILE_END_MAX})"
            ),
            Self::Total { part } => {
                write!(f, "with part {part} the body is longer than 64 bits can count")
            }
        }
    }
}

impl std::error::Error for LengthOverflow {}

/// A report of `n` bytes where at most `limit` could be true. The route that made it has a bug; the
/// counts are unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by the sentence above")]
pub struct Misstep {
    pub report: &'static str,
    pub n: u64,
    pub limit: u64,
}

impl fmt::Display for Misstep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes where at most {} are possible", self.report, self.n, self.limit)
    }
}

impl std::error::Error for Misstep {}
