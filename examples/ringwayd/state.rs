//! Where things are kept from one run to the next.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

/// The folder that was named, or that of this user (XDG Base Directory Specification).
///
/// # Errors
///
/// If none was named and the user has no home.
pub(crate) fn folder(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = named {
        return Ok(folder.to_owned());
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    let none = || anyhow!("there is no home to keep anything in: name a folder with --state-dir");
    Ok(state.ok_or_else(none)?.join("ringwayd"))
}
