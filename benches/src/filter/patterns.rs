//! Which records are kept: each pattern is one bit of the key with which a record begins, so that one
//! file serves them all and a filter has to look.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Result, ensure};
use ringway_testkit::canary;

/// Which canary fills what is behind the keys.
const FILE_ID: u64 = 1;

/// Bytes in a record.
pub(crate) const RECORD: usize = 1024;

/// A way of keeping records.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    keeps: fn(u64) -> bool,
}

/// All of them; the place in this list is the bit of the key.
pub(crate) const PATTERNS: &[Pattern] = &[
    Pattern { name: "all", keeps: |_| true },
    Pattern { name: "alternating", keeps: |index| index % 2 == 0 },
    Pattern { name: "one-percent", keeps: |index| index % 100 == 0 },
    Pattern { name: "runs-4k", keeps: |index| index / 4 % 2 == 0 },
    Pattern { name: "runs-8k", keeps: |index| index / 8 % 2 == 0 },
    Pattern { name: "runs-16k", keeps: |index| index / 16 % 2 == 0 },
    Pattern { name: "runs-32k", keeps: |index| index / 32 % 2 == 0 },
    Pattern { name: "runs-64k", keeps: |index| index / 64 % 2 == 0 },
    Pattern { name: "runs-128k", keeps: |index| index / 128 % 2 == 0 },
    Pattern { name: "runs-1m", keeps: |index| index / 1024 % 2 == 0 },
    // The same runs, but none begins where a page does.
    Pattern { name: "skewed-4k", keeps: |index| (index + 1) / 4 % 2 == 0 },
    Pattern { name: "skewed-16k", keeps: |index| (index + 1) / 16 % 2 == 0 },
    Pattern { name: "skewed-64k", keeps: |index| (index + 1) / 64 % 2 == 0 },
    Pattern { name: "skewed-1m", keeps: |index| (index + 1) / 1024 % 2 == 0 },
];

/// The bit of a pattern.
pub(crate) fn mask(name: &str) -> Option<u32> {
    PATTERNS.iter().position(|pattern| pattern.name == name).map(|bit| 1 << bit)
}

/// Whether a record with these first bytes is kept.
#[inline]
pub(crate) fn keeps(key: [u8; 4], mask: u32) -> bool {
    u32::from_le_bytes(key) & mask != 0
}

/// Writes a file of records, so many bytes at a time: the page cache keeps what came by one write in large
/// folios, and those of 2 MiB are mapped at once.
pub(crate) fn write(path: &Path, records: u64, write_bytes: usize) -> Result<()> {
    let mut file = BufWriter::with_capacity(write_bytes, File::create(path)?);
    let mut record = [0; RECORD];
    for index in 0..records {
        canary::fill(FILE_ID, index * RECORD as u64, &mut record);
        let bits = (0..).zip(PATTERNS).filter(|(_, pattern)| (pattern.keeps)(index));
        let key: u32 = bits.map(|(bit, _)| 1u32 << bit).sum();
        record[..4].copy_from_slice(&key.to_le_bytes());
        file.write_all(&record)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// Receives what must come, and compares every byte of it. Returns how many those were.
pub(crate) fn compare(path: &Path, mask: u32, mut socket: impl Read) -> Result<u64> {
    let mut file = File::open(path)?;
    let (mut chunk, mut came) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut total = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        ensure!(read % RECORD == 0, "the file is not read in whole records");
        let mut len = 0;
        for at in (0..read).step_by(RECORD) {
            if keeps([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]], mask) {
                chunk.copy_within(at..at + RECORD, len);
                len += RECORD;
            }
        }
        socket.read_exact(&mut came[..len])?;
        ensure!(came[..len] == chunk[..len], "a wrong byte within {len} after {total}");
        total += len as u64;
    }
    ensure!(socket.read(&mut came)? == 0, "bytes came after the last one");
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_finds_its_records_by_their_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        write(&path, 4096, 1 << 20).unwrap();
        let content = std::fs::read(&path).unwrap();
        for pattern in PATTERNS {
            let mask = mask(pattern.name).unwrap();
            let records = content.chunks_exact(RECORD);
            let kept: Vec<u8> = records
                .filter(|record| keeps(*record.first_chunk().unwrap(), mask))
                .flatten()
                .copied()
                .collect();
            let expected = (0..4096).filter(|index| (pattern.keeps)(*index)).count() * RECORD;
            assert_eq!(kept.len(), expected, "{}", pattern.name);
            assert_eq!(compare(&path, mask, &kept[..]).unwrap(), expected as u64);
            assert!(compare(&path, mask, &kept[1..]).is_err());
            assert!(compare(&path, mask, &[&kept[..], b"x"].concat()[..]).is_err());
        }
    }
}
