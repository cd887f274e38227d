//! Header, file and trailer leave in one segment, and nothing stays corked after the last byte.
//!
//! A segment on its own can be seen because the receiver is already reading when it comes: on an idle
//! connection over loopback it wakes with what has arrived. A corked tail can be seen because the
//! kernel holds it for 200 ms; a busy machine can make one round late, but not every round.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read;
use std::net::TcpStream as Blocking;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ringway::error::ErrorKind;
use ringway::runtime::net::TcpStream;
use ringway::runtime::time::sleep;
use ringway::{Mode, Parts, Route, Source, Transfer, transfer_file};
use ringway_testkit::Budget;
use support::*;

const ROUNDS: usize = 6;
/// Half of what the kernel holds a corked segment back.
const CORKED: Duration = Duration::from_millis(100);

fn ways() -> impl Iterator<Item = Option<(Route, Mode)>> {
    WAYS.into_iter().map(Some).chain([None])
}

fn on_way<'t>(
    source: impl Into<Source>,
    stream: &'t mut TcpStream,
    way: Option<(Route, Mode)>,
) -> Transfer<'t> {
    let transfer = transfer_file(source, stream);
    match way {
        Some((route, mode)) => transfer.route(route).mode(mode),
        None => transfer,
    }
}

/// A connection whose receiver is always reading, and tells each read with its time.
struct Watched {
    stream: TcpStream,
    reads: Receiver<(usize, Instant)>,
    reader: std::thread::JoinHandle<()>,
}

impl Watched {
    fn new() -> Self {
        let (stream, theirs) = tcp_pair();
        let (tell, reads) = channel();
        let reader = std::thread::spawn(move || read_each(theirs, &tell));
        Self { stream, reads, reader }
    }

    /// The reads that bring these bytes, while the connection stays open.
    fn take(&self, bytes: usize) -> Vec<(usize, Instant)> {
        let mut reads = Vec::new();
        while reads.iter().map(|(count, _)| count).sum::<usize>() < bytes {
            let read = self.reads.recv_timeout(Duration::from_secs(20));
            reads.push(read.expect("everything comes while the connection is open"));
        }
        reads
    }

    fn close(self) {
        end(self.stream);
        self.reader.join().unwrap();
    }
}

fn read_each(mut theirs: Blocking, tell: &Sender<(usize, Instant)>) {
    let mut buffer = vec![0; 4 << 20];
    loop {
        match theirs.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => drop(tell.send((count, Instant::now()))),
        }
    }
}

#[test]
fn header_small_file_and_trailer_leave_in_one_segment() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, 1, 100));
    let runtime = runtime();
    for way in ways() {
        let mut watched = Watched::new();
        for _ in 0..ROUNDS {
            let parts = Parts::new().bytes(vec![b'h'; 300]).whole_file(&file).bytes("trailer");
            runtime.block_on(async {
                // Let the receiver go back to sleep in its read.
                sleep(Duration::from_millis(2)).await;
                on_way(parts, &mut watched.stream, way).await.unwrap();
            });
            let counts: Vec<_> = watched.take(407).iter().map(|(count, _)| *count).collect();
            assert_eq!(counts, [407], "{way:?}: the segments as they were read");
        }
        watched.close();
    }
}

#[test]
fn nothing_stays_corked_after_the_last_byte() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let runtime = runtime();
    for len in [1000, 100_001, (1 << 20) + 1] {
        let file = open(&canary_file(&folder, 1, len));
        let bodies = [
            Parts::new().whole_file(&file),
            Parts::new().bytes("header").whole_file(&file),
            Parts::new().whole_file(&file).bytes("trailer"),
            Parts::new().bytes("header").whole_file(&file).bytes(""),
        ];
        for (body, way) in bodies.iter().flat_map(|body| ways().map(move |way| (body, way))) {
            let mut watched = Watched::new();
            let quickest = (0..ROUNDS).map(|_| {
                let sent = runtime
                    .block_on(async { on_way(body.clone(), &mut watched.stream, way).await })
                    .unwrap();
                let done = Instant::now();
                let reads = watched.take(usize::try_from(sent.bytes).unwrap());
                reads.last().unwrap().1.saturating_duration_since(done)
            });
            // One round in time is proof enough that there is no cork.
            let in_time = quickest.into_iter().any(|late| late < CORKED);
            assert!(in_time, "{way:?}, {len} bytes: the tail comes late every time");
            watched.close();
        }
    }
}

#[test]
fn a_truncated_transfer_leaves_nothing_corked() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, 1, 0);
    let writer = std::fs::File::options().write(true).open(&path).unwrap();
    let file = open(&path);
    let runtime = runtime();
    for way in ways() {
        let mut watched = Watched::new();
        let in_time = (0..ROUNDS).any(|_| {
            writer.write_all_at(&canary_bytes(1, 0, 100_000), 0).unwrap();
            let parts = Parts::new().bytes("header").whole_file(&file);
            // After the first piece, which left with MORE, there is nothing more.
            let error = runtime
                .block_on(async {
                    on_way(parts, &mut watched.stream, way)
                        .quantum(4096)
                        .on_progress(|_| writer.set_len(0).unwrap())
                        .await
                })
                .unwrap_err();
            let done = Instant::now();
            assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{way:?}: {error}");
            let reads = watched.take(usize::try_from(error.sent()).unwrap());
            reads.last().unwrap().1.saturating_duration_since(done) < CORKED
        });
        assert!(in_time, "{way:?}: what was sent before comes late every time");
        watched.close();
    }
}
