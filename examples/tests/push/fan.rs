//! Many receivers at once.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::{Files, run, start, wait_until};

#[test]
fn seven_receivers_have_everything_while_the_eighth_still_stalls() {
    let files = Files::new();
    let contents = ["a", "b"].map(|name| files.file(name, 8_000_000));
    let good: Vec<_> = (0..7).map(|_| Receiver::answering(CREATED)).collect();
    let stalled = Receiver::start(|mut connection| {
        connection.head();
        thread::sleep(Duration::from_secs(120));
    });
    let mut arguments = files.names(&["a", "b"]);
    arguments.push("--to".to_owned());
    arguments.push(stalled.url(""));
    arguments.extend(good.iter().map(|receiver| receiver.url("")));
    arguments.extend(["--idle-timeout-seconds", "100", "--retries", "0"].map(str::to_owned));
    let push = start(&arguments);
    wait_until("seven have both files", || {
        push.lines().iter().filter(|line| line["event"] == "delivered").count() == 14
    });
    // The eighth has not even been given up yet: nothing has waited for that.
    assert!(push.lines().iter().all(|line| line["event"] != "failed"));
    for receiver in &good {
        for (request, content) in receiver.requests().iter().zip(&contents) {
            assert_same(&request.body, content, "a file");
        }
    }
    rustix::process::kill_process(push.pid(), rustix::process::Signal::TERM).unwrap();
    let outcome = push.ended();
    assert_eq!((outcome.status, outcome.events("failed").len()), (9, 2), "{outcome:?}");
}

#[test]
fn a_receiver_that_is_not_there_fails_alone_and_once() {
    let files = Files::new();
    files.file("a", 1000);
    files.file("b", 1000);
    let good = Receiver::answering(CREATED);
    // Bound and not listening any more: connecting is refused.
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let mut arguments = files.names(&["a", "b"]);
    arguments.extend(["--to".to_owned(), dead, good.url(""), "--retries".into(), "2".into()]);
    let outcome = run(&arguments);
    assert_eq!(outcome.status, 4, "{outcome:?}");
    assert_eq!(outcome.events("delivered").len(), 2, "{outcome:?}");
    assert_eq!(outcome.events("retrying").len(), 2, "{outcome:?}");
    let failed = outcome.events("failed");
    assert!(failed[0]["error"].as_str().unwrap().contains("it cannot be reached"), "{failed:?}");
    assert!(failed[1]["error"].as_str().unwrap().contains("given up"), "{failed:?}");
    let summary = outcome.events("summary");
    assert_eq!((&summary[0]["delivered"], &summary[0]["failed"]), (&2.into(), &2.into()));
}

#[test]
fn several_kinds_of_failure_have_a_status_of_their_own() {
    let files = Files::new();
    files.file("a", 1000);
    let refusing = Receiver::answering("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n");
    let closing = Receiver::start(|mut connection| drop(connection.request()));
    let path = files.names(&["a"]).remove(0);
    let outcome = run(&[&path, "--to", &refusing.url("x"), &closing.url("x"), "--retries", "0"]);
    assert_eq!(outcome.status, 20, "{outcome:?}");
}

#[test]
fn a_name_that_cannot_be_resolved_fails_as_unreachable() {
    let files = Files::new();
    files.file("a", 1000);
    let path = files.names(&["a"]).remove(0);
    let outcome = run(&[&path, "--to", "http://name.invalid/", "--retries", "0"]);
    outcome.assert_failed(4, "unreachable", "its name cannot be resolved");
}
