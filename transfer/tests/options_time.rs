//! What a caller can ask for about time: a rate, a floor, a deadline, the patience with a peer.
//!
//! A peer behind a shut gate takes what its socket holds and no more. How long anything takes is never
//! asserted, except for what must not happen earlier.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use ringway::error::{Blame, ErrorKind};
use ringway::runtime::spawn;
use ringway::{Limits, Mode, Parts, Route, Transfer, TransferError, transfer_file};
use ringway_testkit::Budget;
use support::gated::Gated;
use support::*;

type Way = Option<(Route, Mode)>;

fn ways() -> impl Iterator<Item = Way> {
    WAYS.into_iter().map(Some).chain([None])
}

fn on_way(transfer: Transfer<'_>, way: Way) -> Transfer<'_> {
    match way {
        Some((route, mode)) => transfer.route(route).mode(mode),
        None => transfer,
    }
}

const LEN: u64 = 16 << 20;

/// Sends to a peer that takes nothing but what fits into the sockets, until something gives up.
fn against_a_stalled_peer(
    way: Way,
    ask: impl for<'t> Fn(Transfer<'t>) -> Transfer<'t>,
) -> TransferError {
    let folder = folder();
    let path = folder.path().join("zeros");
    std::fs::File::create(&path).unwrap().set_len(LEN).unwrap();
    let runtime = runtime();
    let (mut stream, theirs) = tcp_pair();
    let peer = Gated::new(theirs);
    let file = open(&path);
    let error = runtime.block_on(async {
        let error = ask(on_way(transfer_file(&file, &mut stream), way)).await.unwrap_err();
        let stats = ringway::runtime::stats().unwrap();
        assert_eq!((stats.pipes_lent, stats.leases), (0, 0), "{way:?}: nothing is held");
        error
    });
    assert!(!stream.is_poisoned(), "an exact outcome leaves nothing to settle");
    assert_eq!(stream.accepted(), error.sent());
    // A poll that was given up holds the socket until the ring has cancelled it.
    drop((stream, runtime));
    assert_eq!(peer.finish().len() as u64, error.sent(), "{way:?}");
    assert!(error.sent() < LEN, "{way:?}: {error}");
    error
}

#[test]
fn a_deadline_ends_a_transfer_whose_peer_stalls() {
    let _budget = Budget::new(Duration::from_secs(60));
    let limit = Duration::from_millis(80);
    fn ask(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.deadline(Duration::from_millis(80))
    }
    for way in ways() {
        let error = against_a_stalled_peer(way, ask);
        assert_eq!(*error.kind(), ErrorKind::DeadlineExceeded { limit }, "{way:?}");
        assert_eq!(error.blame(), Blame::Caller);
    }
}

#[test]
fn a_peer_below_the_minimum_rate_is_let_go() {
    let _budget = Budget::new(Duration::from_secs(60));
    fn ask(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.minimum_rate(1000, Duration::from_millis(50))
    }
    for way in ways() {
        let error = against_a_stalled_peer(way, ask);
        let ErrorKind::PeerTooSlow(slow) = *error.kind() else { panic!("{way:?}: {error}") };
        assert_eq!(slow.floor, 1000);
        assert!(slow.over >= Duration::from_millis(50));
        assert_eq!(error.blame(), Blame::Peer);
    }
}

#[test]
fn a_silent_peer_times_out() {
    let _budget = Budget::new(Duration::from_secs(60));
    let limit = Duration::from_millis(80);
    fn ask(transfer: Transfer<'_>) -> Transfer<'_> {
        let limits = Limits::default().with_peer_timeout(Duration::from_millis(80));
        transfer.limits(limits)
    }
    for way in ways() {
        let error = against_a_stalled_peer(way, ask);
        assert_eq!(*error.kind(), ErrorKind::PeerTimedOut { waited: Some(limit) }, "{way:?}");
        assert!(error.to_string().contains("the peer took nothing for 80ms"), "{error}");
    }
}

#[test]
fn a_deadline_that_is_over_sends_nothing() {
    for way in ways() {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        let parts = Parts::new().bytes("header");
        let error = runtime()
            .block_on(async {
                on_way(transfer_file(parts, &mut stream), way).deadline(Duration::ZERO).await
            })
            .unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DeadlineExceeded { .. }), "{error}");
        end(stream);
        assert_eq!((error.sent(), peer.finish().len()), (0, 0));
    }
}

#[test]
fn the_rate_is_never_exceeded_and_the_receipt_tells_what_it_cost() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let (len, burst, rate) = (1 << 20, 256 << 10, 8 << 20);
    let file = open(&canary_file(&folder, 2, len));
    for way in ways() {
        let (mut stream, receiver) = tcp(expecting(2, 0));
        let began = Instant::now();
        let receipt = runtime()
            .block_on(async {
                on_way(transfer_file(&file, &mut stream), way)
                    .rate_limit(NonZeroU64::new(rate).unwrap(), burst)
                    .on_progress(|told| {
                        let line = began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000;
                        let most = line + u128::from(burst);
                        assert!(u128::from(told.sent) <= most, "{way:?}: {told:?} of {most}");
                    })
                    .await
            })
            .unwrap();
        end(stream);
        receiver.join().unwrap().assert_complete(len);
        // What the burst does not cover takes 94 ms at this rate; timers may make it a little less
        // waiting, not nothing.
        assert!(receipt.held_back > Duration::from_millis(20), "{way:?}: {receipt}");
        assert!(receipt.to_string().contains("held back"), "{receipt}");
    }
}

#[test]
fn a_rate_is_not_charged_for_what_was_not_sent() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, 2, 1 << 20));
    // Each part is far shorter than what the rate allows at once.
    let mut parts = Parts::new();
    for number in 0..40 {
        parts = parts.file(&file, number * 20_000..number * 20_000 + 20_000);
    }
    let config = ringway::runtime::Config { pipes_max: 1, ..Default::default() };
    let runtime = ringway::runtime::Runtime::with_config(config).unwrap();
    for hold in [false, true] {
        for way in ways().filter(|way| !hold || way.is_some_and(|way| way.0 == Route::Splice)) {
            let (mut stream, receiver) = tcp(expecting(2, 0));
            let receipt = runtime.block_on(async {
                let pipe = hold.then(|| ringway::runtime::lend_pipe().unwrap().unwrap());
                let rate = NonZeroU64::new(8 << 20).unwrap();
                let transfer = on_way(transfer_file(parts.clone(), &mut stream), way);
                let receipt = transfer.rate_limit(rate, 256 << 10).await;
                drop(pipe);
                receipt
            });
            end(stream);
            let receipt = match receipt {
                Ok(receipt) => receipt,
                // With no pipe to be had a splice may be refused before the first byte.
                Err(error) if hold && error.sent() == 0 => continue,
                Err(error) => panic!("{way:?}: {error}"),
            };
            receiver.join().unwrap().assert_complete(800_000);
            // The bucket owes 64 ms in all; charged for each part's whole allowance it were seconds.
            assert!(receipt.held_back < Duration::from_millis(900), "{way:?}: {receipt}");
        }
    }
}

#[test]
fn a_small_transfer_passes_a_large_one_on_the_same_ring() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(256 << 20).unwrap();
    let small = canary_file(&folder, 2, 1 << 20);
    for way in ways() {
        // The large one has a peer that is always ready, and so no reason to wait by itself.
        let (mut wide, receiver) = unix(ringway_testkit::Behaviour::read_all());
        let (mut narrow, other) = unix(expecting(2, 0));
        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let (large, small) = (open(&large), open(&small));
        let runtime = runtime();
        runtime.block_on(async {
            let noted = std::rc::Rc::clone(&order);
            let first = spawn(async move {
                on_way(transfer_file(&large, &mut wide), way).await.unwrap();
                noted.borrow_mut().push("large");
            });
            ringway::runtime::yield_now().await;
            let noted = std::rc::Rc::clone(&order);
            let second = spawn(async move {
                on_way(transfer_file(&small, &mut narrow), way).await.unwrap();
                noted.borrow_mut().push("small");
            });
            first.await.unwrap();
            second.await.unwrap();
        });
        receiver.join().unwrap().assert_complete(256 << 20);
        other.join().unwrap().assert_complete(1 << 20);
        assert_eq!(*order.borrow(), ["small", "large"], "{way:?}");
    }
}

#[test]
fn the_callers_handle_may_go_before_the_transfer_ends() {
    let folder = folder();
    for way in ways() {
        let path = canary_file(&folder, 2, 1 << 20);
        let (mut stream, receiver) = tcp(expecting(2, 0));
        let mut handle = Some(open(&path));
        runtime()
            .block_on(async {
                let transfer = transfer_file(handle.as_ref().unwrap(), &mut stream);
                on_way(transfer, way)
                    .quantum(64 << 10)
                    .on_progress(|_| {
                        handle = None;
                        let _ = std::fs::remove_file(&path);
                    })
                    .await
            })
            .unwrap();
        end(stream);
        receiver.join().unwrap().assert_complete(1 << 20);
    }
}
