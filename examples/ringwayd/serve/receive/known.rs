//! The digests of files that are there: so that who brings one, and does not know whether it has arrived,
//! can ask, and is not refused for what is there already.
//!
//! They are told to those alone who may write: computing one reads a whole file, on a thread of its own, so
//! that no upload waits for its check behind a question. What was computed is kept as long as inode, length
//! and times are the same.
//!
//! Who hears a digest may delete what it has itself. So the file and its name are made durable before, as
//! those of an upload are: the daemon that received it may have been killed before its last fsync(2).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ringway::runtime::fs::{Metadata, OpenOptions};

use super::placing::split;
use super::staging::Uploads;
use crate::http::upload::{self, Upload};
use crate::http::{Algorithm, Body, Digest, FileFacts, RelativePath, Request};
use crate::serve::cache::{Located, Looking, OpenFile};
use crate::serve::server::Server;

/// Digests that are kept, at most: about 200 bytes each. When it is full it begins anew.
const KEPT_MAX: usize = 4096;
/// A file that was changed so lately may change once more without another time: clocks of file systems
/// tick every few milliseconds, those of some every two seconds. Its digest is told and not kept.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What tells one state of a file from another, and how its digest is computed.
type Key = (u64, u64, u64, Duration, Duration, Algorithm);

/// The digests that all threads have computed.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    digests: Arc<Mutex<HashMap<Key, Digest>>>,
}

impl Known {
    fn recall(&self, key: &Key) -> Option<Digest> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: Key, digest: Digest) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= KEPT_MAX {
            digests.clear();
        }
        digests.insert(key, digest);
    }
}

fn key(seen: &Metadata, algorithm: Algorithm) -> Key {
    (seen.device, seen.inode, seen.len, seen.modified, seen.changed, algorithm)
}

impl Uploads {
    /// The digest that a HEAD asks for, if who asks may have it.
    pub(crate) fn wanted_digest(
        &self,
        request: &Request<'_>,
        certified: bool,
    ) -> Option<Algorithm> {
        let wanted = upload::wanted_digest(request)?;
        self.writers.admit(upload::bearer(request), certified).is_ok().then_some(wanted)
    }

    /// The digest of an open file of this path, unless it is not what was seen of it any more, or cannot be
    /// made durable.
    ///
    /// # Cancel safety
    ///
    /// The thread notices that nobody waits, and stops.
    pub(crate) async fn digest_of(
        &self,
        path: &[u8],
        open: &OpenFile,
        algorithm: Algorithm,
    ) -> Option<Digest> {
        let key = key(&open.seen, algorithm);
        if let Some(known) = self.known.recall(&key) {
            return Some(known);
        }
        let settled = is_settled(&open.seen, SystemTime::now());
        let digest = self.teller.digest(&open.file, algorithm).await.ok()?;
        if self.sync {
            self.make_durable(path, open).await.ok()?;
        }
        let now = open.file.metadata().ok()?;
        if self::key(&now, algorithm) != key {
            return None;
        }
        if settled {
            self.known.keep(key, digest.clone());
        }
        Some(digest)
    }

    async fn make_durable(&self, path: &[u8], open: &OpenFile) -> io::Result<()> {
        open.file.sync_all().await?;
        let options = OpenOptions::new().listed_folder(true).beneath(true);
        options.open_in(&self.root, split(path).0).await?.sync_all().await
    }

    /// Whether what has the name of an upload has the digests that came with it; what it is then.
    pub(super) async fn has_already(&self, server: &Server, upload: &Upload) -> Option<FileFacts> {
        if upload.digests.is_empty() {
            return None;
        }
        let path = RelativePath::canonical(&upload.path);
        let located = server.cache.locate(&path, Instant::now(), Looking::Now).await;
        let Located::File(open) = located else { return None };
        let length = match upload.body {
            Body::None => Some(0),
            Body::Length(length) => Some(length),
            Body::Chunked => None,
        };
        if length.is_some_and(|length| length != open.facts.len) {
            return None;
        }
        for digest in &upload.digests {
            if self.digest_of(&upload.path, &open, digest.algorithm).await.as_ref() != Some(digest)
            {
                return None;
            }
        }
        Some(open.facts)
    }
}

fn is_settled(seen: &Metadata, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(seen.changed).is_some_and(|age| age > UNSETTLED)
}
