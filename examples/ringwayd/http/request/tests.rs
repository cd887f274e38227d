use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Request<'_> {
    match parse(text.as_bytes(), &HeadLimits::default()) {
        Parsed::Complete { request, consumed } => {
            assert_eq!(consumed, text.len());
            request
        }
        other => panic!("{text:?} gave {other:?}"),
    }
}

fn status_of(text: impl AsRef<[u8]>) -> Option<Status> {
    match parse(text.as_ref(), &HeadLimits::default()) {
        Parsed::Bad(status, _) => Some(status),
        Parsed::Partial | Parsed::Complete { .. } => None,
    }
}

#[test]
fn ordinary_get() {
    let request = parsed(
        "GET /a/b?c HTTP/1.1\r\nHost: example:8080\r\nUser-Agent:  curl \r\nRange: bytes=0-1\r\n\
         if-none-match: \"a\"\r\nIf-None-Match: \"b\"\r\nAccept: */*\r\n\r\n",
    );
    assert_eq!(request.method, Method::Get);
    assert_eq!((request.target, request.origin), ("/a/b?c", "/a/b?c"));
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.body, Body::None);
    assert!(request.keep_alive && !request.expects_continue);
    assert_eq!(request.range, Some(&b"bytes=0-1"[..]));
    assert_eq!(request.user_agent, Some(&b"curl"[..]));
    assert_eq!(request.if_none_match.iter().collect::<Vec<_>>(), [b"\"a\"", b"\"b\""]);
    assert!(request.if_match.is_empty());
}

#[test]
fn pipelined_request_stays_in_the_buffer() {
    let text = b"\r\nHEAD / HTTP/1.1\nHost:\n\nGET /next";
    let Parsed::Complete { request, consumed } = parse(text, &HeadLimits::default()) else {
        panic!()
    };
    assert_eq!(request.method, Method::Head);
    assert_eq!(&text[consumed..], b"GET /next");
}

#[test]
fn keep_alive_rules() {
    let kept = |version: &str, connection: &str| {
        parsed(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n")).keep_alive
    };
    assert!(kept("1.1", ""));
    assert!(!kept("1.1", "Connection: close\r\n"));
    assert!(!kept("1.1", "Connection: Keep-Alive, CLOSE\r\n"));
    assert!(!kept("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(kept("1.1", "Connection: upgrade\r\n"));
    assert!(!kept("1.0", ""));
    assert!(kept("1.0", "Connection: x , Keep-Alive\r\n"));
}

#[test]
fn framing_of_a_body() {
    let body = |fields: &str| parsed(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).body;
    assert_eq!(body("Content-Length: 0\r\n"), Body::None);
    assert_eq!(body("Content-Length: 65536\r\n"), Body::Length(65536));
    assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Body::Chunked);
}

#[test]
fn expectations() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: ";
    assert!(parsed(&format!("{head}100-Continue\r\n\r\n")).expects_continue);
    assert_eq!(status_of(format!("{head}miracles\r\n\r\n")), Some(Status::ExpectationFailed));
    assert!(!parsed("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue);
}

#[test]
fn methods() {
    let method = |name: &str| parsed(&format!("{name} /x HTTP/1.1\r\nHost: a\r\n\r\n")).method;
    assert_eq!(method("OPTIONS"), Method::Options);
    assert_eq!(method("DELETE"), Method::Delete);
    assert_eq!(method("get"), Method::NotImplemented);
    assert_eq!(parsed("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").origin, "*");
    assert_eq!(parsed("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::NotAllowed);
}

#[test]
fn ambiguous_heads_are_refused() {
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: a,b\r\n",
        "Host: u@a\r\n",
        "Host : a\r\n",
        " Host: a\r\n",
        "Host: a\r\nX: folded\r\n more\r\n",
        "Host: a\r\nX: nul\0\r\n",
        "Host: a\r\nX: bare\rreturn\r\n",
        "Host: a\r\nno colon\r\n",
        "Host: a\r\n: no name\r\n",
        "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        "Host: a\r\nContent-Length: 1, 1\r\n",
        "Host: a\r\nContent-Length: +1\r\n",
        "Host: a\r\nContent-Length:\r\n",
        "Host: a\r\nContent-Length: 18446744073709551616\r\n",
        "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nRange: bytes=0-\r\nRange: bytes=1-\r\n",
    ] {
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(status_of(&text), Some(Status::BadRequest), "{text:?}");
    }
    let text = "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status_of(text), Some(Status::BadRequest));
    let text = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    assert_eq!(status_of(text), Some(Status::NotImplemented));
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /a b HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /",
        "G<T / HTTP/1.1",
    ] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        let status = status_of(&text);
        assert!(
            matches!(status, Some(Status::BadRequest | Status::VersionNotSupported)),
            "{text:?} gave {status:?}"
        );
    }
    assert_eq!(status_of("PRI * HTTP/2.0\r\n\r\n"), Some(Status::VersionNotSupported));
    assert_eq!(status_of(b"\x16\x03\x01\x02\x00\x01\x00"), Some(Status::BadRequest));
    assert_eq!(status_of("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Status::BadRequest));
}

#[test]
fn oversized_heads_are_refused_before_they_end() {
    let limits = HeadLimits { head_bytes_max: 256, target_bytes_max: 64 };
    let outcome = |text: &str| match parse(text.as_bytes(), &limits) {
        Parsed::Bad(status, _) => Some(status.code()),
        _ => None,
    };
    let long = "a".repeat(300);
    assert_eq!(outcome(&format!("GET /{}", &long[..63])), None);
    assert_eq!(outcome(&format!("GET /{}", &long[..64])), Some(414));
    assert_eq!(outcome(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[..64])), Some(414));
    assert_eq!(outcome(&long), Some(431));
    assert_eq!(outcome(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}")), Some(431));
    assert_eq!(outcome(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")), Some(431));
    let many = "X: y\r\n".repeat(FIELD_LINES_MAX);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(status_of(text), Some(Status::HeaderFieldsTooLarge));
}

#[test]
fn head_of_exactly_the_limit_is_accepted() {
    let text = "GET / HTTP/1.0\r\n\r\n";
    let limits = HeadLimits { head_bytes_max: text.len(), target_bytes_max: 1 };
    let with_next = format!("{text}GET");
    assert!(matches!(parse(with_next.as_bytes(), &limits), Parsed::Complete { consumed: 18, .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        _ = parse(&bytes, &HeadLimits::default());
    }

    #[test]
    fn mutated_heads_are_judged_without_panic(at in 0usize..70, byte: u8) {
        let mut text =
            *b"GET /a%20b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
        text[at] = byte;
        _ = parse(&text, &HeadLimits::default());
    }

    #[test]
    fn every_proper_prefix_is_partial(
        name in "[a-z-]{1,10}",
        value in "[ -~]{0,20}",
        path in "[a-z/]{0,20}",
    ) {
        let text = format!("GET /{path} HTTP/1.1\r\nHost: a\r\nx{name}: {value}\r\n\r\n");
        for end in 0..text.len() {
            let outcome = parse(&text.as_bytes()[..end], &HeadLimits::default());
            prop_assert!(matches!(outcome, Parsed::Partial), "{:?}", &text[..end]);
        }
        let outcome = parse(text.as_bytes(), &HeadLimits::default());
        let Parsed::Complete { consumed, .. } = outcome else { panic!("{outcome:?}") };
        prop_assert_eq!(consumed, text.len());
    }
}
