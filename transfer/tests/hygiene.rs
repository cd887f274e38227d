//! R8 and R9: what a pipe or a buffer held for one client never reaches the next.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenes;
mod support;

use std::time::Duration;

use ringway::runtime::{spawn, stats};
use ringway_testkit::Budget;
use ringway_testkit::peer::Stop;
use scenes::aborted::{
    NEXT, NEXT_BYTES, VICTIM, VICTIM_BYTES, abort_and_go_on, read_short_into_used_buffers, send,
    tiny_runtime,
};
use support::tap::{Random, in_child, quiet};
use support::through::ALL_WAYS;
use support::{canary_file, expecting, folder, open};

#[test]
fn no_byte_of_an_aborted_transfer_reaches_the_next_client() {
    let limit = Duration::from_secs(120);
    in_child("no_byte_of_an_aborted_transfer_reaches_the_next_client", limit, || {
        abort_and_go_on(2000);
    });
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test hygiene -- --ignored"]
fn no_byte_of_ten_thousand_aborted_transfers_reaches_the_next_client() {
    let limit = Duration::from_secs(1200);
    let name = "no_byte_of_ten_thousand_aborted_transfers_reaches_the_next_client";
    in_child(name, limit, || abort_and_go_on(10_000));
}

#[test]
fn clients_that_go_away_beside_others_that_stay_mix_no_bytes() {
    let _budget = Budget::new(Duration::from_secs(100));
    let folder = folder();
    let victim = open(&canary_file(&folder, VICTIM, VICTIM_BYTES));
    let next = open(&canary_file(&folder, NEXT, NEXT_BYTES));
    let runtime = tiny_runtime();
    let mut random = Random(5);
    for _ in 0..20 {
        let mut receivers = Vec::new();
        runtime.block_on(async {
            let base = stats().unwrap();
            let mut tasks = Vec::new();
            for number in 0..12 {
                let leaves = number % 3 == 0;
                let behaviour = if leaves {
                    expecting(VICTIM, 0).stopping_after(random.below(200 << 10), Stop::Reset)
                } else {
                    expecting(NEXT, 0)
                };
                let (mut stream, receiver) = support::tcp(behaviour);
                receivers.push((leaves, receiver));
                let file = if leaves { victim.clone() } else { next.clone() };
                tasks.push(spawn(async move {
                    let way = ALL_WAYS[number % ALL_WAYS.len()];
                    send(&file, &mut stream, way).await.is_ok()
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            quiet(&base).await;
        });
        for (leaves, receiver) in receivers {
            let received = receiver.join().unwrap();
            assert!(received.foreign.is_none(), "{received:?}");
            if !leaves {
                received.assert_complete(NEXT_BYTES);
            }
        }
    }
}

#[test]
fn short_reads_into_used_buffers_show_no_stale_byte() {
    let _budget = Budget::new(Duration::from_secs(100));
    read_short_into_used_buffers(900);
}
