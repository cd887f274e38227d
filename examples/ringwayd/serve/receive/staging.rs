//! The folder for files that are not whole yet: inside of the root, so that a rename brings them out,
//! and out of reach of every client.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ringway::runtime::fs::{self, File, OpenOptions};

use super::known::Known;
use super::placing::Placings;
use super::resumable;
use super::verify::Verifier;
use super::writers::Writers;
use crate::cli::receive::{Overwrite, Receive};
use crate::http::STAGING;

/// Uploads that nobody went on with for this long are forgotten at the next start.
const RESUMABLE_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What the uploads of one thread share.
#[derive(Debug)]
pub(crate) struct Uploads {
    pub(super) root: File,
    folder: File,
    pub(super) writers: Writers,
    pub(super) verifier: Verifier,
    /// A second one, for questions.
    pub(super) teller: Verifier,
    pub(super) known: Known,
    pub(super) placings: Placings,
    pub(super) overwrite: Overwrite,
    pub(super) body_bytes_max: u64,
    pub(super) silence_max: Duration,
    pub(super) rate_min: (u64, Duration),
    pub(super) sync: bool,
    thread: usize,
    next: Cell<u64>,
}

/// What all threads have in common, made before any of them runs.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    path: PathBuf,
    writers: Writers,
    verifier: Verifier,
    teller: Verifier,
    known: Known,
    placings: Placings,
    /// Held as long as the daemon lives, so that no other one takes its files for left behind.
    _lock: std::sync::Arc<std::fs::File>,
}

impl Common {
    /// Makes the staging folder below a root, and removes what a daemon left there that was killed.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or written, or the tokens cannot be read.
    pub(crate) fn prepare(
        root: &Path,
        settings: &Receive,
        certificates: bool,
    ) -> anyhow::Result<Common> {
        let writers = Writers::of(settings, certificates)?;
        let path = root.join(std::ffi::OsStr::new(STAGING));
        let shown = path.display().to_string();
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| {
                    format!("cannot make {shown}: let this user write to the root")
                });
            }
            _ => {}
        }
        let mut options = std::fs::File::options();
        let lock = options.create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.with_context(|| format!("cannot write to {shown}"))?;
        let alone = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(&lock, alone).is_ok() {
            remove_left(&path).with_context(|| format!("cannot clean {shown}"))?;
        }
        let shared = rustix::fs::FlockOperation::NonBlockingLockShared;
        // Another daemon on the same root holds it too; then nobody cleans up.
        _ = rustix::fs::flock(&lock, shared);
        let thread = |name| Verifier::start(name).context("cannot start the threads for digests");
        Ok(Common {
            path,
            writers,
            verifier: thread("ringwayd-verify")?,
            teller: thread("ringwayd-tell")?,
            known: Known::default(),
            placings: Placings::default(),
            _lock: lock.into(),
        })
    }

    /// The part of one thread.
    pub(crate) async fn for_thread(
        &self,
        thread: usize,
        root: &File,
        settings: &Receive,
    ) -> io::Result<Uploads> {
        let folder = OpenOptions::new().listed_folder(true).open(&self.path).await?;
        Ok(Uploads {
            root: root.clone(),
            folder,
            writers: self.writers.clone(),
            verifier: self.verifier.clone(),
            teller: self.teller.clone(),
            known: self.known.clone(),
            placings: self.placings.clone(),
            overwrite: settings.overwrite,
            body_bytes_max: settings.max_body.0,
            silence_max: Duration::from_secs(settings.receive_timeout_seconds),
            rate_min: (settings.min_receive_rate.0, super::RATE_GRACE),
            sync: !settings.no_sync,
            thread,
            next: Cell::new(0),
        })
    }
}

fn remove_left(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let forgotten = || {
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            io::Result::Ok(age > RESUMABLE_KEPT)
        };
        let left = name.as_encoded_bytes().starts_with(b"put-")
            || resumable::is_resumable(name.as_encoded_bytes()) && forgotten()?;
        if left {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A file that is not whole yet.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) file: File,
    name: String,
}

impl Staged {
    /// One that was staged before.
    pub(super) fn reopened(file: File, name: String) -> Staged {
        Staged { file, name }
    }
}

impl Uploads {
    /// Makes an empty file with a name of its own.
    pub(super) async fn stage(&self) -> io::Result<Staged> {
        let number = self.next.replace(self.next.get() + 1);
        let name = format!("put-{}-{}-{number}", std::process::id(), self.thread);
        let options = OpenOptions::new().write(true).create_new(true).beneath(true);
        let file = options.open_in(&self.folder, &name).await?;
        Ok(Staged { file, name })
    }

    /// Removes a file that will not become whole.
    pub(super) async fn discard(&self, staged: Staged) {
        // If it cannot be removed now, the next start does it.
        _ = fs::remove_in(&self.folder, &staged.name).await;
    }

    /// Opens a file that was staged before.
    pub(super) async fn open_staged(&self, name: &str, write: bool) -> io::Result<File> {
        resumable::reopening(write).open_in(&self.folder, name).await
    }

    /// Gives a staged file another name in the same folder, replacing what has it.
    pub(super) async fn restage(&self, staged: &mut Staged, name: String) -> io::Result<()> {
        fs::rename_in((&self.folder, &staged.name), (&self.folder, &name), true).await?;
        staged.name = name;
        if self.sync { self.folder.sync_all().await } else { Ok(()) }
    }

    pub(super) fn folder(&self) -> &File {
        &self.folder
    }

    /// Gives a file a name in another folder.
    pub(super) async fn release(
        &self,
        staged: &Staged,
        into: (&File, &Path),
        replace: bool,
    ) -> io::Result<()> {
        fs::rename_in((&self.folder, &staged.name), into, replace).await
    }
}
