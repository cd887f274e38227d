//! R11, in part: peers that read nothing hold no thread of the kernel, no pipe and no buffer, and are
//! in nobody's way. (liburing#420, liburing#293: a worker thread for each of them.)

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenes;
mod support;

use std::io::{Read, Write};
use std::time::Duration;

use ringway::limits::Limits;
use ringway::runtime::net::TcpStream;
use ringway::runtime::{Config, Runtime, spawn};
use ringway::{Mode, Route, transfer_file};
use ringway_testkit::{Census, Checker};
use scenes::stalled::{BODY, FILE, Stalled, begin, fill_sockets, healthy, wait_until_stalled};
use support::tap::{in_child, tcp_pair};
use support::{WAYS, canary_file, expecting, folder, open};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn two_hundred_stalled_receivers_hold_nothing_and_hinder_nobody() {
    let limit = Duration::from_secs(100);
    in_child("two_hundred_stalled_receivers_hold_nothing_and_hinder_nobody", limit, || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, BODY));
        let runtime = Runtime::with_config(Config { pipes_max: 8, ..Config::default() }).unwrap();
        let resumed = runtime.block_on(async {
            let stalled: Vec<_> = (0..200).map(|n| begin(&file, WAYS[n % WAYS.len()])).collect();
            let before = wait_until_stalled(200, LIMIT).await;
            let threads = Census::take().threads_named("iou-wrk-");
            assert!(threads <= 16 + 8, "{threads} kernel threads, more than the caps");
            for (number, way) in WAYS.into_iter().cycle().take(24).enumerate() {
                healthy(&file, way, number as u64 * 1000).await;
            }
            let after = wait_until_stalled(200, LIMIT).await;
            assert_eq!(after.pipes_refused, before.pipes_refused, "the pool was free all the time");
            let threads = Census::take().threads_named("iou-wrk-");
            assert!(threads <= 16 + 8, "{threads} kernel threads, more than the caps");
            let mut rewinds = 0;
            let (mut readers, mut bytes) = (Vec::new(), 0);
            // All at once, on one ring.
            let (threads, tasks): (Vec<_>, Vec<_>) =
                stalled.into_iter().map(Stalled::resume).unzip();
            readers.extend(threads);
            for task in tasks {
                let receipt = task.await.unwrap().unwrap();
                assert_eq!(receipt.bytes, BODY);
                assert!(receipt.stalls > 0, "{receipt}");
                rewinds += receipt.rewinds;
            }
            for reader in readers {
                bytes += reader.join().unwrap();
            }
            assert_eq!(bytes, 200 * BODY);
            assert!(rewinds >= 200, "{rewinds} rewinds");
            rewinds
        });
        let stats = runtime.stats();
        assert_eq!((stats.pipes_lent, stats.leases, stats.ops_in_flight), (0, 0, 0));
        println!("200 stalled beside 24 healthy: 0 pipes, 0 buffers held; {resumed} rewinds");
    });
}

#[test]
fn sixty_four_full_sockets_park_no_worker_of_the_kernel() {
    let limit = Duration::from_secs(60);
    in_child("sixty_four_full_sockets_park_no_worker_of_the_kernel", limit, || {
        fill_sockets(64, LIMIT);
    });
}

#[test]
fn a_stalled_peer_holds_no_pipe_while_memory_waits_for_it() {
    let limit = Duration::from_secs(60);
    in_child("a_stalled_peer_holds_no_pipe_while_memory_waits_for_it", limit, || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, BODY));
        let runtime = Runtime::with_config(Config { pipes_max: 2, ..Config::default() }).unwrap();
        runtime.block_on(async {
            for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
                let (ours, mut peer) = tcp_pair();
                let mut stream = TcpStream::from_std(ours).unwrap();
                // The file fits into the socket, the memory behind it does not.
                let file = file.clone();
                let task = spawn(async move {
                    let parts =
                        ringway::Parts::new().file(&file, 0..20_000).bytes(vec![7; 16 << 20]);
                    transfer_file(parts, &mut stream).route(Route::Splice).mode(mode).await
                });
                wait_until_stalled(1, LIMIT).await;
                let mut body = Vec::new();
                let reader = std::thread::spawn(move || peer.read_to_end(&mut body).map(|_| body));
                assert_eq!(task.await.unwrap().unwrap().memory_bytes, 16 << 20);
                let body = reader.join().unwrap().unwrap();
                Checker::new(FILE, 0).feed(&body[..20_000]).unwrap();
                assert!(
                    body.len() == 20_000 + (16 << 20) && body[20_000..].iter().all(|b| *b == 7)
                );
            }
        });
    });
}

#[test]
fn a_transfer_held_back_by_its_rate_holds_no_pipe() {
    let limit = Duration::from_secs(60);
    in_child("a_transfer_held_back_by_its_rate_holds_no_pipe", limit, || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, BODY));
        let runtime = Runtime::with_config(Config { pipes_max: 2, ..Config::default() }).unwrap();
        runtime.block_on(async {
            let (mut stream, receiver) = support::tcp(expecting(FILE, 0));
            let task = spawn(async move {
                let rate = std::num::NonZeroU64::new(10 << 10).unwrap();
                let transfer = transfer_file(&file, &mut stream).rate_limit(rate, 64 << 10);
                transfer.route(Route::Splice).deadline(Duration::from_millis(400)).await
            });
            wait_until_stalled(0, LIMIT).await;
            assert!(!task.is_finished());
            let error = task.await.unwrap().unwrap_err();
            assert_eq!(receiver.join().unwrap().bytes, error.sent());
        });
    });
}

/// A client that reads now and then: each wait costs a rewind at most, and every byte comes once.
#[test]
fn a_peer_that_stalls_again_and_again_gets_every_byte_once() {
    let limit = Duration::from_secs(60);
    in_child("a_peer_that_stalls_again_and_again_gets_every_byte_once", limit, || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, BODY));
        let runtime = support::runtime();
        for (route, mode) in WAYS {
            let (ours, mut peer) = tcp_pair();
            let mut stream = TcpStream::from_std(ours).unwrap();
            stream.set_send_buffer(32 << 10).unwrap();
            let reader = std::thread::spawn(move || {
                let (mut checker, mut buffer) = (Checker::new(FILE, 0), vec![0; 150 << 10]);
                peer.write_all(b"x").unwrap();
                while let Ok(count @ 1..) = peer.read(&mut buffer) {
                    checker.feed(&buffer[..count]).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                }
                checker.position()
            });
            let receipt = runtime.block_on(async {
                let limits = Limits::default().with_stall_hold(Duration::from_micros(500));
                transfer_file(&file, &mut stream).limits(limits).route(route).mode(mode).await
            });
            support::end(stream);
            assert_eq!(reader.join().unwrap(), BODY);
            let receipt = receipt.unwrap();
            assert!(receipt.rewinds > 0 && receipt.discarded_bytes > 0, "{receipt}");
        }
    });
}
