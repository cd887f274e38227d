//! R4: a transfer can be dropped or cancelled at any moment, and the count of what went out is exact.
//!
//! Every transfer here goes over a connection that is used again and again, so that a byte that comes
//! too late stands in the way of the next transfer and is seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::future::{Future, IntoFuture};
use std::io::Read;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringway::error::ErrorKind;
use ringway::limits::Limits;
use ringway::runtime::fs::File;
use ringway::runtime::net::{Stream, TcpStream};
use ringway::runtime::time::{Sleep, sleep};
use ringway::runtime::{Config, Runtime, spawn, stats, yield_now};
use ringway::{CancelToken, Mode, Parts, Route, Sink, Transfer, transfer_file};
use ringway_testkit::{Budget, Census, Quarantine, canary};
use support::tap::{Appetite, Random, Tap, in_child, quiet, tap_tcp, tap_unix, tcp_pair};
use support::{WAYS, canary_file, folder, open};

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();

const FILE: u64 = 21;
const BODY: u64 = (96 << 10) + 7;
const HEAD: &[u8] = &[0x48; 300];
const TAIL: &[u8] = &[0x54; 77];
const SLOW: Appetite = Appetite::Slow(16 << 10, Duration::from_micros(50));
const APPETITES: [Appetite; 3] = [Appetite::Greedy, SLOW, Appetite::Stalled];

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

fn drop_everywhere(count: u64) {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY + 1);
    let before = Census::take();
    let runtime = small_runtime();
    let file = open(&path);
    let mut tally = Tally::default();
    while tally.dropped < count {
        for appetite in APPETITES {
            // A TCP peer with little room acknowledges late: that costs 40 ms for each transfer, so
            // over TCP a peer has room or reads nothing.
            if appetite != SLOW {
                let room = if appetite == Appetite::Greedy { 1 << 20 } else { 16 << 10 };
                let (mut stream, tap) = tap_tcp(appetite, room);
                runtime.block_on(sweep(&mut stream, &tap, appetite, &file, &mut tally));
                drop(stream);
                assert_eq!(tap.finish(), 0, "bytes that nobody had counted");
            }
            let (mut stream, tap) = tap_unix(appetite, 16 << 10);
            runtime.block_on(sweep(&mut stream, &tap, appetite, &file, &mut tally));
            drop(stream);
            assert_eq!(tap.finish(), 0, "bytes that nobody had counted");
        }
    }
    let stats = runtime.stats();
    assert_eq!((stats.completions_stale, stats.unexpected_errnos), (0, 0));
    drop((runtime, file));
    before.assert_unchanged_within(Duration::from_secs(5));
    Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    println!("{tally:?}, {} ops cancelled: 0 bytes lost, 0 foreign, 0 leaks", stats.cancels);
}

#[derive(Debug, Default)]
struct Tally {
    dropped: u64,
    poisoned: u64,
    mid_body: u64,
    completed: u64,
}

/// Drops a transfer after 0, 1, 2, … polls in every way, until it completes or stalls.
async fn sweep<S: Sink + DerefMut<Target = Stream>>(
    stream: &mut S,
    tap: &Tap,
    appetite: Appetite,
    file: &File,
    tally: &mut Tally,
) {
    let base = stats().unwrap();
    for (way, late) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        for polls in 0.. {
            let began = stream.accepted();
            let transfer = prepared(file, stream, way).into_future();
            let most = Duration::from_millis(if appetite == Appetite::Stalled { 3 } else { 5000 });
            let (outcome, used) = AtMost::new(transfer, polls, late, most).await;
            let completed = outcome.is_some();
            if let Some(outcome) = outcome {
                let receipt = outcome.unwrap_or_else(|error| panic!("{way:?}: {error}"));
                assert_eq!(receipt.bytes, stream.accepted() - began);
            }
            settle_and_check(stream, tap, began, completed, tally).await;
            quiet(&base).await;
            if completed || used < polls {
                break;
            }
        }
    }
    // And after all that the connection carries a whole body.
    let began = stream.accepted();
    let (route, mode) = WAYS[usize::try_from(tally.dropped).unwrap() % WAYS.len()];
    if appetite == Appetite::Stalled {
        // Nobody reads while it is sent, so no more than fits into the socket.
        transfer_file(file, stream).range(1..4097).route(route).mode(mode).await.unwrap();
    } else {
        prepared(file, stream, (route, mode)).await.unwrap();
    }
    if appetite == Appetite::Stalled {
        tap.take_canary(FILE, 1, stream.accepted() - began);
    } else {
        tap.take_prefix(whole(), stream.accepted() - began);
    }
}

async fn settle_and_check<S: Sink + DerefMut<Target = Stream>>(
    stream: &mut S,
    tap: &Tap,
    began: u64,
    completed: bool,
    tally: &mut Tally,
) {
    let poisoned = stream.is_poisoned();
    if poisoned {
        let refused = transfer_file(Parts::new().bytes("x"), stream).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Poisoned), "{refused}");
        let refused = stream.try_send(&[std::io::IoSlice::new(b"x")], false).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
    }
    let settled = stream.settle().await;
    let sent = stream.accepted() - began;
    assert!(!stream.is_poisoned() && !stream.is_sending());
    assert_eq!(settled, if poisoned { sent } else { 0 });
    assert!(poisoned || completed || sent == 0, "{sent} bytes went out unnoticed");
    tap.take_prefix(whole(), sent);
    tally.dropped += u64::from(!completed);
    tally.completed += u64::from(completed);
    tally.poisoned += u64::from(poisoned);
    tally.mid_body += u64::from(sent > 0 && sent < whole().len() as u64);
}

/// Head, file and tail, in small steps and with little patience for a peer that stalls.
fn prepared<'t, S: Sink>(file: &File, stream: &'t mut S, way: (Route, Mode)) -> Transfer<'t> {
    let parts = Parts::new().bytes(HEAD).file(file, 1..BODY + 1).bytes(TAIL);
    let limits = Limits::default()
        .with_quantum_bytes(12 << 10)
        .with_copy_batch_bytes(12 << 10)
        .with_stall_hold(Duration::from_micros(200));
    transfer_file(parts, stream).limits(limits).route(way.0).mode(way.1)
}

/// What [`prepared`] sends.
fn whole() -> &'static [u8] {
    static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    WHOLE.get_or_init(|| {
        let mut file = vec![0; usize::try_from(BODY).unwrap()];
        canary::fill(FILE, 1, &mut file);
        [HEAD, &file, TAIL].concat()
    })
}

fn small_runtime() -> Runtime {
    let config = Config {
        submission_entries: 8,
        completion_entries: 256,
        pipes_max: 4,
        pipe_bytes: 64 << 10,
        ..Config::default()
    };
    Runtime::with_config(config).unwrap()
}

/// Polls a future at most so many times, and no longer than a while.
struct AtMost<F> {
    future: F,
    polls_left: u64,
    used: u64,
    /// Gives up at the wake after the last poll, when what it waited for has happened, and not
    /// directly after the poll.
    late: bool,
    over: Sleep,
}

impl<F: Future + Unpin> AtMost<F> {
    fn new(future: F, polls: u64, late: bool, most: Duration) -> Self {
        Self { future, polls_left: polls, used: 0, late, over: sleep(most) }
    }
}

impl<F: Future + Unpin> Future for AtMost<F> {
    type Output = (Option<F::Output>, u64);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 || Pin::new(&mut self.over).poll(context).is_ready() {
            return Poll::Ready((None, self.used));
        }
        self.polls_left -= 1;
        self.used += 1;
        let used = self.used;
        if let Poll::Ready(output) = Pin::new(&mut self.future).poll(context) {
            return Poll::Ready((Some(output), used));
        }
        if self.polls_left == 0 && !self.late { Poll::Ready((None, used)) } else { Poll::Pending }
    }
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

fn cancel_at_random(count: u64) {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY + 1);
    let before = Census::take();
    let (orders, at_work) = mpsc::channel::<(CancelToken, Instant)>();
    let canceller = std::thread::spawn(move || {
        for (token, when) in at_work {
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            token.cancel();
        }
    });
    let runtime = small_runtime();
    let file = open(&path);
    let mut random = Random(7);
    let (mut cancelled, mut completed, mut mid_body) = (0, 0, 0);
    while cancelled < count {
        let appetite = APPETITES[usize::try_from(random.below(3)).unwrap()];
        let (mut stream, tap) = tap_tcp(appetite, 16 << 10);
        runtime.block_on(async {
            let base = stats().unwrap();
            for way in WAYS.repeat(5) {
                let began = stream.accepted();
                let token = CancelToken::new();
                let delay = Duration::from_micros(random.below(400));
                orders.send((token.clone(), Instant::now() + delay)).unwrap();
                let outcome = prepared(&file, &mut stream, way).cancel_token(&token).await;
                let sent = stream.accepted() - began;
                match outcome {
                    Ok(receipt) => {
                        assert_eq!(receipt.bytes, sent);
                        completed += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Cancelled), "{way:?}: {error}");
                        assert_eq!(error.sent(), sent);
                        cancelled += 1;
                        mid_body += u64::from(sent > 0);
                    }
                }
                assert!(!stream.is_poisoned() && !stream.is_sending());
                tap.take_prefix(whole(), sent);
                quiet(&base).await;
            }
        });
        drop(stream);
        assert_eq!(tap.finish(), 0);
    }
    drop((orders, runtime, file));
    canceller.join().unwrap();
    before.assert_unchanged_within(Duration::from_secs(5));
    Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    println!(
        "{cancelled} cancelled by token, {mid_body} of them in the body, {completed} completed"
    );
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
    drop(stream);
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
            let outcome = first.as_mut().poll(context);
            if let Some(Poll::Ready(receipt)) = second.as_mut().map(|f| f.as_mut().poll(context)) {
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

/// Drops a runtime after a few turns of six transfers; a second handle of each stream remains.
fn drop_runtime(file: &File, turns: u64) -> Vec<(Tap, TcpStream)> {
    let runtime = small_runtime();
    let taps = runtime.block_on(async {
        let mut taps = Vec::new();
        for (number, way) in WAYS.into_iter().enumerate() {
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
    drop(stream);
    assert_eq!(tap.finish(), 0);
    sent
}
