//! Compares a stream with the canary that belongs there.

use super::origin::{Origin, WINDOW};
use super::{Layout, length};
use std::fmt;

/// Checks a stream of canary bytes, chunk by chunk.
#[derive(Clone, Debug)]
pub struct Checker {
    file_id: u64,
    position: u64,
    layout: Layout,
}

impl Checker {
    /// Expects the bytes of a file of [`write_file`](super::write_file), from offset `start` on.
    #[must_use]
    pub fn new(file_id: u64, start: u64) -> Self {
        Checker { file_id, position: start, layout: Layout::Dense }
    }

    /// Expects the bytes of a file of [`write_sparse_file`](super::write_sparse_file) that is `len`
    /// bytes long, from offset `start` on: holes are zeros.
    #[must_use]
    pub fn sparse(file_id: u64, start: u64, len: u64) -> Self {
        Checker { file_id, position: start, layout: Layout::Sparse { len } }
    }

    /// Checks the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// The first byte that is not the expected one. The checker then stands at this byte.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Foreign> {
        let mut expected = [0; 4096];
        let mut rest = chunk;
        while !rest.is_empty() {
            let count = rest.len().min(expected.len());
            let expected = &mut expected[..count];
            self.layout.fill(self.file_id, self.position, expected);
            if rest[..count] != *expected {
                return Err(self.foreign(rest, expected));
            }
            self.position += length(count);
            rest = &rest[count..];
        }
        Ok(())
    }

    /// The offset in the file of the byte that comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    fn foreign(&mut self, seen: &[u8], expected: &[u8]) -> Foreign {
        let same =
            seen.iter().zip(expected).take_while(|(seen, expected)| seen == expected).count();
        self.position += length(same);
        let seen = &seen[same..seen.len().min(same + WINDOW)];
        let mut wanted = [0; WINDOW];
        let wanted = &mut wanted[..seen.len()];
        self.layout.fill(self.file_id, self.position, wanted);
        Foreign {
            file_id: self.file_id,
            offset: self.position,
            expected: wanted[0],
            found: seen[0],
            origin: Origin::of(seen, wanted),
        }
    }
}

/// A byte that is not the one that belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The file whose byte was expected.
    pub file_id: u64,
    /// The offset in it.
    pub offset: u64,
    /// The byte that belongs there.
    pub expected: u8,
    /// The byte that came.
    pub found: u8,
    /// Whose byte it is.
    pub origin: Origin,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Foreign { file_id, offset, expected, found, origin } = *self;
        write!(f, "file {file_id}, offset {offset}: expected {expected:#04x}, got {found:#04x}: ")?;
        match origin {
            Origin::File { file_id: whose, offset: at } if whose != file_id => {
                write!(f, "from here on these are bytes of file {whose} at offset {at}")
            }
            Origin::File { offset: at, .. } if at > offset => {
                write!(f, "the stream goes on at offset {at}, {} bytes are missing", at - offset)
            }
            Origin::File { offset: at, .. } => {
                write!(f, "the stream goes back to offset {at}, {} bytes come twice", offset - at)
            }
            Origin::Zeros => write!(f, "zeros"),
            Origin::Freed => write!(f, "the quarantine's pattern, so the memory had been freed"),
            Origin::Flipped { span } => {
                write!(f, "the damage is {span} bytes wide, what follows is right")
            }
            Origin::Unknown => write!(f, "of unknown origin"),
        }
    }
}

impl std::error::Error for Foreign {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::fill;
    use crate::quarantine;

    fn bytes(file_id: u64, offset: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        fill(file_id, offset, &mut buffer);
        buffer
    }

    fn foreign(stream: &[u8]) -> Foreign {
        Checker::new(5, 1000).feed(stream).expect_err("the stream is damaged")
    }

    #[test]
    fn a_right_stream_passes_in_any_chunks() {
        let stream = bytes(5, 1000, 100_000);
        for size in [1, 7, 4096, 65_537] {
            let mut checker = Checker::new(5, 1000);
            stream.chunks(size).for_each(|chunk| checker.feed(chunk).unwrap());
            assert_eq!(checker.position(), 101_000);
        }
    }

    #[test]
    fn a_flipped_byte_is_located() {
        let mut stream = bytes(5, 1000, 10_000);
        stream[7777] ^= 0x10;
        let found = foreign(&stream);
        assert_eq!((found.offset, found.origin), (8777, Origin::Flipped { span: 1 }));
        assert_eq!(found.found, found.expected ^ 0x10);
        assert!(found.to_string().starts_with("file 5, offset 8777: expected 0x"), "{found}");
    }

    #[test]
    fn another_files_bytes_are_named_at_any_alignment() {
        for shift in 0..16 {
            let mut stream = bytes(5, 1000, 10_000);
            let stranger = bytes(9, (5 << 30) + shift, 500);
            stream[3001..3501].copy_from_slice(&stranger);
            let found = foreign(&stream);
            // The first byte of the stranger may happen to be the right one.
            let Origin::File { file_id: 9, offset } = found.origin else { panic!("{found}") };
            assert_eq!(offset - (5 << 30) - shift, found.offset - 4001, "{found}");
        }
    }

    #[test]
    fn lost_and_repeated_bytes_are_counted() {
        let mut stream = bytes(5, 1000, 10_000);
        stream.drain(500..4596);
        assert!(foreign(&stream).to_string().ends_with("4096 bytes are missing"));

        let mut stream = bytes(5, 1000, 600);
        stream.extend(bytes(5, 1500, 600));
        assert!(foreign(&stream).to_string().ends_with("100 bytes come twice"));
    }

    #[test]
    fn zeros_and_freed_memory_are_told_apart() {
        let mut stream = bytes(5, 1000, 1000);
        stream[400..600].fill(0);
        assert_eq!(foreign(&stream).origin, Origin::Zeros);
        stream[400..600].fill(quarantine::PATTERN);
        assert_eq!(foreign(&stream).origin, Origin::Freed);
        stream[400..].fill(0x55);
        assert_eq!(foreign(&stream).origin, Origin::Unknown);
        assert_eq!(foreign(&stream[..402]).origin, Origin::Unknown);
    }
}
