//! The files that are sent: on a disk, hot, and gone with the process.
//!
//! They are created without a name (`O_TMPFILE`) and reached through `/proc`, so that nothing is left
//! behind however the run ends: success, error, Ctrl-C or SIGKILL. Servers need names: see
//! `servers::site`.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::canary::Canary;

/// A file full of canary bytes.
#[derive(Debug)]
pub(crate) struct DataFile {
    file: File,
    pub(crate) len: u64,
    pub(crate) canary: Canary,
}

impl DataFile {
    /// Writes a file of `len` bytes below `directory` and waits until it is on the disk, so that no
    /// write-back runs while arms are measured.
    pub(crate) fn create(directory: &Path, len: u64, seed: u64) -> Result<Self> {
        let file = tempfile::tempfile_in(directory)
            .with_context(|| format!("no data file can be made in {}", directory.display()))?;
        Self::fill(file, len, seed)
    }

    /// The same with a name, for servers that open files by theirs. Who removes it is the caller's
    /// question.
    pub(crate) fn create_named(path: &Path, len: u64, seed: u64) -> Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path);
        let file =
            file.with_context(|| format!("no data file can be made at {}", path.display()))?;
        Self::fill(file, len, seed)
    }

    fn fill(mut file: File, len: u64, seed: u64) -> Result<Self> {
        let canary = Canary::new(seed);
        let mut block = vec![0; 1024 * 1024];
        let mut position = 0;
        while position < len {
            let part = usize::try_from((len - position).min(block.len() as u64))?;
            canary.fill(position, &mut block[..part]);
            file.write_all(&block[..part]).context("the data file could not be written")?;
            position += part as u64;
        }
        file.sync_all()?;
        let data = Self { file, len, canary };
        data.heat()?;
        Ok(data)
    }

    /// Reads everything once, so that it is in the page cache.
    fn heat(&self) -> Result<()> {
        let mut block = vec![0; 1024 * 1024];
        let mut position = 0;
        while position < self.len {
            position += self.file.read_at(&mut block, position)? as u64;
        }
        Ok(())
    }

    /// A path under which the children can open it while this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

/// What kind of file system holds `directory`.
pub(crate) fn filesystem(directory: &Path) -> Result<String> {
    let directory = File::open(directory)?;
    Ok(match rustix::fs::fstatfs(&directory)?.f_type {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x794c_7630 => "overlay".to_owned(),
        magic => format!("{magic:#x}"),
    })
}

/// The directory for data files: the one given, or the temporary one if that is not in memory.
pub(crate) fn directory(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let usual = std::env::temp_dir();
    let in_memory = filesystem(&usual).is_ok_and(|name| name == "tmpfs");
    Ok(if in_memory { PathBuf::from("/var/tmp") } else { usual })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_holds_the_canary_and_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataFile::create(directory.path(), 5000, 3).unwrap();
        let bytes = std::fs::read(data.path()).unwrap();
        assert_eq!(bytes.len(), 5000);
        assert_eq!(data.canary.check(0, &bytes), Ok(()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
