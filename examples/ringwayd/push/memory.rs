//! Where uploads are that were begun: so that a later run, too, goes on with them.
//!
//! Each has a file of its own, so that runs side by side do not disturb each other. Its name is a digest
//! of what must be the same for going on to make sense: the file (path, inode, length, times) and the URL.
//! A file that has changed has another name, and so begins anew. Losing one costs bytes sent twice.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ringway::runtime::fs::Metadata;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::blocking::on_a_thread;
use crate::client::url::Url;

/// Uploads that nobody went on with for this long are forgotten: servers forget them as well.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The largest file that is read: a URL and two names fit.
const BYTES_MAX: u64 = 64 * 1024;

/// The folder of what is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    folder: Arc<Path>,
}

/// What an upload is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// Of a file as it was seen, on its way to a place.
    pub(crate) fn of(path: &Path, seen: &Metadata, to: &Url) -> Key {
        let mut digest = Sha256::new();
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        digest.update(whole.as_os_str().as_bytes());
        digest.update([0]);
        digest.update(format!("{to}"));
        digest.update([0]);
        digest.update(to.target());
        digest.update([0]);
        digest.update(seen.inode.to_be_bytes());
        digest.update(seen.len.to_be_bytes());
        digest.update(seen.modified.as_nanos().to_be_bytes());
        digest.update(seen.changed.as_nanos().to_be_bytes());
        Key(digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Memory {
    /// Makes the folder, and forgets what is too old.
    ///
    /// # Errors
    ///
    /// A folder that cannot be made.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Memory> {
        let folder = folder.join("uploads");
        let shown = folder.display();
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(|| {
            format!("cannot make {shown}: name another folder with --state-dir")
        })?;
        for entry in folder.read_dir().with_context(|| format!("cannot read {shown}"))?.flatten() {
            let age = entry.metadata().and_then(|seen| seen.modified());
            if age.is_ok_and(|age| age.elapsed().is_ok_and(|age| age > KEPT)) {
                // Another run may have been quicker.
                _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(Memory { folder: folder.into() })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.json", key.0))
    }

    /// Where the upload is, if one was begun. What cannot be read counts as nothing.
    pub(crate) async fn recall(&self, key: &Key) -> Option<Url> {
        let path = self.path(key);
        on_a_thread("memory", move || read(&path)).await.ok().flatten()
    }

    /// Keeps where it is.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) async fn keep(&self, key: &Key, place: &Url, file: &Path) -> io::Result<()> {
        let path = self.path(key);
        let value = json!({ "upload": place.whole(), "file": file.to_string_lossy() });
        on_a_thread("memory", move || write(&path, &value.to_string())).await?
    }

    /// The upload is over, or gone.
    pub(crate) async fn forget(&self, key: &Key) {
        let path = self.path(key);
        // What stays is asked for again, and found to be over.
        _ = on_a_thread("memory", move || std::fs::remove_file(path)).await;
    }
}

fn read(path: &Path) -> Option<Url> {
    let metadata = path.metadata().ok()?;
    if metadata.len() > BYTES_MAX {
        return None;
    }
    let value: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Url::parse(value["upload"].as_str()?).ok()
}

/// The place of an upload is a capability, so nobody else may read it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let staged = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&staged)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&staged, path)
}

#[cfg(test)]
mod tests {
    use ringway::runtime::Runtime;
    use ringway::runtime::fs::File;

    use super::*;

    #[test]
    fn an_upload_is_known_by_file_and_url_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let memory = Memory::open(folder.path()).unwrap();
        let place = Url::parse("http://a/uploads/1?secret=2").unwrap();
        Runtime::new().unwrap().block_on(async {
            let seen = async || File::open(&path).await.unwrap().metadata().unwrap();
            let [to, other] = ["http://a/in/file?x", "http://a/in/file?y"];
            let key = async |to: &str| Key::of(&path, &seen().await, &Url::parse(to).unwrap());
            let first = key(to).await;
            assert_ne!(first, key(other).await);
            assert_eq!(memory.recall(&first).await, None);
            memory.keep(&first, &place, &path).await.unwrap();
            assert_eq!(memory.recall(&first).await.map(|url| url.target()), Some(place.target()));
            // As a later run does it.
            let again = Memory::open(folder.path()).unwrap();
            assert!(again.recall(&key(to).await).await.is_some());
            std::fs::write(&path, "three").unwrap();
            assert_ne!(first, key(to).await, "it is another file now");
            again.forget(&first).await;
            assert_eq!(again.recall(&first).await, None);
            std::fs::write(again.path(&first), "{ torn").unwrap();
            assert_eq!(again.recall(&first).await, None);
        });
    }
}
