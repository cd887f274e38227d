//! The head of a PUT (RFC 9110, section 9.3.4). Pure.

use std::fmt::Write;

use crate::cli::client::Header;
use crate::client::digest::Sha256;
use crate::client::secret::Token;
use crate::client::url::Url;

/// What a PUT says before its body.
pub(crate) struct Put<'p> {
    pub(crate) url: &'p Url,
    pub(crate) length: u64,
    pub(crate) digest: Option<&'p Sha256>,
    pub(crate) token: Option<&'p Token>,
    pub(crate) headers: &'p [Header],
    /// Asks whether the body is wanted (RFC 9110, section 10.1.1).
    pub(crate) expect: bool,
}

impl Put<'_> {
    /// The head, with its empty line.
    pub(crate) fn head(&self) -> String {
        let mut head = format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ringwayd/{}\r\nAccept: */*\r\n\
             Content-Length: {}\r\n",
            self.url.target(),
            self.url.host_field(),
            env!("CARGO_PKG_VERSION"),
            self.length
        );
        // Writing to a String does not fail.
        if let Some(digest) = self.digest {
            _ = write!(head, "Repr-Digest: {}\r\nWant-Repr-Digest: sha-256=10\r\n", digest.field());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_is_known_and_no_more() {
        let url = Url::parse("http://a:81/b?c=d").unwrap();
        let mut put =
            Put { url: &url, length: 7, digest: None, token: None, headers: &[], expect: false };
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
}
