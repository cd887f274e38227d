//! The head of an answer (RFC 9112), and how its body is framed. Pure.

use httparse::{EMPTY_HEADER, Status};

/// Bytes of a head, at most: the worst case of memory per connection that waits for an answer.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of a head, at most.
const FIELDS_MAX: usize = 128;

/// What the beginning of a stream holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not all of a head yet.
    Partial,
    /// A head, and the bytes that it took.
    Complete(Head, usize),
}

/// Bytes that are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    http_10: bool,
    fields: Vec<(String, String)>,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Looks for a head at the beginning of `bytes`.
///
/// # Errors
///
/// [`Malformed`] if no bytes behind these could make them one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(Status::Partial) if bytes.len() >= HEAD_BYTES_MAX => {
            Err(Malformed("its head has more than 64 KiB"))
        }
        Ok(Status::Partial) => Ok(Parsed::Partial),
        Ok(Status::Complete(consumed)) => {
            let owned = |field: &httparse::Header<'_>| {
                let value = String::from_utf8_lossy(field.value).trim().to_owned();
                (field.name.to_ascii_lowercase(), value)
            };
            let head = Head {
                status: response.code.unwrap_or_default(),
                http_10: response.version == Some(0),
                fields: response.headers.iter().map(owned).collect(),
            };
            if !(100..=999).contains(&head.status) {
                return Err(Malformed("its status is none"));
            }
            Ok(Parsed::Complete(head, consumed))
        }
        Err(httparse::Error::TooManyHeaders) => Err(Malformed("its head has more than 128 fields")),
        Err(_) => Err(Malformed("it does not speak HTTP/1.1")),
    }
}

impl Head {
    /// The value of a field that stands once; the first, if it stands several times.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All values of a field, whose name is written in small letters.
    pub(crate) fn values<'h>(
        &'h self,
        name: &'static str,
    ) -> impl Iterator<Item = &'h str> + use<'h> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether another answer will follow this one.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether the connection may be used again once the body was read.
    pub(crate) fn keeps_alive(&self) -> bool {
        let says = |word: &str| {
            let mut tokens = self.values("connection").flat_map(|value| value.split(','));
            tokens.any(|token| token.trim().eq_ignore_ascii_case(word))
        };
        if self.http_10 { says("keep-alive") } else { !says("close") }
    }

    /// Where the body ends (RFC 9112, section 6.3); `to_head` if a HEAD was asked.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where two readers could see two different ends.
    pub(crate) fn framing(&self, to_head: bool) -> Result<Framing, Malformed> {
        if to_head || self.is_interim() || matches!(self.status, 204 | 304) {
            return Ok(Framing::None);
        }
        let coded = self.values("transfer-encoding").flat_map(|value| value.split(','));
        if let Some(last) = coded.map(str::trim).filter(|coding| !coding.is_empty()).last() {
            if self.http_10 {
                return Err(Malformed("its HTTP/1.0 answer has a Transfer-Encoding"));
            }
            if self.field("content-length").is_some() {
                return Err(Malformed("its answer has a Content-Length and a Transfer-Encoding"));
            }
            let chunked = last.eq_ignore_ascii_case("chunked");
            return Ok(if chunked { Framing::Chunked } else { Framing::Close });
        }
        let mut lengths = self.values("content-length").flat_map(|value| value.split(','));
        let Some(first) = lengths.next().map(str::trim) else { return Ok(Framing::Close) };
        if lengths.any(|other| other.trim() != first) {
            return Err(Malformed("its answer has two different lengths"));
        }
        let digits = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
        match first.parse() {
            Ok(length) if digits => Ok(Framing::Length(length)),
            _ => Err(Malformed("its answer has a Content-Length that is no number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        match parse(text.as_bytes()).unwrap() {
            Parsed::Complete(head, consumed) => {
                assert_eq!(consumed, text.len());
                head
            }
            Parsed::Partial => panic!("partial: {text:?}"),
        }
    }

    fn framing(fields: &str) -> Result<Framing, Malformed> {
        head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).framing(false)
    }

    #[test]
    fn a_head_is_found_whole_and_at_no_earlier_byte() {
        let text = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\nX: y\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), Ok(Parsed::Partial), "{end}");
        }
        let head = head(text);
        assert_eq!((head.status, head.field("content-length")), (201, Some("5")));
    }

    #[test]
    fn bodies_end_as_the_rfc_says() {
        assert_eq!(framing("Content-Length: 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("Content-Length: 7, 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(framing("Transfer-Encoding: gzip\r\n"), Ok(Framing::Close));
        assert_eq!(framing(""), Ok(Framing::Close));
        let none = head("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(none.framing(false), Ok(Framing::None));
        let asked = head("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(asked.framing(true), Ok(Framing::None));
    }

    #[test]
    fn a_body_with_two_ends_is_malformed() {
        for fields in [
            "Content-Length: 7\r\nContent-Length: 8\r\n",
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
        ] {
            assert!(framing(fields).is_err(), "{fields}");
        }
        let old = head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(old.framing(false).is_err());
    }

    #[test]
    fn a_connection_is_kept_as_both_versions_say() {
        let kept = |text: &str| head(text).keeps_alive();
        assert!(kept("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n"));
        assert!(!kept("HTTP/1.0 200 OK\r\n\r\n"));
        assert!(kept("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_is_no_answer_and_what_never_ends_is_malformed() {
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse(b"\x15\x03\x01\x00\x02").is_err());
        let mut endless = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        endless.resize(HEAD_BYTES_MAX, b'a');
        assert!(parse(&endless).is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        assert!(parse(many.as_bytes()).is_err());
    }
}
