//! R8 and R9 for encrypted streams: what a buffer held for one client never reaches the next, sealed or
//! not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "scenes/sealed_aborted.rs"]
#[expect(unreachable_pub, reason = "other test binaries use it as well")]
mod sealed_aborted;
mod support;

use std::time::Duration;

use ringway::runtime::fault::{self, Fault};
use ringway::runtime::{BufferClass, Config, Runtime, stats};
use ringway::{Limits, Mode, Parts, Route, transfer_file};
use ringway_testkit::{Budget, Census};
use sealed_aborted::{NEXT, VICTIM, VICTIM_BYTES, abort_and_go_on, tiny_runtime};
use support::sealed::*;
use support::tap::{Appetite, Random, in_child, quiet};
use support::{canary_file, folder, open};

#[test]
fn no_byte_of_an_aborted_client_reaches_the_next_one() {
    let limit = Duration::from_secs(100);
    in_child("no_byte_of_an_aborted_client_reaches_the_next_one", limit, || {
        let before = Census::take();
        let runtime = tiny_runtime();
        runtime.block_on(abort_and_go_on(&Settings::default(), Route::Registered, 300));
        drop(runtime);
        before.assert_unchanged_within(Duration::from_secs(5));
    });
}

#[test]
fn short_reads_into_used_slots_show_no_stale_byte() {
    let _budget = Budget::new(Duration::from_secs(100));
    let rounds = 600;
    let folder = folder();
    let large = open(&canary_file(&folder, VICTIM, VICTIM_BYTES));
    let small = open(&canary_file(&folder, NEXT, 70_000));
    // One buffer, so that each transfer gets what the last one left in it.
    let buffers = vec![BufferClass { bytes: 68 << 10, count: 1 }];
    let config = Config { completion_entries: 512, buffers, ..Config::default() };
    let runtime = Runtime::with_config(config).unwrap();
    let mut random = Random(9);
    let mut shortened = 0;
    runtime.block_on(async {
        let (mut stream, tap) = tap_tls(Appetite::Greedy, &Settings::default()).await;
        let base = stats().unwrap();
        for round in 0..rounds {
            let mode = [Mode::Ring, Mode::Hybrid, Mode::Inline][round % 3];
            let (file, id, most) =
                if round % 4 == 0 { (&large, VICTIM, 300_000) } else { (&small, NEXT, 9_000) };
            let from = random.below(50_000);
            let to = from + 1 + random.below(most);
            let parts =
                Parts::new().bytes(vec![0xee; round % 90]).file(file, from..to).bytes("end");
            let short = u32::try_from(1 + random.below(20_000)).unwrap();
            let name = if mode == Mode::Inline { "preadv" } else { "readv" };
            fault::arm_for(name, random.below(2), Fault::Short(short));
            let limits = Limits::default().with_seal_batch_bytes(66 << 10);
            let transfer = transfer_file(parts, &mut stream).limits(limits);
            let receipt = transfer.route(Route::Registered).mode(mode).await.unwrap();
            shortened += usize::from(fault::disarm().fired.is_some());
            assert!(receipt.buffer_registered, "{receipt}");
            assert!(tap.take(round as u64 % 90).iter().all(|byte| *byte == 0xee), "{round}");
            tap.take_canary(id, from, to - from);
            assert_eq!(tap.take(3), b"end");
            quiet(&base).await;
        }
        stream.close().await.unwrap();
        drop(stream);
        assert_eq!(tap.finish(), 0);
    });
    assert!(shortened > rounds / 3, "{shortened} reads were short");
    println!("{rounds} bodies through one buffer, {shortened} short reads: 0 stale bytes");
}
