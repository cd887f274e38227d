//! A file to push: opened once for all receivers, looked at, its digest computed once.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ringway::runtime::fs::{File, Metadata, OpenOptions};

use crate::client::digest::Sha256;
use crate::client::hasher::Hasher;
use crate::client::outcome::Failure;

/// How often a file is read anew that changes while its digest is computed.
const UNSTEADY_MAX: u32 = 3;

/// A file by its name. What has that name may change; see [`Version`].
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: PathBuf,
    hasher: Option<Rc<Hasher>>,
    state: RefCell<State>,
    /// A digest that was computed before, and what the file was then.
    known: Option<(Seen, Sha256)>,
}

/// What a file looked like: inode, length, modified, changed. While that is the same, so are its bytes.
pub(crate) type Seen = (u64, u64, Duration, Duration);

/// A file as it was at one moment. The inode, the size and the times of that moment are the key under
/// which its digest holds: while they are the same, so is the digest.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) file: File,
    pub(crate) seen: Metadata,
    /// None if none is wanted.
    pub(crate) digest: Option<Sha256>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    /// Somebody is looking; these wait for it.
    Looking(Vec<Waker>),
    Known(Rc<Version>),
}

impl SourceFile {
    pub(crate) fn new(path: PathBuf, hasher: Option<Rc<Hasher>>) -> SourceFile {
        SourceFile { path, hasher, state: RefCell::default(), known: None }
    }

    /// The same, with a digest that holds while the file looks like this.
    pub(crate) fn with_digest(self, seen: Seen, digest: Sha256) -> SourceFile {
        SourceFile { known: Some((seen, digest)), ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that a folder takes.
    pub(crate) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// The file as it is now, or as it was when the first receiver asked. All who ask meanwhile wait
    /// for the same look.
    ///
    /// # Errors
    ///
    /// [`Failure::SourceUnreadable`], and [`Failure::SourceChanged`] if it does not hold still.
    ///
    /// # Cancel safety
    ///
    /// If the one who looks is dropped, another one of those who wait looks instead.
    pub(crate) async fn version(&self) -> Result<Rc<Version>, Failure> {
        let looking = poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            match &mut *state {
                State::Known(version) => Poll::Ready(Some(Rc::clone(version))),
                State::Looking(waiters) => {
                    waiters.push(context.waker().clone());
                    Poll::Pending
                }
                State::Unknown => {
                    *state = State::Looking(Vec::new());
                    Poll::Ready(None)
                }
            }
        });
        if let Some(version) = looking.await {
            return Ok(version);
        }
        let turn = Turn { state: &self.state, found: None };
        turn.end(self.look().await)
    }

    /// Forgets this version: it is not what the file is any more.
    pub(crate) fn forget(&self, stale: &Rc<Version>) {
        let mut state = self.state.borrow_mut();
        if matches!(&*state, State::Known(known) if Rc::ptr_eq(known, stale)) {
            *state = State::Unknown;
        }
    }

    async fn look(&self) -> Result<Version, Failure> {
        let unreadable =
            |error: io::Error| Failure::SourceUnreadable(format!("{}: {error}", self.shown()));
        for _ in 0..UNSTEADY_MAX {
            let file = OpenOptions::new().regular_only(true).open(&self.path).await;
            let file = file.map_err(unreadable)?;
            let seen = file.metadata().map_err(unreadable)?;
            let Some(hasher) = &self.hasher else {
                return Ok(Version { file, seen, digest: None });
            };
            let known = self.known.filter(|(then, _)| *then == key(&seen));
            let digest = match known {
                Some((_, digest)) => Ok(digest),
                None => hasher.digest(&file, seen.len).await,
            };
            let version = Version { file, seen, digest: None };
            match digest {
                Ok(digest) if !version.has_changed() => {
                    return Ok(Version { digest: Some(digest), ..version });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Err(Failure::SourceChanged("it changed each time its digest was computed".to_owned()))
    }

    fn shown(&self) -> impl std::fmt::Display {
        self.path.display()
    }
}

impl Version {
    /// Whether the open file is no longer what was seen; one that cannot be looked at counts so.
    pub(crate) fn has_changed(&self) -> bool {
        !self.file.metadata().is_ok_and(|now| key(&now) == key(&self.seen))
    }
}

/// What tells one version of a file from another.
pub(crate) fn key(seen: &Metadata) -> Seen {
    (seen.inode, seen.len, seen.modified, seen.changed)
}

/// The duty to say what was found, and to wake those who wait even if nothing was.
struct Turn<'s> {
    state: &'s RefCell<State>,
    found: Option<Rc<Version>>,
}

impl Turn<'_> {
    fn end(mut self, found: Result<Version, Failure>) -> Result<Rc<Version>, Failure> {
        let version = Rc::new(found?);
        self.found = Some(Rc::clone(&version));
        Ok(version)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let next = self.found.take().map_or(State::Unknown, State::Known);
        if let State::Looking(waiters) = self.state.replace(next) {
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}
