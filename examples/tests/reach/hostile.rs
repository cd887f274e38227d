//! R11: peers that mean harm, or that are only strange, all at once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use rustix::net::sockopt;

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, PATIENCE, Root, wait_until};
use crate::load::{SMALL, SMALL_BYTES, beside, during};
use crate::meter::{self, WORKERS_MAX, narrow};

const LARGE_BYTES: usize = 4 << 20;
const HALF_BYTES: usize = 1 << 20;
const SECONDS: u32 = 5;

#[test]
fn three_hundred_hostile_peers() {
    hostile_peers(300);
}

#[test]
#[ignore = "lane: reach; run with: cargo test --release -p ringway-examples --test reach -- --ignored"]
fn a_thousand_hostile_peers() {
    hostile_peers(1000);
}

/// One in four is of each kind.
struct Crowd {
    /// They read a byte per second.
    slow: Vec<TcpStream>,
    /// They send a byte of their head per second.
    dripping: Vec<TcpStream>,
    /// They go away by a reset in the middle of the body.
    resetting: Vec<Client>,
    /// They have closed their sending side before they read.
    half: Vec<TcpStream>,
}

impl Crowd {
    fn of(count: usize, address: SocketAddr) -> Crowd {
        let each = count / 4;
        let half = |_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&request("half")).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        };
        let asking = |bytes: &[u8]| {
            let mut stream = narrow(address);
            stream.write_all(bytes).unwrap();
            stream
        };
        let resetting = |_| {
            let mut client = Client::connect(address);
            client.send(request("large"));
            client
        };
        Crowd {
            slow: (0..each).map(|_| asking(&request("large"))).collect(),
            dripping: (0..each).map(|_| asking(b"GET /small HTTP/1.1\r\nX-Drip: ")).collect(),
            resetting: (0..each).map(resetting).collect(),
            half: (0..each).map(half).collect(),
        }
    }

    /// A second of their doing.
    fn act(&mut self) {
        for slow in &mut self.slow {
            slow.read_exact(&mut [0]).expect("the response goes on");
        }
        for dripping in &mut self.dripping {
            // It fails when the daemon has had enough.
            _ = dripping.write_all(b"a");
        }
        let now = self.resetting.len().div_ceil(SECONDS as usize);
        for mut client in self.resetting.drain(..now.min(self.resetting.len())) {
            assert_eq!(client.head().status, 200);
            client.exactly(1000).unwrap();
            sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
        }
    }
}

fn request(name: &str) -> Vec<u8> {
    format!("GET /{name} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

fn hostile_peers(count: usize) {
    let root = Root::new();
    let (small, half) = (root.file(SMALL, SMALL_BYTES), root.file("half", HALF_BYTES));
    let large = root.file("large", LARGE_BYTES);
    let arguments = ["--log-format", "none", "--header-timeout-seconds", "3"];
    let daemon = Daemon::serve(&root, &arguments);
    let before = daemon.sockets();
    let idle = during(daemon.address(), &small, Duration::from_secs(1));
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/large").body, &large, "the large file");
    let sockets = before + 1;
    wait_until("the load's sockets are closed", || daemon.sockets() == sockets);
    let threads = meter::threads(&daemon).len();
    let mut crowd = Crowd::of(count, daemon.address());
    let mut workers = 0;
    let (busy, ()) = beside(daemon.address(), &small, || {
        for _ in 0..SECONDS {
            crowd.act();
            workers = workers.max(meter::workers(&daemon));
            sleep(Duration::from_secs(1));
        }
        // They get the whole response, though the daemon has seen the end of what they send.
        for stream in &mut crowd.half {
            let mut response = Vec::new();
            stream.read_to_end(&mut response).unwrap();
            let head = response.len() - half.len();
            assert!(response.starts_with(b"HTTP/1.1 200"));
            assert_same(&response[head..], &half, "the body of a half-closed connection");
        }
        // Each byte came in time, and yet the head did not.
        for stream in &mut crowd.dripping {
            let mut response = Vec::new();
            if stream.read_to_end(&mut response).is_ok() {
                assert!(response.starts_with(b"HTTP/1.1 408"), "a dripping head was answered");
            }
        }
    });
    let peers = format!("{count} hostile peers for {SECONDS} s, {workers} kernel threads");
    println!("{peers}; beside them {}, p99 {:.2} ×", busy.told(), busy.ratio_to(&idle));
    busy.assert_sane(&idle, 50);
    assert!(workers <= WORKERS_MAX, "{workers} kernel threads");
    drop(crowd);
    wait_until("their sockets are closed", || daemon.sockets() == sockets);
    wait_until("the kernel's workers have left", || meter::threads(&daemon).len() <= threads);
    assert_same(&client.get("/large").body, &large, "the large file");
    drop(client);
    drop(daemon.finish());
}
