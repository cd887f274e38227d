//! Peers that do not read, and what their transfers hold.

use std::io::Read;
use std::net::TcpStream as StdStream;
use std::time::{Duration, Instant};

use ringway::limits::Limits;
use ringway::runtime::fs::File;
use ringway::runtime::net::TcpStream;
use ringway::runtime::time::sleep;
use ringway::runtime::{Config, JoinHandle, Runtime, Stats, spawn, stats};
use ringway::{Mode, Parts, Receipt, Route, Thresholds, TransferError, transfer_file};
use ringway_testkit::{Behaviour, Census, Checker};

use crate::support::tap::tcp_pair;
use crate::support::{self, canary_file, expecting, folder, open};

pub const FILE: u64 = 51;
pub const BODY: u64 = (1 << 20) + 11;
pub const HOLD: Duration = Duration::from_millis(20);

pub type Sent = JoinHandle<Result<Receipt, TransferError>>;

/// A transfer to a peer that has not begun to read.
pub struct Stalled {
    pub peer: StdStream,
    pub task: Sent,
}

pub fn begin(file: &File, (route, mode): (Route, Mode)) -> Stalled {
    let (ours, peer) = tcp_pair();
    let mut stream = TcpStream::from_std(ours).unwrap();
    stream.set_send_buffer(32 << 10).unwrap();
    let file = file.clone();
    let task = spawn(async move {
        let limits = Limits::default().with_stall_hold(HOLD);
        transfer_file(&file, &mut stream).limits(limits).route(route).mode(mode).await
    });
    Stalled { peer, task }
}

impl Stalled {
    /// Reads everything at last, in a thread.
    pub fn resume(self) -> (std::thread::JoinHandle<u64>, Sent) {
        let Self { mut peer, task } = self;
        let reader = std::thread::spawn(move || {
            let mut checker = Checker::new(FILE, 0);
            let mut buffer = vec![0; 1 << 16];
            loop {
                match peer.read(&mut buffer).unwrap() {
                    0 => return checker.position(),
                    count => checker.feed(&buffer[..count]).unwrap(),
                }
            }
        });
        (reader, task)
    }
}

/// Waits until only polls are in flight, and a while longer.
pub async fn wait_until_stalled(count: u64, limit: Duration) -> Stats {
    let deadline = Instant::now() + limit;
    loop {
        sleep(2 * HOLD).await;
        let now = stats().unwrap();
        if (now.pipes_lent, now.leases, now.ops_in_flight) == (0, 0, count) {
            return now;
        }
        assert!(Instant::now() < deadline, "stalled peers hold something: {now:?}");
    }
}

pub async fn healthy(file: &File, (route, mode): (Route, Mode), offset: u64) {
    let (mut stream, receiver) = support::tcp(expecting(FILE, offset));
    let transfer = transfer_file(file, &mut stream).range(offset..BODY);
    transfer.route(route).mode(mode).await.unwrap();
    support::end(stream);
    // The loop turns on meanwhile: an op that was given up may hold the socket for a moment.
    while !receiver.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
    receiver.join().unwrap().assert_complete(BODY - offset);
}

/// Fills sockets that nobody reads, `count` of them, and serves another one beside them.
pub fn fill_sockets(count: u64, limit: Duration) {
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, BODY));
    let config = Config { bounded_workers_max: 2, unbounded_workers_max: 2, ..Config::default() };
    let runtime = Runtime::with_config(config).unwrap();
    runtime.block_on(async {
        let stalled: Vec<_> =
            (0..count).map(|_| begin(&file, (Route::Splice, Mode::Ring))).collect();
        wait_until_stalled(count, limit).await;
        // A parked worker would be in the way of this: its fills are done by the same two.
        healthy(&file, (Route::Splice, Mode::Ring), 1).await;
        let threads = Census::take().threads_named("iou-wrk-");
        assert!(threads <= 4, "{threads} workers for {count} full sockets");
        for stalled in stalled {
            stalled.task.abort();
            // The peer gets an end, not a wait.
            drop(stalled.peer);
        }
    });
    let stats = runtime.stats();
    drop(runtime);
    println!(
        "{count} full sockets in mode Ring: {} splices, none of them waits",
        stats.splices_submitted
    );
}

/// Sends a piece of every second page to a peer that reads. A packet holds no more than 17 of them
/// (`MAX_SKB_FRAGS`), far less than a segment of loopback, and the socket wants to hold no more than one packet.
pub fn trickle_through_a_small_socket() {
    const PIECES: u64 = 1000;
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, PIECES << 13));
    let (mut stream, receiver) = support::tcp(Behaviour::read_all());
    // It does not pace, so the stream is corked.
    stream.set_congestion_control("reno").unwrap();
    stream.set_unsent_low_water(2048).unwrap();
    let pieces = (0..PIECES).map(|number| number << 13..(number << 13) + 700);
    let parts = pieces.fold(Parts::new(), |parts, piece| parts.file(&file, piece));
    let limits = Limits::default().with_parts_max(1000).with_segments_max(1000);
    let thresholds = Thresholds::default().with_hold_cork_min_bytes(0);
    let transfer = transfer_file(parts, &mut stream).limits(limits).thresholds(thresholds);
    let transfer = transfer.route(Route::Splice).mode(Mode::Inline);
    support::runtime().block_on(async { transfer.await.unwrap() });
    support::end(stream);
    assert_eq!(receiver.join().unwrap().bytes, PIECES * 700);
}
