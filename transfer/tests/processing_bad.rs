//! Processors that misbehave: each ends its transfer with an exact count, and neither crashes nor hangs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use ringway::error::{Blame, ErrorKind};
use ringway::process::*;
use ringway::runtime::fs::File;
use ringway::runtime::net::UnixStream;
use ringway::runtime::{Runtime, stats};
use ringway::{CancelToken, Consistency, Limits, Route, TransferError, transfer_file};
use ringway_testkit::Budget;
use support::gated::Gated;
use support::tap::gauges;
use support::*;

const LEN: u64 = 1_000_000;
const WINDOW: u64 = 100_000;

/// Behaves for three windows, sending all of each, and then does something else.
struct Turncoat<F>(u32, F);

impl<F> Processor for Turncoat<F>
where
    F: FnMut(&mut Window<'_>, &mut Output<'_>) -> Result<usize, ProcessError>,
{
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        self.0 += 1;
        if self.0 > 3 {
            return (self.1)(window, output);
        }
        output.send(0..window.len());
        Ok(window.len())
    }

    fn changes(&self) -> bool {
        true
    }
}

fn limits() -> WindowLimits {
    let limits = WindowLimits::default().with_window_bytes(WINDOW).with_window_max_bytes(400_000);
    // However slow the machine is, windows have one length.
    limits.with_pieces_max(50).with_turn_budget(Duration::from_secs(3600))
}

/// Runs one to its bad end: what it was, with the counts compared.
fn bad_end(
    runtime: &Runtime,
    file: &File,
    elsewhere: bool,
    consistency: Consistency,
    misdeed: impl FnMut(&mut Window<'_>, &mut Output<'_>) -> Result<usize, ProcessError>
    + Send
    + 'static,
) -> TransferError {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let transfer =
        transfer_file(file, &mut stream).window_limits(limits()).consistency(consistency);
    let processor = Turncoat(0, misdeed);
    let transfer = if elsewhere {
        transfer.process_on(processor, |work| drop(std::thread::spawn(work)))
    } else {
        transfer.process(processor)
    };
    let error = runtime.block_on(transfer.into_future()).unwrap_err();
    assert!(!stream.is_poisoned() && !stream.is_sending());
    // The connection can be used on.
    runtime.block_on(async { stream.write_all(b"and on").await }).unwrap();
    end(stream);
    let received = peer.finish();
    let sent = usize::try_from(error.sent()).unwrap();
    assert_eq!(sent, received.len() - 6, "{error}");
    assert_eq!(sent as u64, 3 * WINDOW, "nothing of the window is sent: {error}");
    assert!(received[..sent] == canary_bytes(5, 0, sent));
    assert_eq!(error.blame(), Blame::Caller);
    assert_eq!(error.receipt().unwrap().route, Route::Mapped);
    error
}

#[test]
fn each_misdeed_has_its_name_and_sends_nothing_of_its_window() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, 5, LEN));
    let runtime = runtime();
    let w = usize::try_from(WINDOW).unwrap();
    for elsewhere in [false, true] {
        for consistency in [Consistency::Shared, Consistency::Snapshot] {
            let run =
                |misdeed: fn(&mut Window<'_>, &mut Output<'_>) -> Result<usize, ProcessError>| {
                    let error = bad_end(&runtime, &file, elsewhere, consistency, misdeed);
                    let ErrorKind::Processor(fault) = *error.kind() else { panic!("{error}") };
                    (fault, error)
                };
            assert_eq!(run(|_, _| panic!("on purpose")).0, ProcessorFault::Panicked);
            let outside = run(|window, output| {
                output.send(5..window.len() + 1);
                Ok(window.len())
            });
            let fault = ProcessorFault::OutsideWindow { from: 5, to: w + 1, window: w };
            assert_eq!(outside.0, fault);
            let backwards = run(|window, output| {
                #[expect(clippy::reversed_empty_ranges, reason = "that is the misdeed")]
                output.send(9..4);
                Ok(window.len())
            });
            assert!(matches!(backwards.0, ProcessorFault::OutsideWindow { from: 9, to: 4, .. }));
            let (fault, _) = run(|window, _| Ok(window.len() + 1));
            assert_eq!(fault, ProcessorFault::UsedTooMuch { used: w + 1, window: w });
            let (fault, _) = run(|window, output| {
                output.send(0..window.len());
                Ok(10)
            });
            assert_eq!(fault, ProcessorFault::SentUnused { to: w, used: 10 });
            let (fault, _) = run(|window, output| {
                (0..51).for_each(|piece| output.send(2 * piece..2 * piece + 1));
                Ok(window.len())
            });
            assert_eq!(fault, ProcessorFault::TooManyPieces { max: 50 });
            let (fault, error) = run(|_, _| Err("it has had enough".into()));
            assert_eq!(fault, ProcessorFault::Failed);
            assert!(error.to_string().contains("gave up: it has had enough"), "{error}");
            let (fault, error) =
                run(|window, _| Ok(window.write(window.len(), b"x").map(|()| 0)?));
            assert_eq!(fault, ProcessorFault::Failed);
            assert!(error.to_string().contains("within the window"), "{error}");
            let (fault, _) = run(|_, _| Ok(0));
            assert_eq!(fault, ProcessorFault::Stuck { window: 400_000 });
        }
    }
    assert_eq!(runtime.stats().leases, 0);
}

#[test]
fn sending_for_ever_without_using_anything_ends_after_a_bounded_number_of_turns() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 5, LEN));
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let mut turns = 0;
    let endless = Turncoat(3, |_: &mut Window<'_>, output: &mut Output<'_>| {
        turns += 1;
        output.insert(Bytes::from_static(b"more"));
        Ok(0)
    });
    let transfer = transfer_file(&file, &mut stream).window_limits(limits()).process(endless);
    let error = runtime().block_on(transfer.into_future()).unwrap_err();
    end(stream);
    assert!(matches!(error.kind(), ErrorKind::Processor(ProcessorFault::Stuck { .. })), "{error}");
    assert_eq!((turns, error.sent(), peer.finish().len()), (64, 63 * 4, 63 * 4));
}

#[test]
fn work_that_is_dropped_instead_of_run_ends_the_transfer() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 5, LEN));
    let runtime = runtime();
    for panics in [false, true] {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let mut left = 2;
        let transfer = transfer_file(&file, &mut stream).window_limits(limits()).process_on(
            Replace::new(*b"a", *b"b"),
            |work| {
                left -= 1;
                if left >= 0 {
                    drop(std::thread::spawn(work));
                } else if panics {
                    panic!("on purpose");
                }
            },
        );
        let error = runtime.block_on(transfer.into_future()).unwrap_err();
        end(stream);
        assert!(matches!(error.kind(), ErrorKind::Processor(ProcessorFault::Lost)), "{error}");
        assert_eq!((error.sent(), peer.finish().len() as u64), (2 * WINDOW, 2 * WINDOW));
    }
}

#[test]
fn a_turn_elsewhere_can_be_cancelled_and_outlives_its_transfer_without_harm() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 5, LEN));
    let runtime = runtime();
    for consistency in [Consistency::Shared, Consistency::Snapshot] {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let token = CancelToken::new();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (told, heard) = std::sync::mpsc::channel::<usize>();
        let cancel = token.clone();
        let slow = Turncoat(0, move |window: &mut Window<'_>, _: &mut Output<'_>| {
            cancel.cancel();
            // It goes on looking when the transfer is over long ago.
            let _ = held.recv();
            let mut seen = 0;
            window.visit(0..window.len(), |chunk| seen += chunk.len());
            told.send(seen).unwrap();
            Ok(0)
        });
        let transfer = transfer_file(&file, &mut stream)
            .window_limits(limits())
            .consistency(consistency)
            .cancel_token(&token)
            .process_on(slow, |work| drop(std::thread::spawn(work)));
        let error = runtime.block_on(transfer.into_future()).unwrap_err();
        end(stream);
        assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
        assert_eq!((error.sent(), peer.finish().len() as u64), (3 * WINDOW, 3 * WINDOW));
        release.send(()).unwrap();
        assert_eq!(heard.recv().unwrap() as u64, WINDOW);
    }
}

#[test]
fn dropped_after_every_poll_leaves_exact_counts_and_nothing_held() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, 5, LEN));
    let runtime = runtime();
    for consistency in [Consistency::Shared, Consistency::Snapshot] {
        for keeps_all in [true, false] {
            runtime.block_on(drop_everywhere(&file, consistency, keeps_all));
        }
    }
}

async fn drop_everywhere(file: &File, consistency: Consistency, keeps_all: bool) {
    let base = stats().unwrap();
    for polls in 0.. {
        let (mut stream, theirs) = unix_pair();
        stream.set_send_buffer(16 << 10).unwrap();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let filter =
            RecordFilter::fixed(1000, |record| keeps_all || record.offset() / 1000 % 2 == 0);
        let mut expected = canary_bytes(5, 0, usize::try_from(LEN).unwrap());
        if !keeps_all {
            let records = expected.chunks(1000).step_by(2).flatten().copied();
            expected = records.collect();
        }
        let done = {
            let mut transfer = transfer_file(file, &mut stream)
                .window_limits(limits().with_pieces_max(4096))
                .limits(Limits::default().with_stall_hold(Duration::from_micros(100)))
                .quantum(16 << 10)
                .consistency(consistency)
                .process(filter)
                .into_future();
            let mut used = 0;
            std::future::poll_fn(|context| {
                if used == polls {
                    return std::task::Poll::Ready(None);
                }
                used += 1;
                std::pin::Pin::new(&mut transfer).poll(context).map(Some)
            })
            .await
        };
        let settled = settle(&mut stream).await;
        let sent = stream.accepted();
        assert!(settled == sent || done.is_some() || sent == 0, "{settled} {sent}");
        support::tap::quiet(&base).await;
        end(stream);
        let received = peer.finish();
        assert_eq!(received.len() as u64, sent, "{polls} {consistency:?}");
        assert!(received == expected[..received.len()], "{polls} {consistency:?}");
        if let Some(outcome) = done {
            assert_eq!(outcome.unwrap().bytes, expected.len() as u64);
            assert!(polls > 20, "{polls}: it never had to wait");
            break;
        }
    }
    assert_eq!(gauges(&stats().unwrap()), gauges(&base));
}

async fn settle(stream: &mut UnixStream) -> u64 {
    if stream.is_poisoned() { stream.settle().await } else { 0 }
}
