//! What a caller can ask for: routes and modes, limits, consistency, progress, zero-copy sends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use ringway::error::{Blame, ErrorKind, Refusal};
use ringway::plan::{Overwritable, Reason};
use ringway::runtime::net::Drained;
use ringway::runtime::{Stats, stats};
use ringway::{CancelToken, Consistency, Ended, Limits, Mode, Parts, Progressed, Receipt, Route};
use ringway::{Transfer, TransferError, transfer_file};
use ringway_testkit::Budget;
use support::gated::Gated;
use support::*;

fn ways() -> impl Iterator<Item = (Option<Route>, Option<Mode>)> {
    let forced = WAYS.into_iter().map(|(route, mode)| (Some(route), Some(mode)));
    forced.chain([(None, None)])
}

fn asking(
    mut transfer: Transfer<'_>,
    (route, mode): (Option<Route>, Option<Mode>),
) -> Transfer<'_> {
    if let Some(route) = route {
        transfer = transfer.route(route);
    }
    if let Some(mode) = mode {
        transfer = transfer.mode(mode);
    }
    transfer
}

/// Sends a fresh file of canary bytes over a Unix socket; what came is checked against the receipt.
fn send(
    len: u64,
    ask: impl for<'t> FnOnce(Transfer<'t>) -> Transfer<'t>,
) -> Result<Receipt, TransferError> {
    let folder = folder();
    let file = open(&canary_file(&folder, 2, len));
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let result = runtime().block_on(async { ask(transfer_file(&file, &mut stream)).await });
    end(stream);
    let received = peer.finish();
    let sent = result.as_ref().map_or_else(TransferError::sent, |receipt| receipt.bytes);
    assert_eq!(received.len() as u64, sent);
    assert!(received == canary_bytes(2, 0, received.len()));
    result
}

fn refusal(ask: impl for<'t> FnOnce(Transfer<'t>) -> Transfer<'t>) -> (Refusal, String) {
    let error = send(100_000, ask).unwrap_err();
    assert_eq!((error.sent(), error.blame()), (0, Blame::Caller));
    let ErrorKind::Refused(refusal) = *error.kind() else { panic!("{error}") };
    (refusal, error.to_string())
}

#[test]
fn a_forbidden_route_is_not_taken_and_the_reason_says_so() {
    let receipt = send(1 << 20, |transfer| transfer.forbid(Route::Splice)).unwrap();
    assert_eq!((receipt.route, receipt.reason), (Route::Copy, Reason::OtherForbidden));
    assert_eq!((receipt.splice_sqes, receipt.inline_splices, receipt.sendfile_calls), (0, 0, 0));
    let receipt = send(100, |transfer| transfer.forbid(Route::Copy)).unwrap();
    assert_eq!((receipt.route, receipt.reason), (Route::Splice, Reason::OtherForbidden));
    assert_eq!((receipt.read_sqes, receipt.buffer_bytes), (0, 0));
}

#[test]
fn wishes_that_contradict_each_other_name_blame_and_remedy() {
    fn all(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.forbid(Route::Copy).forbid(Route::Splice)
    }
    fn forced_and_forbidden(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.route(Route::Splice).forbid(Route::Splice)
    }
    fn spliced_snapshot(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.route(Route::Splice).consistency(Consistency::Snapshot)
    }
    for (result, expected, says) in [
        (refusal(all), Refusal::AllForbidden, "allow at least one route"),
        (
            refusal(forced_and_forbidden),
            Refusal::ForcedAndForbidden(Route::Splice),
            "do not forbid the route that is forced",
        ),
        (refusal(spliced_snapshot), Refusal::SnapshotNeedsCopy, "ask for Consistency::Shared"),
    ] {
        assert_eq!(result.0, expected);
        assert!(result.1.contains(says), "{}", result.1);
        assert!(result.1.contains("Likely to blame: the caller"), "{}", result.1);
    }
}

#[test]
fn limits_that_stop_everything_are_refused_by_their_name() {
    fn quantum(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.quantum(4095)
    }
    fn pipes(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.limits(Limits::default().with_pipes_max(0))
    }
    for (error, field) in [
        (send(10, quantum).unwrap_err(), "quantum_bytes must be at least 4096"),
        (send(10, pipes).unwrap_err(), "pipes_max must be at least 1"),
    ] {
        assert!(matches!(error.kind(), ErrorKind::InvalidLimit(_)));
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn a_forced_mode_is_kept_and_the_counts_show_it() {
    for way in ways().filter(|(route, _)| route.is_some()) {
        let receipt = send(1 << 20, |transfer| asking(transfer, way)).unwrap();
        assert_eq!((Some(receipt.route), Some(receipt.mode)), way);
        assert_eq!(receipt.reason, Reason::Forced);
        let Receipt { splice_sqes, inline_splices, read_sqes, send_sqes, .. } = receipt;
        let used = [splice_sqes > 0, inline_splices > 0, read_sqes > 0, send_sqes > 0];
        let expected = match way {
            (Some(Route::Splice), Some(Mode::Ring)) => [true, false, false, false],
            (Some(Route::Splice), Some(Mode::Hybrid)) => [true, true, false, false],
            (Some(Route::Splice), _) => [false, true, false, false],
            (_, Some(Mode::Ring)) => [false, false, true, true],
            (_, Some(Mode::Hybrid)) => [false, false, true, false],
            (_, _) => [false, false, false, false],
        };
        assert_eq!(used, expected, "{receipt}");
    }
}

#[test]
fn no_step_is_longer_than_the_quantum_and_no_fill_than_a_pipe_may_hold() {
    for way in ways() {
        let mut before = 0;
        let mut longest = 0;
        let folder = folder();
        let file = open(&canary_file(&folder, 2, 1 << 20));
        let (mut stream, peer) = unix(expecting(2, 0));
        runtime()
            .block_on(async {
                asking(transfer_file(&file, &mut stream), way)
                    .quantum(16 << 10)
                    .on_progress(|told| {
                        longest = longest.max(told.sent - before);
                        before = told.sent;
                    })
                    .await
            })
            .unwrap();
        end(stream);
        peer.join().unwrap().assert_complete(1 << 20);
        assert!(longest <= 16 << 10, "{way:?}: {longest}");
    }
    fn small_pipes(transfer: Transfer<'_>) -> Transfer<'_> {
        let limits = Limits::default().with_pipe_bytes(8192);
        transfer.route(Route::Splice).mode(Mode::Hybrid).limits(limits)
    }
    let receipt = send(1 << 20, small_pipes).unwrap();
    assert!(receipt.splice_sqes >= 128, "{receipt}");
}

#[test]
fn a_snapshot_is_copied_and_may_be_overwritten_at_once() {
    fn snapshot(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.consistency(Consistency::Snapshot)
    }
    let receipt = send(1 << 20, snapshot).unwrap();
    assert_eq!((receipt.route, receipt.reason), (Route::Copy, Reason::Snapshot));
    assert_eq!(receipt.overwritable, Overwritable::OnReturn);
}

#[test]
fn drained_does_not_pretend_to_know_on_the_same_host() {
    let folder = folder();
    let file = open(&canary_file(&folder, 2, 1 << 20));
    let (mut stream, peer) = tcp(expecting(2, 0));
    runtime().block_on(async {
        let receipt = transfer_file(&file, &mut stream).await.unwrap();
        assert_eq!(receipt.route, Route::Splice);
        assert_eq!(receipt.overwritable, Overwritable::Unknowable);
        let drained = stream.drained(Duration::from_secs(5)).await.unwrap();
        assert_eq!(drained, Drained::Unknowable);
    });
    end(stream);
    peer.join().unwrap().assert_complete(1 << 20);
}

/// What a callback was told, checked for order; the last one.
fn assert_monotone(told: &[Progressed], total: u64) -> Progressed {
    let (last, steps) = told.split_last().expect("there is a final call");
    assert!(steps.iter().all(|step| step.ended.is_none() && step.total == total));
    assert!(told.windows(2).all(|pair| pair[0].sent <= pair[1].sent));
    *last
}

#[test]
fn progress_rises_and_ends_once_in_every_outcome() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let len = 1 << 20;
    for way in ways() {
        for outcome in ["complete", "truncated", "cancelled"] {
            let path = canary_file(&folder, 2, len);
            let (mut stream, theirs) = unix_pair();
            let peer = Gated::new(theirs);
            peer.open(u64::MAX);
            let token = CancelToken::new();
            let mut told = Vec::new();
            let result = runtime().block_on(async {
                asking(transfer_file(open(&path), &mut stream), way)
                    .quantum(64 << 10)
                    .cancel_token(&token)
                    .on_progress(|step| {
                        told.push(step);
                        match outcome {
                            "truncated" => drop(std::fs::File::create(&path).unwrap()),
                            "cancelled" => token.cancel(),
                            _ => {}
                        }
                    })
                    .await
            });
            end(stream);
            let sent = peer.finish().len() as u64;
            let last = assert_monotone(&told, len);
            assert_eq!((last.sent, last.total), (sent, len), "{way:?} {outcome}");
            match result {
                Ok(_) => assert_eq!((outcome, last.ended), ("complete", Some(Ended::Complete))),
                Err(error) => {
                    assert_eq!((error.sent(), last.ended), (sent, Some(Ended::Failed)));
                    let cancelled = *error.kind() == ErrorKind::Cancelled;
                    assert_eq!(outcome == "cancelled", cancelled, "{way:?}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_refusal_is_told_to_the_progress_callback_too() {
    let mut told = Vec::new();
    let (mut stream, _theirs) = unix_pair();
    let parts = Parts::new().bytes("x");
    let result = runtime().block_on(async {
        transfer_file(parts, &mut stream).expecting(2).on_progress(|step| told.push(step)).await
    });
    assert!(result.is_err());
    assert_eq!(assert_monotone(&told, 0).ended, Some(Ended::Failed));
    assert_eq!(told.len(), 1);
}

/// Waits until the kernel has let go of every buffer.
async fn leases_back() -> Stats {
    for _ in 0..2000 {
        let now = stats().unwrap();
        if now.leases == 0 {
            return now;
        }
        ringway::runtime::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a buffer was not given back: {:?}", stats());
}

#[test]
fn zero_copy_sends_are_given_up_on_a_connection_that_copies() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let len = 3 << 20;
    let file = open(&canary_file(&folder, 2, len));
    for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
        let (mut stream, theirs) = tcp_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        runtime().block_on(async {
            let parts = || Parts::new().bytes("header").whole_file(&file).bytes("trailer");
            let transfer = transfer_file(parts(), &mut stream).route(Route::Copy).mode(mode);
            transfer.zero_copy(true).await.unwrap();
            let first = leases_back().await;
            assert!(first.zero_copy_sends > 0, "{mode}");
            assert!(stream.copies_anyway(), "loopback copies");
            assert_eq!(stream.zero_copy_copied(), first.zero_copy_copied);
            let transfer = transfer_file(parts(), &mut stream).route(Route::Copy).mode(mode);
            transfer.zero_copy(true).await.unwrap();
            assert_eq!(leases_back().await.zero_copy_sends, first.zero_copy_sends, "{mode}");
        });
        end(stream);
        let mut body = b"header".to_vec();
        body.extend(canary_bytes(2, 0, 3 << 20));
        body.extend_from_slice(b"trailer");
        assert!(peer.finish() == body.repeat(2), "{mode}");
    }
}

#[test]
fn where_zero_copy_is_refused_the_parts_still_arrive_in_order() {
    let folder = folder();
    let file = open(&canary_file(&folder, 2, 40_000));
    for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let receipt = runtime().block_on(async {
            let parts = Parts::new().bytes("header").whole_file(&file).bytes("trailer");
            let transfer = transfer_file(parts, &mut stream).route(Route::Copy).mode(mode);
            let receipt = transfer.zero_copy(true).await.unwrap();
            leases_back().await;
            receipt
        });
        end(stream);
        let mut body = b"header".to_vec();
        body.extend(canary_bytes(2, 0, 40_000));
        body.extend_from_slice(b"trailer");
        assert!(peer.finish() == body, "{mode}");
        assert_eq!(receipt.fallbacks.len(), 1, "{receipt}");
        assert_eq!(receipt.fallbacks[0].what, "plain sends", "{receipt}");
    }
}
