//! Opening files, confined by the kernel where that is asked for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use io_uring::types::OpenHow;

use super::File;
use crate::local;
use crate::op::{Effect, Held, Letter};
use crate::sys::sqe::Sqe;
use crate::sys::{self, file as calls};

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;
/// Times that an open in confinement is tried while others rename and mount.
const DISTURBED_TRIES: u32 = 32;

/// How to open a file; see openat2(2). The default reads.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # ringway_runtime::Runtime::new()?.block_on(async {
/// use ringway_runtime::fs::OpenOptions;
///
/// let root = OpenOptions::new().folder(true).open(".").await?;
/// let escape = OpenOptions::new().beneath(true).open_in(&root, "../../etc/passwd").await;
/// assert!(escape.is_err());
/// # Ok(()) }) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    write: bool,
    create: bool,
    create_new: bool,
    truncate: bool,
    direct: bool,
    folder: bool,
    listed: bool,
    regular: bool,
    resolve: u64,
    mode: u32,
}

impl OpenOptions {
    /// For reading only.
    #[must_use]
    pub fn new() -> Self {
        Self {
            write: false,
            create: false,
            create_new: false,
            truncate: false,
            direct: false,
            folder: false,
            listed: false,
            regular: false,
            resolve: 0,
            mode: 0o644,
        }
    }

    /// For reading and writing.
    #[must_use]
    pub fn write(self, on: bool) -> Self {
        Self { write: on, ..self }
    }

    /// Makes the file if it does not exist (with [`Self::write`]).
    #[must_use]
    pub fn create(self, on: bool) -> Self {
        Self { create: on, ..self }
    }

    /// Makes the file, and fails if it exists (with [`Self::write`]).
    #[must_use]
    pub fn create_new(self, on: bool) -> Self {
        Self { create_new: on, ..self }
    }

    /// Empties the file (with [`Self::write`]).
    #[must_use]
    pub fn truncate(self, on: bool) -> Self {
        Self { truncate: on, ..self }
    }

    /// Past the page cache (`O_DIRECT`): offsets, lengths and memory must be aligned to blocks.
    #[must_use]
    pub fn direct(self, on: bool) -> Self {
        Self { direct: on, ..self }
    }

    /// A folder, to open files in (`O_DIRECTORY | O_PATH`).
    #[must_use]
    pub fn folder(self, on: bool) -> Self {
        Self { folder: on, ..self }
    }

    /// A folder, to open files in, to list it and to make it durable with
    /// [`File::sync_all`](super::File::sync_all) (`O_DIRECTORY`).
    #[must_use]
    pub fn listed_folder(self, on: bool) -> Self {
        Self { listed: on, ..self }
    }

    /// Refuses everything that is no regular file, without ever waiting for the writer of a FIFO.
    #[must_use]
    pub fn regular_only(self, on: bool) -> Self {
        Self { regular: on, ..self }
    }

    /// Refuses paths that leave the folder, by `..`, by an absolute path or by a link
    /// (`RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`).
    #[must_use]
    pub fn beneath(self, on: bool) -> Self {
        self.resolving(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, on)
    }

    /// Refuses paths that pass through a symbolic link (`RESOLVE_NO_SYMLINKS`).
    #[must_use]
    pub fn no_links(self, on: bool) -> Self {
        self.resolving(RESOLVE_NO_SYMLINKS, on)
    }

    /// Permission bits of a file that is made. Default `0o644`, less the umask.
    #[must_use]
    pub fn mode(self, bits: u32) -> Self {
        Self { mode: bits, ..self }
    }

    fn resolving(self, flags: u64, on: bool) -> Self {
        let resolve = if on { self.resolve | flags } else { self.resolve & !flags };
        Self { resolve, ..self }
    }

    /// Opens a path.
    ///
    /// # Errors
    ///
    /// Those of openat2(2); `InvalidInput` for a path with a NUL byte; [`NotRegular`] if that was
    /// asked for.
    ///
    /// # Cancel safety
    ///
    /// A file that was opened nevertheless is closed.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_at(None, path.as_ref()).await
    }

    /// Opens a path below a folder.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`]; `EXDEV` for a path that [`Self::beneath`] refuses.
    ///
    /// # Cancel safety
    ///
    /// A file that was opened nevertheless is closed.
    pub async fn open_in(&self, folder: &File, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_at(Some(folder), path.as_ref()).await
    }

    /// While anything at all is renamed or mounted, the kernel cannot be sure that `..` has not left the
    /// folder; openat2(2) then answers `EAGAIN`, and it is for the caller to try again.
    async fn open_at(&self, folder: Option<&File>, path: &Path) -> io::Result<File> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let confined = self.resolve & RESOLVE_BENEATH != 0;
        let mut tries = 1;
        loop {
            match self.try_open_at(folder, path.clone()).await {
                Err(error) if confined && sys::would_block(&error) && tries < DISTURBED_TRIES => {
                    tries += 1;
                }
                opened => return opened,
            }
        }
    }

    async fn try_open_at(&self, folder: Option<&File>, path: CString) -> io::Result<File> {
        let held = folder.map_or_else(Held::default, File::held);
        let folder = folder.map_or(libc::AT_FDCWD, |folder| folder.fd.as_raw_fd());
        let makes = self.create || self.create_new;
        let how = OpenHow::new()
            .flags(u64::from(self.flags().cast_unsigned()))
            .mode(if makes { self.mode.into() } else { 0 })
            .resolve(self.resolve);
        let letter = Box::new(Letter::Path { path, how });
        let sqe = match &*letter {
            Letter::Path { path, how } => Sqe::openat2(folder, path.as_ptr(), how),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let held = Held { letter: Some(letter), ..held };
        let outcome = local::current()?.port.submit(sqe, held, Effect::Descriptor).await;
        outcome.result?;
        let opened = outcome.opened.ok_or(io::ErrorKind::InvalidData)?;
        if self.regular {
            if calls::metadata(opened.as_fd())?.kind != super::FileKind::Regular {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, NotRegular));
            }
            calls::clear_nonblocking(opened.as_fd())?;
        }
        Ok(File::from_fd(opened))
    }

    fn flags(&self) -> i32 {
        let mut flags = libc::O_CLOEXEC | libc::O_NOCTTY;
        let chosen = [
            (self.write, libc::O_RDWR),
            (self.create, libc::O_CREAT),
            (self.create_new, libc::O_CREAT | libc::O_EXCL),
            (self.truncate, libc::O_TRUNC),
            (self.direct, libc::O_DIRECT),
            (self.folder, libc::O_DIRECTORY | libc::O_PATH),
            (self.listed, libc::O_DIRECTORY),
            // Opening a FIFO without a writer would wait for one.
            (self.regular, libc::O_NONBLOCK),
        ];
        for (on, flag) in chosen {
            if on {
                flags |= flag;
            }
        }
        // O_PATH allows few others beside it.
        if self.folder { flags & !libc::O_NOCTTY } else { flags }
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What was opened is no regular file: a folder, a FIFO, a socket or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRegular;

impl std::fmt::Display for NotRegular {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a regular file")
    }
}

impl std::error::Error for NotRegular {}
