//! R4: a transfer can be dropped or cancelled at any moment, and the count of what went out is exact.
//!
//! Every transfer here goes over a connection that is used again and again, so that a byte that comes
//! too late stands in the way of the next transfer and is seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenes;
mod support;

use std::future::{Future, IntoFuture};
use std::io::Read;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringway::error::ErrorKind;
use ringway::runtime::fs::File;
use ringway::runtime::net::TcpStream;
use ringway::runtime::time::sleep;
use ringway::runtime::{spawn, yield_now};
use ringway::{CancelToken, transfer_file};
use ringway_testkit::{Budget, Census, Quarantine};
use scenes::dropped::{
    APPETITES, BODY, FILE, cancel_at_random, drop_everywhere, prepared, small_runtime, whole,
};
use support::tap::{Appetite, Random, Tap, in_child, tap_tcp, tap_unix, tcp_pair};
use support::through::ALL_WAYS;
use support::{canary_file, folder, open};

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();

#[test]
fn a_transfer_dropped_after_any_poll_is_settled_exactly() {
    let limit = Duration::from_secs(120);
    in_child("a_transfer_dropped_after_any_poll_is_settled_exactly", limit, || {
        drop_everywhere(10_000);
    });
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test cancel -- --ignored"]
fn a_hundred_thousand_dropped_transfers_are_settled_exactly() {
    let limit = Duration::from_secs(1500);
    in_child("a_hundred_thousand_dropped_transfers_are_settled_exactly", limit, || {
        drop_everywhere(100_000);
    });
}

#[test]
fn a_token_cancelled_from_another_thread_leaves_an_exact_count() {
    let limit = Duration::from_secs(120);
    in_child("a_token_cancelled_from_another_thread_leaves_an_exact_count", limit, || {
        cancel_at_random(3000);
    });
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test cancel -- --ignored"]
fn thirty_thousand_cancelled_tokens_leave_exact_counts() {
    let limit = Duration::from_secs(1200);
    in_child("thirty_thousand_cancelled_tokens_leave_exact_counts", limit, || {
        cancel_at_random(30_000);
    });
}

/// The wait was given up in the last moment before the loop stood still: its op held the socket.
#[test]
fn a_wait_given_up_keeps_no_socket_open_when_the_loop_stands_still() {
    let _budget = Budget::new(Duration::from_secs(60));
    let runtime = small_runtime();
    let (ours, mut theirs) = tcp_pair();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let stream = TcpStream::from_std(ours).unwrap();
    for turns in 0..3 {
        runtime.block_on(async {
            let mut wait = Box::pin(stream.readable());
            for _ in 0..=turns {
                let once = std::future::poll_fn(|context| Poll::Ready(wait.as_mut().poll(context)));
                assert!(once.await.is_pending());
                yield_now().await;
            }
        });
    }
    support::end(stream);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "the peer sees the end");
}

/// Two waits of one task have the same waker: the one that ended took the other's registration along.
#[test]
fn a_transfer_that_ends_leaves_the_others_of_its_task_cancellable() {
    /// Less than a quantum, so that it ends with a wait and not with a turn for the others.
    const SHORT: u64 = 900_000;
    let _budget = Budget::new(Duration::from_secs(100));
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, 1 << 20));
    let runtime = small_runtime();
    let token = CancelToken::new();
    let (mut stalled, held) = tap_unix(Appetite::Stalled, 16 << 10);
    let (mut slow, read) = tap_unix(Appetite::Slow(16 << 10, Duration::from_millis(2)), 16 << 10);
    let elsewhere = token.clone();
    let (tell, told) = mpsc::channel();
    let canceller = std::thread::spawn(move || {
        told.recv().unwrap();
        // By now nothing else is going to wake the task.
        std::thread::sleep(Duration::from_millis(100));
        elsewhere.cancel();
        Instant::now()
    });
    let error = runtime.block_on(async {
        let mut first = transfer_file(&file, &mut stalled).cancel_token(&token).into_future();
        let second = transfer_file(&file, &mut slow).range(0..SHORT).cancel_token(&token);
        let mut second = Some(second.into_future());
        // Without the wake from the token, this wakes the task far too late.
        let mut late = sleep(Duration::from_secs(20));
        std::future::poll_fn(|context| {
            let _ = Pin::new(&mut late).poll(context);
            let outcome = std::pin::Pin::new(&mut first).poll(context);
            if let Some(Poll::Ready(receipt)) =
                second.as_mut().map(|f| std::pin::Pin::new(f).poll(context))
            {
                assert_eq!(receipt.unwrap().bytes, SHORT);
                second = None;
                tell.send(()).unwrap();
            }
            outcome
        })
        .await
        .unwrap_err()
    });
    let late = canceller.join().unwrap().elapsed();
    assert!(late < Duration::from_secs(10), "the cancellation was not heard for {late:?}");
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    held.take_canary(FILE, 0, error.sent());
    read.take_canary(FILE, 0, SHORT);
}

#[test]
fn a_runtime_dropped_with_transfers_in_flight_leaves_nothing_behind() {
    let limit = Duration::from_secs(120);
    let name = "a_runtime_dropped_with_transfers_in_flight_leaves_nothing_behind";
    in_child(name, limit, || {
        let folder = folder();
        let path = canary_file(&folder, FILE, BODY + 1);
        let before = Census::take();
        let mut random = Random(11);
        let (mut in_flight, mut sent) = (0, 0);
        for _ in 0..150 {
            let turns = random.below(40);
            let taps = drop_runtime(&open(&path), turns);
            in_flight += taps.len();
            sent += taps.into_iter().map(|(tap, stream)| settled_prefix(tap, stream)).sum::<u64>();
        }
        before.assert_unchanged_within(Duration::from_secs(10));
        Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
        println!("150 runtimes dropped, {in_flight} transfers in flight, {sent} bytes exact");
    });
}

/// Drops a runtime after a few turns of eight transfers; a second handle of each stream remains.
fn drop_runtime(file: &File, turns: u64) -> Vec<(Tap, TcpStream)> {
    let runtime = small_runtime();
    let taps = runtime.block_on(async {
        let mut taps = Vec::new();
        for (number, way) in ALL_WAYS.into_iter().enumerate() {
            let (mut stream, tap) = tap_tcp(APPETITES[number % 2 * 2], 16 << 10);
            taps.push((tap, stream.share()));
            let file = file.clone();
            drop(spawn(async move { prepared(&file, &mut stream, way).await.is_ok() }));
        }
        for _ in 0..turns {
            yield_now().await;
        }
        taps
    });
    drop(runtime);
    taps
}

/// The peer gets exactly what the stream has counted, from a runtime that is gone.
fn settled_prefix(tap: Tap, stream: TcpStream) -> u64 {
    assert!(!stream.is_sending(), "the runtime waited for its ops");
    let sent = stream.accepted();
    tap.take_prefix(whole(), sent);
    support::end(stream);
    assert_eq!(tap.finish(), 0);
    sent
}
