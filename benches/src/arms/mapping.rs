//! The file as memory: what the arms that map it share.

use std::fs::File;

use anyhow::Result;
use memmap2::{Mmap, UncheckedAdvice};

/// Maps the whole file for reading.
pub(super) fn map(file: &File) -> Result<Mmap> {
    // SAFETY: the harness made this file, alone knows its name, and never changes or shortens it while an
    // arm runs, so the bytes stay there and stay the same.
    let map = unsafe { Mmap::map(file) }?;
    Ok(map)
}

/// Forgets which pages were touched, as a new mapping would: a page that is mapped cannot be dropped from
/// the page cache.
pub(super) fn let_go(map: &Mmap) -> Result<()> {
    // SAFETY: the mapping is shared and read-only, so its pages come back from the same file unchanged.
    unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) }?;
    Ok(())
}
