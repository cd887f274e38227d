//! What a processor leaves, where the kernel seals: by reference or gathered, rustls opens what a plain
//! oracle says; and the session is heard meanwhile, as on the route that only sends.

use std::future::{Future, IntoFuture};
use std::io::{Read, Write};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringway::error::ErrorKind;
use ringway::process::{Output, ProcessError, Processor, Window, WindowLimits};
use ringway::runtime::stats;
use ringway::runtime::time::sleep;
use ringway::tls::TlsLimits;
use ringway::{Consistency, Limits, Parts, Thresholds, Transfer, transfer_file};

use crate::scripted::*;
use crate::support::gated::Gated;
use crate::support::sealed::*;
use crate::support::wire::{Plaintext, Wire};
use crate::support::*;
use crate::where_the_kernel_seals;

const LEN: u64 = 1 << 20;
const KEEP: Script = Script { record: 1024, ops: &[Op::Keep], trailer: true };
const MIXED: Script =
    Script { record: 5000, ops: &[Op::Change, Op::Keep, Op::Drop, Op::Insert], trailer: true };

fn windows(bytes: u64) -> WindowLimits {
    WindowLimits::default().with_window_bytes(bytes).with_turn_budget(Duration::from_secs(3600))
}

fn expected_of(script: Script, id: u64, len: u64) -> Vec<u8> {
    script.oracle(&canary_bytes(id, 0, usize::try_from(len).unwrap()))
}

#[test]
fn what_a_processor_leaves_is_what_the_peer_opens() {
    where_the_kernel_seals(async || {
        let folder = folder();
        for (id, len) in (1..).zip([0, 1, 4097, 65_537, 300_013]) {
            let file = open(&canary_file(&folder, id, len));
            for (suite, consistency) in suites()
                .into_iter()
                .zip([Consistency::Shared, Consistency::Snapshot].into_iter().cycle())
            {
                let (mut stream, client) = connected(&Settings { suite, ..by_kernel() }).await;
                let peer = Gated::new(client);
                peer.open(u64::MAX);
                let mut expected = Vec::new();
                for script in SCRIPTS {
                    for (window, elsewhere) in [(12_000, false), (100_000, true), (1 << 20, false)]
                    {
                        let begin = expected.len();
                        expected.extend(b"head");
                        expected.extend(expected_of(script, id, len));
                        let parts = Parts::new().bytes("head").whole_file(&file);
                        let transfer = transfer_file(parts, &mut stream)
                            .window_limits(windows(window))
                            .thresholds(
                                Thresholds::default()
                                    .with_reference_min_bytes(REFERENCE_MIN)
                                    .with_reference_skewed_min_bytes(REFERENCE_MIN),
                            )
                            .consistency(consistency);
                        let transfer = if elsewhere {
                            transfer.process_on(script, |work| drop(std::thread::spawn(work)))
                        } else {
                            transfer.process(script)
                        };
                        let mut receipt = transfer.await.unwrap();
                        receipt.memory_bytes -= 4;
                        let what = format!("{len} {script:?} {window} {consistency:?}");
                        let sent = (expected.len() - begin) as u64;
                        assert_eq!(receipt.bytes, sent, "{what}: {receipt}");
                        receipt.bytes -= 4;
                        script.check(&receipt, &what, len, sent - 4, consistency);
                        assert_eq!(stream.accepted(), expected.len() as u64, "{what}");
                    }
                }
                stream.close().await.unwrap();
                assert!(peer.finish() == expected, "{len} {consistency:?}");
            }
        }
    });
}

#[test]
fn nothing_that_was_processed_leaves_in_the_clear() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 600_000));
        let looked_for = Plaintext::of(7, 600_000);
        // By reference, gathered from the map, changed in it.
        for (script, reference_min) in [(KEEP, 1), (KEEP, u64::MAX), (MIXED, 4096)] {
            let (ours, theirs, wire) = Wire::tapped();
            let (mut stream, client) = shaken(&by_kernel(), ours, theirs).await;
            let peer = Gated::new(client);
            peer.open(u64::MAX);
            let thresholds = Thresholds::default()
                .with_reference_min_bytes(reference_min)
                .with_reference_skewed_min_bytes(reference_min);
            transfer_file(&file, &mut stream).thresholds(thresholds).process(script).await.unwrap();
            stream.close().await.unwrap();
            drop(stream);
            assert!(peer.finish() == expected_of(script, 7, 600_000));
            looked_for.assert_nowhere(&wire.seen(), &format!("{script:?}"));
        }
    });
}

/// Every short run by reference, so that the pipe holds as many pieces of pages as it can.
fn by_short_references(transfer: Transfer<'_>) -> Transfer<'_> {
    transfer.thresholds(
        Thresholds::default().with_reference_min_bytes(1).with_reference_skewed_min_bytes(1),
    )
}

#[test]
fn new_keys_are_made_or_clearly_refused_in_the_middle_of_it() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 4 << 20));
        let short = Script { record: 700, ops: &[Op::Keep, Op::Drop], trailer: false };
        for (script, records, asks) in
            [(KEEP, 40, false), (MIXED, 40, false), (short, 40, false), (KEEP, 1 << 20, true)]
        {
            let limits = TlsLimits::default().with_key_records_max(records);
            let settings = Settings { limits, send_buffer: 64 << 10, ..by_kernel() };
            let (mut stream, mut client) = connected(&settings).await;
            if asks {
                client.conn.refresh_traffic_keys().unwrap();
                client.flush().unwrap();
            }
            let reading = std::thread::spawn(move || {
                let mut received = Vec::new();
                let end = client.read_to_end(&mut received);
                // rustls tells of an alert before it gives what came with it.
                let _ = client.conn.reader().read_to_end(&mut received);
                (received, end)
            });
            let transfer = transfer_file(&file, &mut stream).window_limits(windows(200_000));
            let outcome = by_short_references(transfer).process(script).await;
            let expected = expected_of(script, 7, 4 << 20);
            if stream.key_updates().sent > 0 {
                assert_eq!(outcome.unwrap().bytes, expected.len() as u64);
                stream.close().await.unwrap();
                let (received, end) = reading.join().unwrap();
                end.unwrap();
                assert!(received == expected);
                continue;
            }
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("the kernel that seals takes only one"), "{error}");
            let accepted = stream.accepted();
            assert_eq!(error.sent(), accepted, "{script:?}");
            assert!(accepted > 0 || asks, "{script:?}: {error}");
            assert!(asks || accepted <= 40 * 16_384, "{accepted} bytes under one key");
            drop(stream);
            let (received, end) = reading.join().unwrap();
            assert!(end.unwrap_err().to_string().contains("InternalError"), "{script:?}");
            assert!(received == expected[..usize::try_from(accepted).unwrap()], "{script:?}");
        }
    });
}

#[test]
fn an_alert_of_the_peer_ends_it_while_it_waits() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 8 << 20));
        for script in [KEEP, MIXED] {
            let settings = Settings { send_buffer: 64 << 10, ..by_kernel() };
            let (mut stream, client) = connected(&settings).await;
            let told = stream.tcp().share();
            let handshake = told.accepted();
            let transfer = transfer_file(&file, &mut stream).process(script).into_future();
            let speak = async {
                let mut client = client;
                settled(|| told.accepted(), handshake).await;
                // A record that does not open makes rustls send one.
                client.sock.0.write_all(&[23, 3, 3, 0, 20]).unwrap();
                client.sock.0.write_all(&[0; 20]).unwrap();
                client
            };
            let (outcome, client) = both(transfer, speak).await;
            let error = outcome.unwrap_err();
            assert_eq!(error.sent(), stream.accepted(), "{error}");
            assert!(error.to_string().contains("record"), "{error}");
            drop(client);
        }
    });
}

#[test]
fn a_peer_that_stalls_holds_no_pipe_and_no_window() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, LEN));
        for script in [KEEP, MIXED] {
            let settings = Settings { send_buffer: 32 << 10, ..by_kernel() };
            let (mut stream, client) = connected(&settings).await;
            let told = stream.tcp().share();
            let handshake = told.accepted();
            let peer = Gated::new(client);
            let base = stats().unwrap();
            let transfer = transfer_file(&file, &mut stream)
                .window_limits(windows(128 << 10))
                .limits(Limits::default().with_stall_hold(Duration::from_millis(1)))
                .process(script)
                .into_future();
            let watch = async {
                settled(|| told.accepted(), handshake).await;
                let now = stats().unwrap();
                assert_eq!((now.leases, now.pipes_lent), (base.leases, base.pipes_lent));
                assert_eq!(now.regions, now.regions_idle, "a window is held: {now:?}");
                peer.open(u64::MAX);
            };
            let (receipt, ()) = both(transfer, watch).await;
            let receipt = receipt.unwrap();
            stream.close().await.unwrap();
            assert!(receipt.stalls > 0, "{receipt}");
            assert!(peer.finish() == expected_of(script, 7, LEN), "{receipt}");
        }
    });
}

#[test]
fn dropped_anywhere_it_is_settled_exactly_and_the_connection_goes_on() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, LEN));
        for (polls, script) in (1..24).zip([KEEP, MIXED].into_iter().cycle()) {
            let settings = Settings { send_buffer: 32 << 10, ..by_kernel() };
            let (mut stream, client) = connected(&settings).await;
            let peer = Gated::new(client);
            peer.open(u64::MAX);
            let transfer = transfer_file(&file, &mut stream).window_limits(windows(40_000));
            let whole = polled(transfer.process(script), polls).await;
            let settled = stream.settle().await.unwrap();
            let sent = stream.accepted();
            assert_eq!(settled, if whole { 0 } else { sent }, "{script:?} after {polls}");
            stream.write_all(b"goes on").await.unwrap();
            stream.close().await.unwrap();
            let mut expected = expected_of(script, 7, LEN);
            expected.truncate(usize::try_from(sent).unwrap());
            expected.extend(b"goes on");
            assert!(peer.finish() == expected, "{script:?} after {polls} polls");
        }
    });
}

/// Polls a transfer so often, and tells whether it was done by then.
async fn polled(transfer: Transfer<'_>, polls: u32) -> bool {
    let (mut transfer, mut left) = (pin!(transfer.into_future()), polls);
    std::future::poll_fn(|context| {
        left -= 1;
        match transfer.as_mut().poll(context) {
            Poll::Pending if left > 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(false),
            Poll::Ready(outcome) => Poll::Ready(outcome.map(|_| true).unwrap()),
        }
    })
    .await
}

/// Keeps everything, and cuts the file when it sees a given window.
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
        output.send(0..window.len());
        Ok(window.len())
    }
}

#[test]
fn what_is_cut_under_a_window_ends_with_an_exact_count() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let window = 128 << 10;
        for reference_min in [4096, u64::MAX] {
            let path = canary_file(&folder, 7, LEN);
            let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let (mut stream, client) = connected(&by_kernel()).await;
            let peer = Gated::new(client);
            peer.open(u64::MAX);
            let error = transfer_file(open(&path), &mut stream)
                .window_limits(windows(window))
                .thresholds(
                    Thresholds::default()
                        .with_reference_min_bytes(reference_min)
                        .with_reference_skewed_min_bytes(reference_min),
                )
                .process(Cutting(3 * window, || writer.set_len(3 * window + 5000).unwrap()))
                .await
                .unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
            assert_eq!((error.sent(), stream.accepted()), (3 * window, 3 * window));
            stream.close().await.unwrap();
            assert!(peer.finish() == canary_bytes(7, 0, usize::try_from(3 * window).unwrap()));
            std::fs::remove_file(&path).unwrap();
        }
    });
}

/// Waits until a count has grown and stands still.
async fn settled(count: impl Fn() -> u64, from: u64) {
    let mut before = u64::MAX;
    while before == from || before != count() {
        before = count();
        sleep(Duration::from_millis(40)).await;
    }
}

/// Runs two futures side by side to their ends.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut left, mut right) = (None, None);
    std::future::poll_fn(|context| {
        if left.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            left = Some(output);
        }
        if right.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            right = Some(output);
        }
        if left.is_some() && right.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (left.unwrap(), right.unwrap())
}
