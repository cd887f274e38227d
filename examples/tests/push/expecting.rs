//! Receivers that are asked before they are sent a body.

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::{Files, run};

const LEN: usize = 2_000_000;

#[test]
fn a_receiver_that_refuses_is_sent_no_body() {
    let files = Files::new();
    files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    let receiver = Receiver::start(|mut connection| {
        let Some(mut request) = connection.head() else { return };
        connection.say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nwho are you?");
        request.body = connection.rest();
        connection.keep(request);
    });
    let outcome = run(&[&path, "--to", &receiver.url("x")]);
    outcome.assert_failed(6, "refused", "it answered 401: who are you?");
    crate::run::wait_until("the receiver has seen the end", || !receiver.requests().is_empty());
    let requests = receiver.requests();
    assert_eq!((requests.len(), requests[0].body.len()), (1, 0));
    assert_eq!(requests[0].field("Expect"), Some("100-continue"));
}

#[test]
fn a_receiver_that_does_not_know_the_question_gets_the_body_all_the_same() {
    let files = Files::new();
    let wanted = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    let receiver = Receiver::start(|mut connection| {
        while let Some(mut request) = connection.head() {
            let Ok(body) = connection.body(request.length()) else { return };
            request.body = body;
            connection.keep(request);
            connection.say(CREATED);
        }
    });
    let wait = ["--expect-timeout-milliseconds", "50"];
    let outcome = run(&[&[&path, "--to", &receiver.url("x")][..], &wait].concat());
    outcome.assert_delivered(1);
    assert_same(&receiver.requests()[0].body, &wanted, "the file");
}

#[test]
fn a_receiver_that_cannot_be_asked_is_not_asked_again() {
    let files = Files::new();
    files.file("file", LEN);
    files.file("next", LEN);
    let paths = files.names(&["file", "next"]);
    let receiver = Receiver::start(|mut connection| {
        while let Some(mut request) = connection.head() {
            if request.field("Expect").is_some() {
                connection.keep(request);
                let answer = "HTTP/1.1 417 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                return connection.say(answer);
            }
            let Ok(body) = connection.body(request.length()) else { return };
            request.body = body;
            connection.keep(request);
            connection.say(CREATED);
        }
    });
    let outcome = run(&[&paths[0], &paths[1], "--to", &receiver.url(""), "--retries", "0"]);
    outcome.assert_delivered(2);
    let lengths: Vec<_> = receiver.requests().iter().map(|request| request.body.len()).collect();
    assert_eq!(lengths, [0, LEN, LEN]);
}

#[test]
fn small_files_are_not_asked_about() {
    let files = Files::new();
    files.file("file", 1000);
    let path = files.names(&["file"]).remove(0);
    let receiver = Receiver::answering(CREATED);
    run(&[&path, "--to", &receiver.url("x")]).assert_delivered(1);
    assert_eq!(receiver.requests()[0].field("Expect"), None);
}
