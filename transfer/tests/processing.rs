//! R1 for what is processed: windows, records and changes of every size, against a plain oracle that
//! knows nothing of windows.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test fails by panicking")]

#[path = "scenes/scripted.rs"]
mod scripted;
mod support;

use std::time::Duration;

use ringway::process::{Output, ProcessError, Processor, Window, WindowLimits, rehearse};
use ringway::{Consistency, Parts, Route, Thresholds, transfer_file};
use ringway_testkit::Budget;
use scripted::*;
use support::gated::Gated;
use support::*;

#[test]
fn what_goes_out_is_what_a_plain_loop_over_the_records_makes() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let runtime = runtime();
    for (id, len) in (1..).zip([0, 1, 1023, 4096, 4097, 65_537, (1 << 20) + 13]) {
        let path = canary_file(&folder, id, len);
        let content = canary_bytes(id, 0, usize::try_from(len).unwrap());
        for script in SCRIPTS {
            let expected = script.oracle(&content);
            for (window, consistency, elsewhere) in [
                (12_000, Consistency::Shared, false),
                (200_000, Consistency::Shared, false),
                (1 << 20, Consistency::Snapshot, false),
                (100_000, Consistency::Shared, true),
                (100_000, Consistency::Snapshot, true),
            ] {
                let (mut stream, theirs) = unix_pair();
                let peer = Gated::new(theirs);
                peer.open(u64::MAX);
                let transfer = transfer_file(open(&path), &mut stream)
                    .window_limits(WindowLimits::default().with_window_bytes(window))
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
                let receipt = runtime.block_on(transfer.into_future()).unwrap();
                end(stream);
                let received = peer.finish();
                let what = format!("{len} {script:?} {window} {consistency:?} {elsewhere}");
                assert!(received == expected, "{what}: {} {}", received.len(), expected.len());
                script.check(&receipt, &what, len, expected.len() as u64, consistency);
            }
            // And the same by rehearsal, with windows that fit nothing.
            assert_eq!(rehearse(script, &content, 777).unwrap(), expected, "{script:?}");
        }
    }
    assert_eq!(runtime.stats().leases, 0);
}

/// Keeps single bytes, and asks for the time before each.
struct Punctual;

impl Processor for Punctual {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let mut used = 0;
        while used < window.len() && !output.is_full() && !window.is_due() {
            output.send(used..used + 1);
            used += 1;
        }
        Ok(used)
    }
}

#[test]
fn a_processor_that_never_has_time_gets_on_all_the_same() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 6, 100_000));
    let runtime = runtime();
    for consistency in [Consistency::Shared, Consistency::Snapshot] {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let limits = WindowLimits::default().with_window_bytes(4096);
        let transfer = transfer_file(&file, &mut stream)
            // As if the machine had done something else at each turn's beginning.
            .window_limits(limits.with_turn_budget(Duration::ZERO))
            .consistency(consistency)
            .process(Punctual);
        let receipt = runtime.block_on(transfer.into_future()).unwrap();
        end(stream);
        assert!(peer.finish() == canary_bytes(6, 0, 100_000));
        let processed = receipt.processed.unwrap();
        assert_eq!(processed.scanned_bytes, 100_000);
        // One that is over before it began, and one that uses the window; the last is without a window.
        assert_eq!(processed.turns, 2 * 25 + 1);
    }
}

#[test]
fn memory_around_files_is_sent_as_it_is_and_each_file_is_shown() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let first = open(&canary_file(&folder, 1, 300_000));
    let second = open(&canary_file(&folder, 2, 10_000));
    let script = Script { record: 1000, ops: &[Op::Keep, Op::Drop], trailer: true };
    let (mut stream, theirs) = tcp_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let parts = Parts::new()
        .bytes("head")
        .file(&first, 2000..300_000)
        .bytes("between")
        .whole_file(&second)
        .bytes("tail");
    let mut told = Vec::new();
    let transfer = transfer_file(parts, &mut stream)
        .process(script)
        .on_progress(|progress| told.push(progress));
    let receipt = runtime().block_on(transfer.into_future()).unwrap();
    end(stream);
    let mut expected = b"head".to_vec();
    expected.extend(script.oracle_of(&canary_bytes(1, 2000, 298_000)));
    expected.extend(b"between");
    expected.extend(script.oracle_of(&canary_bytes(2, 0, 10_000)));
    expected.extend(TRAILER);
    expected.extend(b"tail");
    assert!(peer.finish() == expected);
    assert_eq!((receipt.route, receipt.bytes), (Route::Mapped, expected.len() as u64));
    assert_eq!(receipt.memory_bytes, 4 + 7 + 4 + TRAILER.len() as u64);
    let last = told.last().unwrap();
    assert_eq!((last.total, last.scanned, last.sent), (308_000, 308_000, receipt.bytes));
    assert!(told.is_sorted_by_key(|progress| (progress.scanned, progress.sent)));
}

#[test]
fn a_generated_file_is_shown_too() {
    let _budget = Budget::new(Duration::from_secs(30));
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let file = open(std::path::Path::new("/proc/filesystems"));
    let transfer = transfer_file(file, &mut stream)
        .process(ringway::process::Replace::new(*b"nodev", *b"other"));
    let receipt = runtime().block_on(transfer.into_future()).unwrap();
    end(stream);
    let received = String::from_utf8(peer.finish()).unwrap();
    let expected = std::fs::read_to_string("/proc/filesystems").unwrap();
    assert_eq!(received, expected.replace("nodev", "other"));
    assert!(receipt.to_string().contains("read whole before sending"), "{receipt}");
}

#[test]
fn a_promise_is_kept_to_the_byte_or_broken_before_it_is_exceeded() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 1, 100_000));
    let script = Script { record: 1000, ops: &[Op::Keep, Op::Drop], trailer: false };
    let runtime = runtime();
    for (promised, sent) in [(50_000, None), (50_001, Some(50_000)), (49_999, Some(40_000))] {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let transfer = transfer_file(&file, &mut stream)
            .window_limits(
                WindowLimits::default()
                    .with_window_bytes(20_000)
                    .with_turn_budget(Duration::from_secs(3600)),
            )
            .process(script)
            .expecting(promised);
        let outcome = runtime.block_on(transfer.into_future());
        end(stream);
        let received = peer.finish().len() as u64;
        match (outcome, sent) {
            (Ok(receipt), None) => assert_eq!((receipt.bytes, received), (50_000, 50_000)),
            (Err(error), Some(sent)) => {
                assert!(error.to_string().contains("were promised"), "{error}");
                assert_eq!((error.sent(), received), (sent, sent));
            }
            (outcome, _) => panic!("{promised}: {outcome:?}"),
        }
    }
}

/// Keeps what lies in some places of the file, wherever windows end, and says in front of each piece where
/// that is.
struct Places<'p>(&'p [std::ops::Range<u64>]);

impl Processor for Places<'_> {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let (from, to) = (window.offset(), window.offset() + window.len() as u64);
        for place in self.0 {
            let (begin, end) = (place.start.max(from), place.end.min(to));
            if begin < end {
                if begin == place.start {
                    output.write(&begin.to_be_bytes())?;
                }
                output.send(usize::try_from(begin - from)?..usize::try_from(end - from)?);
            }
        }
        Ok(window.len())
    }
}

#[test]
fn places_beyond_four_gibibytes_are_found_by_their_offset() {
    const GIB: u64 = 1 << 30;
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let (path, len) = (folder.path().join("sparse"), 5 * GIB + 12_345);
    ringway_testkit::canary::write_sparse_file(&path, 8, len).unwrap();
    let file = open(&path);
    // What is scanned reaches over each border; what is kept lies at it, and begins and ends anywhere.
    let scanned =
        [2 * GIB, 3 * GIB, 4 * GIB].map(|border| border - (3 << 20)..border + (5 << 20) + 777);
    let places = [
        2 * GIB - 1..2 * GIB + 1,
        3 * GIB - 70_001..3 * GIB + 4096,
        4 * GIB - 70_001..4 * GIB - 4096,
        4 * GIB - 1000..4 * GIB + 1000,
        4 * GIB + 65_536..4 * GIB + (1 << 20) + 17,
        4 * GIB + (4 << 20)..4 * GIB + (4 << 20) + 10,
        len - 500_000..len,
    ];
    let mut expected = Vec::new();
    let plain = std::fs::File::open(&path).unwrap();
    for place in &places {
        let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap()];
        std::os::unix::fs::FileExt::read_exact_at(&plain, &mut bytes, place.start).unwrap();
        expected.extend(place.start.to_be_bytes());
        expected.extend(bytes);
    }
    assert!(expected.iter().filter(|byte| **byte != 0).count() > 100_000, "not only holes");
    let runtime = runtime();
    for consistency in [Consistency::Shared, Consistency::Snapshot] {
        for window in [100_000, 4 << 20] {
            let (mut stream, theirs) = unix_pair();
            let peer = Gated::new(theirs);
            peer.open(u64::MAX);
            let parts = scanned.iter().cloned().fold(Parts::new(), |parts, r| parts.file(&file, r));
            let parts = parts.file(&file, len - 600_000..len);
            let transfer = transfer_file(parts, &mut stream)
                .window_limits(WindowLimits::default().with_window_bytes(window))
                .consistency(consistency)
                .process(Places(&places));
            let receipt = runtime.block_on(transfer.into_future()).unwrap();
            end(stream);
            let received = peer.finish();
            assert!(received == expected, "{} {}: {receipt}", received.len(), expected.len());
            let done = receipt.processed.unwrap();
            assert_eq!(done.scanned_bytes, 3 * ((8 << 20) + 777) + 600_000);
            assert_eq!(done.referenced_bytes > 0, consistency == Consistency::Shared);
        }
    }
}
