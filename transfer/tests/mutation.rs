//! R6: a file that changes in the middle of its transfer. The change is made in the progress
//! callback, so after a known number of bytes and before the next step, in every way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ringway::error::{Blame, ErrorKind, Truncated};
use ringway::{Consistency, FileSlice, Mode, Parts, Receipt, Route, Source};
use ringway::{TransferError, transfer_file};
use ringway_testkit::Budget;
use support::gated::Gated;
use support::*;
use tempfile::TempDir;

const LEN: u64 = 4 << 20;
const QUANTUM: u64 = 64 << 10;
/// What lies between the callback and the head, at most: a pipe that drains and one filled ahead.
const STAGED_MAX: u64 = 2 * QUANTUM;

/// What a way is called in a message; `None` is what the plan chooses.
type Way = Option<(Route, Mode)>;

fn ways() -> impl Iterator<Item = Way> {
    WAYS.into_iter().map(Some).chain([None])
}

struct Outcome {
    result: Result<Receipt, TransferError>,
    received: Vec<u8>,
    /// How much was sent when the change was made.
    at: u64,
}

impl Outcome {
    /// The error, once its count agrees with what the peer has.
    fn truncated(&self, way: Way) -> Truncated {
        let error = self.result.as_ref().expect_err("it was truncated");
        let ErrorKind::Truncated(truncated) = *error.kind() else { panic!("{way:?}: {error}") };
        let received = self.received.len() as u64;
        assert_eq!((error.sent(), truncated.sent), (received, received), "{way:?}");
        assert_eq!(error.blame(), Blame::File);
        truncated
    }
}

/// Sends `source` in one way and makes `change` as soon as `after` bytes are sent.
fn run(
    way: Way,
    source: impl Into<Source>,
    after: u64,
    consistency: Consistency,
    change: impl FnOnce(u64),
) -> Outcome {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let (mut change, mut at) = (Some(change), 0);
    let result = runtime().block_on(async {
        let mut transfer = transfer_file(source, &mut stream)
            .quantum(QUANTUM)
            .consistency(consistency)
            .on_progress(|told| {
                if told.sent >= after
                    && let Some(change) = change.take()
                {
                    assert!(told.ended.is_none() && told.sent < told.total, "too late: {told:?}");
                    at = told.sent;
                    change(told.sent);
                }
            });
        if let Some((route, mode)) = way {
            transfer = transfer.route(route).mode(mode);
        }
        transfer.await
    });
    end(stream);
    Outcome { result, received: peer.finish(), at }
}

fn fresh(folder: &TempDir) -> std::path::PathBuf {
    let path = canary_file(folder, 3, LEN);
    // The clock of file times is coarse: a change must not fall into the moment of the making.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
    path
}

fn truncate(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn assert_same(way: Way, received: &[u8], expected: &[u8]) {
    let first = received.iter().zip(expected).position(|(came, wanted)| came != wanted);
    assert_eq!(first, None, "{way:?}: the first byte that differs");
    assert_eq!(received.len(), expected.len(), "{way:?}");
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

#[test]
fn truncated_ahead_of_what_is_staged_sends_all_that_is_left_and_says_so() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    // In the middle of a page, at a page, and exactly at a quantum.
    for end in [(2 << 20) + 123, (2 << 20) + 4096, 2 << 20] {
        for way in ways() {
            let path = fresh(&folder);
            let outcome =
                run(way, open(&path), 1 << 20, Consistency::Shared, |_| truncate(&path, end));
            let truncated = outcome.truncated(way);
            assert_eq!(truncated, Truncated { expected: LEN, sent: end }, "{way:?}");
            assert_same(way, &outcome.received, &canary_bytes(3, 0, usize_of(end)));
        }
    }
}

#[test]
fn truncated_behind_what_is_sent_ends_with_the_exact_count() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for end in [0, 4097, 1 << 20] {
        for way in ways() {
            let path = fresh(&folder);
            let outcome =
                run(way, open(&path), 1 << 20, Consistency::Shared, |_| truncate(&path, end));
            let truncated = outcome.truncated(way);
            assert!(truncated.sent <= outcome.at + STAGED_MAX, "{way:?}: {truncated:?}");
            assert!(truncated.sent >= outcome.at, "{way:?}: {truncated:?}");
            // What was in flight by reference may be zeros by now; what was copied is not.
            let copied = matches!(way, Some((Route::Copy, _)));
            let sure = if copied { truncated.sent } else { end.min(truncated.sent) };
            let sure = usize_of(sure);
            assert_same(way, &outcome.received[..sure], &canary_bytes(3, 0, sure));
        }
    }
}

#[test]
fn a_file_that_grows_is_not_sent_beyond_its_first_length() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for way in ways() {
        let path = fresh(&folder);
        let outcome = run(way, open(&path), 1 << 20, Consistency::Shared, |_| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[7; 100_000], LEN).unwrap();
        });
        let receipt = outcome.result.unwrap();
        assert_eq!(receipt.bytes, LEN, "{way:?}");
        let change = receipt.source_changed.expect("the growth is noticed");
        assert_eq!((change.before.size, change.after.size), (LEN, LEN + 100_000));
        assert_same(way, &outcome.received, &canary_bytes(3, 0, usize_of(LEN)));
    }
}

#[test]
fn overwriting_in_place_is_reported_and_the_length_stays_exact() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let snapshots = [Some((Route::Copy, Mode::Ring)), Some((Route::Copy, Mode::Inline)), None];
    let cases = ways().map(|way| (way, Consistency::Shared));
    let cases = cases.chain(snapshots.map(|way| (way, Consistency::Snapshot)));
    for (way, consistency) in cases {
        let path = fresh(&folder);
        let outcome = run(way, open(&path), 1 << 20, consistency, |_| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&canary_bytes(4, 0, usize_of(LEN)), 0).unwrap();
        });
        let receipt = outcome.result.unwrap();
        assert!(receipt.source_changed.is_some(), "{way:?}: {receipt}");
        assert!(receipt.to_string().contains("source changed"), "{receipt}");
        assert_eq!((receipt.bytes, outcome.received.len() as u64), (LEN, LEN), "{way:?}");
        if consistency == Consistency::Snapshot {
            assert_eq!(receipt.route, Route::Copy);
            let before = usize_of(outcome.at);
            assert_same(way, &outcome.received[..before], &canary_bytes(3, 0, before));
            let after = before + usize_of(STAGED_MAX);
            let rest = canary_bytes(4, after as u64, usize_of(LEN) - after);
            assert_same(way, &outcome.received[after..], &rest);
        }
    }
}

#[test]
fn a_file_that_loses_its_name_is_sent_whole() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for way in ways() {
        let path = fresh(&folder);
        let outcome = run(way, open(&path), 1 << 20, Consistency::Shared, |_| {
            std::fs::remove_file(&path).unwrap();
        });
        assert_eq!(outcome.result.unwrap().bytes, LEN);
        assert_same(way, &outcome.received, &canary_bytes(3, 0, usize_of(LEN)));

        let path = fresh(&folder);
        let other = canary_file(&folder, 4, LEN);
        let outcome = run(way, open(&path), 1 << 20, Consistency::Shared, |_| {
            std::fs::rename(&other, &path).unwrap();
        });
        assert_eq!(outcome.result.unwrap().bytes, LEN);
        assert_same(way, &outcome.received, &canary_bytes(3, 0, usize_of(LEN)));
    }
}

#[test]
fn a_file_that_shrinks_between_its_parts_ends_after_the_memory_between_them() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for way in ways() {
        let path = fresh(&folder);
        let file = open(&path);
        let parts = Parts::new()
            .file(&file, 0..1 << 20)
            .bytes("between")
            .file(&file, 3 << 20..LEN)
            .bytes("trailer");
        let outcome = run(way, parts, QUANTUM, Consistency::Shared, |_| truncate(&path, 2 << 20));
        let truncated = outcome.truncated(way);
        assert_eq!(truncated, Truncated { expected: (2 << 20) + 14, sent: (1 << 20) + 7 });
        let mut expected = canary_bytes(3, 0, 1 << 20);
        expected.extend_from_slice(b"between");
        assert_same(way, &outcome.received, &expected);
    }
}

#[test]
fn truncated_while_the_peer_stalls_counts_what_the_peer_gets() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let runtime = runtime();
    for way in ways() {
        for offset in [0, 1] {
            let path = fresh(&folder);
            let (mut stream, theirs) = tcp_pair();
            let peer = Gated::new(theirs);
            let watcher = stream.share();
            let slice = FileSlice::new(&open(&path), offset..LEN);
            // The peer takes nothing, so at most what fits into the sockets goes out.
            stream.set_send_buffer(32 << 10).unwrap();
            let outcome = runtime.block_on(async {
                let limits = ringway::Limits::default().with_stall_hold(Duration::from_millis(10));
                let mut transfer = transfer_file(slice, &mut stream).limits(limits);
                if let Some((route, mode)) = way {
                    transfer = transfer.route(route).mode(mode);
                }
                let cut = async {
                    let mut before = u64::MAX;
                    while before != watcher.accepted() || before == 0 {
                        before = watcher.accepted();
                        ringway::runtime::time::sleep(Duration::from_millis(60)).await;
                    }
                    truncate(&path, 5);
                    peer.open(u64::MAX);
                };
                both(transfer.into_future(), cut).await
            });
            end(stream);
            let received = peer.finish();
            let error = outcome.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{way:?}: {error}");
            assert_eq!(error.sent(), received.len() as u64, "{way:?}");
            assert!(error.sent() < LEN - offset, "{way:?}");
        }
    }
}

/// Runs two futures side by side, and gives what the first one brings.
async fn both<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> T {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (mut brought, mut done) = (None, false);
    std::future::poll_fn(|context| {
        if brought.is_none()
            && let std::task::Poll::Ready(output) = first.as_mut().poll(context)
        {
            brought = Some(output);
        }
        done = done || second.as_mut().poll(context).is_ready();
        if brought.is_some() && done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    brought.expect("the first has ended")
}
