//! Partial segments are held back as long as a transfer sends, and never longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;
use std::future::IntoFuture;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::time::Duration;

use ringway::runtime::net::TcpStream;
use ringway::runtime::time::timeout;
use ringway::{CancelToken, Receipt, Thresholds, Transfer, TransferError, transfer_file};
use ringway_testkit::Budget;
use rustix::net::sockopt;
use support::*;

const FILE: u64 = 61;
const LEN: u64 = 3 << 20;
const TEST_LIMIT: Duration = Duration::from_secs(60);

type Ask<'a> = &'a dyn for<'t> Fn(Transfer<'t>) -> Transfer<'t>;

/// A stream whose congestion control does not pace: every kernel has this one and lets everybody use it.
fn unpaced() -> (TcpStream, std::thread::JoinHandle<ringway_testkit::Received>) {
    let (stream, receiver) = tcp(expecting(FILE, 0));
    stream.set_congestion_control("reno").unwrap();
    (stream, receiver)
}

/// Whether the stream was corked in the middle of a transfer that was asked for so, and its outcome.
fn seen(
    stream: &mut TcpStream,
    len: u64,
    ask: impl for<'t> Fn(Transfer<'t>) -> Transfer<'t>,
) -> (bool, Result<Receipt, TransferError>) {
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, len));
    let (copy, was) = (stream.as_fd().try_clone_to_owned().unwrap(), Cell::new(None));
    let outcome = runtime().block_on(async {
        let look = |_| {
            // The first look is in the middle: the last is after the end.
            if was.get().is_none() {
                was.set(Some(sockopt::tcp_cork(&copy).unwrap()));
            }
        };
        let transfer = ask(transfer_file(&file, stream)).on_progress(look);
        transfer.await
    });
    assert!(!sockopt::tcp_cork(&copy).unwrap(), "it is corked for ever");
    (was.get().expect("no progress was told"), outcome)
}

#[test]
fn held_on_every_way() {
    let _budget = Budget::new(TEST_LIMIT);
    for (route, mode) in WAYS {
        let (mut stream, receiver) = unpaced();
        let (held, outcome) = seen(&mut stream, LEN, |transfer| transfer.route(route).mode(mode));
        assert_eq!(outcome.unwrap().bytes, LEN);
        assert!(held, "{route} {mode}");
        end(stream);
        assert_eq!(receiver.join().unwrap().bytes, LEN);
    }
}

#[test]
fn not_held_where_it_does_not_pay() {
    let _budget = Budget::new(TEST_LIMIT);
    let never = Thresholds::default().with_hold_cork_min_bytes(u64::MAX);
    let rate = NonZeroU64::new(1 << 30).unwrap();
    let cases: [(&str, u64, Ask<'_>); 3] = [
        ("a short body", 100_000, &|transfer| transfer),
        ("the threshold says so", LEN, &|transfer| transfer.thresholds(never.clone())),
        ("a rate limit pauses", LEN, &|transfer| transfer.rate_limit(rate, 1 << 30)),
    ];
    for (why, len, ask) in cases {
        let (mut stream, receiver) = unpaced();
        let (held, outcome) = seen(&mut stream, len, ask);
        assert_eq!((held, outcome.unwrap().bytes), (false, len), "{why}");
        end(stream);
        assert_eq!(receiver.join().unwrap().bytes, len);
    }
    let (mut stream, receiver) = unpaced();
    if stream.set_congestion_control("bbr").is_ok() {
        let (held, outcome) = seen(&mut stream, LEN, |transfer| transfer);
        assert_eq!((held, outcome.unwrap().bytes), (false, LEN), "the kernel paces");
    }
    end(stream);
    receiver.join().unwrap();
}

/// Polls a transfer until its peer, who reads nothing, makes it wait.
async fn stall(transfer: &mut (impl Future<Output = Result<Receipt, TransferError>> + Unpin)) {
    let limit = Duration::from_millis(50);
    timeout(limit, transfer).await.expect_err("the peer reads nothing");
}

#[test]
fn over_after_a_drop_and_a_cancel() {
    let _budget = Budget::new(TEST_LIMIT);
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, 64 << 20));
    for (route, mode) in WAYS {
        let (mut stream, _peer) = tcp_pair();
        stream.set_congestion_control("reno").unwrap();
        let copy = stream.as_fd().try_clone_to_owned().unwrap();
        let is_corked = || sockopt::tcp_cork(&copy).unwrap();
        runtime().block_on(async {
            let token = CancelToken::new();
            let transfer = transfer_file(&file, &mut stream).route(route).mode(mode);
            let mut transfer = transfer.cancel_token(&token).into_future();
            stall(&mut transfer).await;
            assert!(is_corked(), "{route} {mode}: while the peer stalls");
            token.cancel();
            transfer.await.unwrap_err();
            assert!(!is_corked(), "{route} {mode}: cancelled");
            let transfer = transfer_file(&file, &mut stream).route(route).mode(mode);
            let mut transfer = Box::pin(transfer.into_future());
            stall(&mut transfer).await;
            drop(transfer);
            assert!(!is_corked(), "{route} {mode}: dropped");
        });
    }
}
