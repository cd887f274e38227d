//! The file to be, the part of it that is here, and of which file that is a part.
//!
//! ```text
//! .NAME.ringwayd-part         what has come so far
//! .NAME.ringwayd-part.json    of what: the URL (without its query) and the strong tag
//! NAME                        the file, by a rename when it is whole and on the disk
//! ```

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ringway::runtime::fs::{File, OpenOptions, remove_file, rename};
use rustix::fs::{FlockOperation, flock, ftruncate};
use serde_json::{Value, json};

use crate::client::outcome::Failure;

/// A part of a file, locked against other processes.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) file: File,
    path: PathBuf,
    record: PathBuf,
    target: PathBuf,
    /// The strong tag of the file that this is a part of.
    pub(crate) tag: Option<String>,
}

impl Part {
    /// Opens or makes the part of a file; what is there is forgotten if it is of another URL.
    ///
    /// # Errors
    ///
    /// [`Failure::Disk`].
    pub(crate) async fn open(target: &Path, url: &str) -> Result<Part, Failure> {
        let path = beside(target, ".ringwayd-part");
        let record = beside(target, ".ringwayd-part.json");
        let options = OpenOptions::new().write(true).create(true).regular_only(true);
        let file = options.open(&path).await.map_err(|error| disk(&path, &error))?;
        if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            let shown = target.display();
            return Err(Failure::Disk(format!("{shown} is being fetched by another process")));
        }
        let known = fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let known = known.filter(|known: &Value| known["url"] == url);
        let tag = known.and_then(|known| known["tag"].as_str().map(str::to_owned));
        Ok(Part { file, path, record, target: target.to_owned(), tag })
    }

    /// Bytes that are here.
    pub(crate) fn len(&self) -> Result<u64, Failure> {
        let metadata = self.file.metadata().map_err(|error| disk(&self.path, &error))?;
        Ok(metadata.len)
    }

    /// Forgets what is here; from now on it is a part of the file with this tag.
    pub(crate) fn begin_anew(&mut self, url: &str, tag: Option<&str>) -> Result<(), Failure> {
        let failed = |error: io::Error| disk(&self.path, &error);
        // In this order: a record must never speak of bytes that came before it.
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        ftruncate(self.file.as_fd(), 0).map_err(|errno| failed(errno.into()))?;
        self.tag = tag.map(str::to_owned);
        if let Some(tag) = tag {
            let record = json!({ "url": url, "tag": tag }).to_string();
            fs::write(&self.record, record).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes it the file, durably.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let failed = |error: io::Error| disk(&self.target, &error);
        // Blocks that were reserved and not needed go back.
        let len = self.len()?;
        ftruncate(self.file.as_fd(), len).map_err(|errno| failed(errno.into()))?;
        self.file.sync_all().await.map_err(failed)?;
        rename(&self.path, &self.target).await.map_err(failed)?;
        // Without a record it is no part of anything any more; leaving one behind does no harm.
        _ = remove_file(&self.record).await;
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).await.map_err(failed)?;
        folder.sync_all().await.map_err(failed)
    }
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(ending);
    target.with_file_name(name)
}

fn disk(path: &Path, error: &io::Error) -> Failure {
    Failure::Disk(format!("{}: {error}", path.display()))
}
