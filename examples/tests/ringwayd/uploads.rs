//! Files that come in: what a client is told, what has the name afterwards, and what never has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;

use crate::client::{Client, Response, assert_same};
use crate::daemon::{Daemon, Output, Root, Start, content, wait_until};

/// Serves a folder that can be written.
pub(crate) fn writable(root: &Root, more: &[&str]) -> Daemon {
    Daemon::serve(root, &[&["--writable"], more].concat())
}

/// Puts a body of a known length.
#[track_caller]
pub(crate) fn put(client: &mut Client, path: &str, fields: &str, body: &[u8]) -> Response {
    client.ask("PUT", path, &format!("Content-Length: {}\r\n{fields}", body.len()));
    client.send(body);
    client.response()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in body.chunks(size) {
        coded.extend(format!("{:x}\r\n", chunk.len()).bytes());
        coded.extend(chunk);
        coded.extend(b"\r\n");
    }
    coded.extend(b"0\r\n\r\n");
    coded
}

fn sha256(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha2::Sha256::digest(body)))
}

/// Files that are not whole yet.
pub(crate) fn staged(root: &Root) -> usize {
    let entries = fs::read_dir(root.path(".ringway")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name() != "lock").count()
}

#[test]
fn a_file_is_made_then_replaced_and_read_back_on_one_connection() {
    let root = Root::new();
    let daemon = writable(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for size in [0, 1, 4096, 70_000, 3_000_001] {
        let (first, second) = (content("first", size), content("second", size / 2 + 1));
        let path = format!("/file-{size}");
        let made = put(&mut client, &path, "", &first);
        assert_eq!((made.status, made.length()), (201, Some(0)));
        assert_same(&client.get(&path).body, &first, "the new file");
        let replaced = put(&mut client, &path, "", &second);
        assert_eq!((replaced.status, replaced.length()), (204, None));
        let got = client.get(&path);
        assert_same(&got.body, &second, "the replaced file");
        assert_eq!(got.field("ETag"), replaced.field("ETag"));
        assert_ne!(made.field("ETag"), replaced.field("ETag"));
    }
    assert_eq!(staged(&root), 0);
    let log = daemon.finish();
    assert!(log.contains("\"PUT /file-3000001 HTTP/1.1\" 201"), "{log}");
    assert!(log.contains("route=splice") && log.contains("3000001 bytes stored"), "{log}");
}

#[test]
fn chunks_of_every_size_and_what_follows_them() {
    let root = Root::new();
    let daemon = writable(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for (size, chunk) in [(0, 1), (10, 1), (100_000, 7), (1_000_000, 65_536), (3_000_000, 1 << 20)]
    {
        let body = content("chunks", size);
        client.ask("PUT", "/file", "Transfer-Encoding: chunked\r\n");
        let mut all = chunked(&body, chunk);
        // The next request comes right behind.
        all.extend(b"GET /file HTTP/1.1\r\nHost: test\r\n\r\n");
        client.send(&all);
        assert!(matches!(client.response().status, 201 | 204));
        assert_same(&client.response().body, &body, "the file");
    }
    client.ask("PUT", "/file", "Transfer-Encoding: chunked\r\n");
    client.send("3\r\nabcd\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 400);
    client.assert_closed();
    assert_eq!((staged(&root), fs::metadata(root.path("file")).unwrap().len()), (0, 3_000_000));
}

#[test]
fn a_client_that_waits_is_told_to_go_on_or_why_not() {
    let root = Root::new();
    let daemon = writable(&root, &["--max-body", "1KiB"]);
    let mut client = Client::connect(daemon.address());
    client.ask("PUT", "/file", "Content-Length: 5\r\nExpect: 100-continue\r\n");
    assert_eq!(client.head().status, 100);
    client.send("hello");
    assert_eq!(client.response().status, 201);
    client.ask("PUT", "/file", "Content-Length: 5000\r\nExpect: 100-continue\r\n");
    assert_eq!(client.response().status, 413);
    client.assert_closed();
    assert_eq!(fs::read(root.path("file")).unwrap(), b"hello");
}

#[test]
fn a_body_is_bounded_whether_its_length_is_told_or_not() {
    let root = Root::new();
    let daemon = writable(&root, &["--max-body", "100kB"]);
    let body = content("large", 100_001);
    let mut client = Client::connect(daemon.address());
    client.ask("PUT", "/file", &format!("Content-Length: {}\r\n", body.len()));
    assert_eq!(client.response().status, 413);
    let mut client = Client::connect(daemon.address());
    client.ask("PUT", "/file", "Transfer-Encoding: chunked\r\n");
    client.send(chunked(&body, 5000));
    assert_eq!(client.response().status, 413);
    let mut client = Client::connect(daemon.address());
    assert_eq!(put(&mut client, "/file", "", &body[1..]).status, 201);
    assert_eq!(staged(&root), 0);
}

#[test]
fn conditions_are_judged_before_the_body_and_before_the_rename() {
    let root = Root::new();
    let daemon = writable(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let absent = "If-None-Match: *\r\n";
    let made = put(&mut client, "/file", absent, b"one");
    assert_eq!(made.status, 201);
    let tag = made.field("ETag").unwrap().to_owned();
    assert_eq!(put(&mut client, "/file", absent, b"two").status, 412);
    assert_eq!(put(&mut client, "/file", "If-Match: \"x\"\r\n", b"two").status, 412);
    assert_eq!(put(&mut client, "/none", "If-Match: *\r\n", b"two").status, 412);
    assert_eq!(put(&mut client, "/file", &format!("If-Match: {tag}\r\n"), b"two").status, 204);
    assert_eq!(put(&mut client, "/file", &format!("If-Match: {tag}\r\n"), b"three").status, 412);
    assert_eq!(fs::read(root.path("file")).unwrap(), b"two");
    // The file comes to be while the body is on its way.
    client.ask("PUT", "/late", &format!("Content-Length: 3\r\n{absent}"));
    client.send("ab");
    wait_until("the body is being received", || staged(&root) == 1);
    fs::write(root.path("late"), "mine").unwrap();
    client.send("c");
    assert_eq!(client.response().status, 412);
    assert_eq!(fs::read(root.path("late")).unwrap(), b"mine");
    assert_eq!((client.get("/file").status, staged(&root)), (200, 0), "the connection lives on");
}

#[test]
fn what_cannot_have_a_name_is_refused() {
    let root = Root::new();
    fs::create_dir(root.path("folder")).unwrap();
    fs::create_dir(root.path("outside")).unwrap();
    let inside = Root::new();
    fs::create_dir(inside.path("folder")).unwrap();
    symlink(root.path("outside"), inside.path("link")).unwrap();
    let daemon = writable(&inside, &["--hidden"]);
    let mut client = Client::connect(daemon.address());
    for (path, status) in [
        ("/", 409),
        ("/folder", 409),
        ("/folder/", 409),
        ("/none/file", 409),
        ("/../file", 400),
        ("/%00", 400),
        ("/.ringway/put-x", 404),
        ("/.ringway", 404),
        ("/link/file", 403),
    ] {
        assert_eq!(put(&mut client, path, "", b"body").status, status, "{path}");
    }
    assert_eq!(put(&mut client, "/folder/file", "", b"body").status, 201);
    assert_eq!(put(&mut client, "/file", "Content-Range: bytes 0-3/4\r\n", b"body").status, 400);
    assert_eq!(put(&mut client, "/file", "Content-Encoding: gzip\r\n", b"body").status, 415);
    assert_eq!(client.get("/.ringway/lock").status, 404, "hidden files are shown, this one is not");
    assert_eq!(fs::read_dir(root.path("outside")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_to_stay_stays() {
    let root = Root::new();
    root.file("file", 10);
    let daemon = writable(&root, &["--overwrite", "never"]);
    let mut client = Client::connect(daemon.address());
    assert_eq!(put(&mut client, "/file", "", b"other").status, 409);
    assert_eq!(put(&mut client, "/new", "", b"new").status, 201);
    assert_eq!(fs::read(root.path("file")).unwrap(), content("file", 10));
}

#[test]
fn only_who_has_a_token_may_write_and_everybody_may_read() {
    let root = Root::new();
    root.file("file", 10);
    let secret = Root::new();
    fs::write(secret.path("tokens"), "# ours\nopen-sesame\n").unwrap();
    let tokens = secret.path("tokens");
    let daemon = writable(&root, &["--write-tokens", tokens.to_str().unwrap()]);
    let mut client = Client::connect(daemon.address());
    for fields in ["", "Authorization: Bearer open\r\n", "Authorization: Basic open-sesame\r\n"] {
        let refused = put(&mut client, "/new", fields, b"x");
        assert_eq!((refused.status, staged(&root)), (401, 0), "{fields}");
        assert!(refused.field("WWW-Authenticate").unwrap().starts_with("Bearer"));
    }
    let token = "Authorization: Bearer open-sesame\r\n";
    assert_eq!(put(&mut client, "/new", token, b"x").status, 201);
    assert_eq!(client.get("/file").status, 200);
    client.ask("OPTIONS", "/file", "");
    assert_eq!(client.response().field("Allow"), Some("GET, HEAD, OPTIONS, PUT"));
    let read_only = Daemon::serve(&root, &[]);
    let mut client = Client::connect(read_only.address());
    let refused = put(&mut client, "/new", token, b"y");
    assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(fs::read(root.path("new")).unwrap(), b"x");
}

#[test]
fn a_digest_is_checked_before_the_name_is_given() {
    let root = Root::new();
    let daemon = writable(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let body = content("digest", 300_000);
    let right = sha256(&body);
    let long = format!("sha-512=:{}:", STANDARD.encode(sha2::Sha512::digest(&body)));
    let made = put(&mut client, "/file", &format!("Repr-Digest: md5=:x:, {right}\r\n"), &body);
    assert_eq!((made.status, made.field("Repr-Digest")), (201, Some(&right[..])));
    let both = format!("Content-Digest: {right}\r\nRepr-Digest: {long}\r\n");
    let made = put(&mut client, "/file", &both, &body);
    assert_eq!(
        (made.status, made.field("Repr-Digest").unwrap()),
        (204, &*format!("{right}, {long}"))
    );
    let wrong = sha256(b"other");
    for fields in [
        format!("Repr-Digest: {wrong}\r\n"),
        format!("Content-Digest: {right}, {wrong}\r\n"),
        "Repr-Digest: sha-256=:YQ==:\r\n".to_owned(),
    ] {
        let mut client = Client::connect(daemon.address());
        let refused = put(&mut client, "/other", &fields, &body);
        assert_eq!(refused.status, 400, "{fields}");
        assert!(refused.field("Want-Repr-Digest").is_some());
    }
    assert!(!root.path("other").exists());
    assert_eq!(staged(&root), 0);
}

#[test]
fn a_body_that_ends_early_or_comes_too_slowly_leaves_nothing() {
    let root = Root::new();
    let daemon = writable(&root, &["--receive-timeout-seconds", "1"]);
    let mut short = Client::connect(daemon.address());
    short.ask("PUT", "/short", "Content-Length: 100000\r\n");
    short.send(content("short", 60_000));
    short.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(short.response().status, 400);
    let mut silent = Client::connect(daemon.address());
    silent.ask("PUT", "/silent", "Content-Length: 100000\r\n");
    silent.send(content("silent", 60_000));
    assert_eq!(silent.response().status, 408);
    let mut gone = Client::connect(daemon.address());
    gone.ask("PUT", "/gone", "Transfer-Encoding: chunked\r\n");
    gone.send("5\r\nhel");
    drop(gone);
    wait_until("nothing is staged", || staged(&root) == 0);
    assert!(["short", "silent", "gone"].iter().all(|name| !root.path(name).exists()));
    let errors = Daemon::serve(&root, &["--writable"]);
    assert_eq!(Client::connect(errors.address()).get("/short").status, 404);
}

/// A disk of one mebibyte, in a mount namespace of the daemon's own.
#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let root = Root::new();
    let tools = Root::new();
    let program = tools.path("ringwayd");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs -o size=1m none {} && exec {} \"$@\"' \
         sh \"$@\"\n",
        root.path("").display(),
        env!("CARGO_BIN_EXE_ringwayd"),
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if !std::process::Command::new("unshare")
        .args(["--mount", "true"])
        .status()
        .is_ok_and(|s| s.success())
    {
        println!("skipped: no mount namespace can be made");
        return;
    }
    let arguments = ["--writable"];
    let start = Start {
        program: Path::new(&program),
        output: Output::Read,
        ..Start::new(&root, &arguments)
    };
    let daemon = Daemon::start(&start);
    for fields in ["Content-Length: 3000000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = Client::connect(daemon.address());
        client.ask("PUT", "/file", fields);
        let body = content("large", 3_000_000);
        let body = if fields.starts_with('T') { chunked(&body, 100_000) } else { body };
        // It stops reading when it has answered.
        _ = std::io::Write::write_all(&mut client.stream, &body);
        assert_eq!(client.response().status, 507);
    }
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.get("/file").status, 404);
    assert_eq!(put(&mut client, "/small", "", &content("small", 900_000)).status, 201);
}

#[test]
fn a_daemon_that_anybody_could_write_to_does_not_start() {
    let root = Root::new();
    let arguments = ["--writable", "--listen", "0.0.0.0:0"];
    let output = Start::new(&root, &arguments).command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("--write-tokens"), "{said}");
    let meant = writable(&root, &["--write-without-token", "--listen", "127.0.0.1:0"]);
    drop(meant);
}
