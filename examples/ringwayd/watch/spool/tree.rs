//! The watches of inotify(7), one for each folder, and the walk through all of them.
//!
//! By rustix, which the daemon has anyway: its events are borrowed from one buffer, and the crates made
//! for it bring a loop or a thread of their own.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::super::ignored::Ignored;
use super::super::ledger::{RelativePath, Stamp};

/// Bytes of events that are read at once: some hundreds.
const EVENT_BYTES: usize = 32 * 1024;
/// Folders below each other, at most: a walk goes no deeper.
const DEPTH_MAX: usize = 128;

/// A folder with its watches.
#[derive(Debug)]
pub(super) struct Tree {
    inotify: OwnedFd,
    folder: PathBuf,
    recursive: bool,
    ignored: Ignored,
    /// The folder of each watch, below the first.
    watches: HashMap<i32, PathBuf>,
}

/// Where something has happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Touched {
    File(RelativePath),
    /// Anywhere: a folder came or went, or events were lost.
    Everything,
}

impl Tree {
    /// Watches a folder.
    ///
    /// # Errors
    ///
    /// Those of inotify_init(2) and inotify_add_watch(2); limits with the setting to change.
    pub(super) fn watch(folder: PathBuf, recursive: bool, ignored: Ignored) -> io::Result<Tree> {
        let inotify =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| {
                limit(error, Errno::MFILE, "fs.inotify.max_user_instances or the open files")
            })?;
        let mut tree = Tree { inotify, folder, recursive, ignored, watches: HashMap::new() };
        tree.add(Path::new(""))?;
        Ok(tree)
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.inotify
    }

    fn add(&mut self, below: &Path) -> io::Result<()> {
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        let watch = inotify::add_watch(&self.inotify, self.folder.join(below), what);
        let watch =
            watch.map_err(|error| limit(error, Errno::NOSPC, "fs.inotify.max_user_watches"))?;
        self.watches.insert(watch, below.to_owned());
        Ok(())
    }

    /// Finds every file, and watches every folder that is walked through.
    ///
    /// # Errors
    ///
    /// Those of reading the first folder, and limits. What vanishes meanwhile is passed over.
    pub(super) fn walk(&mut self) -> io::Result<Vec<(RelativePath, Stamp)>> {
        let mut found = Vec::new();
        let mut folders = vec![(PathBuf::new(), 0)];
        while let Some((below, depth)) = folders.pop() {
            let first = depth == 0;
            // Watched before it is read, so that nothing falls in between.
            let watched = if self.recursive || first { self.add(&below) } else { Ok(()) };
            let entries = watched.and_then(|()| fs::read_dir(self.folder.join(&below)));
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) if first || is_limit(&error) => return Err(error),
                Err(_) => continue,
            };
            for entry in entries.map_while(Result::ok) {
                let path = below.join(entry.file_name());
                let Ok(metadata) = entry.metadata() else { continue };
                if self.ignored.has(path.as_os_str().as_bytes()) {
                    continue;
                }
                if metadata.is_file() {
                    found.push((path.as_os_str().as_bytes().into(), super::stamp(&metadata)));
                } else if metadata.is_dir() && self.recursive && depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                }
            }
        }
        Ok(found)
    }

    /// Takes the events that are there.
    ///
    /// # Errors
    ///
    /// Those of read(2); and that the folder itself is gone.
    pub(super) fn touched(&mut self) -> io::Result<Vec<Touched>> {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut touched = Vec::new();
        let mut ended = Vec::new();
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                touched.push(Touched::Everything);
                continue;
            }
            let Some(below) = self.watches.get(&event.wd()) else { continue };
            if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT)
            {
                if below.as_os_str().is_empty() {
                    return Err(io::Error::other("the folder was removed, renamed or unmounted"));
                }
                touched.push(Touched::Everything);
            }
            if flags.contains(ReadFlags::IGNORED) {
                ended.push(event.wd());
            }
            let Some(name) = event.file_name() else { continue };
            let path = below.join(OsStr::from_bytes(name.to_bytes()));
            if flags.contains(ReadFlags::ISDIR) {
                touched.extend(self.recursive.then_some(Touched::Everything));
            } else if !flags.contains(ReadFlags::CREATE) || is_link(&self.folder.join(&path)) {
                touched.push(Touched::File(path.as_os_str().as_bytes().into()));
            }
        }
        for watch in ended {
            self.watches.remove(&watch);
        }
        Ok(touched)
    }
}

/// A file that was just made is being written, unless it is another name of one that was there.
fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.nlink() > 1)
}

/// Names the setting behind an error that is a limit.
fn limit(error: Errno, of: Errno, setting: &str) -> io::Error {
    let plain = io::Error::from(error);
    if error != of {
        return plain;
    }
    io::Error::new(io::ErrorKind::QuotaExceeded, format!("{plain}: raise {setting}"))
}

fn is_limit(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}
