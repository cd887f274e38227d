//! Digests as RFC 9530 writes them: `Repr-Digest: sha-256=:…:`. Pure.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sha256(pub(crate) [u8; 32]);

impl Sha256 {
    /// The value of `Repr-Digest`, without the field's name.
    pub(crate) fn field(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.0))
    }

    /// The digest in values of `Repr-Digest` or `Content-Digest`, each a dictionary of RFC 9651.
    /// Other algorithms are passed over; so is what cannot be read.
    pub(crate) fn in_fields<'v>(values: impl Iterator<Item = &'v str>) -> Option<Sha256> {
        let mut members = values.flat_map(|value| value.split(','));
        members.find_map(|member| {
            let (key, value) = member.trim().split_once('=')?;
            // Behind the byte sequence there may be parameters.
            let encoded = value.strip_prefix(':')?.split(':').next()?;
            let bytes = STANDARD.decode(encoded).ok()?;
            (key.trim() == "sha-256").then(|| bytes.try_into().ok().map(Sha256))?
        })
    }
}

impl FromStr for Sha256 {
    type Err = &'static str;

    /// Reads 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Sha256, &'static str> {
        const WHAT: &str = "a SHA-256 has 64 hexadecimal digits";
        let mut digest = [0; 32];
        let digits: Vec<u32> =
            text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>().ok_or(WHAT)?;
        if digits.len() != 2 * digest.len() {
            return Err(WHAT);
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
            *byte =
                pair.iter().fold(0, |high, &low| high << 4 | u8::try_from(low).unwrap_or_default());
        }
        Ok(Sha256(digest))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9530, section 3, for `{"hello": "world"}` and a line end.
    const FIELD: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    fn read(values: &[&str]) -> Option<Sha256> {
        Sha256::in_fields(values.iter().copied())
    }

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        let digest = read(&[FIELD]).unwrap();
        assert_eq!(digest.field(), FIELD);
        assert!(digest.to_string().starts_with("44aff4ab2d7c3250"));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("44af".parse::<Sha256>().is_err() && "x".repeat(64).parse::<Sha256>().is_err());
    }

    #[test]
    fn a_digest_is_found_among_others() {
        let digest = read(&[FIELD]);
        assert_eq!(read(&[&format!("sha-512=:YQ==:, {FIELD};x=1")]), digest);
        assert_eq!(read(&["md5=:YQ==:", FIELD]), digest);
        assert_eq!(read(&[&format!("sha-256=:!:, {FIELD}")]), digest);
    }

    #[test]
    fn what_is_no_digest_is_passed_over() {
        for value in ["", "sha-256", "sha-256=abc", "sha-256=:YQ==:", "sha-512=:YQ==:"] {
            assert_eq!(read(&[value]), None, "{value}");
        }
    }
}
