//! R10: the daemon without descriptors.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, wait_until};
use crate::meter;

const CLIENTS: usize = 300;
/// How many more descriptors the daemon may open.
const SPARE: u64 = 20;

#[test]
fn without_descriptors_clients_wait_and_are_served() {
    let root = Root::new();
    let (small, large) = (root.file("small", 1000), root.file("large", 3_000_000));
    let daemon = Daemon::serve(&root, &["--log-format", "none"]);
    let mut known = Client::connect(daemon.address());
    assert_same(&known.get("/small").body, &small, "the small file");
    let usual = getrlimit(Resource::Nofile);
    let allow = |limit| {
        let limit = Rlimit { current: Some(limit), ..usual };
        prlimit(Some(daemon.pid()), Resource::Nofile, limit).unwrap();
    };
    let last = daemon.descriptors().keys().next_back().copied().unwrap();
    allow(last + 1 + SPARE);
    let mut waiting: Vec<_> = (0..CLIENTS).map(|_| Client::connect(daemon.address())).collect();
    wait_until("all descriptors are used", || daemon.descriptors().len() as u64 > last + SPARE);
    // The rest waits in the backlog, without a spinning loop and without a flood of lines.
    let ticks = meter::ticks(&daemon);
    sleep(Duration::from_secs(1));
    let ticks = meter::ticks(&daemon) - ticks;
    let lines = daemon.errors().lines().count();
    println!("a second without descriptors: {ticks} ticks of 10 ms, {lines} lines in all");
    assert!(ticks <= 10, "it spins: {ticks} ticks");
    assert!(lines <= 3, "{}", daemon.errors());
    // Without a descriptor for a pipe, and perhaps for the file: then it says so.
    let mut refused = 0;
    let response = known.get("/large");
    match response.status {
        200 => assert_same(&response.body, &large, "the large file"),
        status => refused += usize::from(status == 503),
    }
    // Whoever leaves makes room for the next.
    for mut client in waiting.drain(..) {
        let response = client.get("/small");
        match response.status {
            200 => assert_same(&response.body, &small, "the small file"),
            503 => refused += 1,
            status => panic!("{status}"),
        }
    }
    println!("{CLIENTS} clients through {SPARE} descriptors, {refused} answers were 503");
    allow(usual.current.unwrap_or(u64::MAX));
    assert_same(&known.get("/large").body, &large, "the large file");
    drop(known);
    drop(daemon.finish());
}
