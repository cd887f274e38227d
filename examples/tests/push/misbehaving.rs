//! Receivers that do not do as they should.

use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::{Files, run, start, wait_until};

const LEN: usize = 5_000_000;

fn one_file(len: usize) -> (Files, Vec<u8>, String) {
    let files = Files::new();
    let content = files.file("file", len);
    let path = files.names(&["file"]).remove(0);
    (files, content, path)
}

#[test]
fn an_error_of_the_server_is_tried_again_over_the_same_connection() {
    let (_files, content, path) = one_file(LEN);
    let receiver = Receiver::answering_in_turn(&[
        "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
        "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        CREATED,
    ]);
    let outcome = run(&[&path, "--to", &receiver.url("x")]);
    outcome.assert_delivered(1);
    let retried = outcome.events("retrying");
    assert_eq!(retried.len(), 2, "{outcome:?}");
    assert_eq!(retried[0]["error"], "it answered 500: oops");
    assert_eq!(retried[1]["error"], "it answered 503: no");
    assert_eq!(receiver.connections(), 1);
    assert_same(&receiver.requests()[2].body, &content, "the file");
}

#[test]
fn a_receiver_that_asks_for_too_long_a_pause_is_given_up() {
    let (_files, _, path) = one_file(10);
    let answer = "HTTP/1.1 429 Slow down\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n";
    let receiver = Receiver::answering(answer);
    let outcome = run(&[&path, "--to", &receiver.url("x"), "--retry-wait-max-seconds", "60"]);
    outcome.assert_failed(6, "refused", "it answered 429");
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn a_refusal_that_lasts_is_not_tried_again() {
    let (_files, _, path) = one_file(10);
    for answer in [
        "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 307 Elsewhere\r\nLocation: http://other/x?secret\r\nContent-Length: 0\r\n\r\n",
    ] {
        let receiver = Receiver::answering(answer);
        let outcome = run(&[&path, "--to", &receiver.url("x")]);
        outcome.assert_failed(6, "refused", "it answered ");
        assert_eq!(receiver.requests().len(), 1);
        assert!(!format!("{outcome:?}").contains("secret"));
    }
}

#[test]
fn a_connection_that_breaks_in_mid_body_is_made_anew() {
    let (_files, content, path) = one_file(LEN);
    let receiver = Receiver::start(|mut connection| {
        if connection.number < 2 {
            let Some(_) = connection.head() else { return };
            connection.say("HTTP/1.1 100 Continue\r\n\r\n");
            _ = connection.body(100_000);
            // With bytes unread this is a reset.
            return;
        }
        while connection.take(CREATED) {}
    });
    let outcome = run(&[&path, "--to", &receiver.url("x")]);
    outcome.assert_delivered(1);
    assert_eq!(outcome.events("retrying").len(), 2, "{outcome:?}");
    assert_eq!(outcome.events("retrying")[0]["kind"], "broken");
    assert_same(&receiver.requests()[0].body, &content, "the file");
}

#[test]
fn a_receiver_that_takes_all_and_never_answers_is_given_up() {
    let (_files, _, path) = one_file(LEN);
    let receiver = Receiver::start(|mut connection| {
        connection.request();
        connection.rest();
    });
    let arguments = ["--idle-timeout-seconds", "1", "--retries", "0"];
    let outcome = run(&[&[&path, "--to", &receiver.url("x")][..], &arguments].concat());
    outcome.assert_failed(5, "broken", "it neither took nor said anything for 1s");
}

#[test]
fn a_receiver_that_closes_without_an_answer_is_a_failure() {
    let (_files, _, path) = one_file(1000);
    let receiver = Receiver::start(|mut connection| drop(connection.request()));
    let outcome = run(&[&path, "--to", &receiver.url("x"), "--retries", "1"]);
    outcome.assert_failed(5, "broken", "the connection broke");
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn what_is_no_http_is_a_failure() {
    let (_files, _, path) = one_file(1000);
    let receiver = Receiver::answering("SSH-2.0-OpenSSH_9.2\r\n");
    let outcome = run(&[&path, "--to", &receiver.url("x"), "--retries", "0"]);
    outcome.assert_failed(5, "broken", "it does not speak HTTP/1.1");
}

#[test]
fn a_refusal_before_the_body_has_ended_ends_the_body() {
    let (_files, _, path) = one_file(20_000_000);
    let receiver = Receiver::start(|mut connection| {
        let Some(mut request) = connection.head() else { return };
        connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        request.body = connection.body(100_000).unwrap();
        connection.say("HTTP/1.1 413 Too large\r\nContent-Length: 5\r\n\r\nlarge");
        request.body.extend(connection.rest());
        connection.keep(request);
    });
    let outcome = run(&[&path, "--to", &receiver.url("x")]);
    outcome.assert_failed(6, "refused", "it answered 413: large");
    wait_until("the receiver has seen the end", || !receiver.requests().is_empty());
    assert!(receiver.requests()[0].body.len() < 20_000_000);
}

#[test]
fn a_success_before_the_body_has_ended_is_none() {
    let (_files, _, path) = one_file(20_000_000);
    let receiver = Receiver::start(|mut connection| {
        let Some(_) = connection.head() else { return };
        connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        connection.body(100_000).unwrap();
        connection.say(CREATED);
        // Nothing more is read, and nothing is closed: the test ends before this does.
        thread::sleep(Duration::from_secs(120));
    });
    let outcome = run(&[&path, "--to", &receiver.url("x"), "--retries", "0"]);
    outcome.assert_failed(5, "broken", "it answered 201 when it had ");
}

#[test]
fn an_answer_in_single_bytes_after_a_body_that_was_read_slowly_is_understood() {
    let (_files, content, path) = one_file(300_000);
    let receiver = Receiver::start(|mut connection| {
        let Some(mut request) = connection.head() else { return };
        while request.body.len() < request.length() {
            thread::sleep(Duration::from_millis(1));
            let left = request.length() - request.body.len();
            request.body.extend(connection.body(left.min(1000)).unwrap());
        }
        connection.keep(request);
        connection.stream.set_nodelay(true).unwrap();
        for byte in "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 201 Created\r\n\r\nthank you".chars() {
            connection.say(&byte.to_string());
        }
    });
    run(&[&path, "--to", &receiver.url("x")]).assert_delivered(1);
    assert_same(&receiver.requests()[0].body, &content, "the file");
}

#[test]
fn a_connection_that_was_closed_between_two_files_costs_no_attempt() {
    let files = Files::new();
    let paths: Vec<_> = ["a", "b", "c"].map(|name| (files.file(name, 5000), name)).into();
    let names = files.names(&["a", "b", "c"]);
    let receiver = Receiver::start(|mut connection| _ = connection.take(CREATED));
    let mut arguments = names;
    arguments.extend(["--to".to_owned(), receiver.url(""), "--retries".into(), "0".into()]);
    run(&arguments).assert_delivered(3);
    for (request, (content, name)) in receiver.requests().iter().zip(&paths) {
        assert_same(&request.body, content, name);
    }
}

#[test]
fn the_whole_has_its_time() {
    let (_files, _, path) = one_file(10);
    let receiver = Receiver::answering("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n");
    let arguments = ["--whole-timeout-seconds", "1", "--retries", "1000"];
    let outcome = run(&[&[&path, "--to", &receiver.url("x")][..], &arguments].concat());
    outcome.assert_failed(8, "time", "it had not arrived after 1s");
}

#[test]
fn a_signal_ends_it_and_says_what_did_not_arrive() {
    let files = Files::new();
    files.file("a", 20_000_000);
    files.file("b", 10);
    let receiver = Receiver::start(|mut connection| {
        connection.head();
        thread::sleep(Duration::from_secs(120));
    });
    let mut arguments = files.names(&["a", "b"]);
    arguments.extend(["--to".to_owned(), receiver.url("")]);
    let push = start(&arguments);
    wait_until("a receiver is busy", || receiver.connections() == 1);
    kill_process(push.pid(), Signal::TERM).unwrap();
    let outcome = push.ended();
    assert_eq!(outcome.status, 9, "{outcome:?}");
    assert_eq!(outcome.events("failed").len(), 2, "{outcome:?}");
}
