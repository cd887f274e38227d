//! R4 for encrypted streams: a transfer can be dropped or cancelled at any moment. The count is exact in
//! whole records, and the connection goes on behind the record that was half sent, also where the ring
//! was sending at that moment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringway::error::ErrorKind;
use ringway::limits::Limits;
use ringway::runtime::fs::File;
use ringway::runtime::time::{sleep, timeout};
use ringway::runtime::{BufferClass, Config, Runtime, stats, yield_now};
use ringway::tls::TlsStream;
use ringway::{CancelToken, Mode, Parts, Route, Transfer, transfer_file};
use ringway_testkit::{Census, Quarantine, canary};
use support::sealed::*;
use support::tap::{Appetite, Random, Tap, in_child, quiet};
use support::{canary_file, folder, open};

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();

const FILE: u64 = 21;
const BODY: u64 = (96 << 10) + 7;
const HEAD: &[u8] = &[0x48; 300];
const TAIL: &[u8] = &[0x54; 77];
const SLOW: Appetite = Appetite::Slow(16 << 10, Duration::from_micros(50));
const APPETITES: [Appetite; 3] = [Appetite::Greedy, SLOW, Appetite::Stalled];

/// A peer that reads is not helped by a sender with little room: on loopback a segment has 64 KiB, and
/// what is shorter waits for acknowledgements that are put off.
fn room_for(appetite: Appetite) -> Settings {
    if appetite == Appetite::Stalled { narrow() } else { Settings::default() }
}

fn small_runtime() -> Runtime {
    let buffers = vec![BufferClass { bytes: 68 << 10, count: 4 }];
    let config =
        Config { submission_entries: 8, completion_entries: 256, buffers, ..Config::default() };
    Runtime::with_config(config).unwrap()
}

/// Head, file and tail, in batches of two records and with little patience for a peer that stalls.
fn prepared<'t>(file: &File, stream: &'t mut TlsStream, mode: Mode) -> Transfer<'t> {
    let parts = Parts::new().bytes(HEAD).file(file, 1..BODY + 1).bytes(TAIL);
    let limits = Limits::default()
        .with_quantum_bytes(32 << 10)
        .with_seal_batch_bytes(33 << 10)
        .with_stall_hold(Duration::from_micros(200));
    transfer_file(parts, stream).limits(limits).route(Route::Registered).mode(mode)
}

fn whole() -> &'static [u8] {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let file = canary::bytes(FILE, 1, usize::try_from(BODY).unwrap());
        [HEAD, &file, TAIL].concat()
    })
}

#[derive(Debug, Default)]
struct Tally {
    dropped: u64,
    completed: u64,
    /// Dropped after something had gone out.
    poisoned: u64,
    /// Dropped with a record half sent, which went out whole afterwards.
    halves: u64,
    /// Dropped while the ring was sending.
    flying: u64,
    /// Such, and the send came to its end in a record.
    flying_halves: u64,
}

/// A connection and its other end, both new whenever one had to be given up.
struct Line {
    appetite: Appetite,
    ends: Option<(TlsStream, Tap)>,
}

impl Line {
    async fn ends(&mut self) -> (TlsStream, Tap) {
        match self.ends.take() {
            Some(ends) => ends,
            None => tap_tls(self.appetite, &room_for(self.appetite)).await,
        }
    }
}

#[test]
fn a_transfer_dropped_after_any_poll_is_settled_exactly() {
    let limit = Duration::from_secs(120);
    in_child("a_transfer_dropped_after_any_poll_is_settled_exactly", limit, || drop_everywhere(1));
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test sealed_cancel -- --ignored"]
fn five_thousand_dropped_transfers_are_settled_exactly() {
    let limit = Duration::from_secs(1500);
    in_child("five_thousand_dropped_transfers_are_settled_exactly", limit, || {
        drop_everywhere(5000);
    });
}

fn drop_everywhere(count: u64) {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY + 1);
    // The first handshake makes what stays.
    small_runtime().block_on(async { drop(connected(&narrow()).await) });
    let before = Census::take();
    let (runtime, file) = (small_runtime(), open(&path));
    let mut tally = Tally::default();
    while tally.dropped < count {
        for appetite in APPETITES {
            let mut line = Line { appetite, ends: None };
            for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
                runtime.block_on(sweep(&mut line, mode, &file, &mut tally));
            }
            if let Some((mut stream, tap)) = line.ends {
                runtime.block_on(async { stream.close().await.unwrap() });
                assert_eq!(tap.finish(), 0, "bytes that nobody had counted");
            }
        }
    }
    let stats = runtime.stats();
    assert_eq!((stats.completions_stale, stats.unexpected_errnos), (0, 0));
    assert!(tally.halves > 0 && tally.poisoned > tally.halves, "{tally:?}");
    assert!(tally.flying > 0 && tally.flying_halves > 0, "{tally:?}");
    drop((runtime, file));
    before.assert_unchanged_within(Duration::from_secs(5));
    Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    println!("{tally:?}: 0 bytes lost, 0 foreign, 0 leaks");
}

/// Drops a transfer after 0, 1, 2, … polls, until it completes or the peer has stalled it long enough.
async fn sweep(line: &mut Line, mode: Mode, file: &File, tally: &mut Tally) {
    for polls in 0.. {
        let (mut stream, tap) = line.ends().await;
        let base = stats().unwrap();
        let began = stream.accepted();
        let most = Duration::from_millis(if line.appetite == Appetite::Stalled { 3 } else { 5000 });
        let (done, used) =
            at_most(prepared(file, &mut stream, mode).into_future(), polls, most).await;
        let completed = done.is_some();
        if let Some(outcome) = done {
            let receipt = outcome.unwrap_or_else(|error| panic!("{mode}: {error}"));
            assert_eq!(receipt.bytes, stream.accepted() - began);
        }
        tally.dropped += u64::from(!completed);
        tally.completed += u64::from(completed);
        settle_and_check(&mut stream, &tap, began, completed, tally).await;
        quiet(&base).await;
        line.ends = Some((stream, tap));
        if completed || used < polls {
            return;
        }
    }
}

/// The connection goes on, after it was checked to the last byte.
async fn settle_and_check(
    stream: &mut TlsStream,
    tap: &Tap,
    began: u64,
    completed: bool,
    tally: &mut Tally,
) {
    let flying = stream.tcp().is_sending();
    if !completed && flying {
        // Nothing overtakes what is on its way.
        assert!(!stream.try_flush().unwrap());
        assert!(stream.write_all(b"x").await.is_err());
        landed(stream).await;
    }
    let (accepted, half) = (stream.accepted() - began, stream.half_sent());
    if !completed && accepted + half > 0 {
        let refused = transfer_file(Parts::new().bytes("x"), stream).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Poisoned), "{refused}");
        assert!(stream.write_all(b"x").await.is_err());
    }
    // A peer that reads nothing now must read what was sent before the rest can follow.
    tap.take_prefix(whole(), accepted);
    let settling = async {
        let mut settle = pin!(stream.settle());
        tap.want(half);
        timeout(Duration::from_secs(20), settle.as_mut()).await.expect("it settles")
    };
    let settled = settling.await.unwrap();
    let sent = stream.accepted() - began;
    assert_eq!((sent, stream.half_sent()), (accepted + half, 0));
    assert!(settled == sent || settled == 0 && (completed || sent == 0), "{settled} of {sent}");
    tap.take_prefix(&whole()[usize::try_from(accepted).unwrap()..], half);
    tally.poisoned += u64::from(settled > 0);
    tally.halves += u64::from(half > 0);
    tally.flying += u64::from(flying);
    tally.flying_halves += u64::from(flying && half > 0);
}

/// Waits until the kernel has let go of a send that was dropped.
async fn landed(stream: &TlsStream) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while stream.tcp().is_sending() {
        assert!(Instant::now() < deadline, "a send that was cancelled does not end");
        yield_now().await;
    }
}

/// Polls a future at most so often, and no longer than a while; with its outcome, how often it was.
async fn at_most<F: Future>(future: F, polls: u64, most: Duration) -> (Option<F::Output>, u64) {
    let (mut future, mut over) = (pin!(future), sleep(most));
    let mut used = 0;
    poll_fn(|context| {
        if used >= polls || pin!(&mut over).poll(context).is_ready() {
            return Poll::Ready((None, used));
        }
        used += 1;
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready((Some(output), used));
        }
        if used == polls { Poll::Ready((None, used)) } else { Poll::Pending }
    })
    .await
}

#[test]
fn a_token_cancelled_from_another_thread_leaves_an_exact_count_and_a_stream_that_goes_on() {
    let limit = Duration::from_secs(120);
    let name =
        "a_token_cancelled_from_another_thread_leaves_an_exact_count_and_a_stream_that_goes_on";
    in_child(name, limit, || cancel_at_random(300));
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test sealed_cancel -- --ignored"]
fn ten_thousand_cancelled_tokens_leave_exact_counts() {
    let limit = Duration::from_secs(1200);
    in_child("ten_thousand_cancelled_tokens_leave_exact_counts", limit, || {
        cancel_at_random(10_000);
    });
}

fn cancel_at_random(count: u64) {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY + 1);
    let (orders, at_work) = std::sync::mpsc::channel::<(CancelToken, Instant)>();
    let canceller = std::thread::spawn(move || {
        for (token, when) in at_work {
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            token.cancel();
        }
    });
    let (runtime, file) = (small_runtime(), open(&path));
    let mut random = Random(7);
    let (mut cancelled, mut completed, mut halves) = (0, 0, 0);
    while cancelled < count {
        let appetite = APPETITES[usize::try_from(random.below(3)).unwrap()];
        runtime.block_on(async {
            let (mut stream, tap) = tap_tls(appetite, &room_for(appetite)).await;
            let base = stats().unwrap();
            for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline].repeat(5) {
                let began = stream.accepted();
                let token = CancelToken::new();
                let delay = Duration::from_micros(random.below(600));
                orders.send((token.clone(), Instant::now() + delay)).unwrap();
                let outcome = prepared(&file, &mut stream, mode).cancel_token(&token).await;
                let (sent, half) = (stream.accepted() - began, stream.half_sent());
                match outcome {
                    Ok(receipt) => {
                        assert_eq!((receipt.bytes, half), (sent, 0));
                        completed += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Cancelled), "{mode}: {error}");
                        assert_eq!(
                            error.sent(),
                            sent,
                            "{mode}: what it tells is not what went out"
                        );
                        let receipt = error.receipt().unwrap();
                        assert_eq!((receipt.bytes, receipt.half_sent_bytes), (sent, half));
                        cancelled += 1;
                        halves += u64::from(half > 0);
                    }
                }
                tap.take_prefix(whole(), sent);
                // The half-sent record goes first, whatever follows.
                tap.want(half + 5);
                stream.write_all(b"after").await.unwrap();
                tap.take_prefix(&whole()[usize::try_from(sent).unwrap()..], half);
                assert_eq!(tap.take(5), b"after");
                quiet(&base).await;
            }
            stream.close().await.unwrap();
            assert_eq!(tap.finish(), 0);
        });
    }
    drop((orders, file));
    canceller.join().unwrap();
    println!("{cancelled} cancelled, {halves} of them in a record, {completed} completed");
    assert!(halves > 0);
}

#[test]
fn a_runtime_dropped_with_sealed_transfers_in_flight_leaves_nothing_behind() {
    let limit = Duration::from_secs(60);
    let name = "a_runtime_dropped_with_sealed_transfers_in_flight_leaves_nothing_behind";
    in_child(name, limit, || {
        let folder = folder();
        let path = canary_file(&folder, FILE, BODY + 1);
        small_runtime().block_on(async { drop(connected(&narrow()).await) });
        let before = Census::take();
        let mut random = Random(11);
        for round in 0..60 {
            let runtime = small_runtime();
            let (tap, socket) = runtime.block_on(async {
                let (mut stream, tap) = tap_tls(APPETITES[round % 2 * 2], &narrow()).await;
                let socket = stream.tcp().share();
                let (file, mode) = (open(&path), SEALED_WAYS[round % 3].1);
                drop(ringway::runtime::spawn(async move {
                    prepared(&file, &mut stream, mode).await.is_ok()
                }));
                for _ in 0..random.below(40) {
                    yield_now().await;
                }
                (tap, socket)
            });
            drop(runtime);
            assert!(!socket.is_sending(), "the runtime waited for its ops");
            support::end(socket);
            tap.finish();
        }
        before.assert_unchanged_within(Duration::from_secs(10));
        Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    });
}
