//! A bearer token (RFC 6750) that goes into a request and nowhere else.

use std::fmt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::cli::client::Caller;

/// Bytes that a token may have, at most.
const TOKEN_BYTES_MAX: u64 = 8192;

/// A token. Printing it shows that there is one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// The token that the settings name, if they name one.
    ///
    /// # Errors
    ///
    /// As for [`Self::from_file`] and [`Self::from_environment`].
    pub(crate) fn of(caller: &Caller) -> anyhow::Result<Option<Token>> {
        Ok(match (&caller.token_file, &caller.token_variable) {
            (Some(path), _) => Some(Token::from_file(path)?),
            (None, Some(name)) => Some(Token::from_environment(name)?),
            (None, None) => None,
        })
    }

    /// Reads a token from a file, whose last line end does not count.
    ///
    /// # Errors
    ///
    /// If there is none, with the name of the file and never with what is in it.
    pub(crate) fn from_file(path: &Path) -> anyhow::Result<Token> {
        let shown = path.display();
        let metadata = path.metadata().with_context(|| format!("cannot read {shown}"))?;
        ensure!(
            metadata.len() <= TOKEN_BYTES_MAX,
            "{shown} has more than {TOKEN_BYTES_MAX} bytes, which is no token"
        );
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        Token::new(text.trim_end_matches(['\r', '\n']))
            .with_context(|| format!("what is in {shown} cannot be sent"))
    }

    /// Takes a token from a variable of the environment.
    ///
    /// # Errors
    ///
    /// If the variable is not set or has no token.
    pub(crate) fn from_environment(name: &str) -> anyhow::Result<Token> {
        let Ok(text) = std::env::var(name) else {
            bail!("the variable {name} is not set, or is no text");
        };
        Token::new(&text).with_context(|| format!("what is in {name} cannot be sent"))
    }

    fn new(text: &str) -> anyhow::Result<Token> {
        ensure!(!text.is_empty(), "the token is empty");
        ensure!(
            text.bytes().all(|byte| byte.is_ascii_graphic()),
            "a token has no spaces and nothing but ASCII"
        );
        Ok(Token(text.to_owned()))
    }

    /// The value of `Authorization`.
    pub(crate) fn field(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\r\n").unwrap();
        let token = Token::from_file(file.path()).unwrap();
        assert_eq!(token.field(), "Bearer s3cret");
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    #[test]
    fn what_would_end_the_field_is_no_token() {
        for text in ["", "a b", "a\r\nX: y", "ä"] {
            let refused = Token::new(text).unwrap_err().to_string();
            assert!(text.is_empty() || !refused.contains(text), "{refused}");
        }
    }
}
