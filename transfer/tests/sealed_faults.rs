//! R2 and R6 for encrypted streams: every operation fails or is short, and the file changes underneath.
//! What rustls opens is always a prefix of the right bytes, as long as the error says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::OpenOptions;
use std::future::IntoFuture;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use ringway::error::{ErrorKind, Truncated};
use ringway::limits::Limits;
use ringway::runtime::fault::{self, Fault, Report};
use ringway::runtime::fs::File;
use ringway::runtime::time::timeout;
use ringway::runtime::{Runtime, stats};
use ringway::tls::TlsStream;
use ringway::{Mode, Parts, Receipt, Route, TransferError, transfer_file};
use ringway_testkit::{Budget, canary};
use support::sealed::*;
use support::tap::{Appetite, Tap, in_child, quiet};
use support::{canary_bytes, canary_file, folder, open, runtime_with_buffers};

const FILE: u64 = 41;
const BODY: u64 = (80 << 10) + 3;
const HEAD: &[u8] = &[0x48; 200];
const TAIL: &[u8] = &[0x54; 50];
/// No transfer of these takes a thousandth of it.
const HANG: Duration = Duration::from_secs(10);

const ERRNOS: [i32; 12] = [4, 5, 9, 11, 12, 22, 32, 95, 104, 105, 110, 125];
const SHORTS: [u32; 6] = [1, 200, 4096, 16_384, 16_405, 16_407];

fn faults_of(name: &str) -> Vec<Fault> {
    let shorts: &[u32] = if matches!(name, "poll" | "recv") { &[] } else { &SHORTS };
    let errnos = ERRNOS.iter().map(|errno| Fault::Errno(*errno));
    errnos.chain(shorts.iter().map(|len| Fault::Short(*len))).collect()
}

#[test]
fn every_op_may_fail_and_be_short() {
    let limit = Duration::from_secs(120);
    in_child("every_op_may_fail_and_be_short", limit, || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, BODY + 1));
        let runtime = runtime_with_buffers(36 << 10, 3);
        let (mut injected, mut failed) = (0, 0);
        for (_, mode) in SEALED_WAYS {
            let mut line = None;
            for kth in 0.. {
                let probe = run(&runtime, &mut line, &file, mode, kth, Fault::Short(u32::MAX));
                let (Report { fired: Some(name), .. }, outcome) = probe else { break };
                outcome.unwrap_or_else(|error| panic!("{mode}: without a fault: {error}"));
                for fault in faults_of(name) {
                    let (report, outcome) = run(&runtime, &mut line, &file, mode, kth, fault);
                    injected += u64::from(report.fired.is_some());
                    failed += u64::from(outcome.is_err());
                }
            }
        }
        println!("{injected} faults, {failed} transfers failed: 0 bytes lost, 0 foreign, 0 leaks");
        assert!(injected > 300 && failed > 100, "{injected} {failed}");
    });
}

/// One transfer with one fault, checked to the last byte, and a clean one behind it.
fn run(
    runtime: &Runtime,
    line: &mut Option<(TlsStream, Tap)>,
    file: &File,
    mode: Mode,
    kth: u64,
    fault: Fault,
) -> (Report, Result<Receipt, TransferError>) {
    runtime.block_on(async {
        let (mut stream, tap) = match line.take() {
            Some(ends) => ends,
            None => tap_tls(Appetite::Greedy, &Settings::default()).await,
        };
        let base = stats().unwrap();
        let began = stream.accepted();
        fault::arm(kth, fault);
        let outcome = timeout(HANG, send(&mut stream, file, mode)).await;
        let report = fault::disarm();
        let outcome = outcome.unwrap_or_else(|_| panic!("{mode} hangs: {kth} {fault:?}"));
        let (sent, half) = (stream.accepted() - began, stream.half_sent());
        match &outcome {
            Ok(receipt) => assert_eq!((receipt.bytes, sent), (whole().len() as u64, sent)),
            Err(error) => {
                assert!(!matches!(error.kind(), ErrorKind::Misstep(_)), "{error}");
                assert_eq!(error.sent(), sent, "{mode} {kth} {fault:?}: {error}");
            }
        }
        tap.take_prefix(&whole(), sent);
        quiet(&base).await;
        // The connection goes on: the fault was not the socket's.
        let again = stream.accepted();
        send(&mut stream, file, mode).await.unwrap_or_else(|e| panic!("{kth} {fault:?}: {e}"));
        assert_eq!(stream.accepted() - again, half + whole().len() as u64);
        tap.take_prefix(&whole()[usize::try_from(sent).unwrap()..], half);
        tap.take_prefix(&whole(), whole().len() as u64);
        quiet(&base).await;
        *line = Some((stream, tap));
        (report, outcome)
    })
}

async fn send(stream: &mut TlsStream, file: &File, mode: Mode) -> Result<Receipt, TransferError> {
    let parts = Parts::new().bytes(HEAD).file(file, 1..BODY + 1).bytes(TAIL);
    let limits = Limits::default()
        .with_quantum_bytes(32 << 10)
        .with_seal_batch_bytes(33 << 10)
        .with_stall_hold(Duration::from_millis(2));
    let transfer = transfer_file(parts, stream).limits(limits);
    transfer.route(Route::Registered).mode(mode).into_future().await
}

fn whole() -> Vec<u8> {
    let file = canary::bytes(FILE, 1, usize::try_from(BODY).unwrap());
    [HEAD, &file, TAIL].concat()
}

const LEN: u64 = 4 << 20;
const QUANTUM: u64 = 64 << 10;

/// Sends the file and changes it after the first MiB; what the peer got, and what the sender says.
fn changed(
    mode: Mode,
    change: impl FnOnce(&std::path::Path),
) -> (Result<Receipt, TransferError>, u64, Vec<u8>) {
    let folder = folder();
    let path = canary_file(&folder, 3, LEN);
    let stamp = std::time::SystemTime::now() - Duration::from_secs(100);
    OpenOptions::new().write(true).open(&path).unwrap().set_modified(stamp).unwrap();
    let (file, runtime) = (open(&path), support::runtime());
    let (mut change, mut at) = (Some(change), 0);
    runtime.block_on(async {
        let (mut stream, client) = connected(&Settings::default()).await;
        let peer = support::gated::Gated::new(client);
        peer.open(u64::MAX);
        let transfer = transfer_file(&file, &mut stream).mode(mode).quantum(QUANTUM);
        let outcome = transfer
            .on_progress(|told| {
                if told.sent >= 1 << 20
                    && let Some(change) = change.take()
                {
                    at = told.sent;
                    change(&path);
                }
            })
            .await;
        stream.close().await.unwrap();
        (outcome, at, peer.finish())
    })
}

#[test]
fn a_file_that_shrinks_is_an_error_with_the_exact_count_and_no_padding() {
    let _budget = Budget::new(Duration::from_secs(60));
    for end in [(2 << 20) + 123, 2 << 20] {
        for (_, mode) in SEALED_WAYS {
            let (outcome, _, came) = changed(mode, |path| {
                OpenOptions::new().write(true).open(path).unwrap().set_len(end).unwrap();
            });
            let error = outcome.unwrap_err();
            let expected = ErrorKind::Truncated(Truncated { expected: LEN, sent: end });
            assert_eq!((error.kind(), error.sent()), (&expected, end), "{mode}");
            assert!(came == canary_bytes(3, 0, usize::try_from(end).unwrap()), "{mode}");
        }
    }
}

#[test]
fn a_file_that_grows_is_not_sent_beyond_its_first_length() {
    let _budget = Budget::new(Duration::from_secs(60));
    for (_, mode) in SEALED_WAYS {
        let (outcome, _, came) = changed(mode, |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[7; 100_000], LEN).unwrap();
        });
        let receipt = outcome.unwrap();
        assert!(receipt.source_changed.is_some() && receipt.bytes == LEN, "{receipt}");
        assert!(came == canary_bytes(3, 0, usize::try_from(LEN).unwrap()), "{mode}");
    }
}

#[test]
fn a_file_that_is_overwritten_is_what_it_was_when_each_record_was_sealed() {
    let _budget = Budget::new(Duration::from_secs(60));
    for (_, mode) in SEALED_WAYS {
        let (outcome, at, came) = changed(mode, |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&canary_bytes(4, 0, usize::try_from(LEN).unwrap()), 0).unwrap();
        });
        let receipt = outcome.unwrap();
        assert!(receipt.source_changed.is_some(), "{receipt}");
        let at = usize::try_from(at).unwrap();
        // One batch may have been sealed, and one read ahead.
        let after = at + 2 * usize::try_from(QUANTUM).unwrap();
        assert!(came[..at] == canary_bytes(3, 0, at), "{mode}: what was sent stays as it was");
        assert!(came[after..] == canary_bytes(4, after as u64, came.len() - after), "{mode}");
        assert_eq!(came.len() as u64, LEN);
    }
}
