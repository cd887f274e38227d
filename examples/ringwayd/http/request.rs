//! One request head, read strictly (RFC 9112), borrowed from the receive buffer without allocating.
//!
//! What two readers could understand in two ways is refused with a reason, and the connection has
//! to close then, because nobody knows where the next request would begin. One leniency is kept,
//! which the RFC allows: a line may end in a bare LF, and empty lines before the request are
//! skipped.

use std::mem::MaybeUninit;

use super::fields::{Fields, Lines};
use super::status::Status;
use super::target;
use super::tus;
use super::upload::{self, UploadFields};

/// How large a request head may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Bytes of the whole head, request line included; a larger one is 431. Default 16 KiB. The
    /// caller's receive buffer must hold as much, so this is the worst case per connection that is
    /// sending a head.
    pub(crate) head_bytes_max: usize,
    /// Bytes of the target; a longer one is 414. Default 8 KiB; lies within the head.
    pub(crate) target_bytes_max: usize,
}

impl HeadLimits {
    /// So many bytes for the head, and for the target as many of them as it may have by default.
    pub(crate) fn for_head_bytes(head_bytes_max: usize) -> HeadLimits {
        HeadLimits { head_bytes_max, target_bytes_max: head_bytes_max.min(8 * 1024) }
    }
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits::for_head_bytes(16 * 1024)
    }
}

/// Lines in one head; more are 431. Costs 3.2 KiB of stack while a head is parsed, and no heap.
const FIELD_LINES_MAX: usize = 100;

/// What a buffer holds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would be the allocation this parser avoids")]
pub(crate) enum Parsed<'b> {
    /// The beginning of a head: receive more and parse again.
    Partial,
    /// A head of `consumed` bytes; what follows is the body or the next request.
    Complete { request: Request<'b>, consumed: usize },
    /// No acceptable request: answer with this status and sentence, then close.
    Bad(Status, &'static str),
}

/// A request head whose framing is unambiguous.
#[derive(Debug)]
pub(crate) struct Request<'b> {
    pub(crate) method: Method,
    /// The method as it was sent, for the log.
    pub(crate) method_text: &'b str,
    pub(crate) version: Version,
    /// The target as it was sent, for the log.
    pub(crate) target: &'b str,
    /// The origin form of the target: path and query, without scheme and authority.
    pub(crate) origin: &'b str,
    /// Whom the client takes us for, with the port if it names one: from the target, or else by `Host`.
    pub(crate) authority: Option<&'b str>,
    /// What follows the head.
    pub(crate) body: Body,
    /// Whether version and `Connection` let the connection live on after the response.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    pub(crate) range: Option<&'b [u8]>,
    pub(crate) if_range: Option<&'b [u8]>,
    pub(crate) if_match: Lines<'b>,
    pub(crate) if_none_match: Lines<'b>,
    pub(crate) if_modified_since: Option<&'b [u8]>,
    pub(crate) if_unmodified_since: Option<&'b [u8]>,
    pub(crate) referer: Option<&'b [u8]>,
    pub(crate) user_agent: Option<&'b [u8]>,
    /// What only a request that brings a file has, or one that asks whether it is there.
    pub(crate) upload: Option<Box<UploadFields<'b>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Options,
    /// Served where files may be written, like the three that follow.
    Put,
    Post,
    Patch,
    Delete,
    /// A method of RFC 9110 or 5789 that no file here supports: 405.
    NotAllowed,
    /// A method that nobody here has heard of: 501.
    NotImplemented,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

impl Version {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// The framing of the body that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    /// So many bytes, never zero.
    Length(u64),
    Chunked,
}

/// Reads the head at the start of `buffer`.
///
/// A head that arrives in pieces is read again from its start with each piece; the limits bound
/// that work, and the header timeout of the connection bounds how often a slow client can cause it.
pub(crate) fn parse<'b>(buffer: &'b [u8], limits: &HeadLimits) -> Parsed<'b> {
    match try_parse(buffer, limits) {
        Ok(None) => Parsed::Partial,
        Ok(Some((request, consumed))) => Parsed::Complete { request, consumed },
        Err((status, reason)) => Parsed::Bad(status, reason),
    }
}

/// Why a request is refused: the status and one sentence for the client.
pub(super) type Refusal = (Status, &'static str);

const URI_TOO_LONG: Refusal = (Status::UriTooLong, "The request target is too long.");
const HEAD_TOO_LARGE: Refusal = (Status::HeaderFieldsTooLarge, "The request head is too large.");

fn try_parse<'b>(
    buffer: &'b [u8],
    limits: &HeadLimits,
) -> Result<Option<(Request<'b>, usize)>, Refusal> {
    let within = &buffer[..buffer.len().min(limits.head_bytes_max)];
    let mut storage = [const { MaybeUninit::uninit() }; FIELD_LINES_MAX];
    let mut head = httparse::Request::new(&mut []);
    let status = head.parse_with_uninit_headers(within, &mut storage).map_err(refusal_of)?;
    let (Some(method), Some(target)) = (head.method, head.path) else {
        return partial_request_line(within, limits);
    };
    if target.len() > limits.target_bytes_max {
        return Err(URI_TOO_LONG);
    }
    let httparse::Status::Complete(consumed) = status else {
        return if within.len() == limits.head_bytes_max { Err(HEAD_TOO_LARGE) } else { Ok(None) };
    };
    let version = if head.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let fields = Fields::read(head.headers)?;
    let method = (method, Method::named(method));
    let mut request = accept(method, target, version, fields)?;
    let brings = match request.method {
        Method::Put | Method::Post | Method::Patch | Method::Delete => true,
        Method::Head => {
            let asks = |line: &httparse::Header<'_>| {
                line.name.eq_ignore_ascii_case(upload::WANT_REPR_DIGEST)
            };
            tus::is_upload(request.origin) || head.headers.iter().any(asks)
        }
        _ => false,
    };
    if brings {
        request.upload = Some(Box::new(UploadFields::read(head.headers)?));
    }
    Ok(Some((request, consumed)))
}

/// Judges the fields together; `method` is its text and its meaning.
fn accept<'b>(
    (method_text, method): (&'b str, Method),
    target: &'b str,
    version: Version,
    fields: Fields<'b>,
) -> Result<Request<'b>, Refusal> {
    if version == Version::Http11 && fields.host.is_none() {
        return Err((Status::BadRequest, "HTTP/1.1 requires a Host field."));
    }
    if version == Version::Http10 && fields.transfer_encoding.is_some() {
        return Err((Status::BadRequest, "HTTP/1.0 has no Transfer-Encoding."));
    }
    let expects_continue = match fields.expect {
        Some(value) if version == Version::Http11 => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err((Status::ExpectationFailed, "The expectation cannot be met."));
            }
            true
        }
        _ => false,
    };
    Ok(Request {
        method,
        method_text,
        version,
        target,
        origin: target::origin_form(method, target)?,
        // What stands in the target counts more (RFC 9112, section 3.2.2).
        authority: target::authority(target)
            .or_else(|| fields.host.and_then(|host| std::str::from_utf8(host).ok())),
        body: fields.body()?,
        keep_alive: !fields.close && (version == Version::Http11 || fields.keep_alive),
        expects_continue,
        range: fields.range,
        if_range: fields.if_range,
        if_match: fields.if_match,
        if_none_match: fields.if_none_match,
        if_modified_since: fields.if_modified_since,
        if_unmodified_since: fields.if_unmodified_since,
        referer: fields.referer,
        user_agent: fields.user_agent,
        upload: None,
    })
}

impl Method {
    /// Methods are case-sensitive (RFC 9110, section 9.1).
    fn named(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            "PUT" => Method::Put,
            "POST" => Method::Post,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            "TRACE" | "CONNECT" => Method::NotAllowed,
            _ => Method::NotImplemented,
        }
    }
}

/// Nothing is known yet but a method and the beginning of a target, whose end may never come.
fn partial_request_line<'b>(
    within: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(Request<'b>, usize)>, Refusal> {
    let target_bytes = match within.iter().position(|&byte| byte == b' ') {
        Some(space) => within.len() - space - 1,
        None => 0,
    };
    if target_bytes > limits.target_bytes_max {
        Err(URI_TOO_LONG)
    } else if within.len() == limits.head_bytes_max {
        Err(HEAD_TOO_LARGE)
    } else {
        Ok(None)
    }
}

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => {
            (Status::HeaderFieldsTooLarge, "The request has too many header fields.")
        }
        httparse::Error::Version => {
            (Status::VersionNotSupported, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        }
        httparse::Error::HeaderName => (Status::BadRequest, "A header field has a malformed name."),
        httparse::Error::HeaderValue => {
            (Status::BadRequest, "A header field has a malformed value.")
        }
        httparse::Error::NewLine => (Status::BadRequest, "A line ends in a bare carriage return."),
        httparse::Error::Token | httparse::Error::Status => {
            (Status::BadRequest, "The request line is malformed.")
        }
    }
}

#[cfg(test)]
mod tests;
