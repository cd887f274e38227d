//! Files that are fetched: whole, in parts, and not at all.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::nginx::Nginx;
use crate::receiver::{Connection, Receiver, Request, assert_same};
use crate::run::{Files, get, start_command, wait_until};

const LEN: usize = 3_000_000;
const TAG: &str = "\"v1\"";

/// The first byte that a request asks for, if it is of the file with this tag.
fn asked(request: &Request, tag: &str) -> Option<usize> {
    let start = request.field("Range")?.strip_prefix("bytes=")?.strip_suffix('-')?;
    (request.field("If-Range") == Some(tag)).then(|| start.parse().unwrap())
}

/// The head of an answer that begins at `start`.
fn head(start: Option<usize>, len: usize, tag: &str) -> String {
    let Some(start) = start else {
        return format!("HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {len}\r\n\r\n");
    };
    format!(
        "HTTP/1.1 206 Part\r\nETag: {tag}\r\nContent-Length: {}\r\nContent-Range: bytes \
         {start}-{}/{len}\r\n\r\n",
        len - start,
        len - 1
    )
}

/// Answers one request for a content, and stops after so many bytes of it.
fn answer(connection: &mut Connection, content: &[u8], tag: &str, bytes_max: usize) {
    let Some(request) = connection.head() else { return };
    let start = asked(&request, tag);
    connection.say(&head(start, content.len(), tag));
    let rest = &content[start.unwrap_or(0)..];
    connection.send(&rest[..rest.len().min(bytes_max)]);
    connection.keep(request);
}

/// A server of a content that breaks off the first few answers.
fn breaking(content: &[u8], breaks: usize) -> Receiver {
    let content = content.to_vec();
    Receiver::start(move |mut connection| {
        let bytes_max = if connection.number < breaks { 1_000_000 } else { usize::MAX };
        answer(&mut connection, &content, TAG, bytes_max);
    })
}

/// Only these stand in the folder.
#[track_caller]
fn assert_only(files: &Files, names: &[&str]) {
    let entries = fs::read_dir(files.path("")).unwrap();
    let mut here: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    here.sort();
    assert_eq!(here, names);
}

#[test]
fn nginx_gives_files_of_every_size_and_a_part_of_one() {
    let Some(nginx) = Nginx::start("") else { return };
    let files = Files::new();
    let folder = nginx.folder.path().join("in");
    for len in [0, 1, 65_536, LEN] {
        let content = files.file("origin", len);
        fs::write(folder.join("file"), &content).unwrap();
        let target = files.names(&["target"]).remove(0);
        get(&[&nginx.url("in/file"), "-o", &target]).assert_delivered(1);
        assert_same(&fs::read(&target).unwrap(), &content, "the file");
        assert_only(&files, &["origin", "target"]);
    }
}

#[test]
fn a_body_that_breaks_off_is_gone_on_with() {
    let files = Files::new();
    let content = files.file("origin", LEN);
    let server = breaking(&content, 2);
    let target = files.names(&["target"]).remove(0);
    let outcome = get(&[&server.url("x"), "-o", &target]);
    outcome.assert_delivered(1);
    assert_eq!(outcome.events("retrying").len(), 2, "{outcome:?}");
    assert_same(&fs::read(&target).unwrap(), &content, "the file");
    let starts: Vec<_> = server.requests().iter().map(|request| asked(request, TAG)).collect();
    assert_eq!(starts, [None, Some(1_000_000), Some(2_000_000)]);
    assert_only(&files, &["origin", "target"]);
}

#[test]
fn a_later_run_goes_on_where_an_earlier_one_failed_or_was_killed() {
    let files = Files::new();
    let content = files.file("origin", LEN);
    let target = files.names(&["target"]).remove(0);
    let kept = content.clone();
    let server = Receiver::start(move |mut connection| match connection.number {
        0 => answer(&mut connection, &kept, TAG, 1_000_000),
        1 => {
            answer(&mut connection, &kept, TAG, 500_000);
            thread::sleep(Duration::from_secs(120));
        }
        _ => answer(&mut connection, &kept, TAG, usize::MAX),
    });
    let arguments = [&server.url("x"), "-o", &target, "--retries", "0"];
    get(&arguments).assert_failed(5, "broken", "the connection broke");
    assert!(!Path::new(&target).exists());
    let running = start_command("get", &arguments);
    let part = files.path(".target.ringwayd-part");
    wait_until("a half is there", || fs::metadata(&part).unwrap().len() == 1_500_000);
    running.kill();
    assert!(!Path::new(&target).exists());
    get(&arguments).assert_delivered(1);
    assert_same(&fs::read(&target).unwrap(), &content, "the file");
    let starts: Vec<_> = server.requests().iter().map(|request| asked(request, TAG)).collect();
    assert_eq!(starts, [None, Some(1_000_000), Some(1_500_000)]);
}

#[test]
fn a_part_of_another_version_is_thrown_away() {
    let files = Files::new();
    let [old, new] = ["old", "new"].map(|name| files.file(name, LEN));
    let target = files.names(&["target"]).remove(0);
    let kept = new.clone();
    let server = Receiver::start(move |mut connection| match connection.number {
        0 => answer(&mut connection, &old, TAG, 1_000_000),
        _ => answer(&mut connection, &kept, "\"v2\"", usize::MAX),
    });
    get(&[&server.url("x"), "-o", &target]).assert_delivered(1);
    assert_same(&fs::read(&target).unwrap(), &new, "the file");
    assert_eq!(asked(&server.requests()[1], TAG), Some(1_000_000));
}

#[test]
fn without_a_strong_tag_it_begins_anew() {
    let files = Files::new();
    let content = files.file("origin", LEN);
    let target = files.names(&["target"]).remove(0);
    let kept = content.clone();
    let server = Receiver::start(move |mut connection| {
        let bytes_max = if connection.number == 0 { 1_000_000 } else { usize::MAX };
        answer(&mut connection, &kept, "W/\"v1\"", bytes_max);
    });
    get(&[&server.url("x"), "-o", &target]).assert_delivered(1);
    assert_same(&fs::read(&target).unwrap(), &content, "the file");
    assert!(server.requests().iter().all(|request| request.field("Range").is_none()));
}

#[test]
fn other_bytes_than_the_digest_says_never_get_the_name() {
    let files = Files::new();
    let target = files.names(&["target"]).remove(0);
    // The example of RFC 9530.
    const RIGHT: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const HEX: &str = "44aff4ab2d7c3250525675a08f0cfa9591168cffe51791c5f5bbc417c15a6c38";
    let text = "{\"hello\": \"world\"}\n";
    for (body, verified) in [(text, true), ("{\"hello\": \"w0rld\"}\n", false)] {
        let server = Receiver::start(move |mut connection| {
            connection.head();
            connection.say(&format!(
                "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nRepr-Digest: {RIGHT}\r\nContent-Length: 19\r\n\r\n\
                 {body}"
            ));
        });
        for more in [&[][..], &["--sha256", HEX]] {
            _ = fs::remove_file(&target);
            let url = server.url("x");
            let all = [&[&*url, "-o", &target, "--retries", "1"][..], more].concat();
            let outcome = get(&all);
            if verified {
                outcome.assert_delivered(1);
                assert_eq!(outcome.events("delivered")[0]["verified"], true);
                assert_eq!(fs::read_to_string(&target).unwrap(), text);
            } else {
                outcome.assert_failed(7, "digest", "it has other bytes");
                assert!(!Path::new(&target).exists());
            }
        }
    }
}

#[test]
fn chunks_and_bodies_that_end_with_the_connection_arrive() {
    let files = Files::new();
    let content = files.file("origin", 500_000);
    let target = files.names(&["target"]).remove(0);
    for chunked in [true, false] {
        let kept = content.clone();
        let server = Receiver::start(move |mut connection| {
            connection.head();
            if !chunked {
                connection.say("HTTP/1.1 200 OK\r\n\r\n");
                return connection.send(&kept);
            }
            connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in kept.chunks(77_777) {
                connection.say(&format!("{:x}\r\n", chunk.len()));
                connection.send(chunk);
                connection.say("\r\n");
            }
            connection.say("0\r\n\r\n");
        });
        get(&[&server.url("x"), "-o", &target]).assert_delivered(1);
        assert_same(&fs::read(&target).unwrap(), &content, "the file");
    }
    let broken = Receiver::start(|mut connection| {
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    fs::remove_file(&target).unwrap();
    let outcome = get(&[&broken.url("x"), "-o", &target, "--retries", "0"]);
    assert_eq!(outcome.status, 5, "{outcome:?}");
    assert!(!Path::new(&target).exists());
}

#[test]
fn a_redirect_is_followed_without_the_token_and_not_for_ever() {
    let files = Files::new();
    let content = files.file("origin", 1000);
    let target = files.names(&["target"]).remove(0);
    let kept = content.clone();
    let second = Receiver::start(move |mut connection| {
        answer(&mut connection, &kept, TAG, usize::MAX);
    });
    let there = second.url("there");
    let first = Receiver::start(move |mut connection| {
        let request = connection.head().unwrap();
        let place = if request.head.starts_with("GET /loop") { "/loop" } else { &*there };
        connection.keep(request);
        connection
            .say(&format!("HTTP/1.1 302 x\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"));
    });
    let token = ["--token-variable", "RINGWAYD_TEST_TOKEN", "--retries", "0"];
    let fetch = |path: &str| get(&[&[&first.url(path), "-o", &target][..], &token].concat());
    fetch("here").assert_delivered(1);
    assert_same(&fs::read(&target).unwrap(), &content, "the file");
    assert!(first.requests()[0].field("Authorization").is_some());
    assert_eq!(second.requests()[0].field("Authorization"), None);
    fetch("loop").assert_failed(5, "broken", "it redirects for ever");
}

#[test]
fn what_is_refused_or_too_long_leaves_no_file() {
    let files = Files::new();
    let target = files.names(&["target"]).remove(0);
    let server = Receiver::answering("HTTP/1.1 404 x\r\nContent-Length: 7\r\n\r\nno such");
    get(&[&server.url("x"), "-o", &target]).assert_failed(6, "refused", "it answered 404: no such");
    let content = files.file("origin", 10_000);
    let server = breaking(&content, 0);
    let outcome = get(&[&server.url("x"), "-o", &target, "--max-file-bytes", "9999"]);
    outcome.assert_failed(11, "disk", "it has more than 9999 bytes");
    assert!(!Path::new(&target).exists());
    let outcome = get(&[&server.url("folder/")]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.errors.contains("give one by --output"), "{outcome:?}");
}
