//! R1: whatever the route, the mode, the size and the offset, the peer gets exactly the bytes of the
//! file, and the receipt names the route and the mode that were forced.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use ringway::runtime::Runtime;
use ringway::runtime::fs::File;
use ringway::{Mode, Receipt, Route, Sink, transfer_file};
use ringway_testkit::Budget;
use std::ops::Range;
use std::time::Duration;
use support::*;

const SIZES: [u64; 10] =
    [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, (1 << 20) - 1, (1 << 20) + 1];

/// Sends a range in a forced way and insists that this was the way.
fn send(
    runtime: &Runtime,
    (route, mode): (Route, Mode),
    file: &File,
    range: Range<u64>,
    sink: &mut impl Sink,
) -> Receipt {
    let len = range.end - range.start;
    let receipt = runtime
        .block_on(async {
            transfer_file(file, sink).range(range.clone()).route(route).mode(mode).await
        })
        .unwrap_or_else(|error| panic!("{route} {mode} {range:?}: {error}"));
    assert_eq!((receipt.bytes, receipt.file_bytes), (len, len), "{receipt}");
    assert_eq!((receipt.route, receipt.mode), (route, mode), "{receipt}");
    assert!(receipt.fallbacks.is_empty(), "{receipt}");
    assert_eq!(receipt.source_changed, None, "{receipt}");
    let spliced = receipt.splice_sqes + receipt.inline_splices;
    assert_eq!(spliced > 0, route == Route::Splice && len > 0, "{receipt}");
    assert_eq!(receipt.sendfile_calls, 0, "{receipt}");
    receipt
}

#[test]
fn every_way_sends_the_same_bytes_over_tcp_and_unix() {
    let _budget = Budget::new(Duration::from_secs(100));
    let folder = folder();
    let runtime = runtime();
    for way in WAYS {
        for len in SIZES {
            let file = open(&canary_file(&folder, 7, len));
            let offsets = [0, 1, 4095, 4096, 4097, len.saturating_sub(1), len];
            for offset in offsets.into_iter().filter(|offset| *offset <= len) {
                let (mut stream, receiver) = tcp(expecting(7, offset));
                send(&runtime, way, &file, offset..len, &mut stream);
                end(stream);
                receiver.join().unwrap().assert_complete(len - offset);

                let (mut stream, receiver) = unix(expecting(7, offset));
                send(&runtime, way, &file, offset..len, &mut stream);
                end(stream);
                receiver.join().unwrap().assert_complete(len - offset);
            }
        }
    }
}

#[test]
fn a_range_ends_where_it_says_and_not_at_the_end_of_the_file() {
    let folder = folder();
    let runtime = runtime();
    let file = open(&canary_file(&folder, 7, 1 << 20));
    for way in WAYS {
        for range in [0..1, 1..2, 4095..4097, 3..700_001, 65_536..131_072, 1000..1000] {
            let (mut stream, receiver) = tcp(expecting(7, range.start));
            let len = range.end - range.start;
            send(&runtime, way, &file, range, &mut stream);
            end(stream);
            receiver.join().unwrap().assert_complete(len);
        }
    }
}

#[test]
fn large_files_arrive_whole_over_tcp_and_unix() {
    let _budget = Budget::new(Duration::from_secs(100));
    let len = (64 << 20) + 7;
    let folder = folder();
    let runtime = runtime();
    let file = open(&canary_file(&folder, 8, len));
    for way in WAYS {
        let (mut stream, receiver) = tcp(expecting(8, 0));
        let over_tcp = send(&runtime, way, &file, 0..len, &mut stream);
        end(stream);
        receiver.join().unwrap().assert_complete(len);

        let (mut stream, receiver) = unix(expecting(8, 5));
        let over_unix = send(&runtime, way, &file, 5..len, &mut stream);
        end(stream);
        receiver.join().unwrap().assert_complete(len - 5);
        println!("tcp  {over_tcp}\nunix {over_unix}");
        if way == (Route::Splice, Mode::Ring) {
            assert!(over_tcp.splice_sqes >= 128, "{over_tcp}");
        }
    }
}

#[test]
fn transfers_follow_each_other_on_one_connection() {
    let folder = folder();
    let runtime = runtime();
    let file = open(&canary_file(&folder, 7, 3 << 20));
    let (mut stream, receiver) = tcp(expecting(7, 0));
    // Each way sends the next piece, so that a byte too many or too few shows in the next one.
    let mut offset = 0;
    for (number, way) in (1..).zip(WAYS.into_iter().cycle().take(30)) {
        let len = number * 6151 % 190_000;
        send(&runtime, way, &file, offset..offset + len, &mut stream);
        offset += len;
        assert_eq!(stream.accepted(), offset);
    }
    end(stream);
    receiver.join().unwrap().assert_complete(offset);
}
