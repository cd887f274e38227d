//! What a transfer with a processor holds of the pool, and where it reads windows to when it may not hold
//! a buffer.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and shares its scripts"
)]

#[path = "scenes/scripted.rs"]
mod scripted;
mod support;

use std::future::IntoFuture;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use ringway::process::{RecordFilter, WindowLimits};
use ringway::runtime::fs::File;
use ringway::runtime::spawn;
use ringway::{Consistency, FileSlice, Source, transfer_file};
use ringway_testkit::Budget;
use scripted::*;
use support::gated::Gated;
use support::sealed::{Settings, connected};
use support::*;

const LEN: u64 = 700_001;

fn windows(bytes: u64) -> WindowLimits {
    WindowLimits::default().with_window_bytes(bytes).with_turn_budget(Duration::from_secs(3600))
}

/// A processor that writes much (for which a buffer is lent) while windows are read (for which one is lent
/// where it writes little): with one buffer for all, who took both would wait for itself, and two of them
/// would wait for each other in any pool.
#[test]
fn it_never_holds_two_buffers_so_nobody_waits_for_ever() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, 7, LEN));
    let content = canary_bytes(7, 0, usize::try_from(LEN).unwrap());
    let runtime = runtime_with_buffers(68 << 10, 1);
    let scripts = [
        Script { record: 20_000, ops: &[Op::Keep, Op::Double], trailer: true },
        // Kept in pieces so short that they are brought together in a buffer, if one is free just now.
        Script { record: 700, ops: &[Op::Keep, Op::Drop, Op::Double], trailer: false },
    ];
    for (consistency, script) in [
        (Consistency::Snapshot, scripts[0]),
        (Consistency::Snapshot, scripts[1]),
        (Consistency::Shared, scripts[1]),
    ] {
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for _ in 0..3 {
                let (mut stream, theirs) = unix_pair();
                let peer = Gated::new(theirs);
                peer.open(u64::MAX);
                let file = file.clone();
                let task = spawn(async move {
                    let transfer = transfer_file(&file, &mut stream)
                        .window_limits(windows(100_000))
                        .consistency(consistency)
                        .deadline(Duration::from_secs(20))
                        .process(script);
                    let receipt = transfer.await.unwrap();
                    end(stream);
                    receipt
                });
                tasks.push((task, peer));
            }
            for (task, peer) in tasks {
                let receipt = task.await.unwrap();
                let reads = consistency == Consistency::Snapshot;
                assert_eq!(
                    receipt.processed.as_ref().unwrap().windows_read > 0,
                    reads,
                    "{receipt}"
                );
                assert!(peer.finish() == script.oracle(&content), "{script:?} {receipt}");
            }
        });
    }
    assert_eq!(runtime.stats().leases, 0);
}

fn open_direct(path: &Path) -> File {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    File::from_std(std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap())
}

#[test]
fn past_the_page_cache_it_reads_to_where_blocks_can_be_read_to_whoever_looks_at_them() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, 7, LEN);
    let content = canary_bytes(7, 0, usize::try_from(LEN).unwrap());
    let runtime = runtime();
    let doubling = Script { record: 4999, ops: &[Op::Keep, Op::Double], trailer: true };
    for elsewhere in [false, true] {
        for script in [SCRIPTS[2], SCRIPTS[4], doubling] {
            for window in [4096, 100_000, 1 << 20] {
                let (mut stream, theirs) = unix_pair();
                let peer = Gated::new(theirs);
                peer.open(u64::MAX);
                let transfer = transfer_file(open_direct(&path), &mut stream)
                    .window_limits(windows(window))
                    .consistency(Consistency::Snapshot);
                let transfer = if elsewhere {
                    transfer.process_on(script, |work| drop(std::thread::spawn(work)))
                } else {
                    transfer.process(script)
                };
                let receipt = runtime.block_on(transfer.into_future()).unwrap();
                end(stream);
                assert!(peer.finish() == script.oracle(&content), "{script:?} {window} {receipt}");
            }
        }
    }
}

const RECORD: usize = 333_333;

#[test]
fn so_it_does_for_a_record_that_is_longer_than_any_buffer_and_for_a_sealed_stream() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, 7, LEN);
    let runtime = runtime_with_buffers(68 << 10, 2);
    let long = || RecordFilter::fixed(RECORD, |record| record.offset() != RECORD as u64);
    // What is left at the end is no record.
    let kept = |from: usize| {
        let content = canary_bytes(7, from as u64, usize::try_from(LEN).unwrap() - from);
        let records = content.chunks_exact(RECORD).enumerate();
        let kept = records.filter(|(at, _)| from + at * RECORD != RECORD);
        kept.flat_map(|(_, record)| record.to_vec()).collect::<Vec<u8>>()
    };
    for from in [0, 5, 4096] {
        let source = || Source::from(FileSlice::new(&open_direct(&path), from..LEN));
        let expected = kept(usize::try_from(from).unwrap());
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let transfer = transfer_file(source(), &mut stream).consistency(Consistency::Snapshot);
        let receipt = runtime.block_on(transfer.process(long()).into_future()).unwrap();
        end(stream);
        assert!(peer.finish() == expected, "{from} {receipt}");
        runtime.block_on(async {
            let (mut stream, client) = connected(&Settings::default()).await;
            let peer = Gated::new(client);
            peer.open(u64::MAX);
            transfer_file(source(), &mut stream)
                .consistency(Consistency::Snapshot)
                .process(long())
                .await
                .unwrap();
            stream.close().await.unwrap();
            assert!(peer.finish() == expected, "{from}");
        });
    }
}
