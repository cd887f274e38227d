//! Encrypted clients that go away in the middle, and the next ones, who get the pipes and buffers.

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use ringway::error::Blame;
use ringway::runtime::{BufferClass, Config, Runtime, stats};
use ringway::{Mode, Route, transfer_file};
use ringway_testkit::Checker;

use crate::support::sealed::{Settings, connected};
use crate::support::tap::{Random, quiet};
use crate::support::{canary_file, folder, open};

pub const VICTIM: u64 = 31;
pub const NEXT: u64 = 32;
/// More than the sockets take for who does not read.
pub const VICTIM_BYTES: u64 = 4 << 20;
const NEXT_BYTES: u64 = (150 << 10) + 1;
const MODES: [Mode; 3] = [Mode::Ring, Mode::Hybrid, Mode::Inline];

/// Few pipes and buffers, so that each is used again at once.
pub fn tiny_runtime() -> Runtime {
    let buffers = vec![BufferClass { bytes: 128 << 10, count: 2 }];
    let config = Config {
        completion_entries: 512,
        pipes_max: 2,
        pipe_bytes: 128 << 10,
        buffers,
        ..Config::default()
    };
    Runtime::with_config(config).unwrap()
}

/// Lets clients go away in the middle, `count` of them, and serves another one after each.
pub async fn abort_and_go_on(settings: &Settings, route: Route, count: u64) {
    let folder = folder();
    let victim = open(&canary_file(&folder, VICTIM, VICTIM_BYTES));
    let next = open(&canary_file(&folder, NEXT, NEXT_BYTES));
    let narrow = Settings { send_buffer: 64 << 10, ..settings.clone() };
    let mut random = Random(3);
    let base = stats().unwrap();
    for (number, mode) in (0..count).zip(MODES.into_iter().cycle()) {
        let (mut stream, mut client) = connected(&narrow).await;
        // Or the kernel would widen it, on newer ones to more than the file.
        rustix::net::sockopt::set_socket_recv_buffer_size(&client.sock.0, 64 << 10).unwrap();
        let read = usize::try_from(random.below(300 << 10)).unwrap();
        let leaving = std::thread::spawn(move || {
            let mut got = vec![0; read];
            client.read_exact(&mut got).unwrap();
            Checker::new(VICTIM, 0).feed(&got).unwrap();
            match number % 2 {
                0 => rustix::net::sockopt::set_socket_linger(&client.sock.0, Some(Duration::ZERO))
                    .unwrap(),
                _ => client.sock.0.shutdown(Shutdown::Both).unwrap(),
            }
        });
        let transfer = transfer_file(&victim, &mut stream).quantum(96 << 10);
        let error = transfer.route(route).mode(mode).await.unwrap_err();
        leaving.join().unwrap();
        assert_eq!(error.blame(), Blame::Peer, "{error}");
        assert!(error.sent() >= read as u64 && error.sent() < VICTIM_BYTES, "{error}");
        assert_eq!(error.sent(), stream.accepted(), "{error}");
        drop(stream);
        quiet(&base).await;

        let (mut stream, client) = connected(settings).await;
        let reading = std::thread::spawn(move || {
            let (mut client, mut checker) = (client, Checker::new(NEXT, 0));
            let mut buffer = vec![0; 1 << 15];
            loop {
                match client.read(&mut buffer).unwrap() {
                    0 => return checker.position(),
                    count => checker.feed(&buffer[..count]).unwrap(),
                }
            }
        });
        let transfer = transfer_file(&next, &mut stream).quantum(96 << 10);
        let receipt = transfer.route(route).mode(mode).await.unwrap();
        assert_eq!((receipt.route, receipt.bytes), (route, NEXT_BYTES), "{receipt}");
        stream.close().await.unwrap();
        assert_eq!(reading.join().unwrap(), NEXT_BYTES);
        quiet(&base).await;
    }
    let now = stats().unwrap();
    assert_eq!((now.pipes_lent, now.leases, now.completions_stale), (0, 0, 0));
    println!(
        "{count} aborted by {route}, {} pipes destroyed: 0 foreign bytes",
        now.pipes_destroyed
    );
}
