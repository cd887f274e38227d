//! A request that brings a file: what it asks for, judged before its body is read, and its answer.

use super::conditional::{self, Conditions};
use super::facts::ETag;
use super::integrity::{Algorithm, Digest};
use super::path::{PathPolicy, RelativePath};
use super::request::{Body, Method, Refusal, Request, Version};
use super::response::{Head, Persistence};
use super::status::Status;
use super::tus::TusFields;
use super::{Answer, DRAINED_BODY_BYTES_MAX, Date, FileFacts};

/// The field that asks for the digest of a file (RFC 9530, section 4).
pub(super) const WANT_REPR_DIGEST: &str = "want-repr-digest";

/// The fields that only such a request has; read for its methods alone, so that no other pays for it.
#[derive(Debug, Default)]
pub(crate) struct UploadFields<'b> {
    authorization: Option<&'b [u8]>,
    content_range: bool,
    content_encoding: Option<&'b [u8]>,
    digests: Vec<&'b [u8]>,
    wanted: Vec<&'b [u8]>,
    tus: TusFields<'b>,
}

impl<'b> UploadFields<'b> {
    pub(super) fn read(lines: &[httparse::Header<'b>]) -> Result<UploadFields<'b>, Refusal> {
        let mut fields = UploadFields::default();
        for line in lines {
            let is = |wanted: &str| line.name.eq_ignore_ascii_case(wanted);
            if is("repr-digest") || is("content-digest") {
                fields.digests.push(line.value);
            } else if is(WANT_REPR_DIGEST) {
                fields.wanted.push(line.value);
            } else if is("content-range") {
                fields.content_range = true;
            } else if is("content-encoding") {
                fields.content_encoding = Some(line.value);
            } else if is("authorization") && fields.authorization.replace(line.value).is_some() {
                return Err((Status::BadRequest, "The Authorization field is repeated."));
            }
            fields.tus.take(line.name, line.value);
        }
        Ok(fields)
    }

    pub(super) fn tus(&self) -> &TusFields<'b> {
        &self.tus
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = &'b [u8]> {
        self.digests.iter().copied()
    }
}

/// What a PUT asks for. It owns everything: the buffer of its head is needed for its body.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Below the root, canonical, never empty.
    pub(crate) path: Box<[u8]>,
    pub(crate) body: Body,
    pub(crate) digests: Vec<Digest>,
    pub(crate) conditions: Conditions,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    version: Version,
    keep_alive: bool,
}

/// How the connection goes on after a request with a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequel {
    version: Version,
    keep_alive: bool,
    /// The body if it was not read: thrown away if it is small, and else the connection ends.
    pub(crate) unread: Body,
    expects_continue: bool,
    to_head: bool,
}

impl Sequel {
    pub(crate) fn of(request: &Request<'_>) -> Sequel {
        Sequel {
            version: request.version,
            keep_alive: request.keep_alive,
            unread: request.body,
            expects_continue: request.expects_continue,
            to_head: request.method == Method::Head,
        }
    }

    /// After the whole body was read.
    pub(crate) fn after_body(self) -> Sequel {
        Sequel { unread: Body::None, expects_continue: false, ..self }
    }

    /// Nobody knows where the next request begins.
    pub(crate) fn at_the_end(self) -> Sequel {
        Sequel { keep_alive: false, ..self }
    }

    /// The answer describes its text and leaves it out.
    pub(super) fn to_head(self) -> bool {
        self.to_head
    }

    fn drain_bytes(self) -> Option<u64> {
        match self.unread {
            Body::None => Some(0),
            Body::Length(length) => Some(length)
                .filter(|&length| length <= DRAINED_BODY_BYTES_MAX && !self.expects_continue),
            Body::Chunked => None,
        }
    }

    pub(super) fn persistence(self) -> Persistence {
        match (self.keep_alive && self.drain_bytes().is_some(), self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::Stated,
            (true, Version::Http11) => Persistence::Implied,
        }
    }

    pub(super) fn answer(self, status: Status) -> Answer {
        Answer {
            status,
            file: None,
            text_bytes: 0,
            keep_alive: self.persistence() != Persistence::Close,
            drain_bytes: self.drain_bytes().unwrap_or(0),
        }
    }
}

/// The token in `Authorization: Bearer …` (RFC 6750).
pub(crate) fn bearer<'b>(request: &Request<'b>) -> Option<&'b [u8]> {
    let value = request.upload.as_ref()?.authorization?;
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// The digest that a HEAD asks for.
pub(crate) fn wanted_digest(request: &Request<'_>) -> Option<Algorithm> {
    let fields = request.upload.as_deref().filter(|_| request.method == Method::Head)?;
    Algorithm::wanted(fields.wanted.iter().copied())
}

/// Judges a PUT as far as its head tells. `body_bytes_max` bounds the body.
pub(crate) fn judge(
    request: &Request<'_>,
    policy: PathPolicy,
    body_bytes_max: u64,
) -> Result<Upload, Refusal> {
    let path = RelativePath::resolve(request.origin, policy)?;
    if path.trailing_slash() || path.as_bytes().is_empty() {
        return Err((Status::Conflict, "This names a folder, and files are what can be put."));
    }
    let fields = request.upload.as_deref();
    if fields.is_some_and(|fields| fields.content_range) {
        return Err((Status::BadRequest, "A part of a file cannot be put."));
    }
    let coding = fields.and_then(|fields| fields.content_encoding);
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        let sentence = "Files are stored as they are: send this one without a content coding.";
        return Err((Status::UnsupportedMediaType, sentence));
    }
    if matches!(request.body, Body::Length(length) if length > body_bytes_max) {
        return Err((Status::ContentTooLarge, "The file is larger than is allowed here."));
    }
    let lines = fields.map_or(&[][..], |fields| &fields.digests);
    Ok(Upload {
        digests: Digest::read(lines.iter().copied())?,
        conditions: Conditions::of(request),
        body: request.body,
        expects_continue: request.expects_continue,
        version: request.version,
        keep_alive: request.keep_alive,
        path: path.as_bytes().into(),
    })
}

impl Upload {
    /// What a resumable upload comes to in the end.
    pub(crate) fn of_path(path: Box<[u8]>, body: Body, digests: Vec<Digest>) -> Upload {
        Upload {
            path,
            body,
            digests,
            conditions: Conditions::default(),
            expects_continue: false,
            version: Version::Http11,
            keep_alive: true,
        }
    }

    pub(crate) fn sequel(&self) -> Sequel {
        Sequel {
            version: self.version,
            keep_alive: self.keep_alive,
            unread: self.body,
            expects_continue: self.expects_continue,
            to_head: false,
        }
    }

    /// Whether the conditions hold for what has the name now.
    pub(crate) fn conditions_hold(&self, current: Option<&FileFacts>) -> bool {
        conditional::holds_for_writing(&self.conditions, current)
    }
}

/// The interim answer to `Expect: 100-continue`.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Answers a PUT that has stored its file. `digests` are those that were computed.
pub(crate) fn stored(
    sequel: Sequel,
    created: bool,
    etag: &ETag,
    digests: &[Digest],
    date: &Date,
    out: &mut Vec<u8>,
) -> Answer {
    let status = if created { Status::Created } else { Status::NoContent };
    let mut head = Head::begin(out, status, date, sequel.persistence());
    head = head.field("ETag", etag.as_bytes());
    if !digests.is_empty() {
        let members: Vec<String> = digests.iter().map(Digest::member).collect();
        head = head.field("Repr-Digest", members.join(", ").as_bytes());
    }
    if created {
        // 204 has no body by its nature, and must not say so.
        head = head.content_length(0);
    }
    head.finish();
    sequel.answer(status)
}

/// Answers one that has not.
pub(crate) fn refused(
    sequel: Sequel,
    (status, sentence): Refusal,
    date: &Date,
    out: &mut Vec<u8>,
) -> Answer {
    let answer = sequel.answer(status);
    let mut head = Head::begin(out, status, date, sequel.persistence());
    head = match status {
        Status::Unauthorized => head.field("WWW-Authenticate", b"Bearer realm=\"ringway\""),
        Status::ServiceUnavailable => head.field("Retry-After", b"1"),
        Status::BadRequest => head.field("Want-Repr-Digest", b"sha-256=10, sha-512=5"),
        _ => head,
    };
    Answer { text_bytes: head.text(sentence, false), ..answer }
}

#[cfg(test)]
mod tests {
    use super::super::facts::FileState;
    use super::super::mime::ContentType;
    use super::super::request::{HeadLimits, Parsed, parse};
    use super::*;

    fn with<T>(target: &str, fields: &str, see: impl FnOnce(&Request<'_>) -> T) -> T {
        let text = format!("PUT {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match parse(text.as_bytes(), &HeadLimits::default()) {
            Parsed::Complete { request, .. } => see(&request),
            other => panic!("{other:?}"),
        }
    }

    fn judged(target: &str, fields: &str) -> Result<Upload, Status> {
        let judge = |request: &Request<'_>| judge(request, PathPolicy::default(), 100);
        with(target, fields, judge).map_err(|(status, _)| status)
    }

    #[test]
    fn heads_are_judged_before_their_bodies() {
        let upload = judged("/a/b%20c?x", "Content-Length: 100\r\n").unwrap();
        assert_eq!((&*upload.path, upload.body), (&b"a/b c"[..], Body::Length(100)));
        for (target, fields, status) in [
            ("/", "", Status::Conflict),
            ("/a/", "", Status::Conflict),
            ("/../a", "", Status::BadRequest),
            ("/.a", "", Status::NotFound),
            ("/a", "Content-Length: 101\r\n", Status::ContentTooLarge),
            ("/a", "Content-Range: bytes 0-1/2\r\n", Status::BadRequest),
            ("/a", "Content-Encoding: gzip\r\n", Status::UnsupportedMediaType),
            ("/a", "Repr-Digest: sha-256=:YQ==:\r\n", Status::BadRequest),
        ] {
            assert_eq!(
                judged(target, fields).map(|upload| upload.path),
                Err(status),
                "{target} {fields}"
            );
        }
    }

    #[test]
    fn a_token_is_found_behind_its_scheme() {
        let token =
            |fields: &str| with("/a", fields, |request| bearer(request).map(<[u8]>::to_vec));
        assert_eq!(token("Authorization: bearer  abc \r\n"), Some(b"abc".to_vec()));
        for fields in ["", "Authorization: Basic abc\r\n", "Authorization: Bearer \r\n"] {
            assert_eq!(token(fields), None, "{fields}");
        }
    }

    #[test]
    fn conditions_of_a_write() {
        let state = FileState {
            len: 10,
            inode: 1,
            mtime_seconds: 784_111_777,
            mtime_nanoseconds: 0,
            ctime_seconds: 784_111_777,
            ctime_nanoseconds: 0,
        };
        let facts = FileFacts::new(&state, ContentType::UNKNOWN);
        let tag = format!("{:?}", facts.etag);
        let holds = |fields: &str| {
            let upload = judged("/a", &fields.replace("TAG", &tag)).unwrap();
            (upload.conditions_hold(Some(&facts)), upload.conditions_hold(None))
        };
        assert_eq!(holds(""), (true, true));
        assert_eq!(holds("If-Match: *\r\n"), (true, false));
        assert_eq!(holds("If-Match: \"x\", TAG\r\n"), (true, false));
        assert_eq!(holds("If-Match: \"x\"\r\n"), (false, false));
        assert_eq!(holds("If-Match: W/TAG\r\n"), (false, false));
        assert_eq!(holds("If-None-Match: *\r\n"), (false, true));
        assert_eq!(holds("If-None-Match: W/TAG\r\n"), (false, true));
        assert_eq!(holds("If-None-Match: \"x\"\r\n"), (true, true));
        assert!(!holds("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n").0);
        assert!(holds("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n").0);
    }

    #[test]
    fn an_unread_body_ends_the_connection_unless_it_is_small() {
        let date = Date::from_second(0);
        let refuse = |fields: &str| {
            let sequel = with("/a", fields, Sequel::of);
            let mut out = Vec::new();
            let answer = refused(sequel, (Status::Unauthorized, "No."), &date, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("\r\nWWW-Authenticate: Bearer"), "{text}");
            assert_eq!(answer.keep_alive, !text.contains("\r\nConnection: close"));
            (answer.keep_alive, answer.drain_bytes)
        };
        assert_eq!(refuse("Content-Length: 10\r\n"), (true, 10));
        assert!(!refuse("Content-Length: 10\r\nExpect: 100-continue\r\n").0);
        assert!(!refuse("Content-Length: 100000\r\n").0);
        assert!(!refuse("Transfer-Encoding: chunked\r\n").0);
        let sequel = with("/a", "Transfer-Encoding: chunked\r\n", Sequel::of).after_body();
        assert!(sequel.answer(Status::Created).keep_alive);
        assert!(!sequel.at_the_end().answer(Status::Created).keep_alive);
    }
}
