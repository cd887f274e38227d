//! Which files are none of ours: patterns as shells have them. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The patterns, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Ignored {
    /// For each name on the way to a file.
    names: GlobSet,
    /// For the path below the folder.
    paths: GlobSet,
}

impl Ignored {
    /// A pattern with a `/` in it is for the whole path, all others are for each name in it.
    ///
    /// # Errors
    ///
    /// What is wrong with a pattern.
    pub(crate) fn new(patterns: &[String]) -> Result<Ignored, globset::Error> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns.iter().filter(|pattern| !pattern.is_empty()) {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build()?;
            if pattern.contains('/') {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        Ok(Ignored { names: names.build()?, paths: paths.build()? })
    }

    /// Whether this path is passed over.
    pub(crate) fn has(&self, path: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.paths.is_match(path) || path.iter().any(|name| self.names.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_on_every_level_and_paths_as_a_whole() {
        let patterns = [".*", "*.tmp", "in/*.raw", ""].map(str::to_owned);
        let ignored = Ignored::new(&patterns).unwrap();
        for path in [".a", "b/.hidden/c", "x.tmp", "b/x.tmp", "in/a.raw"] {
            assert!(ignored.has(path.as_bytes()), "{path}");
        }
        for path in ["a", "b/c.d", "x.tmp2", "out/a.raw", "in/b/a.raw", "in/a"] {
            assert!(!ignored.has(path.as_bytes()), "{path}");
        }
        assert!(Ignored::new(&["[".to_owned()]).is_err());
    }
}
