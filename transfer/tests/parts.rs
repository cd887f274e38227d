//! Bodies of several parts: memory and file slices arrive in order, once and whole, and a body that
//! cannot be right is refused before its first byte.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use ringway::error::{Blame, ErrorKind, LengthOverflow};
use ringway::runtime::Runtime;
use ringway::runtime::fs::File;
use ringway::runtime::net::Half;
use ringway::{FileSlice, Limits, Mode, Parts, Receipt, Route, Source, TransferError};
use ringway::{Sink, transfer_file};
use ringway_testkit::Budget;
use std::time::Duration;
use support::gated::Gated;
use support::*;

type Way = Option<(Route, Mode)>;

fn ways() -> impl Iterator<Item = Way> {
    WAYS.into_iter().map(Some).chain([None])
}

async fn send(
    way: Way,
    source: impl Into<Source>,
    sink: &mut impl Sink,
) -> Result<Receipt, TransferError> {
    match way {
        Some((route, mode)) => transfer_file(source, sink).route(route).mode(mode).await,
        None => transfer_file(source, sink).await,
    }
}

/// Sends over both kinds of streams and insists on exactly these bytes.
#[track_caller]
fn assert_arrives(way: Way, parts: &Parts, expected: &[u8]) -> Receipt {
    assert_arrives_on(&runtime(), way, parts, expected)
}

#[track_caller]
fn assert_arrives_on(runtime: &Runtime, way: Way, parts: &Parts, expected: &[u8]) -> Receipt {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    runtime.block_on(send(way, parts.clone(), &mut stream)).unwrap();
    end(stream);
    assert!(peer.finish() == expected, "{way:?} over a Unix socket");

    let (mut stream, theirs) = tcp_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let receipt = runtime.block_on(send(way, parts.clone(), &mut stream)).unwrap();
    end(stream);
    assert!(peer.finish() == expected, "{way:?} over TCP");
    assert_eq!(receipt.bytes, expected.len() as u64);
    assert_eq!(receipt.file_bytes + receipt.memory_bytes, receipt.bytes);
    receipt
}

#[test]
fn header_file_and_trailer_arrive_in_order() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    for len in [1, 100, 4096, 70_000, 3_000_001] {
        let file = open(&canary_file(&folder, 5, len));
        let parts = Parts::new().bytes("header").whole_file(&file).bytes("trailer");
        let mut expected = b"header".to_vec();
        expected.extend(canary_bytes(5, 0, usize::try_from(len).unwrap()));
        expected.extend_from_slice(b"trailer");
        for way in ways() {
            let receipt = assert_arrives(way, &parts, &expected);
            assert_eq!((receipt.file_bytes, receipt.memory_bytes), (len, 13), "{way:?}");
            assert!(receipt.fallbacks.is_empty(), "{way:?}: {receipt}");
        }
    }
}

/// Many parts, among them empty ones, overlapping slices, and memory longer than a buffer.
fn multipart(file: &File, count: u64, len: u64) -> (Parts, Vec<u8>) {
    let (mut parts, mut expected) = (Parts::new(), Vec::new());
    for number in 0..count {
        let header = format!("--boundary {number}\r\n");
        let start = number * 7919 % 500_000;
        let len = if number % 10 == 3 { 0 } else { len + number };
        parts = parts.bytes(header.clone()).bytes(Bytes::new()).file(file, start..start + len);
        expected.extend_from_slice(header.as_bytes());
        expected.extend(canary_bytes(6, start, usize::try_from(len).unwrap()));
    }
    let long = canary_bytes(9, 0, 700_000);
    expected.extend_from_slice(&long);
    (parts.bytes(long), expected)
}

#[test]
fn a_multipart_body_arrives_in_order() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, 6, 1 << 20));
    for (count, len) in [(300, 50), (40, 5000), (12, 100_000)] {
        let (parts, expected) = multipart(&file, count, len);
        for way in ways() {
            assert_arrives(way, &parts, &expected);
        }
    }
}

#[test]
fn parts_of_several_files_keep_their_own_bytes() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (disk, memory) = (folder(), memory_folder());
    let one = open(&canary_file(&disk, 1, 300_000));
    let two = open(&canary_file(&memory, 2, 300_000));
    let parts =
        Parts::new().file(&one, 5..200_000).file(&two, 0..300_000).file(&one, 200_000..300_000);
    let mut expected = canary_bytes(1, 5, 199_995);
    expected.extend(canary_bytes(2, 0, 300_000));
    expected.extend(canary_bytes(1, 200_000, 100_000));
    for way in ways() {
        assert_arrives(way, &parts, &expected);
    }
}

#[test]
fn an_empty_body_is_sent_at_once() {
    let folder = folder();
    let empty = open(&canary_file(&folder, 1, 0));
    let bodies = [Parts::new(), Parts::new().bytes(""), Parts::new().whole_file(&empty).bytes("")];
    for parts in bodies {
        for way in ways() {
            let receipt = assert_arrives(way, &parts, b"");
            assert_eq!((receipt.bytes, receipt.stalls), (0, 0));
        }
    }
}

#[test]
fn direct_slices_that_fill_a_buffer_do_not_look_like_the_end_of_the_file() {
    let folder = folder();
    let path = canary_file(&folder, 5, 1 << 20);
    let direct = ringway::runtime::fs::OpenOptions::new().direct(true);
    let Ok(file) = runtime().block_on(direct.open(&path)) else {
        println!("skipped: no O_DIRECT on {}", path.display());
        return;
    };
    // The first slice leaves less than a block in the largest buffer.
    let parts = Parts::new().file(&file, 0..260_000).file(&file, 4095..100_000).bytes("end");
    let mut expected = canary_bytes(5, 0, 260_000);
    expected.extend(canary_bytes(5, 4095, 95_905));
    expected.extend_from_slice(b"end");
    let runtime = runtime_with_buffers(256 << 10, 4);
    for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
        assert_arrives_on(&runtime, Some((Route::Copy, mode)), &parts, &expected);
    }
    assert_arrives_on(&runtime, None, &parts, &expected);
}

/// Insists that a body is refused with nothing sent, and gives the error.
#[track_caller]
fn refusal(
    source: impl Into<Source>,
    ask: impl FnOnce(ringway::Transfer<'_>) -> ringway::Transfer<'_>,
) -> TransferError {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    let error = runtime()
        .block_on(async { ask(transfer_file(source, &mut stream)).await })
        .expect_err("it is refused");
    assert_eq!((error.sent(), stream.accepted()), (0, 0), "{error}");
    assert!(!stream.is_poisoned(), "a refusal leaves the stream as it was");
    assert_eq!(error.blame(), Blame::Caller, "{error}");
    stream.shutdown(Half::Write).unwrap();
    assert_eq!(peer.finish(), b"");
    error
}

#[test]
fn a_promise_that_the_parts_do_not_keep_is_found_before_the_first_byte() {
    let folder = folder();
    let file = open(&canary_file(&folder, 1, 1000));
    let parts = Parts::new().bytes("12345").whole_file(&file);
    let error = refusal(parts.clone(), |transfer| transfer.expecting(1004));
    assert_eq!(*error.kind(), ErrorKind::SizeMismatch { promised: 1004, given: 1005 });
    assert!(error.to_string().contains("1004 bytes were promised and the parts have 1005"));
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    runtime().block_on(async { transfer_file(parts, &mut stream).expecting(1005).await }).unwrap();
    end(stream);
    assert_eq!(peer.finish().len(), 1005);
}

#[test]
fn ranges_that_no_file_has_are_refused() {
    let folder = folder();
    let file = open(&canary_file(&folder, 1, 1000));
    let beyond = [
        0..1001,
        1000..1001,
        1001..1001,
        5..u64::MAX,
        u64::MAX - 1..u64::MAX,
        (i64::MAX as u64)..(i64::MAX as u64 + 1),
        0..i64::MAX as u64 + 1,
        #[expect(clippy::reversed_empty_ranges, reason = "a caller may get it wrong")]
        (10..5),
    ];
    for range in beyond {
        let kinds = [
            refusal(&file, |transfer| transfer.range(range.clone())),
            refusal(FileSlice::new(&file, range.clone()), |transfer| transfer),
            refusal(Parts::new().bytes("x").file(&file, range.clone()), |transfer| transfer),
        ];
        for error in kinds {
            let ErrorKind::InvalidRange { offset, file_len: 1000, .. } = *error.kind() else {
                panic!("{range:?}: {error}");
            };
            assert_eq!(offset, range.start);
            assert!(error.to_string().contains("beyond a file of 1000 bytes"), "{error}");
        }
    }
}

#[test]
fn lengths_that_cannot_be_counted_are_refused() {
    // A generated file tells no length, so that only the sum shows.
    let endless: File = std::fs::File::open("/proc/self/status").unwrap().into();
    let end = i64::MAX as u64;
    let parts = Parts::new().file(&endless, 0..end).file(&endless, 0..end).file(&endless, 0..end);
    let error = refusal(parts, |transfer| transfer);
    let ErrorKind::LengthOverflow(overflow) = *error.kind() else { panic!("{error}") };
    assert_eq!(overflow, LengthOverflow::Total { part: 2 });
}

#[test]
fn too_many_parts_are_refused() {
    let limits = Limits::default().with_parts_max(3);
    let mut parts = Parts::new();
    for _ in 0..4 {
        parts = parts.bytes("x");
    }
    let error = refusal(parts, |transfer| transfer.limits(limits));
    assert_eq!(*error.kind(), ErrorKind::TooManyParts { given: 4, max: 3 });
}

#[test]
fn a_range_of_a_slice_is_counted_in_the_slice() {
    let folder = folder();
    let file = open(&canary_file(&folder, 1, 1000));
    let slice = || FileSlice::new(&file, 100..200);
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    runtime().block_on(async { transfer_file(slice(), &mut stream).range(10..100).await }).unwrap();
    end(stream);
    assert_eq!(peer.finish(), canary_bytes(1, 110, 90));
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may get it wrong")]
    for range in [0..101, 101..101, 5..u64::MAX, 7..3] {
        let error = refusal(slice(), |transfer| transfer.range(range.clone()));
        assert!(error.to_string().contains("beyond a file of 100 bytes"), "{error}");
    }
    let error = refusal(Parts::new().bytes("x"), |transfer| transfer.range(0..1));
    assert!(matches!(error.kind(), ErrorKind::InvalidRange { .. }), "{error}");
}
