//! The access log: one line for each request, in either form, and never in the way.

use rustix::process::Signal;
use serde_json::Value;

use crate::client::Client;
use crate::daemon::{Daemon, Output, Root, Start, wait_until};

fn some_requests(daemon: &Daemon) {
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.fetch("/large", "User-Agent: tester\r\n").status, 200);
    assert_eq!(client.fetch("/small", "Range: bytes=10-19\r\n").status, 206);
    assert_eq!(client.get("/missing\u{1b}").status, 400);
}

fn root() -> Root {
    let root = Root::new();
    root.file("large", 3_000_000);
    root.file("small", 1000);
    root
}

#[test]
fn text_lines_name_route_and_mode() {
    let root = root();
    let daemon = Daemon::serve(&root, &[]);
    some_requests(&daemon);
    wait_until("the lines are written while it serves", || daemon.output().lines().count() == 3);
    let log = daemon.finish();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].starts_with("127.0.0.1 - - ["), "{log}");
    assert!(lines[0].contains("\"GET /large HTTP/1.1\" 200 3000000 \"-\" \"tester\""), "{log}");
    assert!(lines[0].contains(" route=") && !lines[0].contains(" route=- "), "{log}");
    assert!(lines[0].contains(" mode=") && !lines[0].contains(" mode=- "), "{log}");
    assert!(lines[0].ends_with(" outcome=complete"), "{log}");
    assert!(lines[1].contains("\" 206 10 ") && lines[1].contains(" route=copy "), "{log}");
    assert!(lines[2].contains("\"-\" 400 ") && lines[2].contains(" route=- mode=- "), "{log}");
    assert!(log.is_ascii() && !log.contains('\u{1b}'), "{log:?}");
}

#[test]
fn json_lines_name_route_and_mode() {
    let root = root();
    let daemon = Daemon::serve(&root, &["--log-format", "json"]);
    some_requests(&daemon);
    let log = daemon.finish();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert_eq!(lines[0]["target"], "/large");
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["body_bytes"], 3_000_000);
    assert_eq!(lines[0]["user_agent"], "tester");
    assert!(lines[0]["route"].is_string() && lines[0]["mode"].is_string(), "{log}");
    assert_eq!(lines[0]["error"], Value::Null);
    assert_eq!((&lines[1]["status"], &lines[1]["route"]), (&206.into(), &"copy".into()));
    assert_eq!((&lines[2]["status"], &lines[2]["route"]), (&400.into(), &Value::Null));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    const REQUESTS: usize = 2000;
    let root = Root::new();
    let start = Start { output: Output::Stalled, ..Start::new(&root, &[]) };
    let mut daemon = Daemon::start(&start);
    let mut client = Client::connect(daemon.address());
    // Lines of eight kilobytes: far more than the pipe, the queue and the thread will hold.
    let path = format!("/{}", "a".repeat(8000));
    for _ in 0..REQUESTS {
        assert_eq!(client.get(&path).status, 404);
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success(), "{}", daemon.errors());
    let said = daemon.errors();
    assert!(said.contains("lines of the access log were dropped in all"), "{said}");
}

#[test]
fn a_log_whose_reader_is_gone_holds_up_nobody() {
    let root = root();
    let start = Start { output: Output::Closed, ..Start::new(&root, &[]) };
    let mut daemon = Daemon::start(&start);
    some_requests(&daemon);
    wait_until("the end of the log is told", || daemon.errors().contains("the access log ends"));
    some_requests(&daemon);
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success(), "{}", daemon.errors());
    let said = daemon.errors();
    assert!(said.contains("3 lines of the access log were dropped in all"), "{said}");
}
