//! Files that are there already: their digests are told to who may write, and who brings one of them once
//! more is not refused.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;

use crate::client::{Client, Response};
use crate::daemon::{Daemon, Root, content, wait_until};
use crate::uploads::{put, staged, writable};

fn sha256(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha2::Sha256::digest(body)))
}

const WANTED: &str = "Want-Repr-Digest: sha-256=10\r\n";

#[track_caller]
fn head(client: &mut Client, path: &str, fields: &str) -> Response {
    client.ask("HEAD", path, fields);
    client.head()
}

#[test]
fn a_digest_that_is_asked_for_is_that_of_the_file_as_it_is() {
    let root = Root::new();
    let daemon = writable(&root, &["--threads", "2"]);
    let mut client = Client::connect(daemon.address());
    for size in [0, 1, 300_000, 5_000_001] {
        let body = root.file("file", size);
        // What was computed is kept; what is changed is computed again.
        for _ in 0..3 {
            let told = head(&mut client, "/file", WANTED);
            assert_eq!((told.status, told.length()), (200, Some(size)));
            assert_eq!(told.field("Repr-Digest"), Some(&*sha256(&body)), "{size}");
        }
    }
    let body = content("file", 5_000_001);
    let long = format!("sha-512=:{}:", STANDARD.encode(sha2::Sha512::digest(&body)));
    let told = head(&mut client, "/file", "Want-Repr-Digest: sha-512=3, sha-256=1\r\n");
    assert_eq!(told.field("Repr-Digest"), Some(&*long));
    for silent in ["", "Want-Repr-Digest: sha-256=0\r\n", "Want-Repr-Digest: md5=1\r\n"] {
        assert_eq!(head(&mut client, "/file", silent).field("Repr-Digest"), None, "{silent}");
    }
    assert_eq!(head(&mut client, "/none", WANTED).status, 404);
    client.ask("GET", "/file", WANTED);
    assert_eq!(client.response().field("Repr-Digest"), None, "only a HEAD asks");
}

#[test]
fn a_digest_that_is_kept_is_not_told_of_a_file_that_was_changed_in_place() {
    let root = Root::new();
    let daemon = writable(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let file = root.path("file");
    fs::write(&file, "first").unwrap();
    // So long that it is kept.
    let changed = || fs::metadata(&file).unwrap().modified().unwrap().elapsed().unwrap();
    wait_until("the file is settled", || changed().as_millis() > 2100);
    for _ in 0..2 {
        let told = head(&mut client, "/file", WANTED);
        assert_eq!(told.field("Repr-Digest"), Some(&*sha256(b"first")));
    }
    fs::write(&file, "other").unwrap();
    let told = head(&mut client, "/file", WANTED);
    assert_eq!(told.field("Repr-Digest"), Some(&*sha256(b"other")));
}

#[test]
fn only_who_may_write_is_told() {
    let (root, secret) = (Root::new(), Root::new());
    let body = root.file("file", 1000);
    fs::write(secret.path("tokens"), "open-sesame\n").unwrap();
    let tokens = secret.path("tokens");
    let daemon = writable(&root, &["--write-tokens", tokens.to_str().unwrap()]);
    let mut client = Client::connect(daemon.address());
    let with = |token: &str| format!("{WANTED}Authorization: Bearer {token}\r\n");
    for fields in [WANTED.to_owned(), with("guess")] {
        let told = head(&mut client, "/file", &fields);
        assert_eq!((told.status, told.field("Repr-Digest")), (200, None), "reading is free");
    }
    let told = head(&mut client, "/file", &with("open-sesame"));
    assert_eq!(told.field("Repr-Digest"), Some(&*sha256(&body)));
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    assert_eq!(head(&mut client, "/file", WANTED).field("Repr-Digest"), None);
}

#[test]
fn who_brings_what_is_there_is_not_refused_and_nothing_is_written() {
    let root = Root::new();
    let body = root.file("file", 200_000);
    let daemon = writable(&root, &["--overwrite", "never"]);
    let before = fs::metadata(root.path("file")).unwrap();
    let digest = format!("Repr-Digest: {}\r\n", sha256(&body));
    let expect = format!("{digest}Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    let mut client = Client::connect(daemon.address());
    client.ask("PUT", "/file", &expect);
    let kept = client.response();
    assert_eq!((kept.status, kept.field("Repr-Digest")), (204, Some(&*sha256(&body))));
    client.assert_closed();
    let mut client = Client::connect(daemon.address());
    client.ask("PUT", "/file", &format!("{digest}Transfer-Encoding: chunked\r\n"));
    assert_eq!(client.response().status, 204);
    // Another length, another digest, or none: it is another file, as far as is known.
    for (fields, body) in [
        (digest, &body[1..]),
        (format!("Repr-Digest: {}\r\n", sha256(b"other")), &body[..]),
        (String::new(), &body[..]),
    ] {
        let mut client = Client::connect(daemon.address());
        client.ask("PUT", "/file", &format!("{fields}Content-Length: {}\r\n", body.len()));
        assert_eq!(client.response().status, 409, "{fields}");
    }
    let small = b"small";
    let digest = format!("Repr-Digest: {}\r\n", sha256(small));
    let mut client = Client::connect(daemon.address());
    for status in [201, 204, 204] {
        assert_eq!(put(&mut client, "/small", &digest, small).status, status);
    }
    let absent = format!("{digest}If-None-Match: *\r\n");
    assert_eq!(put(&mut client, "/small", &absent, small).status, 412, "a condition is one");
    let after = fs::metadata(root.path("file")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(staged(&root), 0);
}

#[test]
fn of_two_who_bring_the_same_file_at_once_both_hear_that_it_is_there() {
    let root = Root::new();
    let daemon = writable(&root, &["--overwrite", "never"]);
    let body = content("both", 100_000);
    let fields = format!("Repr-Digest: {}\r\nContent-Length: {}\r\n", sha256(&body), body.len());
    let mut clients = [(); 2].map(|()| Client::connect(daemon.address()));
    for client in &mut clients {
        client.ask("PUT", "/file", &fields);
        client.send(&body[..50_000]);
    }
    wait_until("both are being received", || staged(&root) == 2);
    let mut statuses = clients.map(|mut client| {
        client.send(&body[50_000..]);
        client.response().status
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 204]);
    assert_eq!(staged(&root), 0);
}
