//! How the daemon ends.

use std::fs;
use std::net::TcpStream;

use rustix::process::Signal;

use crate::client::Client;
use crate::daemon::{Daemon, Root, wait_until};

const LARGE: usize = 96 << 20;

fn large_file(root: &Root) {
    fs::File::create(root.path("large")).unwrap().set_len(LARGE as u64).unwrap();
}

/// A download of which the client has read the beginning.
fn running_download(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address());
    client.ask("GET", "/large", "");
    assert_eq!(client.head().length(), Some(LARGE));
    client.exactly(100_000).unwrap();
    client
}

fn refuses_connections(daemon: &Daemon) -> bool {
    TcpStream::connect(daemon.address()).is_err()
}

#[test]
fn sigterm_finishes_what_is_running() {
    let root = Root::new();
    large_file(&root);
    let mut daemon = Daemon::serve(&root, &["--threads", "2"]);
    let mut idle = Client::connect(daemon.address());
    let mut downloads: Vec<_> = (0..4).map(|_| running_download(&daemon)).collect();
    daemon.signal(Signal::TERM);
    idle.assert_closed();
    wait_until("nobody listens any more", || refuses_connections(&daemon));
    for client in &mut downloads {
        assert_eq!(client.exactly(LARGE - 100_000).unwrap().len(), LARGE - 100_000);
        client.assert_closed();
    }
    let status = daemon.ended();
    assert!(status.success(), "{status}: {}", daemon.errors());
    assert_eq!(daemon.output().matches(" outcome=complete").count(), 4);
}

#[test]
fn a_request_that_has_begun_is_answered_and_then_the_connection_closes() {
    let root = Root::new();
    root.file("file", 1000);
    let mut daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.get("/file").status, 200);
    client.send("GET /file HTTP/1.1\r\n");
    // Once this is answered, the daemon has seen the other beginning too: it came first.
    assert_eq!(Client::connect(daemon.address()).get("/file").status, 200);
    daemon.signal(Signal::INT);
    wait_until("nobody listens any more", || refuses_connections(&daemon));
    client.send("Host: test\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.body.len()), (200, 1000));
    assert_eq!(response.field("Connection"), Some("close"));
    client.assert_closed();
    assert!(daemon.ended().success());
}

#[test]
fn a_download_that_does_not_end_in_time_is_cut() {
    let root = Root::new();
    large_file(&root);
    let mut daemon = Daemon::serve(&root, &["--drain-timeout-seconds", "1"]);
    let mut client = running_download(&daemon);
    daemon.signal(Signal::TERM);
    let status = daemon.ended();
    assert!(status.success(), "{status}");
    let (rest, _) = client.rest();
    assert!(rest.len() < LARGE - 100_000, "it looks whole");
    assert!(daemon.output().contains(" outcome=cancelled"), "{}", daemon.output());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let root = Root::new();
    large_file(&root);
    let mut daemon = Daemon::serve(&root, &["--threads", "2"]);
    let mut client = running_download(&daemon);
    daemon.signal(Signal::TERM);
    // Two signals that come together count as one.
    wait_until("the first one is obeyed", || refuses_connections(&daemon));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(1));
    assert!(client.rest().0.len() < LARGE - 100_000);
}
