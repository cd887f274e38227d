//! The digests of RFC 9530 that a client sends with a body, `Repr-Digest` and `Content-Digest`, and the one
//! that it asks for by `Want-Repr-Digest`: dictionaries of byte sequences and of integers (RFC 9651). Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::request::Refusal;
use super::status::Status;

/// An algorithm that is computed here. Others are passed over, as the RFC says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha-256",
            Algorithm::Sha512 => "sha-512",
        }
    }

    const fn len(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }

    /// The one that a client likes best of those that it weighs: 1 to 10, and 0 is a no (RFC 9530,
    /// section 4). What cannot be read is passed over: nobody must heed a wish.
    pub(crate) fn wanted<'b>(lines: impl Iterator<Item = &'b [u8]>) -> Option<Algorithm> {
        let members = lines.flat_map(|line| line.split(|&byte| byte == b','));
        let weighed = members.filter_map(|member| {
            let (key, weight) = std::str::from_utf8(member).ok()?.trim().split_once('=')?;
            let algorithm = match key {
                "sha-256" => Algorithm::Sha256,
                "sha-512" => Algorithm::Sha512,
                _ => return None,
            };
            let weight = weight.split_once(';').map_or(weight, |(weight, _)| weight);
            let weight = weight.parse::<u8>().ok().filter(|weight| (1..=10).contains(weight))?;
            Some((weight, algorithm))
        });
        // Of equals the first, as the client has named them.
        weighed.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, it)| it)
    }
}

/// A digest that a body must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) algorithm: Algorithm,
    pub(crate) bytes: Box<[u8]>,
}

impl Digest {
    /// The digests in the lines of these fields; without a content coding both mean the same bytes.
    ///
    /// # Errors
    ///
    /// 400 if one of a known algorithm cannot be read: who sends a digest wants it checked.
    pub(crate) fn read<'b>(lines: impl Iterator<Item = &'b [u8]>) -> Result<Vec<Digest>, Refusal> {
        const MALFORMED: Refusal = (Status::BadRequest, "A digest field is malformed.");
        let mut digests = Vec::new();
        for member in lines.flat_map(|line| line.split(|&byte| byte == b',')) {
            let member = std::str::from_utf8(member).map_err(|_| MALFORMED)?.trim();
            let (key, value) = member.split_once('=').unwrap_or((member, ""));
            let algorithm = match key.trim() {
                "sha-256" => Algorithm::Sha256,
                "sha-512" => Algorithm::Sha512,
                _ => continue,
            };
            // Behind the byte sequence there may be parameters.
            let encoded = value.strip_prefix(':').and_then(|value| value.split_once(':'));
            let (encoded, parameters) = encoded.ok_or(MALFORMED)?;
            let bytes = STANDARD.decode(encoded).map_err(|_| MALFORMED)?;
            if bytes.len() != algorithm.len()
                || !matches!(parameters.trim().chars().next(), None | Some(';'))
            {
                return Err(MALFORMED);
            }
            digests.push(Digest { algorithm, bytes: bytes.into() });
        }
        Ok(digests)
    }

    /// As a member of a dictionary.
    pub(crate) fn member(&self) -> String {
        format!("{}=:{}:", self.algorithm.key(), STANDARD.encode(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9530, section 3.
    const FIELD: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    fn read(lines: &[&str]) -> Result<Vec<Digest>, Status> {
        let lines = lines.iter().map(|line| line.as_bytes());
        Digest::read(lines).map_err(|(status, _)| status)
    }

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        let digests = read(&[FIELD]).unwrap();
        assert_eq!(digests[0].algorithm, Algorithm::Sha256);
        assert_eq!(digests[0].member(), FIELD);
        let both = format!("md5=:YQ==: , {FIELD};x=1,sha-512=:{}:", STANDARD.encode([7; 64]));
        let both = read(&["", &both, FIELD]).unwrap();
        assert_eq!(both.len(), 3);
        assert_eq!((both[1].algorithm, &both[1].bytes[..]), (Algorithm::Sha512, &[7; 64][..]));
        assert!(read(&["", "unixsum=:x:"]).unwrap().is_empty());
    }

    #[test]
    fn the_algorithm_that_is_liked_best_is_the_wanted_one() {
        let wanted = |line: &str| Algorithm::wanted(std::iter::once(line.as_bytes()));
        assert_eq!(wanted("sha-256=10"), Some(Algorithm::Sha256));
        assert_eq!(wanted("sha-256=3, sha-512=10;x, unixsum=10"), Some(Algorithm::Sha512));
        assert_eq!(wanted("sha-512=5,sha-256=5"), Some(Algorithm::Sha512));
        for none in ["", "sha-256", "sha-256=0", "sha-256=11", "sha-256=-1", "sha=1", "sha-256=?1"]
        {
            assert_eq!(wanted(none), None, "{none}");
        }
    }

    #[test]
    fn a_digest_that_cannot_be_read_is_not_passed_over() {
        for line in ["sha-256", "sha-256=abc", "sha-256=:YQ==:", "sha-512=:!:", "sha-256=:YQ=="] {
            assert_eq!(read(&[line]), Err(Status::BadRequest), "{line}");
        }
        assert_eq!(read(&[&format!("{FIELD}x")]), Err(Status::BadRequest));
    }
}
