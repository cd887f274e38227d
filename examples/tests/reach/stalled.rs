//! Peers that ask for a large file and then read nothing.

use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, wait_until};
use crate::load::{SMALL, SMALL_BYTES, beside, during};
use crate::meter::{self, PIPE_FDS_MAX, WORKERS_MAX};

const LARGE_BYTES: usize = 8 << 20;
/// The promise: user memory of the daemon for each of them.
const BYTES_EACH_MAX: u64 = 16 << 10;
/// The default of `--max-unsent-bytes`, which bounds what waits in the kernel. A send is cut only
/// when it is full already, so the last one exceeds it by at most what one internal send takes.
const UNSENT_BYTES_MAX: u64 = (1 << 20) + (64 << 10);

#[test]
fn a_hundred_stalled_peers_cost_little() {
    stalled_peers_cost_little(100);
}

#[test]
#[ignore = "lane: reach; run with: cargo test --release -p ringway-examples --test reach -- --ignored"]
fn a_thousand_stalled_peers_cost_little() {
    stalled_peers_cost_little(1000);
}

fn stall(daemon: &Daemon, count: usize) -> Vec<TcpStream> {
    let one = |_| {
        let mut peer = meter::narrow(daemon.address());
        peer.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        peer
    };
    (0..count).map(one).collect()
}

/// Waits until all their sockets are full, and what they held at first is given back.
fn settle(daemon: &Daemon, count: usize) -> Vec<u64> {
    let mut queues = Vec::new();
    let mut before = Vec::new();
    wait_until("all of them have stalled", || {
        queues = meter::send_queues(daemon.address().port());
        queues.retain(|queue| *queue > 16 << 10);
        let settled = queues.len() >= count && queues == before;
        before.clone_from(&queues);
        sleep(Duration::from_millis(100));
        settled
    });
    queues
}

fn stalled_peers_cost_little(count: usize) {
    let root = Root::new();
    let (small, large) = (root.file(SMALL, SMALL_BYTES), root.file("large", LARGE_BYTES));
    let arguments = ["--log-format", "none", "--send-timeout-seconds", "600"];
    let daemon = Daemon::serve(&root, &arguments);
    let sockets = daemon.sockets();
    // What the first ones cost is the daemon's own: desks, tables, pipes.
    let mut peers = stall(&daemon, 20);
    settle(&daemon, 20);
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/large").body, &large, "the large file");
    let idle = during(daemon.address(), &small, Duration::from_secs(2));
    let (memory, kernel) = (daemon.memory(), meter::tcp_memory());
    peers.extend(stall(&daemon, count));
    let queues = settle(&daemon, 20 + count);
    let each = daemon.memory().saturating_sub(memory) / count as u64;
    let kernel_each = meter::tcp_memory().saturating_sub(kernel) / count as u64;
    let (workers, pipes) = (meter::workers(&daemon), meter::pipe_fds(&daemon));
    let most = queues.iter().max().copied().unwrap_or(0);
    println!(
        "{count} stalled peers: {each} bytes of user memory each, {workers} kernel threads, {pipes} \
         ends of pipes; in the kernel {kernel_each} bytes each, send queue at most {most}"
    );
    assert!(each <= BYTES_EACH_MAX, "{each} bytes of user memory for each stalled peer");
    assert!(most <= UNSENT_BYTES_MAX, "{most} bytes wait in the kernel for one of them");
    let (beside, body) = beside(daemon.address(), &small, || {
        let before = meter::ticks(&daemon);
        sleep(Duration::from_secs(2));
        println!("two seconds beside them: {} ticks", meter::ticks(&daemon) - before);
        client.get("/large").body
    });
    assert_same(&body, &large, "the large file");
    println!("without: {}", idle.told());
    println!("beside:  {}, p99 {:.2} ×", beside.told(), beside.ratio_to(&idle));
    beside.assert_sane(&idle, 20);
    assert!(meter::workers(&daemon) <= WORKERS_MAX);
    // Those that are kept for the next transfer; nobody holds one.
    assert!(meter::pipe_fds(&daemon) <= PIPE_FDS_MAX);
    // Each of them is served to its end, if it comes back to it.
    let mut back = peers.swap_remove(0);
    let mut response = vec![0; LARGE_BYTES];
    std::io::Read::read_exact(&mut back, &mut response).unwrap();
    let body = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    assert_same(&response[body..], &large[..LARGE_BYTES - body], "the start of the large file");
    drop((peers, back, client));
    wait_until("their sockets are closed", || daemon.sockets() == sockets);
    drop(daemon.finish());
}
