//! HTTP/1.1 for a file server as pure functions over bytes: no socket, no file, no clock.
//!
//! The connection does what is left, in this order:
//!
//! ```text
//! receive ──> parse ──> begin ──> open ──> answer ──> send head, then the slice of the file
//!               │         │                  ▲
//!               │         └ Answered: no file is needed (405, 404 by policy, OPTIONS)
//!               └ Bad: refuse, then close
//! ```
//!
//! Every function that makes a response appends its head to a buffer, and with it the body if that
//! is a sentence of ours. What the [`Answer`] asks for beyond that is a slice of the file and
//! nothing else.

mod chunked;
mod conditional;
mod date;
mod facts;
mod fields;
mod integrity;
mod mime;
mod path;
mod range;
mod redirect;
mod request;
mod response;
mod status;
mod target;
pub(crate) mod tus;
pub(crate) mod upload;

use std::io;

pub(crate) use self::chunked::{ChunkedBody, Malformed};
pub(crate) use self::date::{Date, DateCache};
pub(crate) use self::facts::{FileFacts, FileState};
pub(crate) use self::integrity::{Algorithm, Digest};
pub(crate) use self::mime::ContentType;
pub(crate) use self::path::{PathPolicy, RelativePath, STAGING};
pub(crate) use self::redirect::to_https;
pub(crate) use self::request::{Body, HeadLimits, Method, Parsed, Request, Version, parse};
pub(crate) use self::status::Status;

use self::conditional::Outcome;
use self::range::Selection;
use self::response::{Head, Persistence};

/// The largest request body that is read and thrown away so that the connection can stay open, in
/// bytes.
pub(crate) const DRAINED_BODY_BYTES_MAX: u64 = 64 * 1024;

/// What a request is answered with. Its head, and its body if that is text, are in the buffer
/// already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// What of the file follows the head; none for HEAD, 304, errors and empty files.
    pub(crate) file: Option<FileSlice>,
    /// Bytes of body that stand in the buffer behind the head.
    pub(crate) text_bytes: u64,
    /// Whether the next request may follow. If not, the head says so and the connection must close.
    pub(crate) keep_alive: bool,
    /// Bytes of request body behind the request head, to be thrown away before the next request.
    pub(crate) drain_bytes: u64,
}

/// A part of a file, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSlice {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// What a request needs before it can be answered.
#[derive(Debug)]
pub(crate) enum Begun<'b> {
    /// What the path names: open it, then [`answer`].
    Open(RelativePath<'b>),
    /// Nothing: send the buffer.
    Answered(Answer),
}

/// What opening a path came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'f> {
    /// A regular file.
    File(&'f FileFacts),
    /// A folder without an index.
    Folder,
    /// A folder, and the file in it that stands for it, such as `index.html`.
    Index(&'f FileFacts),
    /// Nothing, or nothing that may be seen: 404.
    Missing,
    /// A file that the daemon may not read, or neither file nor folder: 403.
    Forbidden,
    /// The host has run out of descriptors or memory: 503, to be tried again.
    Exhausted,
    /// The file system failed: 500.
    Failed,
}

impl Found<'_> {
    /// Sorts the errors of `openat2(2)`.
    pub(crate) fn from_open_error(error: &io::Error) -> Found<'static> {
        /// `ErrorKind` has no stable names for these. The few architectures that number `ELOOP`
        /// otherwise answer a loop of symbolic links with 500 instead of 404.
        const ENXIO: i32 = 6;
        const ENODEV: i32 = 19;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ELOOP: i32 = 40;
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
            // A symbolic link that leads out of the root.
            | io::ErrorKind::CrossesDevices => Found::Missing,
            io::ErrorKind::PermissionDenied => Found::Forbidden,
            io::ErrorKind::OutOfMemory => Found::Exhausted,
            _ => match error.raw_os_error() {
                Some(ENFILE | EMFILE) => Found::Exhausted,
                Some(ELOOP) => Found::Missing,
                // A socket, or a device that is not there.
                Some(ENXIO | ENODEV) => Found::Forbidden,
                _ => Found::Failed,
            },
        }
    }
}

/// Answers what needs no file, or says which path is to be opened.
pub(crate) fn begin<'b>(
    request: &Request<'b>,
    policy: PathPolicy,
    date: &Date,
    out: &mut Vec<u8>,
) -> Begun<'b> {
    let reply = Reply::to(request, date, out);
    Begun::Answered(match request.method {
        Method::Options if policy.writable => {
            reply.head(Status::NoContent, |head| tus::announced(head.allow(true)))
        }
        Method::Options => reply.head(Status::NoContent, |head| head.allow(false)),
        Method::NotAllowed | Method::Put | Method::Post | Method::Patch | Method::Delete => {
            let sentence = "Files here are for GET and HEAD.";
            reply.text(Status::MethodNotAllowed, sentence, |head| head.allow(policy.writable))
        }
        Method::NotImplemented => {
            reply.text(Status::NotImplemented, "This method is not known here.", |head| head)
        }
        Method::Get | Method::Head => match RelativePath::resolve(request.origin, policy) {
            Ok(path) => return Begun::Open(path),
            Err((status, reason)) => reply.text(status, reason, |head| head),
        },
    })
}

/// Answers a GET or HEAD once it is known what its path names, and with the digest of that if it was
/// computed.
pub(crate) fn answer(
    request: &Request<'_>,
    path: &RelativePath<'_>,
    (found, digest): (Found<'_>, Option<&Digest>),
    date: &Date,
    out: &mut Vec<u8>,
) -> Answer {
    let reply = Reply { digest, ..Reply::to(request, date, out) };
    match found {
        Found::File(facts) if !path.trailing_slash() => answer_file(request, facts, reply),
        Found::File(_) | Found::Missing => {
            reply.text(Status::NotFound, path::NO_SUCH_FILE, |head| head)
        }
        Found::Index(facts) if path.trailing_slash() => answer_file(request, facts, reply),
        Found::Folder if path.trailing_slash() => {
            reply.text(Status::Forbidden, "This folder is not listed.", |head| head)
        }
        // Only from the slash on do the relative links of an index lead into its folder.
        Found::Folder | Found::Index(_) => {
            let sentence = "This folder is found with a slash at its end.";
            reply.text(Status::MovedPermanently, sentence, |head| head.location(path))
        }
        Found::Forbidden => {
            reply.text(Status::Forbidden, "This file may not be read.", |head| head)
        }
        Found::Exhausted => {
            reply.text(Status::ServiceUnavailable, "Too busy; try again.", |head| {
                head.field("Retry-After", b"1")
            })
        }
        Found::Failed => {
            reply.text(Status::InternalServerError, "The file cannot be read.", |head| head)
        }
    }
}

/// Makes the last response of a connection whose request cannot be read or did not come in time.
pub(crate) fn refuse(status: Status, reason: &str, date: &Date, out: &mut Vec<u8>) -> Answer {
    let reply = Reply {
        date,
        out,
        persistence: Persistence::Close,
        drain_bytes: 0,
        to_head: false,
        digest: None,
    };
    reply.text(status, reason, |head| head)
}

fn answer_file(request: &Request<'_>, facts: &FileFacts, reply: Reply<'_>) -> Answer {
    match conditional::evaluate(request, facts) {
        Outcome::NotModified => {
            return reply
                .head(Status::NotModified, |head| head.field("ETag", facts.etag.as_bytes()));
        }
        Outcome::PreconditionFailed => {
            let sentence = "The file is not the one that was meant.";
            return reply.text(Status::PreconditionFailed, sentence, |head| head);
        }
        Outcome::Proceed => {}
    }
    let selection = conditional::applicable_range(request, facts, reply.date)
        .map_or(Selection::Whole, |range| range::select(range, facts.len));
    match selection {
        Selection::Whole => reply.file(Status::Ok, 0, facts.len, facts),
        Selection::Part { start, len } => reply.file(Status::PartialContent, start, len, facts),
        Selection::Unsatisfiable => {
            let sentence = "The file does not reach as far as the range.";
            reply.text(Status::RangeNotSatisfiable, sentence, |head| {
                head.unsatisfied_range(facts.len).field("Accept-Ranges", b"bytes")
            })
        }
    }
}

/// What all responses to one request have in common.
struct Reply<'a> {
    date: &'a Date,
    out: &'a mut Vec<u8>,
    persistence: Persistence,
    drain_bytes: u64,
    to_head: bool,
    /// Of the whole file.
    digest: Option<&'a Digest>,
}

impl<'a> Reply<'a> {
    /// Decides whether the connection can outlive the response.
    ///
    /// A body stands between this request and the next. A small one is thrown away; a large one, or
    /// one of unknown length, is not worth reading. A client that waits for `100 Continue` is
    /// answered at once and may or may not send the body then (RFC 9110, section 10.1.1), so that
    /// only closing is clear.
    fn to(request: &Request<'_>, date: &'a Date, out: &'a mut Vec<u8>) -> Reply<'a> {
        let drain_bytes = match request.body {
            Body::None => Some(0),
            Body::Length(length) => Some(length)
                .filter(|&length| length <= DRAINED_BODY_BYTES_MAX && !request.expects_continue),
            Body::Chunked => None,
        };
        let persistence = match (request.keep_alive && drain_bytes.is_some(), request.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::Stated,
            (true, Version::Http11) => Persistence::Implied,
        };
        let to_head = request.method == Method::Head;
        Reply {
            date,
            out,
            persistence,
            drain_bytes: drain_bytes.unwrap_or(0),
            to_head,
            digest: None,
        }
    }

    /// A response without a body.
    fn head(
        self,
        status: Status,
        fields: impl for<'o, 'd> FnOnce(Head<'o, 'd>) -> Head<'o, 'd>,
    ) -> Answer {
        let answer = self.answer(status);
        fields(Head::begin(self.out, status, self.date, self.persistence)).finish();
        answer
    }

    /// A response whose body is one sentence.
    fn text(
        self,
        status: Status,
        sentence: &str,
        fields: impl for<'o, 'd> FnOnce(Head<'o, 'd>) -> Head<'o, 'd>,
    ) -> Answer {
        let answer = self.answer(status);
        let head = fields(Head::begin(self.out, status, self.date, self.persistence));
        Answer { text_bytes: head.text(sentence, self.to_head), ..answer }
    }

    /// A response whose body is a part of a file or all of it.
    fn file(self, status: Status, start: u64, len: u64, facts: &FileFacts) -> Answer {
        let answer = self.answer(status);
        let mut head = Head::begin(self.out, status, self.date, self.persistence)
            .describe(facts)
            .content_length(len);
        if status == Status::PartialContent {
            head = head.content_range(start, len, facts.len);
        }
        if let Some(digest) = self.digest {
            head = head.field("Repr-Digest", digest.member().as_bytes());
        }
        head.finish();
        let sent = len > 0 && !self.to_head;
        Answer { file: sent.then_some(FileSlice { start, len }), ..answer }
    }

    fn answer(&self, status: Status) -> Answer {
        Answer {
            status,
            file: None,
            text_bytes: 0,
            keep_alive: self.persistence != Persistence::Close,
            drain_bytes: self.drain_bytes,
        }
    }
}

#[cfg(test)]
mod tests;
