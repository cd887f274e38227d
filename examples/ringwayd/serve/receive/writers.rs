//! Who may write: whoever gives a token of a file, or shows a certificate that was found good. Tokens are
//! kept and compared as digests, so that how long a comparison takes tells nothing about them.

use std::path::Path;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use super::Refusal;
use crate::cli::receive::Receive;
use crate::http::Status;

/// Those who may write: one of both is enough, and where nothing is asked for everybody may.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writers {
    tokens: Option<std::sync::Arc<[[u8; 32]]>>,
    certificates: bool,
}

impl Writers {
    /// Those whom the settings name; `certificates` says that clients are asked for theirs.
    ///
    /// # Errors
    ///
    /// As for [`Self::from_file`].
    pub(super) fn of(settings: &Receive, certificates: bool) -> anyhow::Result<Writers> {
        let writers = match &settings.write_tokens {
            Some(path) => Writers::from_file(path)?,
            None => Writers::default(),
        };
        let certificates = certificates && !settings.write_without_token;
        Ok(Writers { certificates, ..writers })
    }

    /// Reads tokens from a file: one on each line, without empty lines and those that begin with `#`.
    ///
    /// # Errors
    ///
    /// If there is none, with the name of the file and never with what is in it.
    fn from_file(path: &Path) -> anyhow::Result<Writers> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the tokens in {shown}"))?;
        let lines = text.lines().map(str::trim);
        let known: Vec<[u8; 32]> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Sha256::digest(line).into())
            .collect();
        ensure!(!known.is_empty(), "{shown} has no token: write one on a line of its own");
        Ok(Writers { tokens: Some(known.into()), certificates: false })
    }

    /// Whether whoever gives this token, and has shown a good certificate or not, may write.
    ///
    /// # Errors
    ///
    /// What the client is told.
    pub(super) fn admit(&self, token: Option<&[u8]>, certified: bool) -> Result<(), Refusal> {
        let known = match (&self.tokens, token) {
            (Some(known), Some(token)) => {
                let token: [u8; 32] = Sha256::digest(token).into();
                known.contains(&token)
            }
            (None, _) => !self.certificates,
            (Some(_), None) => false,
        };
        match (known || self.certificates && certified, self.tokens.is_some()) {
            (true, _) => Ok(()),
            (false, true) => {
                Err((Status::Unauthorized, "Writing here takes a token that is known."))
            }
            (false, false) => {
                Err((Status::Forbidden, "Writing here takes a certificate of the client."))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_tokens_are_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        assert!(Writers::from_file(&path).is_err());
        std::fs::write(&path, "# mine\n\n").unwrap();
        assert!(Writers::from_file(&path).is_err());
        std::fs::write(&path, "# mine\n first \nsecond\n").unwrap();
        let tokens = Writers::from_file(&path).unwrap();
        for good in [&b"first"[..], b"second"] {
            assert_eq!(tokens.admit(Some(good), false), Ok(()));
        }
        for other in [None, Some(&b"third"[..]), Some(b""), Some(b"# mine")] {
            let refused = tokens.admit(other, true).unwrap_err();
            assert_eq!(refused.0, Status::Unauthorized, "{other:?}");
        }
        assert_eq!(Writers::default().admit(None, false), Ok(()));
    }

    #[test]
    fn a_certificate_is_as_good_as_a_token_where_it_was_asked_for() {
        let only = Writers { tokens: None, certificates: true };
        assert_eq!(only.admit(None, true), Ok(()));
        assert_eq!(only.admit(Some(b"guess"), false).unwrap_err().0, Status::Forbidden);
        let token: [u8; 32] = Sha256::digest(b"first").into();
        let both = Writers { tokens: Some([token].into()), certificates: true };
        assert_eq!(both.admit(None, true), Ok(()));
        assert_eq!(both.admit(Some(b"first"), false), Ok(()));
        assert_eq!(both.admit(None, false).unwrap_err().0, Status::Unauthorized);
    }
}
