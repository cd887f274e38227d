//! What the bytes of a file must be: the canary of the test kit, dense or with holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use ringway_testkit::canary::{self, Checker};

/// The contents of one file: two files with different numbers differ everywhere but in their holes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canary {
    file_id: u64,
    /// Length of a file that is a hole with islands; `None` for one without holes.
    sparse_len: Option<u64>,
}

impl Canary {
    pub(crate) fn new(file_id: u64) -> Self {
        Self { file_id, sparse_len: None }
    }

    /// Of a file of `len` bytes that is a hole with islands.
    pub(crate) fn sparse(file_id: u64, len: u64) -> Self {
        Self { file_id, sparse_len: Some(len) }
    }

    /// Writes `len` bytes to the file at `path`, which may exist and is emptied.
    pub(crate) fn write(&self, path: &Path, len: u64) -> io::Result<()> {
        match self.sparse_len {
            None => canary::write_file(path, self.file_id, len),
            Some(_) => canary::write_sparse_file(path, self.file_id, len),
        }
    }

    /// Writes the bytes of `offset..offset + len` only, and leaves a hole where nothing was written.
    pub(crate) fn write_slice(&self, file: &File, offset: u64, len: usize) -> io::Result<()> {
        let mut bytes = vec![0; len];
        canary::fill(self.file_id, offset, &mut bytes);
        file.write_all_at(&bytes, offset)
    }

    /// Compares `found` with what belongs at `position`.
    ///
    /// # Errors
    ///
    /// The first byte that differs, and whose it is.
    pub(crate) fn check(&self, position: u64, found: &[u8]) -> Result<()> {
        let mut checker = match self.sparse_len {
            None => Checker::new(self.file_id, position),
            Some(len) => Checker::sparse(self.file_id, position, len),
        };
        checker.feed(found).context("wrong bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_bytes_pass_and_others_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        Canary::new(7).write(file.path(), 10_000).unwrap();
        let mut bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(bytes.len(), 10_000);
        Canary::new(7).check(123, &bytes[123..]).unwrap();
        assert!(Canary::new(8).check(0, &bytes).is_err());
        assert!(Canary::new(7).check(8, &bytes[..4096]).is_err());
        bytes[9_123] ^= 1;
        let error = format!("{:#}", Canary::new(7).check(0, &bytes).unwrap_err());
        assert!(error.contains("wrong bytes") && error.contains("offset 9123"), "{error}");
    }

    #[test]
    fn holes_are_zeros_and_islands_are_not() {
        let len = 3 * canary::SPARSE_STRIDE;
        let file = tempfile::NamedTempFile::new().unwrap();
        let canary = Canary::sparse(7, len);
        canary.write(file.path(), len).unwrap();
        canary.check(canary::SPARSE_STRIDE / 2, &[0; 4096]).unwrap();
        assert!(canary.check(canary::SPARSE_STRIDE, &[0; 4096]).is_err());
    }
}
