//! Who may write: the tokens of a file, kept and compared as digests, so that how long a comparison
//! takes tells nothing about them.

use std::path::Path;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

/// The tokens that are known, or none if everybody may write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    known: Option<std::sync::Arc<[[u8; 32]]>>,
}

impl Tokens {
    /// Reads tokens from a file: one on each line, without empty lines and those that begin with `#`.
    ///
    /// # Errors
    ///
    /// If there is none, with the name of the file and never with what is in it.
    pub(crate) fn from_file(path: &Path) -> anyhow::Result<Tokens> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the tokens in {shown}"))?;
        let lines = text.lines().map(str::trim);
        let known: Vec<[u8; 32]> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Sha256::digest(line).into())
            .collect();
        ensure!(!known.is_empty(), "{shown} has no token: write one on a line of its own");
        Ok(Tokens { known: Some(known.into()) })
    }

    /// Whether whoever gives this token may write.
    pub(super) fn admit(&self, given: Option<&[u8]>) -> bool {
        let Some(known) = &self.known else { return true };
        let Some(given) = given else { return false };
        let given: [u8; 32] = Sha256::digest(given).into();
        known.contains(&given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_tokens_are_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        assert!(Tokens::from_file(&path).is_err());
        std::fs::write(&path, "# mine\n\n").unwrap();
        assert!(Tokens::from_file(&path).is_err());
        std::fs::write(&path, "# mine\n first \nsecond\n").unwrap();
        let tokens = Tokens::from_file(&path).unwrap();
        assert!(tokens.admit(Some(b"first")) && tokens.admit(Some(b"second")));
        for other in [None, Some(&b"third"[..]), Some(b""), Some(b"# mine")] {
            assert!(!tokens.admit(other), "{other:?}");
        }
        assert!(Tokens::default().admit(None));
    }
}
