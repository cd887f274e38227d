//! Resumable uploads by tus 1.0 (core, creation, termination): what a request asks for, and the heads of
//! the answers. Pure.
//!
//! A POST names the file, by its path or, in a folder, by the `filename` of its metadata, and is told
//! where the upload is. HEAD there tells how far it is, PATCH goes on, DELETE ends it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::integrity::Digest;
use super::path::{PathPolicy, RelativePath, STAGING};
use super::request::{Body, Method, Refusal, Request};
use super::response::Head;
use super::status::Status;
use super::upload::{Sequel, UploadFields};
use super::{Answer, Date};

const VERSION: &[u8] = b"1.0.0";
/// Digits in the name of an upload.
const ID_DIGITS: usize = 32;
/// Metadata is kept and told again; this much of it, in bytes.
const METADATA_BYTES_MAX: usize = 4096;

/// The fields of the protocol, as they were sent.
#[derive(Debug, Default)]
pub(super) struct TusFields<'b> {
    resumable: Option<&'b [u8]>,
    offset: Option<&'b [u8]>,
    length: Option<&'b [u8]>,
    metadata: Option<&'b [u8]>,
    content_type: Option<&'b [u8]>,
}

impl<'b> TusFields<'b> {
    /// Takes one line, if it is one of these.
    pub(super) fn take(&mut self, name: &str, value: &'b [u8]) {
        let place = match name.to_ascii_lowercase().as_str() {
            "tus-resumable" => &mut self.resumable,
            "upload-offset" => &mut self.offset,
            "upload-length" => &mut self.length,
            "upload-metadata" => &mut self.metadata,
            "content-type" => &mut self.content_type,
            _ => return,
        };
        *place = Some(value);
    }
}

/// The name of an upload, which cannot be guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadId(pub(crate) String);

impl UploadId {
    pub(crate) fn from_bytes(bytes: [u8; ID_DIGITS / 2]) -> UploadId {
        UploadId(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn in_target(origin: &str) -> Option<UploadId> {
        let id = origin.strip_prefix('/')?.strip_prefix(STAGING)?.strip_prefix("/tus/")?;
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (id.len() == ID_DIGITS && id.bytes().all(digits)).then(|| UploadId(id.to_owned()))
    }
}

/// What a request of the protocol asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    Create { path: Box<[u8]>, length: u64, metadata: String, digests: Vec<Digest> },
    Tell(UploadId),
    Append { id: UploadId, offset: u64, body: Body, expects_continue: bool },
    Terminate(UploadId),
}

/// Whether a request is one of this protocol, if files may be written.
pub(crate) fn concerns(request: &Request<'_>) -> bool {
    let speaks = |fields: &UploadFields<'_>| fields.tus().resumable.is_some();
    match request.method {
        Method::Post | Method::Patch | Method::Delete => {
            request.upload.as_deref().is_some_and(speaks)
        }
        Method::Head => is_upload(request.origin),
        _ => false,
    }
}

/// Whether a target names an upload and no file.
pub(super) fn is_upload(origin: &str) -> bool {
    origin.len() == STAGING.len() + ID_DIGITS + 6 && UploadId::in_target(origin).is_some()
}

/// Judges a request as far as its head tells.
pub(crate) fn judge(
    request: &Request<'_>,
    policy: PathPolicy,
    bytes_max: u64,
) -> Result<Ask, Refusal> {
    const NO_UPLOAD: Refusal = (Status::NotFound, "There is no such upload.");
    let fields = request.upload.as_deref().map(UploadFields::tus);
    let Some(fields) = fields else { return Err(NO_UPLOAD) };
    if request.method != Method::Head && fields.resumable != Some(VERSION) {
        let sentence = "Resumable uploads take Tus-Resumable: 1.0.0 here.";
        return Err((Status::PreconditionFailed, sentence));
    }
    if request.method == Method::Post {
        return create(request, fields, policy, bytes_max);
    }
    let id = UploadId::in_target(request.origin).ok_or(NO_UPLOAD)?;
    match request.method {
        Method::Head => Ok(Ask::Tell(id)),
        Method::Delete => Ok(Ask::Terminate(id)),
        _ => {
            if fields.content_type != Some(b"application/offset+octet-stream") {
                let sentence = "A part of an upload has the type application/offset+octet-stream.";
                return Err((Status::UnsupportedMediaType, sentence));
            }
            let offset = number(fields.offset);
            let offset = offset.ok_or((Status::BadRequest, "Upload-Offset must be a number."))?;
            let (body, expects_continue) = (request.body, request.expects_continue);
            Ok(Ask::Append { id, offset, body, expects_continue })
        }
    }
}

fn create(
    request: &Request<'_>,
    fields: &TusFields<'_>,
    policy: PathPolicy,
    bytes_max: u64,
) -> Result<Ask, Refusal> {
    let length = number(fields.length).ok_or((Status::BadRequest, "Upload-Length is needed."))?;
    if length > bytes_max {
        return Err((Status::ContentTooLarge, "The file is larger than is allowed here."));
    }
    if request.body != Body::None {
        return Err((Status::BadRequest, "An upload begins with PATCH, after it was created."));
    }
    let metadata = std::str::from_utf8(fields.metadata.unwrap_or_default());
    let metadata = metadata.ok().filter(|text| text.len() <= METADATA_BYTES_MAX);
    let metadata = metadata.ok_or((Status::BadRequest, "Upload-Metadata cannot be kept."))?;
    let folder = RelativePath::resolve(request.origin, policy)?;
    let path = if folder.trailing_slash() {
        let name = filename(metadata)?;
        let target = [&b"/"[..], folder.as_bytes(), b"/", &name].concat();
        let encoded = percent_encoding::percent_encode(&target, percent_encoding::NON_ALPHANUMERIC);
        // A slash in it would be another folder's, and is refused as an encoded slash is.
        let target = encoded.to_string().replacen("%2F", "/", target.len() - name.len());
        RelativePath::resolve(&target, policy)?.as_bytes().into()
    } else {
        folder.as_bytes().into()
    };
    let digests = match &request.upload {
        Some(fields) => Digest::read(fields.digests())?,
        None => Vec::new(),
    };
    Ok(Ask::Create { path, length, metadata: metadata.to_owned(), digests })
}

/// The `filename` of the metadata: pairs of a key and a value in Base64.
fn filename(metadata: &str) -> Result<Vec<u8>, Refusal> {
    const NAMELESS: Refusal =
        (Status::BadRequest, "Name the file: in the path, or as filename in Upload-Metadata.");
    let pairs = metadata.split(',').filter_map(|pair| pair.trim().split_once(' '));
    let value = pairs.into_iter().find(|(key, _)| *key == "filename").ok_or(NAMELESS)?.1;
    let name = STANDARD.decode(value.trim()).map_err(|_| NAMELESS)?;
    let plain = !name.is_empty() && !name.iter().any(|byte| matches!(byte, b'/' | 0));
    if plain && !matches!(&name[..], b"." | b"..") { Ok(name) } else { Err(NAMELESS) }
}

fn number(value: Option<&[u8]>) -> Option<u64> {
    let value = value.filter(|value| value.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Where an upload stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing<'m> {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) metadata: &'m str,
}

/// An upload was made: 201 with its place.
pub(crate) fn created(
    sequel: Sequel,
    id: &UploadId,
    offset: Option<u64>,
    date: &Date,
    out: &mut Vec<u8>,
) -> Answer {
    let location = format!("/{STAGING}/tus/{}", id.0);
    let mut head = begin(sequel, Status::Created, date, out);
    if let Some(offset) = offset {
        head = head.field("Upload-Offset", offset.to_string().as_bytes());
    }
    head.field("Location", location.as_bytes()).content_length(0).finish();
    sequel.answer(Status::Created)
}

/// How far an upload is: 200 to HEAD.
pub(crate) fn told(
    sequel: Sequel,
    standing: &Standing<'_>,
    date: &Date,
    out: &mut Vec<u8>,
) -> Answer {
    let mut head = begin(sequel, Status::Ok, date, out)
        .field("Cache-Control", b"no-store")
        .field("Upload-Offset", standing.offset.to_string().as_bytes())
        .field("Upload-Length", standing.length.to_string().as_bytes());
    if !standing.metadata.is_empty() {
        head = head.field("Upload-Metadata", standing.metadata.as_bytes());
    }
    head.content_length(0).finish();
    sequel.answer(Status::Ok)
}

/// An upload went on, or ended: 204.
pub(crate) fn moved(sequel: Sequel, offset: Option<u64>, date: &Date, out: &mut Vec<u8>) -> Answer {
    let mut head = begin(sequel, Status::NoContent, date, out);
    if let Some(offset) = offset {
        head = head.field("Upload-Offset", offset.to_string().as_bytes());
    }
    head.finish();
    sequel.answer(Status::NoContent)
}

/// Says in the answer to OPTIONS what can be done.
pub(super) fn announced<'o, 'd>(head: Head<'o, 'd>) -> Head<'o, 'd> {
    head.field("Tus-Resumable", VERSION)
        .field("Tus-Version", VERSION)
        .field("Tus-Extension", b"creation,termination")
}

/// Refuses; an upload whose version is not known here is told which is.
pub(crate) fn refused(
    sequel: Sequel,
    (status, sentence): Refusal,
    date: &Date,
    out: &mut Vec<u8>,
) -> Answer {
    let answer = sequel.answer(status);
    let mut head = begin(sequel, status, date, out);
    head = match status {
        Status::PreconditionFailed => head.field("Tus-Version", VERSION),
        Status::Unauthorized => head.field("WWW-Authenticate", b"Bearer realm=\"ringway\""),
        Status::Locked | Status::ServiceUnavailable => head.field("Retry-After", b"1"),
        _ => head,
    };
    Answer { text_bytes: head.text(sentence, sequel.to_head()), ..answer }
}

fn begin<'o, 'd>(
    sequel: Sequel,
    status: Status,
    date: &'d Date,
    out: &'o mut Vec<u8>,
) -> Head<'o, 'd> {
    Head::begin(out, status, date, sequel.persistence()).field("Tus-Resumable", VERSION)
}

#[cfg(test)]
mod tests {
    use super::super::request::{HeadLimits, Parsed, parse};
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn judged(line: &str, fields: &str) -> Result<Ask, Status> {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\n{fields}\r\n");
        let policy = PathPolicy { hidden: false, writable: true };
        match parse(text.as_bytes(), &HeadLimits::default()) {
            Parsed::Complete { request, .. } => {
                assert!(concerns(&request));
                judge(&request, policy, 100).map_err(|(status, _)| status)
            }
            other => panic!("{other:?}"),
        }
    }

    fn path_of(line: &str, fields: &str) -> Result<Vec<u8>, Status> {
        judged(line, fields).map(|ask| match ask {
            Ask::Create { path, .. } => path.into_vec(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_file_is_named_by_its_path_or_its_metadata() {
        let length = "Upload-Length: 100\r\n";
        assert_eq!(path_of("POST /in/file", length), Ok(b"in/file".to_vec()));
        let named = |name: &[u8]| {
            let value = STANDARD.encode(name);
            path_of(
                "POST /in/",
                &format!("{length}Upload-Metadata: x, filename {value},y eg==\r\n"),
            )
        };
        assert_eq!(named(b"a b%\xc3\x28.txt"), Ok(b"in/a b%\xc3\x28.txt".to_vec()));
        for name in [&b".."[..], b".", b"", b"a/b", b"../x", b"a\0"] {
            assert_eq!(named(name), Err(Status::BadRequest), "{name:?}");
        }
        assert_eq!(named(b".hidden"), Err(Status::NotFound));
        assert_eq!(path_of("POST /in/", length), Err(Status::BadRequest));
        assert_eq!(path_of("POST /../x", length), Err(Status::BadRequest));
        assert_eq!(path_of("POST /a", ""), Err(Status::BadRequest));
        assert_eq!(path_of("POST /a", "Upload-Length: 101\r\n"), Err(Status::ContentTooLarge));
        let value = STANDARD.encode("at the top");
        let fields = format!("{length}Upload-Metadata: filename {value}\r\n");
        assert_eq!(path_of("POST /", &fields), Ok(b"at the top".to_vec()));
    }

    #[test]
    fn parts_have_an_offset_and_a_type() {
        let there = format!("PATCH /.ringway/tus/{ID}");
        let part = "Content-Type: application/offset+octet-stream\r\n";
        let fields = format!("{part}Upload-Offset: 7\r\nContent-Length: 3\r\n");
        match judged(&there, &fields).unwrap() {
            Ask::Append { id, offset, body, .. } => {
                assert_eq!((&*id.0, offset, body), (ID, 7, Body::Length(3)));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(judged(&there, part).unwrap_err(), Status::BadRequest);
        assert_eq!(
            judged(&there, "Upload-Offset: 7\r\n").unwrap_err(),
            Status::UnsupportedMediaType
        );
        assert_eq!(judged("PATCH /file", &fields).unwrap_err(), Status::NotFound);
        assert!(matches!(judged(&format!("HEAD /.ringway/tus/{ID}"), ""), Ok(Ask::Tell(_))));
        assert!(matches!(judged(&format!("DELETE /.ringway/tus/{ID}"), ""), Ok(Ask::Terminate(_))));
        for other in [&ID[1..], "../../../../../../../etc/passwdxx", &ID.to_uppercase()] {
            let refused = judged(&format!("DELETE /.ringway/tus/{other}"), "").unwrap_err();
            assert_eq!(refused, Status::NotFound);
        }
    }
}
