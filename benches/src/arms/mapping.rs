//! The file as memory: what the arms that map it share.

use std::fs::File;

use anyhow::Result;
use memmap2::Mmap;

/// Maps the whole file for reading.
pub(super) fn map(file: &File) -> Result<Mmap> {
    // SAFETY: the harness made this file, alone knows its name, and never changes or shortens it while an
    // arm runs, so the bytes stay there and stay the same.
    let map = unsafe { Mmap::map(file) }?;
    Ok(map)
}
