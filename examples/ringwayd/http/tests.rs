use super::*;

const NOW: u64 = 1_800_000_000;

fn facts(len: u64) -> FileFacts {
    let state = FileState {
        len,
        inode: 1,
        mtime_seconds: 784_111_777,
        mtime_nanoseconds: 1,
        ctime_seconds: 784_111_777,
        ctime_nanoseconds: 1,
    };
    FileFacts::new(&state, ContentType::of_path(b"a.html"))
}

fn respond(text: &str, found: Found<'_>) -> (Answer, String) {
    let date = Date::from_second(NOW);
    let mut out = Vec::new();
    let answer = match parse(text.as_bytes(), &HeadLimits::default()) {
        Parsed::Partial => panic!("{text:?} is not complete"),
        Parsed::Bad(status, reason) => refuse(status, reason, &date, &mut out),
        Parsed::Complete { request, .. } => {
            match begin(&request, PathPolicy::default(), &date, &mut out) {
                Begun::Answered(answer) => answer,
                Begun::Open(path) => answer(&request, &path, (found, None), &date, &mut out),
            }
        }
    };
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with(answer.status.line()));
    assert_eq!(text.contains("Connection: close"), !answer.keep_alive);
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len() as u64, answer.text_bytes);
    (answer, text)
}

fn get(path: &str, fields: &str, found: Found<'_>) -> (Answer, String) {
    respond(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), found)
}

#[test]
fn whole_file() {
    let facts = facts(1000);
    let (answer, text) = get("/a.html", "", Found::File(&facts));
    assert_eq!(answer.file, Some(FileSlice { start: 0, len: 1000 }));
    assert!(answer.keep_alive);
    let etag = format!("{:?}", facts.etag);
    assert_eq!(
        text,
        format!(
            "HTTP/1.1 200 OK\r\nServer: ringway\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\n\
             Content-Type: text/html; charset=utf-8\r\nETag: {etag}\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nAccept-Ranges: bytes\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Length: 1000\r\n\r\n"
        )
    );
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let facts = facts(1000);
    let (got, get_text) = respond("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", Found::File(&facts));
    let (head, head_text) = respond("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n", Found::File(&facts));
    assert_eq!(get_text, head_text);
    assert!(got.file.is_some() && head.file.is_none());
    let (head, text) = respond("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n", Found::Missing);
    assert_eq!((head.status, head.text_bytes), (Status::NotFound, 0));
    assert!(text.contains("Content-Length: 28\r\n"));
}

#[test]
fn ranges() {
    let facts = facts(1000);
    let (answer, text) = get("/a", "Range: bytes=-10\r\n", Found::File(&facts));
    assert_eq!(answer.status, Status::PartialContent);
    assert_eq!(answer.file, Some(FileSlice { start: 990, len: 10 }));
    assert!(text.contains("Content-Length: 10\r\nContent-Range: bytes 990-999/1000\r\n"));
    let (answer, text) = get("/a", "Range: bytes=1000-\r\n", Found::File(&facts));
    assert_eq!((answer.status, answer.file), (Status::RangeNotSatisfiable, None));
    assert!(text.contains("Content-Range: bytes */1000\r\n"));
    let (answer, _) = get("/a", "Range: bytes=1000-\r\nIf-Range: \"x\"\r\n", Found::File(&facts));
    assert_eq!(answer.status, Status::Ok);
}

#[test]
fn empty_file() {
    let (answer, text) = get("/a", "", Found::File(&facts(0)));
    assert_eq!((answer.status, answer.file), (Status::Ok, None));
    assert!(text.contains("Content-Length: 0\r\n"));
}

#[test]
fn not_modified_has_tag_and_date_but_no_length() {
    let facts = facts(5);
    let (answer, text) = get("/a", "If-None-Match: *\r\nRange: bytes=0-1\r\n", Found::File(&facts));
    assert_eq!((answer.status, answer.file), (Status::NotModified, None));
    assert!(text.contains("ETag: ") && text.contains("Date: ") && !text.contains("Content-"));
    let (answer, _) = get("/a", "If-Match: \"x\"\r\n", Found::File(&facts));
    assert_eq!(answer.status, Status::PreconditionFailed);
    let (answer, _) = get("/a", "If-Match: \"x\"\r\n", Found::Missing);
    assert_eq!(answer.status, Status::NotFound);
}

#[test]
fn file_from_the_future_was_changed_now() {
    let state = FileState {
        len: 1,
        inode: 1,
        mtime_seconds: 1_900_000_000,
        mtime_nanoseconds: 0,
        ctime_seconds: 0,
        ctime_nanoseconds: 0,
    };
    let facts = FileFacts::new(&state, ContentType::UNKNOWN);
    let (_, text) = get("/a", "", Found::File(&facts));
    assert!(text.contains("Last-Modified: Fri, 15 Jan 2027 08:00:00 GMT\r\n"));
}

#[test]
fn folders() {
    let (answer, text) = get("//evil/x?y", "", Found::Folder);
    assert_eq!(answer.status, Status::MovedPermanently);
    assert!(text.contains("Location: /evil/x/?y\r\n"));
    assert_eq!(get("/x/", "", Found::Folder).0.status, Status::Forbidden);
    assert_eq!(get("/", "", Found::Folder).0.status, Status::Forbidden);
    let index = facts(9);
    let (answer, _) = get("/x/", "", Found::Index(&index));
    assert_eq!((answer.status, answer.file), (Status::Ok, Some(FileSlice { start: 0, len: 9 })));
    assert_eq!(get("/x", "", Found::Index(&index)).0.status, Status::MovedPermanently);
    assert_eq!(get("/file/", "", Found::File(&facts(1))).0.status, Status::NotFound);
}

#[test]
fn methods_that_need_no_file() {
    let (answer, text) = respond("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Found::Missing);
    assert_eq!(answer.status, Status::NoContent);
    assert!(text.contains("Allow: GET, HEAD, OPTIONS\r\n") && !text.contains("Content-Length"));
    let (answer, text) = respond("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n", Found::Missing);
    assert_eq!(answer.status, Status::MethodNotAllowed);
    assert!(text.contains("Allow: GET, HEAD, OPTIONS\r\n"));
    let (answer, _) = respond("BREW /a HTTP/1.1\r\nHost: a\r\n\r\n", Found::Missing);
    assert_eq!(answer.status, Status::NotImplemented);
}

#[test]
fn life_of_the_connection() {
    let facts = facts(1);
    let life = |head: &str| {
        let (answer, text) = respond(&format!("{head}\r\n\r\n"), Found::File(&facts));
        (answer.keep_alive, answer.drain_bytes, text.contains("Connection: keep-alive"))
    };
    let get = "GET /a HTTP/1.1\r\nHost: a";
    assert_eq!(life(get), (true, 0, false));
    assert_eq!(life("GET /a HTTP/1.0"), (false, 0, false));
    assert_eq!(life("GET /a HTTP/1.0\r\nConnection: keep-alive"), (true, 0, true));
    assert_eq!(life(&format!("{get}\r\nContent-Length: 65536")), (true, 65536, false));
    assert_eq!(life(&format!("{get}\r\nContent-Length: 65537")), (false, 0, false));
    assert_eq!(life(&format!("{get}\r\nTransfer-Encoding: chunked")), (false, 0, false));
    let waiting = format!("{get}\r\nContent-Length: 5\r\nExpect: 100-continue");
    assert_eq!(life(&waiting), (false, 0, false));
    assert_eq!(life("GET /a HTTP/1.1"), (false, 0, false));
}

#[test]
fn open_errors() {
    let status = |errno| {
        let found = Found::from_open_error(&io::Error::from_raw_os_error(errno));
        get("/a", "", found).0.status.code()
    };
    for (errno, code) in [
        (2, 404),
        (20, 404),
        (36, 404),
        (18, 404),
        (40, 404),
        (13, 403),
        (1, 403),
        (24, 503),
        (23, 503),
        (12, 503),
        (5, 500),
    ] {
        assert_eq!(status(errno), code, "errno {errno}");
    }
}
