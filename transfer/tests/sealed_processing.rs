//! What a processor leaves, over streams whose records are made here: sealed by us (TLS 1.3) and by
//! rustls (TLS 1.2). rustls's own client opens it, and a plain oracle that knows neither windows nor
//! records says what it must be.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "a test fails by panicking")]

#[path = "scenes/scripted.rs"]
mod scripted;
mod support;

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringway::error::{Blame, ErrorKind};
use ringway::process::{Output, ProcessError, Processor, Window, WindowLimits};
use ringway::runtime::fs::File;
use ringway::runtime::time::sleep;
use ringway::runtime::{Runtime, stats};
use ringway::tls::{TlsLimits, TlsStream};
use ringway::{Consistency, Limits, Parts, Receipt, Route, transfer_file};
use ringway_testkit::Budget;
use scripted::*;
use support::gated::Gated;
use support::sealed::*;
use support::tap::quiet;
use support::*;

const BOTH: [Consistency; 2] = [Consistency::Shared, Consistency::Snapshot];

/// With one buffer for all, so that nobody may hold two.
fn with_one_buffer() -> Runtime {
    runtime_with_buffers(68 << 10, 1)
}

fn windows(bytes: u64) -> WindowLimits {
    WindowLimits::default().with_window_bytes(bytes).with_turn_budget(Duration::from_secs(3600))
}

fn len_of(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

/// The account of a body of which `around` bytes are memory of the caller.
fn check(told: &Receipt, what: &str, sent: u64, around: u64) {
    let what = format!("{what}: {told}");
    assert_eq!((told.route, told.bytes, &told.fallbacks[..]), (Route::Mapped, sent, &[][..]));
    let done = told.processed.as_ref().unwrap();
    let from_file = done.gathered_bytes + done.changed_bytes;
    assert_eq!((told.file_bytes, done.referenced_bytes), (from_file, 0), "{what}");
    assert_eq!(from_file + done.added_bytes + around, sent, "{what}");
    assert!(told.records >= sent.div_ceil(16_384) && told.half_sent_bytes == 0, "{what}");
    assert_eq!(told.splice_sqes + told.inline_splices + told.sendfile_calls, 0, "{what}");
}

#[test]
fn what_a_processor_leaves_is_what_the_peer_opens() {
    let _budget = Budget::new(Duration::from_secs(100));
    let (folder, runtime) = (folder(), with_one_buffer());
    let ways = [(12_000, false), (100_000, true), (1 << 20, false)];
    for settings in [Settings::default(), old()] {
        for (id, len) in (1..).zip([0, 1, 4097, 65_537, 300_013]) {
            let file = open(&canary_file(&folder, id, len));
            let content = canary_bytes(id, 0, usize::try_from(len).unwrap());
            runtime.block_on(async {
                let (mut stream, client) = connected(&settings).await;
                let peer = Gated::new(client);
                peer.open(u64::MAX);
                let mut expected = Vec::new();
                for (script, consistency) in SCRIPTS.into_iter().zip(BOTH.into_iter().cycle()) {
                    for (window, elsewhere) in ways {
                        let begin = expected.len();
                        expected.extend(b"head");
                        expected.extend(script.oracle(&content));
                        expected.extend(b"tail");
                        let parts = Parts::new().bytes("head").whole_file(&file).bytes("tail");
                        let transfer = transfer_file(parts, &mut stream)
                            .window_limits(windows(window))
                            .limits(Limits::default().with_seal_batch_bytes(68 << 10))
                            .consistency(consistency);
                        let transfer = if elsewhere {
                            transfer.process_on(script, |work| drop(std::thread::spawn(work)))
                        } else {
                            transfer.process(script)
                        };
                        let receipt = transfer.await.unwrap();
                        let what = format!("{len} {script:?} {window} {consistency:?}");
                        let sent = (expected.len() - begin) as u64;
                        check(&receipt, &what, sent, 8);
                        assert_eq!(receipt.processed.unwrap().scanned_bytes, len, "{what}");
                        assert_eq!((stream.accepted(), stream.half_sent()), (len_of(&expected), 0));
                    }
                }
                stream.close().await.unwrap();
                assert!(peer.finish() == expected, "{len}");
            });
        }
    }
    assert_eq!(runtime.stats().leases, 0);
}

#[test]
fn keys_are_spent_and_asked_for_in_the_middle_of_it() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (folder, runtime) = (folder(), runtime());
    let len = 3 << 20;
    let file = open(&canary_file(&folder, 7, len));
    let script = Script { record: 5000, ops: &[Op::Change, Op::Keep, Op::Keep], trailer: true };
    let expected = script.oracle(&canary_bytes(7, 0, usize::try_from(len).unwrap()));
    for records in [8, 9, 100] {
        runtime.block_on(async {
            let limits = TlsLimits::default().with_kernel_tls(false).with_key_records_max(records);
            let settings = Settings { limits, send_buffer: 256 << 10, ..Settings::default() };
            let (mut stream, mut client) = connected(&settings).await;
            // It asks before it reads anything.
            client.conn.refresh_traffic_keys().unwrap();
            while client.conn.wants_write() {
                client.conn.write_tls(&mut client.sock).unwrap();
            }
            let peer = Gated::new(client);
            peer.open(u64::MAX);
            let receipt = transfer_file(&file, &mut stream).process(script).await.unwrap();
            check(&receipt, "keys", len_of(&expected), 0);
            let updates = stream.key_updates();
            assert_eq!(updates.received, 1, "it was heard meanwhile");
            assert!(updates.sent > receipt.records / (records + 1), "{updates:?} {receipt}");
            stream.close().await.unwrap();
            assert!(peer.finish() == expected);
        });
    }
}

const LEN: u64 = 1 << 20;
const WINDOW: u64 = 128 << 10;

#[test]
fn a_peer_that_stalls_holds_no_buffer_and_no_window() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, 7, LEN));
    let runtime = runtime();
    let scripts: [&[Op]; 3] = [&[Op::Keep], &[Op::Change, Op::Drop], &[Op::Keep, Op::Double]];
    for settings in [Settings::default(), old()] {
        let settings = Settings { send_buffer: 64 << 10, ..settings };
        for (ops, consistency) in scripts.into_iter().flat_map(|ops| BOTH.map(|c| (ops, c))) {
            let script = Script { record: 4096, ops, trailer: false };
            runtime.block_on(async {
                let (mut stream, client) = connected(&settings).await;
                let watcher = stream.tcp().share();
                let handshake = watcher.accepted();
                let peer = Gated::new(client);
                let base = stats().unwrap();
                let transfer = transfer_file(&file, &mut stream)
                    .window_limits(windows(WINDOW))
                    .limits(Limits::default().with_stall_hold(Duration::from_millis(1)))
                    .consistency(consistency)
                    .process(script)
                    .into_future();
                let watch = async {
                    let mut before = u64::MAX;
                    while before == handshake || before != watcher.accepted() {
                        before = watcher.accepted();
                        sleep(Duration::from_millis(40)).await;
                    }
                    let now = stats().unwrap();
                    assert_eq!((now.leases, now.pipes_lent), (base.leases, base.pipes_lent));
                    assert_eq!(now.regions, now.regions_idle, "a window is held: {now:?}");
                    peer.open(u64::MAX);
                };
                let receipt = both(transfer, watch).await.unwrap();
                stream.close().await.unwrap();
                let content = canary_bytes(7, 0, usize::try_from(LEN).unwrap());
                let expected = script.oracle(&content);
                check(&receipt, "stalled", len_of(&expected), 0);
                assert!(peer.finish() == expected, "{receipt}");
                assert!(receipt.stalls > 0, "{receipt}");
                let kept = receipt.processed.as_ref().unwrap().kept_bytes;
                let must_keep = consistency == Consistency::Snapshot || ops != [Op::Keep];
                assert!(must_keep || kept == 0, "{receipt}");
                assert!(kept <= 3 * WINDOW, "{receipt}");
            });
        }
    }
}

/// More than the two sockets hold while the peer reads nothing.
const DROPPED: u64 = 600_000;

#[test]
fn dropped_after_every_poll_the_stream_goes_on_behind_an_exact_count() {
    let _budget = Budget::new(Duration::from_secs(100));
    let folder = folder();
    let file = open(&canary_file(&folder, 5, DROPPED));
    let runtime = with_one_buffer();
    for settings in [narrow(), Settings { send_buffer: 16 << 10, ..old() }] {
        let mut halves = 0;
        // Where the socket stops is the peer's affair: mostly within a record, not always.
        for _ in 0..20 {
            for ops in [&[Op::Keep][..], &[Op::Change, Op::Drop, Op::Insert, Op::Double]] {
                for consistency in BOTH {
                    let script = Script { record: 1000, ops, trailer: true };
                    let dropped = drop_everywhere(&settings, &file, script, consistency);
                    halves += runtime.block_on(dropped);
                }
            }
            if halves > 0 {
                break;
            }
        }
        assert!(halves > 0, "no record was ever half sent");
    }
}

/// Drops after 0, 1, 2, … polls; every second time the peer reads nothing before that.
async fn drop_everywhere(
    settings: &Settings,
    file: &File,
    script: Script,
    consistency: Consistency,
) -> u32 {
    let (mut stream, client) = connected(settings).await;
    let peer = Gated::new(client);
    let base = stats().unwrap();
    let whole =
        [b"head".to_vec(), script.oracle(&canary_bytes(5, 0, usize::try_from(DROPPED).unwrap()))]
            .concat();
    let (mut expected, mut halves) = (Vec::new(), 0);
    for polls in 0.. {
        let before = stream.accepted();
        let stalls = polls % 2 == 1;
        peer.wait_for(len_of(&expected));
        peer.open(if stalls { len_of(&expected) } else { u64::MAX });
        let parts = Parts::new().bytes("head").whole_file(file);
        let transfer = transfer_file(parts, &mut stream)
            .window_limits(windows(40_000))
            .limits(
                Limits::default()
                    .with_seal_batch_bytes(33 << 10)
                    .with_stall_hold(Duration::from_micros(100)),
            )
            .quantum(32 << 10)
            .consistency(consistency)
            .process(script);
        let most = Duration::from_millis(if stalls { 2 } else { 10_000 });
        let done = at_most(transfer.into_future(), polls, most).await;
        let (sent, half) = (stream.accepted() - before, stream.half_sent());
        halves += u32::from(half > 0);
        if done.is_none() && sent + half > 0 {
            let refused = transfer_file(Parts::new().bytes("x"), &mut stream).await.unwrap_err();
            assert!(matches!(refused.kind(), ErrorKind::Poisoned), "{refused}");
        }
        peer.open(u64::MAX);
        let settled = stream.settle().await.unwrap();
        let all = stream.accepted() - before;
        assert_eq!(all, sent + half, "{polls} {script:?}");
        assert!(settled == all || settled == 0 && (done.is_some() || all == 0), "{settled} {all}");
        expected.extend_from_slice(&whole[..usize::try_from(all).unwrap()]);
        quiet(&base).await;
        let now = stats().unwrap();
        assert_eq!(now.regions, now.regions_idle, "a window is held: {now:?}");
        if let Some(outcome) = done {
            assert_eq!(outcome.unwrap().bytes, len_of(&whole));
            assert!(polls > 4, "{polls}: it never had to wait");
            break;
        }
    }
    stream.close().await.unwrap();
    assert!(peer.finish() == expected, "{script:?} {consistency:?}");
    halves
}

/// Keeps everything, and does something when it sees a given window.
struct Cutting<F>(u64, F);

impl<F: FnMut()> Processor for Cutting<F> {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        if window.offset() == self.0 {
            (self.1)();
        }
        // Pages behind the new end are zeros, or a fault that makes zeros.
        window.visit(0..window.len(), |_| ());
        output.send(0..window.len());
        Ok(window.len())
    }
}

#[test]
fn what_is_cut_under_a_window_ends_with_an_exact_count_and_without_a_foreign_byte() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (folder, runtime) = (folder(), runtime());
    for settings in [Settings::default(), old()] {
        for consistency in BOTH {
            for to in [5 * WINDOW, 4 * WINDOW - 10, 3 * WINDOW + 5000, 0] {
                let path = canary_file(&folder, 7, LEN);
                let cut = || {
                    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                    file.set_len(to).unwrap();
                };
                runtime.block_on(async {
                    let (mut stream, client): (TlsStream, _) = connected(&settings).await;
                    let peer = Gated::new(client);
                    peer.open(u64::MAX);
                    let transfer = transfer_file(open(&path), &mut stream)
                        .window_limits(windows(WINDOW))
                        .consistency(consistency)
                        .process(Cutting(3 * WINDOW, cut));
                    let error = transfer.await.unwrap_err();
                    assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
                    assert_eq!(error.blame(), Blame::File);
                    stream.close().await.unwrap();
                    let received = peer.finish();
                    // What was read before the cut is whole, what is mapped is not.
                    let read = consistency == Consistency::Snapshot;
                    let windows = if to == 5 * WINDOW { 5 } else { 3 + u64::from(read) };
                    assert_eq!((error.sent(), len_of(&received)), (windows * WINDOW, error.sent()));
                    assert!(received == canary_bytes(7, 0, received.len()), "cut to {to}");
                });
                std::fs::remove_file(&path).unwrap();
            }
        }
    }
}

/// Polls a future at most so often, and no longer than a while.
async fn at_most<F: Future>(future: F, polls: u32, most: Duration) -> Option<F::Output> {
    let (mut future, mut over, mut used) = (pin!(future), pin!(sleep(most)), 0);
    poll_fn(|context| {
        if used == polls || over.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        used += 1;
        let polled = future.as_mut().poll(context).map(Some);
        if polled.is_pending() && used == polls { Poll::Ready(None) } else { polled }
    })
    .await
}

/// Runs two futures side by side, and gives what the first one brings.
async fn both<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut brought, mut done) = (None, false);
    poll_fn(|context| {
        if brought.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            brought = Some(output);
        }
        done = done || second.as_mut().poll(context).is_ready();
        if brought.is_some() && done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    brought.unwrap()
}
