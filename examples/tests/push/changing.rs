//! Files that do not hold still while they are pushed.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver as Waiting, Sender, channel};

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::{Files, PATIENCE, run, start};

const LEN: usize = 12_000_000;

/// A receiver that reads a part of the first body, says so, and waits before it reads on.
fn pausing() -> (Receiver, Waiting<()>, Sender<()>) {
    let (paused, pausing) = channel();
    let (go_on, going_on) = channel::<()>();
    let (paused, going_on) = (Mutex::new(paused), Mutex::new(going_on));
    let receiver = Receiver::start(move |mut connection| {
        if connection.number == 0 {
            let Some(mut request) = connection.head() else { return };
            connection.say("HTTP/1.1 100 Continue\r\n\r\n");
            request.body = connection.body(1_000_000).unwrap();
            paused.lock().unwrap().send(()).unwrap();
            going_on.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            let left = request.length() - request.body.len();
            let Ok(rest) = connection.body(left) else { return };
            request.body.extend(rest);
            connection.keep(request);
            connection.say(CREATED);
        }
        while connection.take(CREATED) {}
    });
    (receiver, pausing, go_on)
}

/// Pushes a file and changes it in the middle; the outcome must have the new content at the end.
fn changed_by(change: impl FnOnce(&Path)) {
    let files = Files::new();
    files.file("file", LEN);
    let path = files.path("file");
    let (receiver, paused, go_on) = pausing();
    let push = start(&[path.to_str().unwrap(), "--to", &receiver.url("x")]);
    paused.recv_timeout(PATIENCE).unwrap();
    change(&path);
    go_on.send(()).unwrap();
    let outcome = push.ended();
    outcome.assert_delivered(1);
    let retried = outcome.events("retrying");
    assert_eq!(retried.len(), 1, "{outcome:?}");
    assert_eq!(retried[0]["kind"], "source", "{outcome:?}");
    let error = retried[0]["error"].as_str().unwrap();
    assert!(error.contains("the file changed while it was pushed"), "{error}");
    let requests = receiver.requests();
    assert_same(&requests.last().unwrap().body, &fs::read(&path).unwrap(), "the file");
}

#[test]
fn a_file_that_is_overwritten_is_pushed_again_with_its_new_digest() {
    changed_by(|path| {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(500)).unwrap();
        file.write_all(b"other bytes").unwrap();
    });
}

#[test]
fn a_file_that_becomes_shorter_is_pushed_again() {
    changed_by(|path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(2_000_000).unwrap();
    });
}

#[test]
fn a_file_that_grows_is_pushed_again() {
    changed_by(|path| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    });
}

#[test]
fn a_file_that_is_gone_when_it_is_tried_again_cannot_be_read() {
    let files = Files::new();
    files.file("file", LEN);
    let path = files.path("file");
    let (receiver, paused, go_on) = pausing();
    let push = start(&[path.to_str().unwrap(), "--to", &receiver.url("x")]);
    paused.recv_timeout(PATIENCE).unwrap();
    // Unlinking changes the time of the inode, so that this version holds no longer.
    fs::remove_file(&path).unwrap();
    go_on.send(()).unwrap();
    push.ended().assert_failed(3, "source", "No such file");
}

#[test]
fn a_file_that_never_holds_still_fails_and_says_so() {
    let files = Files::new();
    files.file("file", 100_000);
    let path = files.path("file");
    let touched = path.clone();
    let receiver = Receiver::start(move |mut connection| {
        while let Some(request) = connection.request() {
            connection.keep(request);
            let mut file = fs::OpenOptions::new().append(true).open(&touched).unwrap();
            file.write_all(b"more").unwrap();
            connection.say(CREATED);
        }
    });
    let outcome = run(&[path.to_str().unwrap(), "--to", &receiver.url("x"), "--retries", "2"]);
    outcome.assert_failed(3, "source", "the file changed while it was pushed");
    assert_eq!(receiver.requests().len(), 3);
}
