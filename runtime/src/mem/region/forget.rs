//! Letting go of a file before its time.

use std::io;

use crate::fs::File;
use crate::local;

/// Unmaps the idle regions of a file now, so that a removed file gives its blocks back, and has those
/// that are held unmapped as soon as they are released. Returns how many were unmapped. Repeating it is
/// harmless; nothing that is held is ever unmapped.
///
/// The ring waits while it unmaps: measured for some 300 windows of a gibibyte at most, 3 ms and once 11 ms. Where that
/// is long, set [`Config::region_idle`](crate::Config::region_idle) to zero, and each goes when it is released.
///
/// # Errors
///
/// When the caller is not inside of a ring, and those of fstat(2).
pub fn forget(file: &File) -> io::Result<usize> {
    let metadata = file.metadata()?;
    Ok(local::current()?.regions.forget(&metadata))
}
