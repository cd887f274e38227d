//! R6: a file that changes in the middle of its transfer. The change is made in the progress
//! callback, so after a known number of bytes and before the next step, in every way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenes;
mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use ringway::error::{ErrorKind, Truncated};
use ringway::transfer_file;
use ringway::{Consistency, FileSlice, Mode, Parts, Route};
use ringway_testkit::Budget;
use scenes::mutated::*;
use support::gated::Gated;
use support::*;

#[test]
fn truncated_ahead_of_what_is_staged_sends_all_that_is_left_and_says_so() {
    let _budget = Budget::new(Duration::from_secs(60));
    truncate_ahead();
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
    grow();
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
