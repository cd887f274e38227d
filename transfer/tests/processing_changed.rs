//! What is processed while its file changes, its peer stalls, or what it needs runs out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::OpenOptions;
use std::future::{Future, IntoFuture};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use ringway::error::{Blame, ErrorKind};
use ringway::process::*;
use ringway::runtime::fault::{self, Fault};
use ringway::runtime::{BufferClass, Config, Runtime, stats};
use ringway::{Consistency, Limits, Receipt, Route, Thresholds, TransferError, transfer_file};
use ringway_testkit::Budget;
use support::gated::Gated;
use support::*;

const LEN: u64 = 1 << 20;
const WINDOW: u64 = 128 << 10;

/// Keeps records of 4 KiB as its pattern says, and does something when it sees a given window.
struct Watched<F> {
    keeps: fn(u64) -> bool,
    changes: bool,
    at: u64,
    deed: F,
}

impl<F: FnMut()> Processor for Watched<F> {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        if window.offset() == self.at {
            (self.deed)();
        }
        for at in (0..window.len()).step_by(4096) {
            let index = (window.offset() + at as u64) / 4096;
            // What it looks at has to be there, or what it does about it must not count.
            let mut seen = 0usize;
            window.visit(at..at + 4096, |chunk| seen += chunk.len());
            assert_eq!(seen, 4096);
            if self.changes {
                window.write(at, b"changed")?;
            }
            if (self.keeps)(index) {
                output.send(at..at + 4096);
            }
        }
        Ok(window.len())
    }

    fn changes(&self) -> bool {
        self.changes
    }
}

const ALL: fn(u64) -> bool = |_| true;
const EVERY_SECOND: fn(u64) -> bool = |index| index % 2 == 0;

fn kept(id: u64, keeps: fn(u64) -> bool, changes: bool) -> Vec<u8> {
    let mut content = canary_bytes(id, 0, usize::try_from(LEN).unwrap());
    if changes {
        content.chunks_mut(4096).for_each(|record| record[..7].copy_from_slice(b"changed"));
    }
    let records = (0..).zip(content.chunks(4096)).filter(|(index, _)| keeps(*index));
    records.flat_map(|(_, record)| record).copied().collect()
}

/// Windows of one length, however slow the machine is.
fn steady() -> WindowLimits {
    WindowLimits::default().with_window_bytes(WINDOW).with_turn_budget(Duration::from_secs(3600))
}

struct Case {
    keeps: fn(u64) -> bool,
    changes: bool,
    consistency: Consistency,
}

fn cases() -> impl Iterator<Item = Case> {
    let plain = [(ALL, false), (EVERY_SECOND, false), (ALL, true), (EVERY_SECOND, true)];
    plain.into_iter().flat_map(|(keeps, changes)| {
        [Consistency::Shared, Consistency::Snapshot].map(|consistency| Case {
            keeps,
            changes,
            consistency,
        })
    })
}

/// Sends `path` and does `deed` when the processor sees its fourth window.
fn run(case: &Case, path: &Path, deed: impl FnMut()) -> (Result<Receipt, TransferError>, Vec<u8>) {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let processor = Watched { keeps: case.keeps, changes: case.changes, at: 3 * WINDOW, deed };
    let transfer = transfer_file(open(path), &mut stream)
        .window_limits(steady())
        .consistency(case.consistency)
        .process(processor);
    let outcome = runtime().block_on(transfer.into_future());
    end(stream);
    (outcome, peer.finish())
}

fn truncate(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn truncated_under_its_window_ends_with_the_exact_count_and_sends_no_padding() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for case in cases() {
        // Behind the window, in the middle of its last page, in the middle of it, and to nothing.
        for to in [5 * WINDOW, 4 * WINDOW - 10, 3 * WINDOW + 5000, 0] {
            let path = canary_file(&folder, 7, LEN);
            let (outcome, received) = run(&case, &path, || truncate(&path, to));
            let error = outcome.unwrap_err();
            let ErrorKind::Truncated(truncated) = *error.kind() else { panic!("{error}") };
            assert_eq!(error.blame(), Blame::File);
            assert_eq!((truncated.expected, truncated.sent), (LEN, received.len() as u64));
            let all = kept(7, case.keeps, case.changes);
            // A window that was read before the cut is whole, one that is mapped is not.
            let read = error.receipt().unwrap().processed.as_ref().unwrap().windows_read > 0;
            assert!(read || case.consistency == Consistency::Shared);
            let windows = if to == 5 * WINDOW { 5 } else { 3 + u64::from(read) };
            let share = all.len() as u64 * windows / (LEN / WINDOW);
            assert_eq!(received.len() as u64, share, "cut to {to}: {error}");
            // What left by reference may be zeros by now; what was copied is not.
            let referred = error.receipt().unwrap().processed.as_ref().unwrap().referenced_bytes;
            let sure = if referred == 0 { received.len() } else { 0 };
            assert!(received[..sure] == all[..sure], "cut to {to}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn growing_losing_its_name_and_being_replaced_change_nothing() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for case in cases() {
        for deed in 0..3 {
            let path = canary_file(&folder, 8, LEN);
            let (outcome, received) = run(&case, &path, || match deed {
                0 => truncate(&path, 2 * LEN),
                1 => std::fs::remove_file(&path).unwrap(),
                _ => std::fs::rename(canary_file(&folder, 9, LEN), &path).unwrap(),
            });
            let receipt = outcome.unwrap();
            assert!(received == kept(8, case.keeps, case.changes), "{deed}: {receipt}");
            assert!(receipt.source_changed.is_some(), "{receipt}");
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[test]
fn overwritten_in_place_a_snapshot_sends_what_it_has_seen() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for case in cases() {
        let path = canary_file(&folder, 8, LEN);
        let (outcome, received) = run(&case, &path, || {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&canary_bytes(9, 0, usize::try_from(LEN).unwrap()), 0).unwrap();
        });
        let receipt = outcome.unwrap();
        assert!(receipt.source_changed.is_some(), "{receipt}");
        let (old, new) = (kept(8, case.keeps, case.changes), kept(9, case.keeps, case.changes));
        assert_eq!(received.len(), old.len());
        if case.consistency == Consistency::Snapshot {
            let until = old.len() * 4 / usize::try_from(LEN / WINDOW).unwrap();
            assert!(received[..until] == old[..until] && received[until..] == new[until..]);
            assert_eq!(receipt.processed.unwrap().referenced_bytes, 0);
        }
    }
}

#[test]
fn a_peer_that_stalls_holds_no_pipe_no_buffer_and_no_window() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, 7, LEN);
    let runtime = runtime();
    for case in cases() {
        let (mut stream, theirs) = unix_pair();
        stream.set_send_buffer(64 << 10).unwrap();
        let watcher = stream.share();
        let peer = Gated::new(theirs);
        let base = runtime.stats();
        let outcome = runtime.block_on(async {
            let processor =
                Watched { keeps: case.keeps, changes: case.changes, at: u64::MAX, deed: || () };
            let transfer = transfer_file(open(&path), &mut stream)
                .window_limits(steady())
                .thresholds(
                    Thresholds::default()
                        .with_reference_min_bytes(16 << 10)
                        .with_reference_skewed_min_bytes(16 << 10),
                )
                .limits(Limits::default().with_stall_hold(Duration::from_millis(1)))
                .consistency(case.consistency)
                .process(processor)
                .into_future();
            let watch = async {
                let mut before = u64::MAX;
                while before == 0 || before != watcher.accepted() {
                    before = watcher.accepted();
                    ringway::runtime::time::sleep(Duration::from_millis(40)).await;
                }
                let now = stats().unwrap();
                assert_eq!((now.leases, now.pipes_lent), (base.leases, base.pipes_lent));
                assert_eq!(now.regions, now.regions_idle, "a window is held: {now:?}");
                peer.open(u64::MAX);
            };
            both(transfer, watch).await
        });
        let receipt = outcome.unwrap();
        end(stream);
        assert!(peer.finish() == kept(7, case.keeps, case.changes), "{receipt}");
        let done = receipt.processed.as_ref().unwrap();
        let must_keep = case.changes || case.consistency == Consistency::Snapshot;
        assert_eq!(done.kept_bytes > 0, must_keep, "{receipt}");
        assert!(done.kept_bytes <= WINDOW, "{receipt}");
        assert!(receipt.stalls > 0);
    }
}

#[test]
fn without_regions_pipes_or_buffers_it_goes_on_and_says_how() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, 7, LEN);
    let small = vec![BufferClass { bytes: 16 << 10, count: 2 }];
    let config = || Config { completion_entries: 512, ..Config::default() };
    for (name, config, fallback) in [
        ("no regions", Config { regions_max: 0, ..config() }, Some("read instead of mapped")),
        ("no room", Config { region_bytes_max: 4096, ..config() }, Some("read instead of mapped")),
        ("no pipes", Config { pipes_max: 0, ..config() }, Some("gathered instead of spliced")),
        ("small buffers", Config { buffers: small, ..config() }, None),
        ("no buffers", Config { buffers: Vec::new(), ..config() }, None),
    ] {
        let runtime = Runtime::with_config(config).unwrap();
        for case in cases() {
            let (mut stream, theirs) = unix_pair();
            let peer = Gated::new(theirs);
            peer.open(u64::MAX);
            let processor =
                Watched { keeps: case.keeps, changes: case.changes, at: u64::MAX, deed: || () };
            let transfer = transfer_file(open(&path), &mut stream)
                .window_limits(steady())
                .consistency(case.consistency)
                .process(processor);
            let receipt = runtime.block_on(transfer.into_future()).unwrap();
            end(stream);
            assert!(peer.finish() == kept(7, case.keeps, case.changes), "{name}: {receipt}");
            assert_eq!(receipt.route, Route::Mapped);
            if case.consistency == Consistency::Shared {
                // What is changed leaves from memory, and what is left of its page is too short.
                let needs = !name.contains("pipe") || !case.changes;
                let told = receipt.fallbacks.first().map(|fallback| fallback.what);
                assert_eq!(told, fallback.filter(|_| needs), "{name}: {receipt}");
            }
        }
        assert_eq!((runtime.stats().leases, runtime.stats().pipes_lent), (0, 0), "{name}");
    }
}

#[test]
fn short_reads_into_used_buffers_show_nothing_stale() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, 7, LEN);
    let buffers = vec![BufferClass { bytes: 64 << 10, count: 1 }];
    let runtime =
        Runtime::with_config(Config { completion_entries: 512, buffers, ..Config::default() });
    let runtime = runtime.unwrap();
    let mut shortened = 0;
    for round in 0..40u64 {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let outcome = runtime.block_on(async {
            let name = if round % 2 == 0 { "pread" } else { "read" };
            let mode = if round % 2 == 0 { ringway::Mode::Inline } else { ringway::Mode::Hybrid };
            let short = 1 + u32::try_from(round).unwrap() * 997;
            fault::arm_for(name, round % 5, Fault::Short(short));
            let processor = Watched { keeps: ALL, changes: false, at: u64::MAX, deed: || () };
            let transfer = transfer_file(open(&path), &mut stream)
                .consistency(Consistency::Snapshot)
                .mode(mode)
                .process(processor);
            transfer.await
        });
        shortened += u64::from(fault::disarm().fired.is_some());
        end(stream);
        let receipt = outcome.unwrap();
        assert!(peer.finish() == kept(7, ALL, false), "{round}: {receipt}");
    }
    assert!(shortened > 20, "{shortened} reads were short");
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
