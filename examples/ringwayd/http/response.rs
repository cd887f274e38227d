//! Writes a response head into a buffer that is used again and again, without allocating.

use super::date::Date;
use super::facts::FileFacts;
use super::path::RelativePath;
use super::status::Status;

/// What is said about the life of the connection, which is only what the version does not imply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// HTTP/1.1 stays open: nothing is said.
    Implied,
    /// HTTP/1.0 stays open because it asked to.
    Stated,
    Close,
}

/// The methods that a file supports, for `Allow`; the second where files may be written.
const ALLOWED: &str = "GET, HEAD, OPTIONS";
const ALLOWED_WRITING: &str = "GET, HEAD, OPTIONS, PUT";

/// A response head in the making; [`finish`](Self::finish) or [`text`](Self::text) ends it.
#[derive(Debug)]
#[must_use = "a head without its empty line never ends"]
pub(crate) struct Head<'o, 'd> {
    out: &'o mut Vec<u8>,
    date: &'d Date,
}

impl<'o, 'd> Head<'o, 'd> {
    /// Appends the status line and the fields that every response has.
    pub(crate) fn begin(
        out: &'o mut Vec<u8>,
        status: Status,
        date: &'d Date,
        persistence: Persistence,
    ) -> Head<'o, 'd> {
        out.extend_from_slice(status.line().as_bytes());
        let head = Head { out, date }.field("Server", b"ringway").field("Date", date.text());
        match persistence {
            Persistence::Implied => head,
            Persistence::Stated => head.field("Connection", b"keep-alive"),
            Persistence::Close => head.field("Connection", b"close"),
        }
    }

    /// Appends one field. The caller vouches that the value holds no line end.
    pub(crate) fn field(mut self, name: &str, value: &[u8]) -> Self {
        debug_assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}");
        self.open(name);
        self.out.extend_from_slice(value);
        self.close()
    }

    pub(crate) fn content_length(mut self, length: u64) -> Self {
        self.open("Content-Length");
        push_decimal(self.out, length);
        self.close()
    }

    /// `bytes first-last/length`, for a part that is not empty.
    pub(crate) fn content_range(mut self, start: u64, len: u64, length: u64) -> Self {
        debug_assert!(len > 0);
        self.open("Content-Range");
        self.out.extend_from_slice(b"bytes ");
        push_decimal(self.out, start);
        self.out.push(b'-');
        push_decimal(self.out, start + (len - 1));
        self.out.push(b'/');
        push_decimal(self.out, length);
        self.close()
    }

    /// `bytes */length`, which tells a client of 416 what it could have asked for.
    pub(crate) fn unsatisfied_range(mut self, length: u64) -> Self {
        self.open("Content-Range");
        self.out.extend_from_slice(b"bytes */");
        push_decimal(self.out, length);
        self.close()
    }

    /// What a file is: type, validators, and that ranges of it can be had.
    pub(crate) fn describe(mut self, facts: &FileFacts) -> Self {
        self.open("Content-Type");
        self.out.extend_from_slice(facts.content_type.essence.as_bytes());
        if facts.content_type.utf8 {
            self.out.extend_from_slice(b"; charset=utf-8");
        }
        // A date after that of the response is not allowed (RFC 9110, section 8.8.2.1): a file from
        // the future was changed now.
        let modified = if facts.last_modified.second() > self.date.second() {
            *self.date
        } else {
            facts.last_modified
        };
        self.close()
            .field("ETag", facts.etag.as_bytes())
            .field("Last-Modified", modified.text())
            .field("Accept-Ranges", b"bytes")
            .field("X-Content-Type-Options", b"nosniff")
    }

    pub(crate) fn allow(self, writing: bool) -> Self {
        let allowed = if writing { ALLOWED_WRITING } else { ALLOWED };
        self.field("Allow", allowed.as_bytes())
    }

    /// Where the folder is that was asked for without its slash.
    pub(crate) fn location(mut self, path: &RelativePath<'_>) -> Self {
        self.open("Location");
        path.write_folder_target(self.out);
        self.close()
    }

    /// Where the same is by https: at this host and port, whose default is left out.
    pub(crate) fn location_by_https(mut self, host: &str, port: u16, origin: &str) -> Self {
        /// What HTTPS means without a word.
        const PORT_USUAL: u16 = 443;
        self.open("Location");
        self.out.extend_from_slice(b"https://");
        self.out.extend_from_slice(host.as_bytes());
        if port != PORT_USUAL {
            self.out.push(b':');
            push_decimal(self.out, port.into());
        }
        // `http://host?query` has no path.
        if !origin.starts_with('/') {
            self.out.push(b'/');
        }
        for &byte in origin.as_bytes() {
            // A field that is not ASCII is read in more than one way.
            if byte.is_ascii_graphic() {
                self.out.push(byte);
            } else {
                self.out.extend_from_slice(&percent_encoded(byte));
            }
        }
        self.close()
    }

    /// Ends the head with one sentence of plain text as the body, and says how many bytes of body
    /// it appended. A response to HEAD describes the text and leaves it out.
    pub(crate) fn text(self, sentence: &str, to_head: bool) -> u64 {
        let length = sentence.len() as u64 + 1;
        let head = self
            .field("Content-Type", b"text/plain; charset=utf-8")
            .field("X-Content-Type-Options", b"nosniff")
            .content_length(length);
        let out = head.end();
        if to_head {
            return 0;
        }
        out.extend_from_slice(sentence.as_bytes());
        out.push(b'\n');
        length
    }

    /// Ends the head; the body, if any, comes from elsewhere.
    pub(crate) fn finish(self) {
        self.end();
    }

    fn open(&mut self, name: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
    }

    fn close(self) -> Self {
        self.out.extend_from_slice(b"\r\n");
        self
    }

    fn end(self) -> &'o mut Vec<u8> {
        self.out.extend_from_slice(b"\r\n");
        self.out
    }
}

fn percent_encoded(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Appends a number in decimal.
fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    /// `u64::MAX` has twenty digits.
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] += (number % 10).to_le_bytes()[0];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for number in [0, 1, 9, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn head_of_an_error() {
        let date = Date::from_second(784_111_777);
        let mut out = Vec::new();
        let head = Head::begin(&mut out, Status::NotFound, &date, Persistence::Close);
        assert_eq!(head.text("Gone.", false), 6);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 404 Not Found\r\nServer: ringway\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Length: 6\r\n\r\nGone.\n"
        );
    }

    #[test]
    fn a_used_buffer_is_not_grown() {
        let date = Date::from_second(0);
        let mut out = Vec::with_capacity(512);
        let before = out.as_ptr();
        for _ in 0..100 {
            out.clear();
            let head = Head::begin(&mut out, Status::Ok, &date, Persistence::Stated);
            head.content_length(u64::MAX).content_range(0, u64::MAX, u64::MAX).finish();
        }
        assert_eq!(out.as_ptr(), before);
    }
}
