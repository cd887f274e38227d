//! What becomes of a file that every receiver has: it is kept, moved or deleted.
//!
//! A file that has been replaced since must not go instead of the one that was delivered. So it is
//! renamed first, which nobody can interfere with, then looked at, and renamed back if it is another one.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::ledger::Stamp;
use super::spool::stamp_of;

/// How many files of one name are kept apart in the folder for what is done.
const NAMESAKES_MAX: u32 = 10_000;
/// In front of the name of a file that is being deleted.
const DELETING: &str = ".ringwayd-done.";
/// Those files, for who passes them over.
pub(crate) const DELETING_PATTERN: &str = ".ringwayd-done.*";

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Keep,
    Move(PathBuf),
    Delete,
}

impl FromStr for Done {
    type Err = String;

    fn from_str(text: &str) -> Result<Done, String> {
        match (text, text.strip_prefix("move:")) {
            ("keep", _) => Ok(Done::Keep),
            ("delete", _) => Ok(Done::Delete),
            (_, Some(folder)) if !folder.is_empty() => Ok(Done::Move(folder.into())),
            _ => Err("write `keep`, `delete` or `move:DIR`".to_owned()),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Done::Keep => f.write_str("keep"),
            Done::Move(folder) => write!(f, "move:{}", folder.display()),
            Done::Delete => f.write_str("delete"),
        }
    }
}

impl Done {
    /// Does to the file at `below` in `folder` what is to be done, if it is still the one that has this
    /// stamp. Blocks.
    ///
    /// # Errors
    ///
    /// Those of rename(2), unlink(2) and mkdir(2). The file is still there then, under its own name
    /// unless the second rename failed too.
    pub(crate) fn carry_out(
        &self,
        folder: &Path,
        below: &Path,
        delivered: Stamp,
    ) -> io::Result<()> {
        let from = folder.join(below);
        match self {
            Done::Keep => Ok(()),
            Done::Move(into) => {
                let to = into.join(below);
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                let to = rename_apart(&from, &to)?;
                check_or_return(&to, &from, delivered).map(drop)
            }
            Done::Delete => {
                let mut name = std::ffi::OsString::from(DELETING);
                name.push(below.file_name().unwrap_or_default());
                let aside = rename_apart(&from, &from.with_file_name(name))?;
                match check_or_return(&aside, &from, delivered)? {
                    true => fs::remove_file(aside),
                    false => Ok(()),
                }
            }
        }
    }
}

/// Gives a file a new name, or one with a number behind it where there is one already.
fn rename_apart(from: &Path, to: &Path) -> io::Result<PathBuf> {
    for number in 1..=NAMESAKES_MAX {
        let mut name = to.as_os_str().to_owned();
        if number > 1 {
            name.push(format!(".{number}"));
        }
        match renameat_with(CWD, from, CWD, &name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(name.into()),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "there are too many files of this name"))
}

/// Whether the renamed file is the one that was delivered. Another one gets its name back, unless that
/// is taken by a newer one still: then it keeps a name beside it.
fn check_or_return(renamed: &Path, back: &Path, delivered: Stamp) -> io::Result<bool> {
    let found = stamp_of(renamed)?;
    // A rename changes the time of the last change.
    let same = |found: &Stamp| Stamp { changed: delivered.changed, ..*found } == delivered;
    if found.as_ref().is_some_and(same) {
        return Ok(true);
    }
    rename_apart(renamed, back)?;
    Ok(false)
}

/// Gives their names back to files of which the deletion was interrupted by a kill. Which files that
/// are is seen by their names; whether they were delivered, the journal and the receivers know.
///
/// # Errors
///
/// Those of reading the folder and of rename(2).
pub(crate) fn restore_interrupted(folder: &Path, recursive: bool) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if let (true, Some(own)) =
                (kind.is_file(), name.as_bytes().strip_prefix(DELETING.as_bytes()))
            {
                rename_apart(&entry.path(), &folder.join(std::ffi::OsStr::from_bytes(own)))?;
            } else if kind.is_dir() && recursive {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> (tempfile::TempDir, PathBuf) {
        let scene = tempfile::tempdir().unwrap();
        let folder = scene.path().join("in");
        fs::create_dir_all(folder.join("sub")).unwrap();
        (scene, folder)
    }

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["keep", "delete", "move:/x/y"] {
            assert_eq!(text.parse::<Done>().unwrap().to_string(), text);
        }
        for text in ["", "move", "move:", "remove"] {
            assert!(text.parse::<Done>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_moved_with_its_folder_and_replaces_none() {
        let (scene, folder) = scene();
        let done = Done::Move(scene.path().join("done"));
        for content in ["one", "two"] {
            fs::write(folder.join("sub/a"), content).unwrap();
            let stamp = stamp_of(&folder.join("sub/a")).unwrap().unwrap();
            done.carry_out(&folder, Path::new("sub/a"), stamp).unwrap();
        }
        assert_eq!(fs::read(scene.path().join("done/sub/a")).unwrap(), b"one");
        assert_eq!(fs::read(scene.path().join("done/sub/a.2")).unwrap(), b"two");
        assert!(!folder.join("sub/a").exists());
    }

    #[test]
    fn a_file_that_was_replaced_meanwhile_stays() {
        let (scene, folder) = scene();
        let path = folder.join("a");
        for done in [Done::Delete, Done::Move(scene.path().join("done"))] {
            fs::write(&path, "delivered").unwrap();
            let stamp = stamp_of(&path).unwrap().unwrap();
            fs::write(folder.join("new"), "not delivered").unwrap();
            fs::rename(folder.join("new"), &path).unwrap();
            done.carry_out(&folder, Path::new("a"), stamp).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"not delivered");
        }
        let stamp = stamp_of(&path).unwrap().unwrap();
        Done::Delete.carry_out(&folder, Path::new("a"), stamp).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "only the folder in it is left");
    }

    #[test]
    fn a_deletion_that_was_interrupted_is_undone() {
        let (_scene, folder) = scene();
        fs::write(folder.join("sub/.ringwayd-done.a"), "x").unwrap();
        restore_interrupted(&folder, true).unwrap();
        assert_eq!(fs::read(folder.join("sub/a")).unwrap(), b"x");
    }
}
