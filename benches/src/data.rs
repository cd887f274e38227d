//! The files that are sent: on a disk, hot or cold as the point wants, and gone with the process.
//!
//! They are created without a name (`O_TMPFILE`) and reached through `/proc`, so that nothing is left
//! behind however the run ends: success, error, Ctrl-C or SIGKILL. Servers need names: see
//! `servers::site`.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::Advice;
use rustix::thread::CpuSet;

use crate::canary::Canary;
use crate::point::{Cache, Layout, MIB, Point, Slices};

/// A file full of canary bytes.
#[derive(Debug)]
pub(crate) struct DataFile {
    file: File,
    pub(crate) slices: Slices,
    pub(crate) canary: Canary,
    cache: Cache,
}

impl DataFile {
    /// Writes the file of `point` below `directory` and waits until it is on the disk, so that no
    /// write-back runs while arms are measured.
    pub(crate) fn create(directory: &Path, point: &Point, seed: u64) -> Result<Self> {
        let file = tempfile::tempfile_in(directory)
            .with_context(|| format!("no data file can be made in {}", directory.display()))?;
        let slices = point.slices();
        let canary = match point.layout {
            Layout::Dense => Canary::new(seed),
            Layout::Sparse => Canary::sparse(seed, slices.file_len()),
        };
        Self::fill(file, slices, canary, point.cache)
    }

    /// A hot file of `len` bytes with a name, for servers that open files by theirs. Who removes it is
    /// the caller's question.
    pub(crate) fn create_named(path: &Path, len: u64, seed: u64) -> Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path);
        let file =
            file.with_context(|| format!("no data file can be made at {}", path.display()))?;
        let slices = Slices { len, stride: len, count: 1 };
        Self::fill(file, slices, Canary::new(seed), Cache::Hot)
    }

    fn fill(file: File, slices: Slices, canary: Canary, cache: Cache) -> Result<Self> {
        let data = Self { file, slices, canary, cache };
        if slices.count == 1 {
            canary.write(&data.path(), slices.len)
        } else {
            let len = usize::try_from(slices.len)?;
            let mut offsets = (0..slices.count).filter_map(|number| slices.offset(number));
            offsets.try_for_each(|offset| canary.write_slice(&data.file, offset, len))
        }
        .context("the data file could not be written")?;
        data.file.sync_all()?;
        data.heat()?;
        Ok(data)
    }

    /// Reads everything of a hot file once, so that it is in the page cache.
    pub(crate) fn heat(&self) -> Result<()> {
        if self.cache == Cache::Cold {
            return Ok(());
        }
        let mut block = vec![0; 1024 * 1024];
        let mut position = 0;
        while position < self.slices.file_len() {
            position += self.file.read_at(&mut block, position)? as u64;
        }
        Ok(())
    }

    /// Brings the file into the state that its point wants: a cold one is dropped from the page cache,
    /// and seen not to be there.
    ///
    /// # Errors
    ///
    /// Some of it stays resident, whoever holds it.
    pub(crate) fn make_ready(&self) -> Result<()> {
        match self.cache {
            Cache::Hot => Ok(()), // See `heat`.
            Cache::Cold => self.drop_from_cache(),
        }
    }

    /// Drops the file from the page cache and asks cachestat(2) whether it is gone.
    pub(crate) fn drop_from_cache(&self) -> Result<()> {
        let mut resident = 0;
        // Pages that sockets of the trial before still hold leave a moment later.
        for _ in 0..200 {
            rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
            resident = self.resident_pages()?;
            if resident == 0 {
                return Ok(());
            }
            receive_on_every_cpu()?;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        bail!("the file is not cold: {resident} pages stay in the page cache")
    }

    /// How many pages of the file are in the page cache, by cachestat(2).
    pub(crate) fn resident_pages(&self) -> Result<u64> {
        let range = [0u64, 0]; // From the start to the end of the file.
        let mut found = [0u64; 5];
        // SAFETY: cachestat(2) reads 16 bytes from `range` and writes 40 to `found`, which both live
        // longer than the call and have exactly these lengths.
        let outcome = unsafe {
            libc::syscall(CACHESTAT, self.file.as_raw_fd(), range.as_ptr(), found.as_mut_ptr(), 0)
        };
        if outcome != 0 {
            return Err(std::io::Error::last_os_error()).context("cachestat(2)");
        }
        Ok(found[0])
    }

    /// A path under which the children can open it while this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

/// Has every CPU receive a packet. What a socket has received is given back to the CPU that sent it, on a
/// list that is looked at when that CPU next receives something: until then it holds pages of the file.
fn receive_on_every_cpu() -> Result<()> {
    let before = rustix::thread::sched_getaffinity(None)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
    let address = socket.local_addr()?;
    for cpu in 0..CpuSet::MAX_CPU {
        let mut one = CpuSet::new();
        one.set(cpu);
        // Refused for a CPU that is not there, or not allowed.
        if rustix::thread::sched_setaffinity(None, &one).is_ok() {
            socket.send_to(&[0], address)?;
            // It may be lost, and then the caller tries again.
            let _ = socket.recv(&mut [0]);
        }
    }
    rustix::thread::sched_setaffinity(None, &before)?;
    Ok(())
}

/// The same number on every architecture.
const CACHESTAT: libc::c_long = 451;

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

/// The most of a stream that is compared before it is timed, in bytes.
pub(crate) const VERIFIED_LEN: u64 = 8 * MIB + 1234;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point;

    #[test]
    fn file_holds_the_canary_and_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let point = point::named("self-test-exchange").unwrap();
        let data = DataFile::create(directory.path(), point, 3).unwrap();
        let bytes = std::fs::read(data.path()).unwrap();
        assert_eq!(bytes.len() as u64, point.body_len);
        data.canary.check(0, &bytes).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn cold_file_is_really_gone_from_the_page_cache() {
        let directory = directory(None).unwrap();
        let point = point::named("self-test-cold-exchange").unwrap();
        let data = DataFile::create(&directory, point, 3).unwrap();
        data.make_ready().unwrap();
        assert_eq!(data.resident_pages().unwrap(), 0);
        assert_eq!(std::fs::read(data.path()).unwrap().len() as u64, point.slices().file_len());
        assert!(data.resident_pages().unwrap() > 0);
        data.make_ready().unwrap();
    }
}
