//! Keep-alive connections on which nothing happens.

use std::thread::sleep;
use std::time::Duration;

use crate::client::Client;
use crate::daemon::{Daemon, Root};
use crate::meter;

/// The promise: user memory of the daemon for each of them.
const BYTES_EACH_MAX: u64 = 6 << 10;
/// Processor time in three seconds, in ticks of 10 ms.
const TICKS_MAX: u64 = 2;

#[test]
fn a_thousand_idle_connections_cost_little() {
    idle_connections_cost_little(1000);
}

#[test]
#[ignore = "lane: reach; run with: cargo test --release -p ringway-examples --test reach -- --ignored"]
fn ten_thousand_idle_connections_cost_little() {
    idle_connections_cost_little(10_000);
}

fn idle_connections_cost_little(wanted: usize) {
    let count = meter::affordable(wanted);
    let root = Root::new();
    root.file("file", 100);
    let daemon = Daemon::serve(&root, &["--log-format", "none", "--idle-timeout-seconds", "600"]);
    let asked = |_| {
        let mut client = Client::connect(daemon.address());
        assert_eq!(client.get("/file").status, 200);
        client
    };
    let mut clients: Vec<_> = (0..20).map(asked).collect();
    let before = daemon.memory();
    clients.extend((0..count).map(asked));
    let each = daemon.memory().saturating_sub(before) / count as u64;
    // The file that was sent is still open for the next who asks; it is closed by then.
    sleep(Duration::from_secs(1));
    let ticks = meter::ticks(&daemon);
    sleep(Duration::from_secs(3));
    let ticks = meter::ticks(&daemon) - ticks;
    println!("{count} idle connections: {each} bytes each, {ticks} ticks of 10 ms in 3 s");
    assert!(each <= BYTES_EACH_MAX, "an idle connection costs {each} bytes");
    assert!(ticks <= TICKS_MAX, "{ticks} ticks for connections on which nothing happens");
    assert_eq!(meter::workers(&daemon), 0);
    for client in clients.iter_mut().rev().take(20) {
        assert_eq!(client.get("/file").status, 200);
    }
}
