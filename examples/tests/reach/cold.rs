//! A cold file beside small requests: the disk is waited for by a worker, not by the loop.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ringway::runtime::Runtime;
use ringway::runtime::fs::{Advice, Residency};
use ringway_testkit::Checker;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::client::Client;
use crate::daemon::{Daemon, PATIENCE, Root};
use crate::load::{Latencies, SMALL, SMALL_BYTES, beside, during};
use crate::meter;

const FILE: u64 = 81;

#[test]
fn small_requests_beside_a_cold_transfer() {
    small_requests_beside(64 << 20);
}

#[test]
#[ignore = "lane: reach; run with: cargo test --release -p ringway-examples --test reach -- --ignored"]
fn small_requests_beside_a_cold_gibibyte() {
    small_requests_beside(1 << 30);
}

/// Drops the file from the page cache; whether that worked, which it does not on every file system.
fn make_cold(path: &Path, len: u64) -> bool {
    let file = File::options().read(true).write(true).open(path).unwrap();
    file.sync_all().unwrap();
    let file = ringway::runtime::fs::File::from_std(file);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(file.advise(0, 0, Advice::DontNeed)).unwrap();
    file.residency(len / 2, 1 << 20) == Residency::Cold && file.residency(0, len) == Residency::Cold
}

/// Receives a body and throws it away, without touching it. Gives how long that took.
fn swallow(address: SocketAddr, len: u64) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let (mut buffer, mut received) = (vec![0; 1 << 20], 0);
    loop {
        match recv(&stream, &mut buffer[..], RecvFlags::TRUNC) {
            Ok((_, 0)) => break,
            Ok((_, count)) => received += count as u64,
            // With a timeout on the socket, a call that is disturbed is not taken up again.
            Err(Errno::INTR) => {}
            Err(error) => panic!("after {received} bytes: {error}"),
        }
    }
    assert!((len + 1..len + 1000).contains(&received), "{received} bytes with a head");
    began.elapsed()
}

fn small_requests_beside(len: u64) {
    let root = Root::new();
    let small = root.file(SMALL, SMALL_BYTES);
    ringway_testkit::canary::write_file(root.path("large"), FILE, len).unwrap();
    let daemon = Daemon::serve(&root, &["--log-format", "none"]);
    // The control: what a transfer on another ring costs the machine, and so everybody on it.
    let other = Daemon::serve(&root, &["--log-format", "none"]);
    let idle = during(daemon.address(), &small, Duration::from_secs(2));
    println!("idle: {}", idle.told());
    let rounds = [
        ("cold, on another ring", &other, true),
        ("cold, on the same ring", &daemon, true),
        ("resident, on another ring", &other, false),
        ("resident, on the same ring", &daemon, false),
    ];
    for (round, sender, cold) in rounds {
        let (mut busy, mut took, mut workers) = (Vec::new(), Vec::new(), 0);
        // Small ones are over before there were enough requests to tell anything.
        for _ in 0..(1 << 30) / len {
            if cold && !make_cold(&root.path("large"), len) {
                println!("skipped: {} stays in the page cache", root.path("large").display());
                return;
            }
            let swallow = || swallow(sender.address(), len);
            let (latencies, once) = beside(daemon.address(), &small, swallow);
            busy.push(latencies);
            took.push(once);
            workers = workers.max(meter::workers(sender));
        }
        let (busy, mean) = (Latencies::of(busy), took.iter().sum::<Duration>() / count(&took));
        println!(
            "{round}: {} MiB in {mean:?}, {workers} workers; beside it {}, p99 {:.2} ×",
            len >> 20,
            busy.told(),
            busy.ratio_to(&idle)
        );
        assert!(!cold || workers > 0, "nobody waited for the disk but the loop");
        busy.assert_sane(&idle, 10);
    }
    // And it is the right file.
    let mut client = Client::connect(daemon.address());
    let range = format!("Range: bytes={}-\r\n", len - 100_000);
    let body = client.fetch("/large", &range).body;
    Checker::new(FILE, len - 100_000).feed(&body).unwrap();
    drop(client);
    drop((daemon.finish(), other.finish()));
}

fn count(all: &[Duration]) -> u32 {
    u32::try_from(all.len()).unwrap()
}
