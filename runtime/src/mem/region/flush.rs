//! Preparing a file for stores, and making stores durable.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::window::Window;
use super::{Access, Cause};
use crate::fs::File;
use crate::local;
use crate::op::{Effect, Held};
use crate::sys::sqe::Sqe;
use std::os::fd::AsFd;

/// Gives a file `len` bytes at least, and allocates blocks for all of them, so that stores into a
/// shared window of it do not run out of space. What it holds stays. Then map it with
/// [`Access::Shared`].
///
/// On file systems that write elsewhere each time (btrfs, and reflinked files) allocated blocks are no
/// guarantee: a store that finds no space is contained there.
///
/// # Errors
///
/// `StorageFull`; `Unsupported` on file systems that cannot allocate, or say they did and did not;
/// otherwise those of fallocate(2).
///
/// # Cancel safety
///
/// It may still happen.
pub async fn preallocate(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    file.allocate(0, len).await?;
    let metadata = file.metadata()?;
    if metadata.len < len || metadata.allocated < len {
        let why = "the file system has not allocated the blocks that it granted";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(())
}

impl Window {
    /// Makes what was stored into a range of a shared window durable, in a worker of the kernel. It
    /// promises what msync(2) with `MS_SYNC` does, and no more: when this has resolved to `Ok`, the
    /// stores that had returned before the call have been written to the device, together with what is
    /// needed to find them again (fdatasync(2) of the range). Stores made meanwhile may be in or not,
    /// and one message can be torn by a power failure: a log needs checksums. The name of a new file
    /// is durable only after its folder was synced.
    ///
    /// It is never `Ok` if a store of the region was lost, as far as [`Self::check`] can know.
    ///
    /// # Errors
    ///
    /// Those of fdatasync(2). After one, what was stored before may be lost, and asking again would
    /// not tell: so the region is poisoned. `InvalidInput` if the range does not lie in the window,
    /// `Unsupported` if the window is not shared; and a [`Poisoned`](super::Poisoned) inside.
    ///
    /// # Cancel safety
    ///
    /// Nothing is known about durability.
    pub async fn flush(&self, range: Range<usize>) -> io::Result<()> {
        if range.start > range.end || range.end > self.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.access() != Access::Shared {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.check()?;
        let Some(region) = self.region() else { return Ok(()) };
        if range.is_empty() {
            return Ok(());
        }
        let offset = self.file_range().start + range.start as u64;
        // A range that an op cannot name is flushed with the whole file.
        let (offset, len) = match u32::try_from(range.len()) {
            Ok(len) => (offset, len),
            Err(_) => (0, 0),
        };
        let sqe = Sqe::fdatasync_range(self.file().as_fd().as_raw_fd(), offset, len);
        let held = Held { region: Some(Arc::clone(region)), ..self.file().held() };
        let port = std::rc::Rc::clone(&local::current()?.port);
        let outcome = port.submit(sqe, held, Effect::None).await;
        if let Err(error) = outcome.result {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            if !matches!(errno, libc::EINTR | libc::ECANCELED) {
                region.spoil(Cause::Flush(errno));
            }
            return Err(error);
        }
        Ok(self.check()?)
    }
}
