//! Where a body is far out in its file, and where it ends.

use std::time::{Duration, Instant};

use ringway::{Parts, transfer_file};
use ringway_testkit::{Behaviour, Checker, canary};

use crate::support::tap::{Appetite, close, tap_tcp};
use crate::support::through::{ALL_WAYS, through};
use crate::support::{WAYS, canary_file, folder, open, runtime, tcp};

const FILE: u64 = 61;

/// Sends ranges around 2, 3 and 4 GiB, and at the end of a file of 5 GiB.
pub fn send_ranges_far_out() {
    let folder = folder();
    let path = folder.path().join("sparse");
    let len = (5 << 30) + 12_345;
    canary::write_sparse_file(&path, FILE, len).unwrap();
    let file = open(&path);
    let runtime = runtime();
    for way in ALL_WAYS {
        for middle in [1u64 << 31, 3 << 30, 1 << 32, len - 500_000] {
            let (from, to) = (middle - 300_001, (middle + 500_000).min(len));
            let checker = Checker::sparse(FILE, from, len);
            let (mut stream, receiver) = tcp(Behaviour::read_all().expecting(checker));
            let receipt = runtime.block_on(async {
                through(transfer_file(&file, &mut stream).range(from..to), way).await
            });
            close(&runtime, stream);
            assert_eq!(receipt.unwrap().bytes, to - from);
            receiver.join().unwrap().assert_complete(to - from);
        }
    }
}

/// Sends a body with a tail over idle connections, and looks whether the last byte is prompt.
pub fn send_the_last_byte() {
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, 1000));
    let runtime = runtime();
    for (route, mode) in WAYS {
        let prompt = (0..5).any(|_| {
            let (mut stream, tap) = tap_tcp(Appetite::Greedy, 1 << 20);
            let began = Instant::now();
            runtime.block_on(async {
                let parts = Parts::new().bytes("head").file(&file, 0..1000).bytes("tail");
                transfer_file(parts, &mut stream).route(route).mode(mode).await.unwrap();
            });
            assert_eq!(tap.take(4), b"head");
            tap.take_canary(FILE, 0, 1000);
            assert_eq!(tap.take(4), b"tail");
            began.elapsed() < Duration::from_millis(100)
        });
        assert!(prompt, "{route} {mode}: the tail waited, five times");
    }
}
