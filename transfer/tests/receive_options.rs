//! What bounds a receiving transfer: time, rates, tokens, and what it holds meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::RefCell;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use ringway::error::Blame;
use ringway::receive::{Arrived, ReceiveErrorKind};
use ringway::runtime::fs::{File, OpenOptions};
use ringway::runtime::time::{sleep, timeout};
use ringway::runtime::{spawn, stats};
use ringway::{CancelToken, Incoming, Limits, Route, Thresholds, transfer_file};
use ringway_testkit::Budget;
use support::feed::Feed;
use support::tap::gauges;
use support::{canary_bytes, folder, runtime, tcp_pair};

const ROUTES: [Route; 2] = [Route::Splice, Route::Copy];

async fn new_file(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(true).open(path).await.unwrap()
}

#[test]
fn what_ends_a_transfer_leaves_what_came_in_the_file() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = folder.path().join("file");
    let short = Duration::from_millis(60);
    runtime().block_on(async {
        for (route, ending) in
            ROUTES.into_iter().flat_map(|route| (0..4).map(move |end| (route, end)))
        {
            let mut file = new_file(&path).await;
            let (mut stream, mut theirs) = tcp_pair();
            theirs.write_all(&canary_bytes(3, 0, 150_000)).unwrap();
            let token = CancelToken::new();
            let body = Incoming::exactly(&mut stream, 1 << 20);
            let limits = Limits::default().with_peer_timeout(short);
            let receive = transfer_file(body, &mut file).route(route);
            let receive = match ending {
                0 => receive.deadline(short),
                1 => receive.cancel_token(&token),
                2 => receive.minimum_rate(1 << 30, short),
                _ => receive.limits(limits),
            };
            let cancelling = spawn({
                let token = token.clone();
                async move {
                    sleep(short).await;
                    token.cancel();
                }
            });
            let error = receive.await.unwrap_err();
            cancelling.await.unwrap();
            let blame = match (ending, error.kind()) {
                (0, ReceiveErrorKind::DeadlineExceeded { .. })
                | (1, ReceiveErrorKind::Cancelled) => Blame::Caller,
                (2, ReceiveErrorKind::PeerTooSlow(_))
                | (3, ReceiveErrorKind::PeerTimedOut { waited: Some(_) }) => Blame::Peer,
                _ => panic!("{ending}: {error}"),
            };
            assert_eq!(error.blame(), blame);
            assert_eq!((error.received(), error.written()), (150_000, 150_000), "{error}");
            assert!(std::fs::read(&path).unwrap() == canary_bytes(3, 0, 150_000));
            // And the stream gives the rest to another transfer.
            let rest = canary_bytes(3, 150_000, (1 << 20) - 150_000);
            let sending = std::thread::spawn(move || theirs.write_all(&rest).map(|()| theirs));
            let body = Incoming::exactly(&mut stream, (1 << 20) - 150_000);
            transfer_file(body, &mut file).offset(150_000).route(route).await.unwrap();
            drop(sending.join().unwrap());
            assert!(std::fs::read(&path).unwrap() == canary_bytes(3, 0, 1 << 20));
        }
    });
}

/// A peer that sends nothing has nothing, and one that sends a little has it written in a moment.
#[test]
fn a_silent_peer_holds_neither_pipe_nor_buffer() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        for route in ROUTES {
            let base = stats().unwrap();
            let (mut stream, mut theirs) = tcp_pair();
            let seen = std::rc::Rc::new(RefCell::new(0));
            let token = CancelToken::new();
            let receiving = spawn({
                let (seen, token, path) = (seen.clone(), token.clone(), path.clone());
                async move {
                    let mut file = new_file(&path).await;
                    let body = Incoming::exactly(&mut stream, 1 << 20);
                    transfer_file(body, &mut file)
                        .route(route)
                        .cancel_token(&token)
                        .on_progress(|arrived| *seen.borrow_mut() = arrived.written)
                        .await
                        .unwrap_err()
                        .written()
                }
            });
            for sent in 1..=3u64 {
                theirs.write_all(&[0; 1000]).unwrap();
                while *seen.borrow() < sent * 1000 {
                    sleep(Duration::from_millis(1)).await;
                }
                // It may just be giving back what it held.
                while gauges(&stats().unwrap())[3..5] != gauges(&base)[3..5] {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            token.cancel();
            assert_eq!(receiving.await.unwrap(), 3000);
        }
    });
}

#[test]
fn progress_is_told_and_a_rate_holds() {
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        for route in ROUTES {
            let mut file = new_file(&path).await;
            let (mut stream, sending) = Feed::of(3, 0, 400_000).over_tcp();
            let told = RefCell::new(Vec::<Arrived>::new());
            let receipt = transfer_file(Incoming::exactly(&mut stream, 400_000), &mut file)
                .route(route)
                .quantum(8192)
                .rate_limit(NonZeroU64::new(4_000_000).unwrap(), 100_000)
                .on_progress(|arrived| told.borrow_mut().push(arrived))
                .await
                .unwrap();
            assert!(!receipt.held_back.is_zero(), "300 kB beyond the burst wait for it: {receipt}");
            sending.join().unwrap();
            let told = told.into_inner();
            assert!(told.windows(2).all(|two| {
                two[0].received <= two[1].received && two[0].written <= two[1].written
            }));
            assert!(told.iter().all(|arrived| arrived.written <= arrived.received));
            let last = told.last().unwrap();
            assert_eq!(
                (last.received, last.written, last.total),
                (400_000, 400_000, Some(400_000))
            );
            assert_eq!(told.iter().filter(|arrived| arrived.ended.is_some()).count(), 1);
            assert!(told.iter().all(|arrived| arrived.total == Some(400_000)));
        }
    });
}

#[test]
fn blocks_are_reserved_for_long_bodies_and_the_length_is_what_came() {
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        for reserve in [true, false] {
            let mut file = new_file(&path).await;
            let (mut stream, sending) = Feed::of(3, 0, 5000).over_tcp();
            let thresholds = Thresholds::default().with_reserve_min_bytes(4096);
            let error = transfer_file(Incoming::exactly(&mut stream, 4 << 20), &mut file)
                .thresholds(thresholds)
                .reserve(reserve)
                .await
                .unwrap_err();
            let receipt = error.receipt().unwrap();
            let refused = !receipt.fallbacks.is_empty();
            assert!(refused || receipt.reserved == if reserve { 4 << 20 } else { 0 }, "{receipt}");
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.len, 5000);
            assert!(refused || (metadata.allocated >= 4 << 20) == reserve);
            sending.join().unwrap();
        }
    });
}

/// Ten at once with room for four: they share, and nobody waits for ever.
#[test]
fn many_transfers_share_few_pipes_and_buffers() {
    let _budget = Budget::new(Duration::from_secs(120));
    let folder = folder();
    let config = ringway::runtime::Config {
        completion_entries: 1024,
        pipes_max: 2,
        buffers: vec![ringway::runtime::BufferClass { bytes: 16 << 10, count: 2 }],
        ..Default::default()
    };
    ringway::runtime::Runtime::with_config(config).unwrap().block_on(async {
        let mut running = Vec::new();
        for number in 0..10u64 {
            let path = folder.path().join(format!("file-{number}"));
            let feed = Feed::of(number, 0, 700_000).in_pieces(9000, Duration::from_micros(30));
            let (mut stream, sending) = feed.over_tcp();
            running.push(spawn(async move {
                let mut file = new_file(&path).await;
                let receive = transfer_file(Incoming::to_the_end(&mut stream), &mut file);
                let receive = if number % 2 == 0 { receive } else { receive.route(Route::Copy) };
                let receipt = receive.await.unwrap();
                assert_eq!(receipt.written, 700_000);
                assert!(std::fs::read(&path).unwrap() == canary_bytes(number, 0, 700_000));
                sending
            }));
        }
        for task in running {
            timeout(Duration::from_secs(60), task).await.unwrap().unwrap().join().unwrap();
        }
    });
}
