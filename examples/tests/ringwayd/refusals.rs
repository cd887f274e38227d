//! Requests that cannot be understood or not be served: a status, a reason, and no doubt about where
//! the next request would begin.

use crate::client::Client;
use crate::daemon::{Daemon, Root};

/// Sends one request on a connection of its own, and gives the status of the answer.
fn status_and_close(daemon: &Daemon, request: &[u8]) -> u16 {
    let mut client = Client::connect(daemon.address());
    client.send(request);
    let response = client.response();
    assert_eq!(response.field("Connection"), Some("close"), "{response:?}");
    client.assert_closed();
    response.status
}

#[test]
fn malformed_requests_are_400_and_the_connection_closes() {
    let root = Root::new();
    root.file("file", 100);
    let daemon = Daemon::serve(&root, &[]);
    for request in [
        &b"nonsense\r\n\r\n"[..],
        b"GET /file HTTP/1.1\r\n\r\n",
        b"GET /fi\0le HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /file HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET file HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let status = status_and_close(&daemon, request);
        assert_eq!(status, 400, "{:?}", String::from_utf8_lossy(request));
    }
    // One that begins like a head and then is none is refused as soon as that is known.
    assert_eq!(status_and_close(&daemon, b"GET /file HTTP/1.1\r\nHost: a\r\n: x\r\n"), 400);
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.get("/file").status, 200, "the daemon serves on");
}

#[test]
fn what_follows_a_malformed_request_is_not_served() {
    let root = Root::new();
    root.file("file", 100);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    client.send("GET /file HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    client.send("GET /file HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 400);
    client.assert_closed();
}

#[test]
fn heads_that_are_too_large() {
    let root = Root::new();
    let daemon = Daemon::serve(&root, &[]);
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_000));
    assert_eq!(status_and_close(&daemon, target.as_bytes()), 414);
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(3000));
    let strict = Daemon::serve(&root, &["--max-header-bytes", "2048"]);
    assert_eq!(status_and_close(&strict, field.as_bytes()), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(120));
    assert_eq!(status_and_close(&daemon, many.as_bytes()), 431);
}

#[test]
fn versions_and_expectations_that_are_not_met() {
    let root = Root::new();
    let daemon = Daemon::serve(&root, &[]);
    assert_eq!(status_and_close(&daemon, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
    let expecting = b"GET / HTTP/1.1\r\nHost: a\r\nExpect: the-impossible\r\n\r\n";
    assert_eq!(status_and_close(&daemon, expecting), 417);
    let encoded = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n";
    assert_eq!(status_and_close(&daemon, encoded), 501);
}

#[test]
fn methods_other_than_get_and_head() {
    let root = Root::new();
    root.file("file", 100);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        client.ask(method, "/file", "");
        let response = client.response();
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.field("Allow"), Some("GET, HEAD, OPTIONS"), "{method}");
    }
    client.ask("BREW", "/file", "");
    assert_eq!(client.response().status, 501);
    client.ask("OPTIONS", "*", "");
    let response = client.response();
    assert_eq!((response.status, response.field("Allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(client.get("/file").status, 200, "the connection lives on");
}

#[test]
fn what_is_not_there_is_404() {
    let root = Root::new();
    root.file("file", 100);
    std::fs::create_dir(root.path("folder")).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let long = format!("/{}", "a".repeat(300));
    for path in ["/nothing", "/folder/nothing", "/file/", "/file/below", "/nothing/", &long] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}
