//! R1 for encrypted streams: whatever the size, the offset, the mode and the suite, rustls opens exactly
//! the bytes of the file, and the receipt names the route.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read;
use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::limits::Limits;
use ringway::runtime::fs::{File, OpenOptions};
use ringway::tls::TlsStream;
use ringway::{Mode, Parts, Receipt, Route, transfer_file};
use ringway_testkit::{Budget, Checker};
use support::sealed::*;
use support::*;

const SIZES: [u64; 14] = [
    0,
    1,
    4095,
    4096,
    16_383,
    16_384,
    16_385,
    32_768,
    65_535,
    65_536,
    65_537,
    16 * 16_384,
    16 * 16_384 + 1,
    (1 << 20) + 1,
];
/// Full records of TLS, in bytes of plaintext.
const RECORD: u64 = 16_384;

/// Reads to a clean end, which needs a `close_notify`, and checks every byte.
fn swallow(client: Client, mut checker: Checker) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut client, mut buffer) = (client, vec![0; 1 << 17]);
        let began = checker.position();
        loop {
            match client.read(&mut buffer).unwrap() {
                0 => return checker.position() - began,
                count => checker.feed(&buffer[..count]).unwrap(),
            }
        }
    })
}

async fn send(
    stream: &mut TlsStream,
    way: (Route, Mode),
    file: &File,
    range: Range<u64>,
) -> Receipt {
    let len = range.end - range.start;
    let (route, mode) = way;
    let accepted = stream.accepted();
    let transfer = transfer_file(file, stream).range(range.clone()).route(route).mode(mode);
    let receipt = transfer.await.unwrap_or_else(|error| panic!("{mode} {range:?}: {error}"));
    assert_eq!((receipt.bytes, receipt.file_bytes), (len, len), "{receipt}");
    assert_eq!((receipt.route, receipt.mode), way, "{receipt}");
    assert_eq!(
        receipt.records,
        len.div_ceil(RECORD),
        "every record is full but the last: {receipt}"
    );
    assert!(receipt.fallbacks.is_empty() && receipt.source_changed.is_none(), "{receipt}");
    assert_eq!(receipt.splice_sqes + receipt.inline_splices + receipt.sendfile_calls, 0);
    assert_eq!(receipt.read_sqes > 0, mode != Mode::Inline && len > 0, "{receipt}");
    assert_eq!(receipt.send_sqes > 0, mode == Mode::Ring && len > 0, "{receipt}");
    assert_eq!((stream.accepted() - accepted, stream.half_sent()), (len, 0));
    receipt
}

#[test]
fn every_size_and_offset_arrives_in_every_mode_and_suite() {
    let _budget = Budget::new(Duration::from_secs(100));
    let (folder, runtime) = (folder(), runtime());
    for (suite, way) in suites().into_iter().zip(SEALED_WAYS) {
        for len in SIZES {
            let file = open(&canary_file(&folder, 7, len));
            let offsets = [0, 1, 4097, len.saturating_sub(1), len];
            for offset in offsets.into_iter().filter(|offset| *offset <= len) {
                runtime.block_on(async {
                    let settings = Settings { suite, ..Settings::default() };
                    let (mut stream, client) = connected(&settings).await;
                    let reading = swallow(client, Checker::new(7, offset));
                    send(&mut stream, way, &file, offset..len).await;
                    stream.close().await.unwrap();
                    assert_eq!(reading.join().unwrap(), len - offset);
                });
            }
        }
    }
}

#[test]
fn large_files_arrive_whole_and_few_calls_carry_many_records() {
    let _budget = Budget::new(Duration::from_secs(100));
    let len = (64 << 20) + 7;
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 8, len));
    for way in SEALED_WAYS {
        runtime.block_on(async {
            let (mut stream, client) = connected(&Settings::default()).await;
            let reading = swallow(client, Checker::new(8, 5));
            let receipt = send(&mut stream, way, &file, 5..len).await;
            println!("{receipt}");
            assert!(receipt.buffer_registered, "{receipt}");
            assert!(receipt.read_sqes <= receipt.records / 8, "{receipt}");
            stream.close().await.unwrap();
            assert_eq!(reading.join().unwrap(), len - 5);
        });
    }
}

#[test]
fn left_to_itself_an_encrypted_stream_takes_the_registered_route_and_says_why() {
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 100_000));
    runtime.block_on(async {
        let (mut stream, client) = connected(&Settings::default()).await;
        let reading = swallow(client, Checker::new(7, 0));
        let receipt = transfer_file(&file, &mut stream).await.unwrap();
        assert_eq!((receipt.route, receipt.mode), (Route::Registered, Mode::Inline), "{receipt}");
        assert_eq!(receipt.records, 7);
        let why = receipt.reason.to_string();
        assert!(why.starts_with("the stream is encrypted: records are sealed"), "{why}");
        assert!(receipt.to_string().contains("by registered (inline)"), "{receipt}");
        for route in [Route::Splice, Route::Copy] {
            let refused = transfer_file(&file, &mut stream).route(route).await.unwrap_err();
            assert!(refused.to_string().contains("the stream is encrypted here"), "{refused}");
        }
        stream.close().await.unwrap();
        assert_eq!(reading.join().unwrap(), 100_000);
    });
}

#[test]
fn a_stream_of_tls_1_2_is_copied_and_the_receipt_says_why() {
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 1 << 20));
    runtime.block_on(async {
        let (mut stream, client) = connected(&old()).await;
        let reading = swallow(client, Checker::new(7, 0));
        for mode in [Mode::Inline, Mode::Hybrid, Mode::Ring] {
            let from = reading_from(&stream);
            let transfer = transfer_file(&file, &mut stream).range(from..from + 300_001);
            let receipt = transfer.mode(mode).await.unwrap();
            assert_eq!((receipt.route, receipt.bytes), (Route::Copy, 300_001), "{receipt}");
            assert!(receipt.reason.to_string().contains("TLS 1.2"), "{}", receipt.reason);
        }
        stream.close().await.unwrap();
        assert_eq!(reading.join().unwrap(), 900_003);
    });
}

fn reading_from(stream: &TlsStream) -> u64 {
    stream.accepted()
}

#[test]
fn memory_and_ranges_share_records() {
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 200_000));
    let head = vec![0x48; 20_000];
    for way in SEALED_WAYS {
        runtime.block_on(async {
            let (mut stream, client) = connected(&Settings::default()).await;
            let reading = std::thread::spawn(move || {
                let (mut client, mut all) = (client, Vec::new());
                client.read_to_end(&mut all).unwrap();
                all
            });
            let parts = Parts::new()
                .bytes(head.clone())
                .file(&file, 3..50_000)
                .bytes("between")
                .file(&file, 7..8)
                .file(&file, 100_000..200_000)
                .bytes("trailer");
            let transfer = transfer_file(parts, &mut stream).route(way.0).mode(way.1);
            let receipt = transfer.await.unwrap();
            stream.close().await.unwrap();
            let between = [b"between".to_vec(), canary_bytes(7, 7, 1)].concat();
            let expected = [
                head.clone(),
                canary_bytes(7, 3, 49_997),
                between,
                canary_bytes(7, 100_000, 100_000),
                b"trailer".to_vec(),
            ]
            .concat();
            assert!(reading.join().unwrap() == expected, "{receipt}");
            assert_eq!(receipt.records, (expected.len() as u64).div_ceil(RECORD), "{receipt}");
            assert_eq!(receipt.memory_bytes, 20_014);
        });
    }
}

#[test]
fn transfers_and_writes_follow_each_other_on_one_connection() {
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 3 << 20));
    runtime.block_on(async {
        let (mut stream, client) = connected(&Settings::default()).await;
        let reading = swallow(client, Checker::new(7, 0));
        let mut offset = 0;
        for (number, way) in (1..).zip(SEALED_WAYS.into_iter().cycle().take(30)) {
            let len = number * 6151 % 190_000;
            send(&mut stream, way, &file, offset..offset + len).await;
            offset += len;
            let written = canary_bytes(7, offset, 1000);
            stream.write_all(&written).await.unwrap();
            offset += 1000;
        }
        stream.close().await.unwrap();
        assert_eq!(reading.join().unwrap(), offset);
    });
}

#[test]
fn buffers_shorter_than_a_record_carry_shorter_records() {
    let folder = folder();
    let file = open(&canary_file(&folder, 7, 100_000));
    for (bytes, room) in [(4096, 4074), (16_384, 16_362), (20_480, 16_384), (40_960, 32_768)] {
        for (route, mode) in SEALED_WAYS {
            runtime_with_buffers(bytes, 2).block_on(async {
                let (mut stream, client) = connected(&Settings::default()).await;
                let reading = swallow(client, Checker::new(7, 1));
                let transfer = transfer_file(&file, &mut stream).range(1..100_000);
                let receipt = transfer.route(route).mode(mode).await.unwrap();
                assert_eq!(receipt.records, 99_999_u64.div_ceil(room.min(RECORD)), "{receipt}");
                stream.close().await.unwrap();
                assert_eq!(reading.join().unwrap(), 99_999);
            });
        }
    }
}

#[test]
fn a_cold_file_is_read_by_the_ring_ahead_of_the_cipher() {
    let (folder, runtime) = (folder(), runtime());
    let path = canary_file(&folder, 7, 8 << 20);
    if !make_cold(&path) {
        return;
    }
    let file = open(&path);
    runtime.block_on(async {
        let (mut stream, client) = connected(&Settings::default()).await;
        let reading = swallow(client, Checker::new(7, 0));
        let receipt = transfer_file(&file, &mut stream).await.unwrap();
        println!("{receipt}");
        assert!(receipt.read_sqes > 0, "{receipt}");
        assert_eq!(receipt.records, (8 << 20) / RECORD, "{receipt}");
        stream.close().await.unwrap();
        assert_eq!(reading.join().unwrap(), 8 << 20);
    });
}

#[test]
fn direct_and_generated_files_are_sealed_too() {
    let (folder, runtime) = (folder(), runtime());
    let path = canary_file(&folder, 7, 700_000);
    runtime.block_on(async {
        for range in [0..700_000, 4096..8192, 5000..699_999, 699_000..700_000] {
            let Ok(file) = OpenOptions::new().direct(true).open(&path).await else {
                eprintln!("not run: no direct files here (tmpfs before Linux 6.6)");
                break;
            };
            let (mut stream, client) = connected(&Settings::default()).await;
            let reading = swallow(client, Checker::new(7, range.start));
            let limits = Limits::default().with_seal_batch_bytes(100_000);
            let transfer = transfer_file(&file, &mut stream).limits(limits).range(range.clone());
            let receipt = transfer.await.unwrap();
            assert_eq!(receipt.fallbacks[0].what, "read through a second buffer", "{receipt}");
            stream.close().await.unwrap();
            assert_eq!(reading.join().unwrap(), range.end - range.start, "{receipt}");
        }
        let file = File::open("/proc/version").await.unwrap();
        let (mut stream, mut client) = connected(&Settings::default()).await;
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            client.read_to_string(&mut text).map(|_| text)
        });
        transfer_file(&file, &mut stream).await.unwrap();
        stream.close().await.unwrap();
        let text = reading.join().unwrap().unwrap();
        assert_eq!(text, std::fs::read_to_string("/proc/version").unwrap());
    });
}
