//! The open-file cache of one thread: an open(2) saved per request, and never an outdated answer for
//! longer than a second.
//!
//! Each use looks at the open file (fstat(2)), here or in the transfer that sends it. If anything about
//! it has changed, and a file that lost its name to another has changed too (its link count is part of
//! its status, and so of its change time), the name is opened again at once. What this does not show,
//! like a folder on the way that was renamed, shows when the name is opened again, a second after the
//! last time. The kernel confines each opening to the root.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use ringway::runtime::fs::{File, Metadata, NotRegular, OpenOptions};

use crate::http::{ContentType, FileFacts, FileState, Found, RelativePath};

/// How long a name is taken to lead to the same file.
const NAME_TRUSTED: Duration = Duration::from_secs(1);
/// A file that nobody asked for is closed after this, so that its disk space can be freed.
const UNUSED_KEPT: Duration = Duration::from_secs(10);
/// The file that stands for a folder.
const INDEX: &[u8] = b"index.html";
/// Openings that were disturbed by a rename on the way (openat2(2), `EAGAIN`) are tried so often.
const DISTURBED_TRIES: u32 = 3;

/// Files of one root, by their path below it.
#[derive(Debug)]
pub(crate) struct FileCache {
    root: File,
    entries: RefCell<HashMap<Box<[u8]>, Entry>>,
    files_max: usize,
}

#[derive(Debug)]
struct Entry {
    file: File,
    seen: Metadata,
    facts: FileFacts,
    name_checked: Instant,
    used: Instant,
}

/// A regular file that is open, as it was when it was asked for.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) facts: FileFacts,
    /// The look that the facts come from, which saves the transfer its own.
    pub(crate) seen: Metadata,
}

/// Who sees to it that an open file is still what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looking {
    /// The cache, before the answer is made.
    Now,
    /// Whoever uses the answer, before anything of it is sent.
    Later,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Located {
    File(OpenFile),
    /// A folder, and the index in it.
    Index(OpenFile),
    /// No file, and why.
    Nothing(Found<'static>),
}

impl Located {
    /// The same for the pure layer.
    pub(crate) fn found(&self) -> Found<'_> {
        match self {
            Located::File(open) => Found::File(&open.facts),
            Located::Index(open) => Found::Index(&open.facts),
            Located::Nothing(found) => *found,
        }
    }

    pub(crate) fn into_file(self) -> Option<OpenFile> {
        match self {
            Located::File(open) | Located::Index(open) => Some(open),
            Located::Nothing(_) => None,
        }
    }
}

impl FileCache {
    /// A cache for the files below `root` that keeps at most `files_max` of them open.
    pub(crate) fn new(root: File, files_max: usize) -> FileCache {
        FileCache { root, entries: RefCell::default(), files_max }
    }

    /// Finds what a path names; a folder is looked at for its index only behind its slash.
    pub(crate) async fn locate(
        &self,
        path: &RelativePath<'_>,
        now: Instant,
        looking: Looking,
    ) -> Located {
        if path.trailing_slash() {
            return Box::pin(self.locate_in_folder(path, now)).await;
        }
        if let Some(open) = self.kept(path.as_bytes(), now, looking) {
            return Located::File(open);
        }
        Box::pin(self.locate_anew(path, now)).await
    }

    /// In a box: opening is rare beside using what is open, and it would make every waiting
    /// connection larger.
    async fn locate_anew(&self, path: &RelativePath<'_>, now: Instant) -> Located {
        match self.open_and_keep(path.as_bytes(), now).await {
            Ok(open) => Located::File(open),
            // A folder that may be entered but not listed refuses like a file that may not be read.
            Err(error) if is_not_regular(&error) || is_denied(&error) => {
                match self.open_folder(path.as_os_str()).await {
                    Ok(_) => Located::Nothing(Found::Folder),
                    Err(_) => Located::Nothing(Found::Forbidden),
                }
            }
            Err(error) => Located::Nothing(Found::from_open_error(&error)),
        }
    }

    async fn locate_in_folder(&self, path: &RelativePath<'_>, now: Instant) -> Located {
        let mut index = Vec::with_capacity(path.as_bytes().len() + 1 + INDEX.len());
        if !path.as_bytes().is_empty() {
            index.extend_from_slice(path.as_bytes());
            index.push(b'/');
        }
        index.extend_from_slice(INDEX);
        match self.open(&index, now).await {
            Ok(open) => Located::Index(open),
            Err(error) if is_not_regular(&error) || error.kind() == io::ErrorKind::NotFound => {
                let folder = self.open_folder(path.as_os_str()).await;
                Located::Nothing(
                    folder.map_or_else(|error| Found::from_open_error(&error), |_| Found::Folder),
                )
            }
            Err(error) => Located::Nothing(Found::from_open_error(&error)),
        }
    }

    async fn open_folder(&self, path: &OsStr) -> io::Result<File> {
        OpenOptions::new().folder(true).beneath(true).open_in(&self.root, path).await
    }

    /// Opens a regular file, or takes the one that is open.
    async fn open(&self, path: &[u8], now: Instant) -> io::Result<OpenFile> {
        match self.kept(path, now, Looking::Now) {
            Some(open) => Ok(open),
            None => self.open_and_keep(path, now).await,
        }
    }

    async fn open_and_keep(&self, path: &[u8], now: Instant) -> io::Result<OpenFile> {
        match self.open_anew(path).await {
            Ok((file, metadata)) => Ok(self.keep(path, file, &metadata, now)),
            Err(error) => {
                self.entries.borrow_mut().remove(path);
                Err(error)
            }
        }
    }

    /// The file that is open, if its name can still be trusted.
    fn kept(&self, path: &[u8], now: Instant, looking: Looking) -> Option<OpenFile> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(path)?;
        if now.saturating_duration_since(entry.name_checked) >= NAME_TRUSTED {
            // One request looks; those that come while it does need not.
            entry.name_checked = now;
            return None;
        }
        if looking == Looking::Now {
            let seen = entry.file.metadata().ok()?;
            if state_of(&seen) != state_of(&entry.seen) {
                return None;
            }
        }
        entry.used = now;
        Some(OpenFile { file: entry.file.clone(), facts: entry.facts, seen: entry.seen })
    }

    async fn open_anew(&self, path: &[u8]) -> io::Result<(File, Metadata)> {
        let options = OpenOptions::new().beneath(true).regular_only(true);
        let mut tries = 1;
        loop {
            let error = match options.open_in(&self.root, OsStr::from_bytes(path)).await {
                Ok(file) => {
                    let metadata = file.metadata()?;
                    return Ok((file, metadata));
                }
                Err(error) => error,
            };
            let disturbed = error.kind() == io::ErrorKind::WouldBlock && tries < DISTURBED_TRIES;
            // Descriptors that are only kept for later are the first to go when they run out.
            let eased = matches!(Found::from_open_error(&error), Found::Exhausted)
                && !std::mem::take(&mut *self.entries.borrow_mut()).is_empty();
            if !disturbed && !eased {
                return Err(error);
            }
            tries += 1;
        }
    }

    fn keep(&self, path: &[u8], file: File, metadata: &Metadata, now: Instant) -> OpenFile {
        let facts = FileFacts::new(&state_of(metadata), ContentType::of_path(path));
        let open = OpenFile { file: file.clone(), facts, seen: *metadata };
        if self.files_max > 0 {
            let mut entries = self.entries.borrow_mut();
            if entries.len() >= self.files_max && !entries.contains_key(path) {
                make_room(&mut entries);
            }
            let entry = Entry { file, seen: *metadata, facts, name_checked: now, used: now };
            entries.insert(path.into(), entry);
        }
        open
    }

    /// Closes what nobody has asked for in a while.
    pub(crate) fn expire(&self, now: Instant) {
        let in_use = |entry: &Entry| now.saturating_duration_since(entry.used) < UNUSED_KEPT;
        self.entries.borrow_mut().retain(|_, entry| in_use(entry));
    }
}

/// Closes the eighth that was not used for longest; so a full cache looks over itself seldom.
fn make_room(entries: &mut HashMap<Box<[u8]>, Entry>) {
    let mut uses: Vec<Instant> = entries.values().map(|entry| entry.used).collect();
    let eighth = uses.len() / 8;
    let (_, &mut oldest_kept, _) = uses.select_nth_unstable(eighth);
    let mut to_close = eighth + 1;
    entries.retain(|_, entry| {
        let close = to_close > 0 && entry.used <= oldest_kept;
        to_close -= usize::from(close);
        !close
    });
}

fn is_not_regular(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NotRegular>())
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What an answer says about an open file.
pub(super) fn facts_of(file: &File, path: &[u8]) -> io::Result<FileFacts> {
    Ok(FileFacts::new(&state_of(&file.metadata()?), ContentType::of_path(path)))
}

fn state_of(metadata: &Metadata) -> FileState {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    FileState {
        len: metadata.len,
        inode: metadata.inode,
        mtime_seconds: seconds(metadata.modified),
        mtime_nanoseconds: metadata.modified.subsec_nanos(),
        ctime_seconds: seconds(metadata.changed),
        ctime_nanoseconds: metadata.changed.subsec_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use ringway::runtime::Runtime;

    use super::*;
    use crate::http::PathPolicy;

    /// Opens a path of a folder with two hundred files; gives the length of what it found.
    async fn len_of(cache: &FileCache, target: &str, now: Instant) -> Option<u64> {
        let path = RelativePath::resolve(target, PathPolicy::default()).unwrap();
        match cache.locate(&path, now, Looking::Now).await {
            Located::File(open) | Located::Index(open) => Some(open.facts.len),
            Located::Nothing(_) => None,
        }
    }

    fn with_cache<F: Future<Output = ()>>(
        files_max: usize,
        test: impl FnOnce(FileCache, std::path::PathBuf) -> F,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..200u64 {
            let path = folder.path().join(number.to_string());
            std::fs::File::create(path).unwrap().set_len(number).unwrap();
        }
        Runtime::new().unwrap().block_on(async {
            let root = OpenOptions::new().folder(true).open(folder.path()).await.unwrap();
            test(FileCache::new(root, files_max), folder.path().to_owned()).await;
        });
    }

    #[test]
    fn a_full_cache_keeps_what_was_used_last() {
        with_cache(16, |cache, _| async move {
            let start = Instant::now();
            for number in 0..200u32 {
                let now = start + Duration::from_micros(number.into());
                let len = len_of(&cache, &format!("/{number}"), now).await;
                assert_eq!(len, Some(number.into()));
                assert!(cache.entries.borrow().len() <= 16);
                assert!(cache.entries.borrow().contains_key(number.to_string().as_bytes()));
                // This one is asked for again and again, and so it stays.
                assert_eq!(len_of(&cache, "/7", now).await, Some(7));
                assert!(number == 0 || cache.entries.borrow().contains_key(&b"7"[..]));
            }
            cache.expire(start + UNUSED_KEPT * 2);
            assert!(cache.entries.borrow().is_empty());
        });
    }

    #[test]
    fn many_uses_in_one_moment_leave_room_too() {
        with_cache(8, |cache, _| async move {
            let now = Instant::now();
            for number in 0..50 {
                assert_eq!(len_of(&cache, &format!("/{number}"), now).await, Some(number));
                assert!(cache.entries.borrow().len() <= 8);
            }
        });
    }

    #[test]
    fn a_cache_of_no_files_works() {
        with_cache(0, |cache, _| async move {
            assert_eq!(len_of(&cache, "/9", Instant::now()).await, Some(9));
            assert!(cache.entries.borrow().is_empty());
        });
    }

    #[test]
    fn a_name_is_opened_again_after_a_second() {
        with_cache(8, |cache, folder| async move {
            std::fs::create_dir(folder.join("a")).unwrap();
            std::fs::create_dir(folder.join("b")).unwrap();
            std::fs::write(folder.join("a/file"), "old").unwrap();
            std::fs::write(folder.join("b/file"), "newer").unwrap();
            let start = Instant::now();
            assert_eq!(len_of(&cache, "/a/file", start).await, Some(3));
            // The file itself does not change by this; only its name leads elsewhere.
            std::fs::rename(folder.join("a"), folder.join("c")).unwrap();
            std::fs::rename(folder.join("b"), folder.join("a")).unwrap();
            assert_eq!(len_of(&cache, "/a/file", start).await, Some(3));
            assert_eq!(len_of(&cache, "/a/file", start + NAME_TRUSTED).await, Some(5));
        });
    }
}
