//! No allocation per op in the steady state, shown by a counting allocator; and what one transfer
//! allocates, which does not depend on its size.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringway::runtime::fs::File;
use ringway::runtime::time::{sleep, timeout};
use ringway::runtime::{lease, lend_pipe, nop, yield_now};
use ringway::{Mode, Route, Sink, transfer_file};
use ringway_testkit::Quarantine;
use support::sealed::{SEALED_WAYS, Settings, connected};
use support::tap::in_child;
use support::{WAYS, canary_file, folder, open, tcp_pair};

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();

/// Rounds before the counting begins: tables, queues and pools grow to their size.
const WARM_UP: u64 = 500;
const ROUNDS: u64 = 10_000;
/// Bytes of one round that moves some.
const PIECE: u32 = 16 << 10;
const LIMIT: Duration = Duration::from_secs(100);

/// Runs the body of a test where nobody else allocates.
#[track_caller]
fn alone(name: &str, body: impl FnOnce()) {
    in_child(name, LIMIT, || {
        // What is held would be searched now and then; here only the count matters.
        Quarantine::set_holding(false);
        // The harness's own thread comes to rest.
        std::thread::sleep(Duration::from_millis(100));
        body();
    });
}

/// Repeats an op, and insists that it allocates nothing once it has been done often enough.
async fn steady(what: &str, mut round: impl AsyncFnMut()) {
    for _ in 0..WARM_UP {
        round().await;
    }
    let before = Quarantine::allocations();
    for _ in 0..ROUNDS {
        round().await;
    }
    let made = Quarantine::allocations() - before;
    println!("{ROUNDS} × {what}: {made} allocations");
    assert_eq!(made, 0, "{what} allocates");
}

/// Polls a future once, which hands its op in.
async fn begin(mut future: std::pin::Pin<&mut impl Future>) {
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn no_op_allocates_in_the_steady_state() {
    alone("no_op_allocates_in_the_steady_state", || {
        let folder = folder();
        let file = open(&canary_file(&folder, 1, PIECE.into()));
        support::runtime().block_on(async {
            steady("nop", async || nop().await.unwrap()).await;
            polls().await;
            timers().await;
            splices(&file).await;
            copies(&file).await;
        });
    });
}

async fn polls() {
    let (stream, mut peer) = tcp_pair();
    steady("poll of a socket that is readable", async || {
        peer.write_all(b"x").unwrap();
        stream.readable().await.unwrap();
        assert_eq!(stream.try_recv(&mut [0; 8]).unwrap(), 1);
    })
    .await;
    steady("poll that waits for the peer", async || {
        let mut readable = pin!(stream.readable());
        begin(readable.as_mut()).await;
        yield_now().await;
        peer.write_all(b"x").unwrap();
        readable.await.unwrap();
        assert_eq!(stream.try_recv(&mut [0; 8]).unwrap(), 1);
    })
    .await;
    steady("poll that is dropped", async || {
        {
            let mut readable = pin!(stream.readable());
            begin(readable.as_mut()).await;
        }
        // The ring turns, so that it is handed in, cancelled, and over.
        yield_now().await;
    })
    .await;
}

async fn timers() {
    steady("timer that is dropped", async || {
        timeout(Duration::from_secs(60), yield_now()).await.unwrap();
    })
    .await;
    steady("timer that fires", async || sleep(Duration::from_micros(1)).await).await;
}

async fn splices(file: &File) {
    let (stream, mut peer) = tcp_pair();
    let mut bytes = vec![0; PIECE as usize];
    let mut take = |moved: usize| peer.read_exact(&mut bytes[..moved]).unwrap();
    steady("splice in, splice out, by the ring", async || {
        let pipe = lend_pipe().unwrap().unwrap();
        let (staged, pipe) = file.fill(pipe, 0, PIECE).unwrap().await;
        assert_eq!(staged.unwrap(), PIECE);
        let (moved, pipe) = stream.drain(pipe.unwrap(), false).unwrap().await;
        take(moved.unwrap());
        assert_eq!(pipe.unwrap().residue(), 0);
    })
    .await;
    steady("splice in, splice out, inline", async || {
        let mut pipe = lend_pipe().unwrap().unwrap();
        assert_eq!(file.try_fill(&mut pipe, 0, PIECE).unwrap(), PIECE);
        take(stream.try_drain(&mut pipe, false).unwrap() as usize);
    })
    .await;
}

async fn copies(file: &File) {
    let (stream, mut peer) = tcp_pair();
    let mut bytes = vec![0; PIECE as usize];
    steady("read into a lease, and send", async || {
        let buffer = lease(PIECE as usize).await.unwrap();
        let (read, buffer) = file.read_at(buffer, 0, PIECE as usize, 0).await;
        assert_eq!(read.unwrap(), PIECE as usize);
        let (sent, _) = stream.send(buffer.unwrap(), 0, false).unwrap().await;
        peer.read_exact(&mut bytes[..sent.unwrap()]).unwrap();
    })
    .await;
}

/// Reads and throws away, allocating nothing once it runs.
fn swallow(mut peer: StdStream) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 18];
        while peer.read(&mut bytes).unwrap() > 0 {}
    })
}

/// What one transfer allocates on average, once others have gone before it.
async fn per_transfer(
    path: &Path,
    stream: &mut impl Sink,
    way: Option<(Route, Mode)>,
    rounds: u64,
) -> u64 {
    let file = open(path);
    let (mut before, mut begun) = (0, 0);
    while begun < 2 * rounds {
        if begun == rounds {
            before = Quarantine::allocations();
        }
        begun += 1;
        let transfer = transfer_file(&file, stream);
        match way {
            Some((route, mode)) => transfer.route(route).mode(mode).await.unwrap(),
            None => transfer.await.unwrap(),
        };
    }
    (Quarantine::allocations() - before).div_ceil(rounds)
}

#[test]
fn what_a_transfer_allocates_does_not_depend_on_its_size() {
    /// Its future, the list of its parts, and that of their extents.
    const EACH_MAX: u64 = 4;
    alone("what_a_transfer_allocates_does_not_depend_on_its_size", || {
        let folder = folder();
        let sizes = [1 << 10, 64 << 10, 1 << 20, 32 << 20];
        let paths = sizes.map(|size| canary_file(&folder, 1, size));
        support::runtime().block_on(async {
            for way in WAYS.map(Some).into_iter().chain([None]) {
                let mut made = [0; 4];
                for ((path, size), made) in paths.iter().zip(sizes).zip(&mut made) {
                    let (mut stream, peer) = tcp_pair();
                    let reading = swallow(peer);
                    let rounds = if size > 1 << 20 { 4 } else { 100 };
                    *made = per_transfer(path, &mut stream, way, rounds).await;
                    drop(stream);
                    // The loop turns on until the socket is closed.
                    while !reading.is_finished() {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                println!("{way:?}: {made:?} allocations for {sizes:?} bytes");
                assert!(made.iter().all(|made| *made <= EACH_MAX), "{way:?}: {made:?}");
            }
        });
    });
}

#[test]
fn what_a_sealed_transfer_allocates_does_not_depend_on_its_records() {
    const EACH_MAX: u64 = 4;
    alone("what_a_sealed_transfer_allocates_does_not_depend_on_its_records", || {
        let folder = folder();
        let sizes = [1 << 10, 64 << 10, 1 << 20, 32 << 20];
        let paths = sizes.map(|size| canary_file(&folder, 1, size));
        support::runtime().block_on(async {
            for way in SEALED_WAYS.map(Some).into_iter().chain([None]) {
                let mut made = [0; 4];
                for ((path, size), made) in paths.iter().zip(sizes).zip(&mut made) {
                    let (mut stream, client) = connected(&Settings::default()).await;
                    // It throws the records away as they are: only the sender's allocations count.
                    let reading = swallow(client.sock.0);
                    let rounds = if size > 1 << 20 { 4 } else { 100 };
                    *made = per_transfer(path, &mut stream, way, rounds).await;
                    support::end(stream.tcp().share());
                    drop(stream);
                    while !reading.is_finished() {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                println!("{way:?}: {made:?} allocations for {sizes:?} bytes");
                assert!(made.iter().all(|made| *made <= EACH_MAX), "{way:?}: {made:?}");
            }
        });
    });
}
