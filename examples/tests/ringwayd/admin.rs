//! What the daemon tells those who run it.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::client::{Client, Response};
use crate::daemon::{Daemon, Root, wait_until};

/// The address of the administration, once the daemon has told it.
pub(crate) fn address(daemon: &Daemon) -> SocketAddr {
    let mut address = None;
    wait_until("the address is told", || {
        let errors = daemon.errors();
        let rest = errors.split_once("health and metrics at http://").map(|(_, rest)| rest);
        address = rest.and_then(|rest| rest.split('/').next()?.parse().ok());
        address.is_some()
    });
    address.unwrap()
}

pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut client = Client::connect(address);
    client.ask(method, path, "");
    let Response { status, body, .. } = client.response();
    client.assert_closed();
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn metrics_count_requests_bytes_routes_and_what_the_ring_does() {
    let root = Root::new();
    root.file("file", 100_000);
    let daemon = Daemon::serve(&root, &["--admin-listen", "127.0.0.1:0", "--threads", "2"]);
    let admin = address(&daemon);
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.get("/file").status, 200);
    assert_eq!(client.get("/missing").status, 404);
    let mut text = String::new();
    wait_until("the requests are counted", || {
        text = ask(admin, "GET", "/metrics").1;
        text.contains("ringwayd_requests_total{status=\"404\"} 1\n")
    });
    for line in [
        "ringwayd_requests_total{status=\"200\"} 1\n",
        "ringwayd_bodies_total{route=\"splice\",mode=\"inline\"} 1\n",
        "ringwayd_connections 1\n",
        "ringwayd_draining 0\n",
        "ringwayd_runtime_unexpected_errnos{thread=\"1\"} 0\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let bytes = text.lines().find_map(|line| line.strip_prefix("ringwayd_body_bytes_total "));
    assert!(bytes.unwrap().parse::<u64>().unwrap() > 100_000, "{text}");
}

#[test]
fn health_says_when_the_daemon_drains() {
    let root = Root::new();
    root.file("file", 50_000_000);
    let mut daemon = Daemon::serve(&root, &["--admin-listen", "127.0.0.1:0"]);
    let admin = address(&daemon);
    assert_eq!(ask(admin, "GET", "/health"), (200, "ok\n".to_owned()));
    assert_eq!(ask(admin, "GET", "/other").0, 404);
    assert_eq!(ask(admin, "POST", "/health").0, 405);
    let mut busy = Client::connect(daemon.address());
    busy.ask("GET", "/file", "");
    let head = busy.head();
    daemon.signal(Signal::TERM);
    wait_until("it says that it drains", || {
        ask(admin, "GET", "/health") == (503, "draining\n".to_owned())
    });
    busy.exactly(head.length().unwrap()).expect("what was begun is finished");
    assert!(daemon.ended().success());
}
