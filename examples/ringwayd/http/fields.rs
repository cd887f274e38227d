//! The header fields that a file server heeds, gathered in one pass over a head.

use super::request::{Body, Refusal};
use super::status::Status;
use super::target::is_authority;

/// The values of one head; fields that are not named here are not looked at.
#[derive(Debug, Default)]
pub(super) struct Fields<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) content_length: Option<&'b [u8]>,
    pub(super) transfer_encoding: Option<&'b [u8]>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expect: Option<&'b [u8]>,
    pub(super) range: Option<&'b [u8]>,
    pub(super) if_range: Option<&'b [u8]>,
    pub(super) if_match: Lines<'b>,
    pub(super) if_none_match: Lines<'b>,
    pub(super) if_modified_since: Option<&'b [u8]>,
    pub(super) if_unmodified_since: Option<&'b [u8]>,
    pub(super) referer: Option<&'b [u8]>,
    pub(super) user_agent: Option<&'b [u8]>,
}

impl<'b> Fields<'b> {
    /// Sorts the lines of a head; a field that may stand once must not stand twice.
    pub(super) fn read(lines: &[httparse::Header<'b>]) -> Result<Fields<'b>, Refusal> {
        let mut fields = Fields::default();
        for line in lines {
            fields.take(line.name, line.value)?;
        }
        if fields.host.is_some_and(|host| !is_authority(host)) {
            return Err((Status::BadRequest, "The Host field is malformed."));
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, value: &'b [u8]) -> Result<(), Refusal> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        let once = if is("host") {
            &mut self.host
        } else if is("content-length") {
            &mut self.content_length
        } else if is("transfer-encoding") {
            &mut self.transfer_encoding
        } else if is("expect") {
            &mut self.expect
        } else if is("range") {
            &mut self.range
        } else if is("if-range") {
            &mut self.if_range
        } else if is("if-modified-since") {
            &mut self.if_modified_since
        } else if is("if-unmodified-since") {
            &mut self.if_unmodified_since
        } else {
            if is("connection") {
                self.read_connection(value);
            } else if is("if-match") {
                self.if_match.push(value);
            } else if is("if-none-match") {
                self.if_none_match.push(value);
            } else if is("referer") {
                self.referer = Some(value);
            } else if is("user-agent") {
                self.user_agent = Some(value);
            }
            return Ok(());
        };
        match once.replace(value) {
            None => Ok(()),
            Some(_) => Err((Status::BadRequest, "A header field that may stand once is repeated.")),
        }
    }

    fn read_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// The framing (RFC 9112, section 6.3). Two ways to frame one body are how requests are
    /// smuggled.
    pub(super) fn body(&self) -> Result<Body, Refusal> {
        match (self.content_length, self.transfer_encoding) {
            (None, None) => Ok(Body::None),
            (Some(_), Some(_)) => Err((
                Status::BadRequest,
                "Content-Length and Transfer-Encoding exclude each other.",
            )),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
            (None, Some(_)) => {
                Err((Status::NotImplemented, "The only transfer coding known here is chunked."))
            }
            (Some(digits), None) => match length(digits) {
                Some(0) => Ok(Body::None),
                Some(length) => Ok(Body::Length(length)),
                None => Err((Status::BadRequest, "The Content-Length field is malformed.")),
            },
        }
    }
}

/// Digits only: no sign, no list of equal numbers, nothing past 64 bits.
fn length(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The lines of a list field in order; a list may be spread over several (RFC 9110, section 5.3).
///
/// The first line takes no memory, and only a client that repeats the field makes this allocate.
#[derive(Debug, Default)]
pub(crate) struct Lines<'b> {
    first: Option<&'b [u8]>,
    more: Vec<&'b [u8]>,
}

impl<'b> Lines<'b> {
    pub(crate) fn push(&mut self, line: &'b [u8]) {
        match self.first {
            None => self.first = Some(line),
            Some(_) => self.more.push(line),
        }
    }

    /// Whether the field is absent.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'b [u8]> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}
