//! The heads of requests: a PUT (RFC 9110, section 9.3.4), and those of tus 1.0. Pure.

use std::fmt::Write;

use super::attempt::Method;
use crate::cli::client::Header;
use crate::client::digest::Sha256;
use crate::client::secret::Token;
use crate::client::url::Url;

/// What is said before a body.
pub(crate) struct Sending<'p> {
    pub(crate) url: &'p Url,
    pub(crate) method: Method,
    pub(crate) length: u64,
    pub(crate) digest: Option<&'p Sha256>,
    pub(crate) token: Option<&'p Token>,
    pub(crate) headers: &'p [Header],
    /// Asks whether the body is wanted (RFC 9110, section 10.1.1).
    pub(crate) expect: bool,
}

impl Sending<'_> {
    /// The head, with its empty line.
    pub(crate) fn head(&self) -> String {
        let method = match self.method {
            Method::Put => "PUT",
            Method::Patch { .. } => "PATCH",
        };
        let mut head = begin(method, self.url);
        // Writing to a String does not fail.
        _ = write!(head, "Content-Length: {}\r\n", self.length);
        if let Method::Patch { offset } = self.method {
            _ = write!(
                head,
                "{TUS}Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\n"
            );
        }
        if let (Some(digest), Method::Put) = (self.digest, self.method) {
            _ = write!(head, "Repr-Digest: {}\r\n", digest.field());
        }
        if self.digest.is_some() {
            head.push_str("Want-Repr-Digest: sha-256=10\r\n");
        }
        if let Some(token) = self.token {
            _ = write!(head, "Authorization: {}\r\n", token.field());
        }
        for Header { name, value } in self.headers {
            _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str(if self.expect { "Expect: 100-continue\r\n\r\n" } else { "\r\n" });
        head
    }
}

/// The head of a request of tus 1.0 that has no body.
pub(crate) fn small(
    method: &str,
    url: &Url,
    fields: &str,
    token: Option<&Token>,
    headers: &[Header],
) -> String {
    let mut head = begin(method, url) + TUS + fields;
    if let Some(token) = token {
        // Writing to a String does not fail.
        _ = write!(head, "Authorization: {}\r\n", token.field());
    }
    for Header { name, value } in headers {
        _ = write!(head, "{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// Says which version of the protocol is spoken.
const TUS: &str = "Tus-Resumable: 1.0.0\r\n";

fn begin(method: &str, url: &Url) -> String {
    format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ringwayd/{}\r\nAccept: */*\r\n",
        url.target(),
        url.host_field(),
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_is_known_and_no_more() {
        let url = Url::parse("http://a:81/b?c=d").unwrap();
        let mut put = Sending {
            url: &url,
            method: Method::Put,
            length: 7,
            digest: None,
            token: None,
            headers: &[],
            expect: false,
        };
        let head = put.head();
        assert!(head.starts_with("PUT /b?c=d HTTP/1.1\r\nHost: a:81\r\n"), "{head}");
        assert!(head.ends_with("Content-Length: 7\r\n\r\n"), "{head}");
        let digest = Sha256([0; 32]);
        let header: Header = "If-None-Match: *".parse().unwrap();
        put.digest = Some(&digest);
        put.headers = std::slice::from_ref(&header);
        put.expect = true;
        let head = put.head();
        assert!(head.contains("\r\nRepr-Digest: sha-256=:AAAA"), "{head}");
        assert!(head.contains("\r\nWant-Repr-Digest: sha-256=10\r\n"), "{head}");
        assert!(head.contains("\r\nif-none-match: *\r\n"), "{head}");
        assert!(head.ends_with("\r\nExpect: 100-continue\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_part_says_where_it_begins_and_has_no_digest_of_the_whole() {
        let url = Url::parse("http://a/b").unwrap();
        let digest = Sha256([0; 32]);
        let part = Sending {
            url: &url,
            method: Method::Patch { offset: 5 },
            length: 7,
            digest: Some(&digest),
            token: None,
            headers: &[],
            expect: false,
        };
        let head = part.head();
        for field in ["PATCH /b ", "Upload-Offset: 5\r\n", TUS, "Content-Length: 7\r\n"] {
            assert!(head.contains(field), "{head}");
        }
        assert!(!head.contains("\r\nRepr-Digest"), "{head}");
        let asked = small("HEAD", &url, "", None, &[]);
        assert!(asked.starts_with("HEAD /b HTTP/1.1\r\n") && asked.contains(TUS), "{asked}");
        assert!(asked.ends_with("\r\n\r\n") && !asked.contains("Content-Length"), "{asked}");
    }
}
