//! Giving a file its name: what is there is looked at before the body is received, so that nobody
//! sends a gigabyte in vain, and again right before the rename, which is what counts.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ringway::runtime::fs::{File, OpenOptions};

use super::Refusal;
use super::staging::{Staged, Uploads};
use crate::cli::receive::Overwrite;
use crate::http::upload::Upload;
use crate::http::{FileFacts, Found, RelativePath, Status};
use crate::serve::cache::Looking;
use crate::serve::server::Server;

/// Paths that are being given to a file now, by any thread. So two uploads whose conditions hold for
/// the same old file cannot both replace it.
#[derive(Debug, Clone, Default)]
pub(super) struct Placings {
    paths: Arc<Mutex<HashSet<Box<[u8]>>>>,
}

impl Placings {
    pub(super) fn begin(&self, path: &[u8]) -> Option<Placing> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.insert(path.into()).then(|| Placing { placings: self.clone(), path: path.into() })
    }
}

/// One of them; over when it is dropped.
pub(super) struct Placing {
    placings: Placings,
    path: Box<[u8]>,
}

impl Drop for Placing {
    fn drop(&mut self) {
        let mut paths = self.placings.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.remove(&self.path);
    }
}

/// The folder that a file is to be in.
pub(super) struct Place {
    folder: File,
}

/// Why a file does not get its name.
pub(super) enum Failure {
    Refused(Refusal),
    Io(io::Error),
}

const CHANGED: Refusal = (Status::PreconditionFailed, "The file is not the one that was meant.");
pub(super) const TAKEN: Refusal =
    (Status::Conflict, "There is a file of this name, and it is to stay.");

pub(super) const BEING_GIVEN: Refusal =
    (Status::Conflict, "Another file is being given this name.");

impl Place {
    /// Looks whether the upload could be kept.
    pub(super) async fn find(
        server: &Rc<Server>,
        uploads: &Uploads,
        upload: &Upload,
    ) -> Result<Place, Refusal> {
        look(server, uploads, upload).await?;
        let (folder, _) = split(&upload.path);
        let options = OpenOptions::new().listed_folder(true).beneath(true);
        match options.open_in(&uploads.root, folder).await {
            Ok(folder) => Ok(Place { folder }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    (Status::Conflict, "There is no such folder: make it first.")
                }
                _ => match Found::from_open_error(&error) {
                    Found::Exhausted => (Status::ServiceUnavailable, "Too busy; try again."),
                    Found::Failed => (Status::InternalServerError, "The folder cannot be opened."),
                    _ => (Status::Forbidden, "This folder may not be written."),
                },
            }),
        }
    }

    /// Gives the file its name, and makes that durable. Says whether the name is new.
    pub(super) async fn take(
        &self,
        server: &Rc<Server>,
        uploads: &Uploads,
        upload: &Upload,
        staged: &Staged,
    ) -> Result<bool, Failure> {
        let Some(_placing) = uploads.placings.begin(&upload.path) else {
            return Err(Failure::Refused(BEING_GIVEN));
        };
        let exists = look(server, uploads, upload).await.map_err(Failure::Refused)?;
        let absent = upload.conditions.demand_absence() || uploads.overwrite == Overwrite::Never;
        let (_, name) = split(&upload.path);
        uploads.release(staged, (&self.folder, Path::new(name)), !absent).await.map_err(
            |error| match error.kind() {
                io::ErrorKind::AlreadyExists if upload.conditions.demand_absence() => {
                    Failure::Refused(CHANGED)
                }
                io::ErrorKind::AlreadyExists => Failure::Refused(TAKEN),
                io::ErrorKind::IsADirectory => Failure::Refused(FOLDER),
                io::ErrorKind::NotFound => {
                    Failure::Refused((Status::Conflict, "The folder is there no more."))
                }
                _ => Failure::Io(error),
            },
        )?;
        if uploads.sync {
            self.folder.sync_all().await.map_err(Failure::Io)?;
        }
        Ok(!exists)
    }
}

const FOLDER: Refusal = (Status::Conflict, "There is a folder of this name.");

/// Whether something has the name, and may be replaced if so.
async fn look(server: &Rc<Server>, uploads: &Uploads, upload: &Upload) -> Result<bool, Refusal> {
    let path = RelativePath::canonical(&upload.path);
    let located = server.cache.locate(&path, Instant::now(), Looking::Now).await;
    let current: Option<&FileFacts> = match located.found() {
        Found::File(facts) => Some(facts),
        Found::Missing => None,
        Found::Folder | Found::Index(_) => return Err(FOLDER),
        Found::Forbidden => return Err((Status::Forbidden, "This may not be replaced.")),
        Found::Exhausted => return Err((Status::ServiceUnavailable, "Too busy; try again.")),
        Found::Failed => {
            return Err((Status::InternalServerError, "The name cannot be looked at."));
        }
    };
    if !upload.conditions_hold(current) {
        return Err(CHANGED);
    }
    if current.is_some() && uploads.overwrite == Overwrite::Never {
        return Err(TAKEN);
    }
    Ok(current.is_some())
}

/// The folder and the name in it.
pub(super) fn split(path: &[u8]) -> (&OsStr, &OsStr) {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (folder, name) = slash.map_or((&b"."[..], path), |at| (&path[..at], &path[at + 1..]));
    (OsStr::from_bytes(folder), OsStr::from_bytes(name))
}
