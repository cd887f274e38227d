//! What a transfer chooses when it is left to itself, on real files: the receipt names route, mode and
//! reason, and whatever could not be had.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ringway::plan::{Obstacle, Overwritable, Reason};
use ringway::runtime::{Config, PipeLease, Runtime, lend_pipe, stats};
use ringway::{Limits, Mode, Parts, Receipt, Route, Source, Transfer, transfer_file};
use std::path::Path;
use support::*;

fn as_it_is(transfer: Transfer<'_>) -> Transfer<'_> {
    transfer
}

/// Sends a canary file over TCP inside of `runtime`, while `held` pipes are lent to others.
fn send_while_held(
    runtime: &Runtime,
    path: &Path,
    held: usize,
    ask: impl for<'t> FnOnce(Transfer<'t>) -> Transfer<'t>,
) -> Receipt {
    let (mut stream, receiver) = tcp(expecting(2, 0));
    let file = open(path);
    let receipt = runtime.block_on(async {
        let pipes: Vec<PipeLease> =
            (0..held).map(|_| lend_pipe().unwrap().expect("a free pipe")).collect();
        let receipt = ask(transfer_file(&file, &mut stream)).await.unwrap();
        drop(pipes);
        let stats = stats().unwrap();
        assert_eq!((stats.pipes_lent, stats.leases), (0, 0), "{receipt}");
        receipt
    });
    end(stream);
    receiver.join().unwrap().assert_complete(std::fs::metadata(path).unwrap().len());
    receipt
}

fn send(path: &Path) -> Receipt {
    send_while_held(&runtime(), path, 0, as_it_is)
}

#[test]
fn a_small_file_is_copied_inline() {
    let folder = folder();
    for len in [1, 100, 4 << 10] {
        let receipt = send(&canary_file(&folder, 2, len));
        assert_eq!((receipt.route, receipt.mode), (Route::Copy, Mode::Inline), "{receipt}");
        assert_eq!((receipt.reason, receipt.pipes), (Reason::SmallBody, 0));
        assert_eq!(receipt.overwritable, Overwritable::OnReturn);
        assert!(receipt.fallbacks.is_empty(), "{receipt}");
    }
}

#[test]
fn the_resident_end_of_a_body_takes_one_call_and_no_pipe() {
    let folder = folder();
    for len in [4097, 64 << 10] {
        let receipt = send(&canary_file(&folder, 2, len));
        assert_eq!((receipt.route, receipt.mode), (Route::Splice, Mode::Inline), "{receipt}");
        assert_eq!((receipt.sendfile_calls, receipt.pipes), (1, 0), "{receipt}");
        assert!(receipt.fallbacks.is_empty(), "{receipt}");
    }
}

#[test]
fn a_large_resident_file_is_spliced_inline() {
    for folder in [folder(), memory_folder()] {
        let receipt = send(&canary_file(&folder, 2, 5 << 20));
        assert_eq!((receipt.route, receipt.mode), (Route::Splice, Mode::Inline), "{receipt}");
        assert_eq!((receipt.reason, receipt.pipes), (Reason::LargeBody, 1));
        assert_eq!((receipt.splice_sqes, receipt.read_sqes), (0, 0), "{receipt}");
        assert_eq!(receipt.overwritable, Overwritable::Unknowable);
        assert!(receipt.fallbacks.is_empty(), "{receipt}");
    }
}

#[test]
fn a_cold_file_is_spliced_by_the_ring_through_two_pipes() {
    let folder = folder();
    let path = canary_file(&folder, 2, 32 << 20);
    if !make_cold(&path) {
        return;
    }
    // Without read-ahead, which would make it resident before it is asked for.
    let file = std::fs::File::open(&path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let file = ringway::runtime::fs::File::from(file);
    let (mut stream, receiver) = tcp(expecting(2, 0));
    let receipt = runtime().block_on(async { transfer_file(&file, &mut stream).await }).unwrap();
    end(stream);
    receiver.join().unwrap().assert_complete(32 << 20);
    assert_eq!((receipt.route, receipt.reason), (Route::Splice, Reason::LargeBody), "{receipt}");
    assert_eq!((receipt.mode, receipt.pipes), (Mode::Hybrid, 2), "{receipt}");
    assert!(receipt.splice_sqes >= 32, "{receipt}");
    assert!(receipt.fallbacks.is_empty(), "{receipt}");
}

#[test]
fn a_cold_file_goes_through_one_pipe_if_that_is_the_limit() {
    fn one_pipe(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.limits(Limits::default().with_pipes_max(1))
    }
    let folder = folder();
    let path = canary_file(&folder, 2, 8 << 20);
    if !make_cold(&path) {
        return;
    }
    let receipt = send_while_held(&runtime(), &path, 0, one_pipe);
    assert_eq!((receipt.route, receipt.pipes), (Route::Splice, 1), "{receipt}");
    assert!(receipt.splice_sqes > 0, "{receipt}");
}

#[test]
fn a_cold_file_that_is_copied_is_read_by_the_ring() {
    fn copied(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.route(Route::Copy)
    }
    let folder = folder();
    let path = canary_file(&folder, 2, 8 << 20);
    if !make_cold(&path) {
        return;
    }
    let receipt = send_while_held(&runtime(), &path, 0, copied);
    assert_eq!(receipt.mode, Mode::Hybrid, "{receipt}");
    assert!(receipt.read_sqes > 0, "{receipt}");
}

#[test]
fn a_cold_small_file_whose_splice_is_forced_does_not_block_the_loop() {
    fn spliced(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.route(Route::Splice)
    }
    let folder = folder();
    let path = canary_file(&folder, 2, 10_000);
    if !make_cold(&path) {
        return;
    }
    let receipt = send_while_held(&runtime(), &path, 0, spliced);
    assert_eq!((receipt.mode, receipt.splice_sqes), (Mode::Hybrid, 1), "{receipt}");
}

#[test]
fn short_parts_are_gathered_and_memory_alone_needs_no_file() {
    let folder = folder();
    let file = open(&canary_file(&folder, 2, 1 << 20));
    let mut parts = Parts::new();
    for number in 0..50 {
        parts = parts.bytes("--boundary").file(&file, number * 2000..number * 2000 + 1000);
    }
    for (source, reason) in [
        (Source::from(parts), Reason::ShortParts),
        (Source::from(Parts::new().bytes("only memory")), Reason::NothingFromFile),
    ] {
        let (mut stream, receiver) = tcp(ringway_testkit::Behaviour::read_all());
        let receipt =
            runtime().block_on(async { transfer_file(source, &mut stream).await }).unwrap();
        end(stream);
        receiver.join().unwrap().assert_complete(receipt.bytes);
        assert_eq!((receipt.route, receipt.reason), (Route::Copy, reason), "{receipt}");
    }
}

/// A ring with two pipes, so that a test can hold them all.
fn with_two_pipes() -> Runtime {
    Runtime::with_config(Config { pipes_max: 2, ..Config::default() }).unwrap()
}

#[test]
fn without_a_free_pipe_a_resident_file_goes_by_sendfile() {
    let folder = folder();
    let path = canary_file(&folder, 2, 5 << 20);
    let receipt = send_while_held(&with_two_pipes(), &path, 2, as_it_is);
    assert_eq!((receipt.route, receipt.mode), (Route::Splice, Mode::Inline), "{receipt}");
    assert!(receipt.sendfile_calls > 0, "{receipt}");
    let [fallback] = receipt.fallbacks.as_slice() else { panic!("{receipt}") };
    assert_eq!(
        (fallback.what, fallback.why),
        ("sendfile(2) instead of a pipe", "all pipes are lent")
    );
}

#[test]
fn without_a_free_pipe_a_cold_file_is_copied() {
    let folder = folder();
    let path = canary_file(&folder, 2, 5 << 20);
    if !make_cold(&path) {
        return;
    }
    let receipt = send_while_held(&with_two_pipes(), &path, 2, as_it_is);
    assert_eq!(receipt.route, Route::Copy, "{receipt}");
    assert_eq!(receipt.reason, Reason::SpliceImpossible(Obstacle::NoPipe));
    assert!(receipt.read_sqes > 0, "{receipt}");
    assert_eq!(receipt.sendfile_calls, 0, "{receipt}");
    let [fallback] = receipt.fallbacks.as_slice() else { panic!("{receipt}") };
    assert_eq!(fallback.what, "copied instead of spliced");
}

#[test]
fn without_a_free_pipe_a_forbidden_copy_stays_forbidden() {
    fn no_copy(transfer: Transfer<'_>) -> Transfer<'_> {
        transfer.forbid(Route::Copy).mode(Mode::Hybrid)
    }
    let folder = folder();
    let path = canary_file(&folder, 2, 5 << 20);
    let receipt = send_while_held(&with_two_pipes(), &path, 2, no_copy);
    assert_eq!((receipt.buffer_bytes, receipt.read_sqes), (0, 0), "{receipt}");
    assert!(receipt.sendfile_calls > 0, "{receipt}");
    assert_eq!(receipt.fallbacks.len(), 1, "{receipt}");
}
