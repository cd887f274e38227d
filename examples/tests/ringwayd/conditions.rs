//! What a client has already is not sent again.

use std::time::{Duration, SystemTime};

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root};

/// A file that was left alone for long enough for its date to be a strong validator.
fn old_file(root: &Root, name: &str, len: usize) -> Vec<u8> {
    let content = root.file(name, len);
    let file = std::fs::File::options().write(true).open(root.path(name)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(86_400)).unwrap();
    content
}

#[test]
fn if_none_match_answers_304_without_a_body() {
    let root = Root::new();
    let content = old_file(&root, "file", 50_000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let tag = client.get("/file").field("ETag").unwrap().to_owned();
    for value in [tag.clone(), format!("W/{tag}"), "*".into(), format!("\"other\", {tag}")] {
        let response = client.fetch("/file", &format!("If-None-Match: {value}\r\n"));
        assert_eq!(response.status, 304, "{value}");
        assert_eq!(response.field("ETag"), Some(tag.as_str()));
    }
    let response = client.fetch("/file", "If-None-Match: \"other\"\r\n");
    assert_eq!(response.status, 200);
    assert_same(&response.body, &content, "the file");
}

#[test]
fn if_modified_since_answers_304() {
    let root = Root::new();
    old_file(&root, "file", 100);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let date = client.get("/file").field("Last-Modified").unwrap().to_owned();
    let since = format!("If-Modified-Since: {date}\r\n");
    assert_eq!(client.fetch("/file", &since).status, 304);
    let long_ago = "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    assert_eq!(client.fetch("/file", long_ago).status, 200);
}

#[test]
fn a_precondition_that_fails_is_412() {
    let root = Root::new();
    old_file(&root, "file", 100);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let tag = client.get("/file").field("ETag").unwrap().to_owned();
    assert_eq!(client.fetch("/file", "If-Match: \"other\"\r\n").status, 412);
    assert_eq!(client.fetch("/file", &format!("If-Match: {tag}\r\n")).status, 200);
}

#[test]
fn if_range_resumes_the_same_file_only() {
    let root = Root::new();
    let content = old_file(&root, "file", 50_000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let first = client.get("/file");
    let (tag, date) = (first.field("ETag").unwrap(), first.field("Last-Modified").unwrap());
    for validator in [tag, date] {
        let fields = format!("Range: bytes=40000-\r\nIf-Range: {validator}\r\n");
        let response = client.fetch("/file", &fields);
        assert_eq!(response.status, 206, "{validator}");
        assert_same(&response.body, &content[40_000..], "the rest");
    }
    // Rewritten in place with the same length: the tag must tell.
    let newer = crate::daemon::content("newer", 50_000);
    std::fs::write(root.path("file"), &newer).unwrap();
    let fields = format!("Range: bytes=40000-\r\nIf-Range: {tag}\r\n");
    let response = client.fetch("/file", &fields);
    assert_eq!(response.status, 200);
    assert_same(&response.body, &newer, "the newer file");
}
