//! Calls on names: attributes, renaming, removing.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::File;
use crate::local;
use crate::op::{Effect, Held, Letter};
use crate::sys::file::{Metadata, blank_statx, metadata_from_statx};
use crate::sys::sqe::Sqe;

/// The attributes of what a path leads to; see statx(2). Always asked in a worker of the kernel, so
/// a slow file system holds nothing up; for an open file, [`File::metadata`](super::File::metadata)
/// is much cheaper.
///
/// # Errors
///
/// Those of statx(2).
///
/// # Cancel safety
///
/// It only looks.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let letter = Letter::Attributes { path: name(path.as_ref())?, stat: Box::new(blank_statx()) };
    let held = submit(letter, |letter| match letter {
        Letter::Attributes { path, stat } => {
            Some(Sqe::statx(libc::AT_FDCWD, path.as_ptr(), 0, &raw mut **stat))
        }
        _ => None,
    })
    .await?;
    match held.letter.as_deref() {
        Some(Letter::Attributes { stat, .. }) => Ok(metadata_from_statx(stat)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Renames a file, replacing what has the new name, in one step; see renameat2(2).
///
/// # Errors
///
/// Those of rename(2).
///
/// # Cancel safety
///
/// It may still happen.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let letter = Letter::Paths { from: name(from.as_ref())?, to: name(to.as_ref())?, folder: None };
    submit(letter, |letter| match letter {
        Letter::Paths { from, to, .. } => {
            Some(Sqe::rename((libc::AT_FDCWD, from.as_ptr()), (libc::AT_FDCWD, to.as_ptr()), 0))
        }
        _ => None,
    })
    .await
    .map(drop)
}

/// Renames a file from one open folder into another. With `replace` it takes the place of what has
/// the new name; without, it fails if there is something (`RENAME_NOREPLACE` of renameat2(2)).
///
/// Names without a slash cannot leave their folders.
///
/// # Errors
///
/// Those of rename(2); `AlreadyExists`; `CrossesDevices`.
///
/// # Cancel safety
///
/// It may still happen.
pub async fn rename_in(
    from: (&File, impl AsRef<Path>),
    to: (&File, impl AsRef<Path>),
    replace: bool,
) -> io::Result<()> {
    let letter = Letter::Paths {
        from: name(from.1.as_ref())?,
        to: name(to.1.as_ref())?,
        folder: Some(Arc::clone(&to.0.fd)),
    };
    let folders = (from.0.fd.as_raw_fd(), to.0.fd.as_raw_fd());
    let flags = if replace { 0 } else { libc::RENAME_NOREPLACE };
    let submitted = submit_in(from.0.held(), letter, |letter| match letter {
        Letter::Paths { from, to, .. } => {
            Some(Sqe::rename((folders.0, from.as_ptr()), (folders.1, to.as_ptr()), flags))
        }
        _ => None,
    });
    submitted.await.map(drop)
}

/// Removes the name of a file in an open folder; see unlinkat(2).
///
/// # Errors
///
/// Those of unlink(2).
///
/// # Cancel safety
///
/// It may still happen.
pub async fn remove_in(folder: &File, path: impl AsRef<Path>) -> io::Result<()> {
    let letter = Letter::Paths { from: name(path.as_ref())?, to: CString::default(), folder: None };
    let fd = folder.fd.as_raw_fd();
    let submitted = submit_in(folder.held(), letter, |letter| match letter {
        Letter::Paths { from, .. } => Some(Sqe::unlink(fd, from.as_ptr(), 0)),
        _ => None,
    });
    submitted.await.map(drop)
}

/// Removes the name of a file; see unlink(2).
///
/// # Errors
///
/// Those of unlink(2).
///
/// # Cancel safety
///
/// It may still happen.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let letter = Letter::Paths { from: name(path.as_ref())?, to: CString::default(), folder: None };
    submit(letter, |letter| match letter {
        Letter::Paths { from, .. } => Some(Sqe::unlink(libc::AT_FDCWD, from.as_ptr(), 0)),
        _ => None,
    })
    .await
    .map(drop)
}

fn name(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Submits an op that points into a letter, which keeps its place on the heap.
async fn submit(
    letter: Letter,
    build: impl FnOnce(&mut Letter) -> Option<Sqe>,
) -> io::Result<Held> {
    submit_in(Held::default(), letter, build).await
}

/// The same for a name in a folder, which `held` keeps open.
async fn submit_in(
    held: Held,
    letter: Letter,
    build: impl FnOnce(&mut Letter) -> Option<Sqe>,
) -> io::Result<Held> {
    let local = local::current()?;
    let mut letter = Box::new(letter);
    let sqe = build(&mut letter).ok_or(io::ErrorKind::InvalidInput)?;
    let held = Held { letter: Some(letter), ..held };
    let outcome = local.port.submit(sqe, held, Effect::None).await;
    outcome.result.map(|_| outcome.held)
}
