//! The ready-made processors against plain oracles, and what they ask for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::future::IntoFuture;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use proptest::prelude::*;
use ringway::process::*;
use ringway::{Consistency, Mode, Receipt, Transfer, transfer_file};
use ringway_testkit::Budget;
use support::gated::Gated;
use support::*;

/// Sends a file as `make` says: the receipt, and what came.
fn send(
    file: ringway::runtime::fs::File,
    make: impl FnOnce(Transfer<'_>) -> Transfer<'_>,
) -> (Receipt, Vec<u8>) {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let transfer = make(transfer_file(file, &mut stream));
    let receipt = runtime().block_on(transfer.into_future()).unwrap();
    end(stream);
    (receipt, peer.finish())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn digests_are_those_of_the_standards() {
    let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let blake = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
    let known =
        [(Algorithm::Crc32c, "364b3fb7"), (Algorithm::Sha256, sha), (Algorithm::Blake3, blake)];
    for (algorithm, digest) in known {
        for window in 1..4 {
            let sent = rehearse(Digesting::new(algorithm).with_trailer(), b"abc", window).unwrap();
            assert_eq!((&sent[..3], hex(&sent[3..]).as_str()), (&b"abc"[..], digest));
        }
    }
}

#[test]
fn a_digest_covers_what_is_sent_and_stands_in_the_receipt() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 3, 500_000));
    let every_second = || RecordFilter::fixed(1000, |record| record.offset() / 1000 % 2 == 0);
    let content = canary_bytes(3, 0, 500_000);
    let kept: Vec<u8> = content.chunks(1000).step_by(2).flatten().copied().collect();
    let digest = rehearse(Digesting::new(Algorithm::Crc32c).with_trailer(), &kept, 4096).unwrap();
    let digest = &digest[kept.len()..];
    for chosen in [None, Some(Consistency::Shared), Some(Consistency::Snapshot)] {
        let (receipt, received) = send(file.clone(), |transfer| {
            let digesting = Digesting::of(every_second(), Algorithm::Crc32c).with_trailer();
            let transfer = transfer.process(digesting);
            match chosen {
                Some(consistency) => transfer.consistency(consistency),
                None => transfer,
            }
        });
        assert!(received == [&kept[..], digest].concat());
        assert!(receipt.to_string().contains(&format!("crc32c {}", hex(digest))), "{receipt}");
        let done = receipt.processed.unwrap();
        assert_eq!(done.digests[0].bytes, digest);
        // Whoever asks for nothing gets a snapshot.
        assert_eq!(done.windows_mapped == 0, chosen != Some(Consistency::Shared));
    }
}

#[test]
fn short_pieces_of_a_map_are_brought_together_and_long_ones_are_not() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let len = 3_000_000;
    let file = open(&canary_file(&folder, 3, len as u64));
    let content = canary_bytes(3, 0, len);
    for (record, together) in [(1000, true), (700, true), (3000, false)] {
        let every_second = RecordFilter::fixed(record, move |one| {
            (one.offset() / record as u64).is_multiple_of(2)
        });
        let kept: Vec<u8> = content.chunks(record).step_by(2).flatten().copied().collect();
        let (receipt, received) = send(file.clone(), |transfer| transfer.process(every_second));
        assert!(received == kept, "{record}: {receipt}");
        let done = receipt.processed.as_ref().unwrap();
        assert_eq!((done.gathered_bytes, done.windows_read), (kept.len() as u64, 0), "{receipt}");
        assert_eq!(receipt.buffer_bytes > 0, together, "{record}: {receipt}");
    }
}

#[test]
fn a_filter_that_guards_takes_a_snapshot_unless_told_otherwise() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 3, 300_000));
    let all = || RecordFilter::fixed(1000, |_| true);
    let read = |make: &dyn Fn(Transfer<'_>) -> Transfer<'_>| {
        let (receipt, received) = send(file.clone(), make);
        assert!(received == canary_bytes(3, 0, 300_000));
        receipt.processed.unwrap().windows_read > 0
    };
    assert!(!read(&|transfer| transfer.process(all())));
    assert!(read(&|transfer| transfer.process(all().guarding())));
    assert!(!read(&|transfer| {
        transfer.consistency(Consistency::Shared).process(all().guarding())
    }));
}

#[test]
fn a_cold_file_and_one_that_bypasses_the_cache_are_processed_alike() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, 3, (3 << 20) + 13);
    let content = canary_bytes(3, 0, (3 << 20) + 13);
    let kept: Vec<u8> = content.chunks_exact(1024).step_by(64).flatten().copied().collect();
    let direct = || {
        let flags = rustix::fs::OFlags::DIRECT.bits();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags).unwrap())
            .open(&path);
        ringway::runtime::fs::File::from_std(file.unwrap())
    };
    for consistency in [Consistency::Shared, Consistency::Snapshot] {
        for bypasses in [false, true] {
            if !make_cold(&path) {
                return;
            }
            let file = if bypasses { direct() } else { open(&path) };
            let (receipt, received) = send(file, |transfer| {
                let filter = RecordFilter::fixed(1024, |record| {
                    record.len() == 1024 && (record.offset() / 1024).is_multiple_of(64)
                });
                transfer.consistency(consistency).process(filter)
            });
            assert!(received == kept, "{bypasses} {receipt}");
            if consistency == Consistency::Shared {
                assert_eq!(receipt.mode, Mode::Hybrid, "{receipt}");
            }
        }
    }
}

#[test]
fn time_in_which_the_processor_keeps_nothing_is_not_the_peers() {
    let _budget = Budget::new(Duration::from_secs(30));
    let folder = folder();
    let file = open(&canary_file(&folder, 3, 640_000));
    let slow = RecordFilter::fixed(64_000, |_| {
        std::thread::sleep(Duration::from_millis(20));
        false
    });
    let (receipt, received) = send(file, |transfer| {
        let limits = WindowLimits::default().with_window_bytes(64_000);
        let floor = transfer.minimum_rate(1 << 30, Duration::from_millis(80));
        floor.window_limits(limits).process(slow)
    });
    assert_eq!((receipt.bytes, received.len()), (0, 0));
    let done = receipt.processed.unwrap();
    assert_eq!((done.scanned_bytes, done.turns, done.turns_late), (640_000, 11, 10));
}

/// Records behind a length of two bytes, which counts itself.
fn prefixed(records: &[Vec<u8>]) -> Vec<u8> {
    let framed = records.iter().flat_map(|record| {
        let len = u16::try_from(record.len() + 2).unwrap();
        [&len.to_be_bytes()[..], record].concat()
    });
    framed.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_filter_keeps_whole_records_whatever_the_windows(
        records in prop::collection::vec(prop::collection::vec(0u8..4, 1..50), 0..40),
        window in 1usize..200,
    ) {
        let framing = Framing::Prefixed {
            header: 2,
            length: |head| usize::from(u16::from_be_bytes([head[0], head[1]])),
        };
        let filter = RecordFilter::new(framing, |record| record.read(2) != Some([0]))
            .content(|record| record.last() != Some(&1));
        let sent = rehearse(filter, &prefixed(&records), window).unwrap();
        let kept: Vec<_> = records
            .into_iter()
            .filter(|record| record.first() != Some(&0) && record.last() != Some(&1))
            .collect();
        prop_assert_eq!(sent, prefixed(&kept));
    }

    #[test]
    fn what_is_replaced_is_what_a_plain_search_finds(
        content in prop::collection::vec(0u8..3, 0..300),
        window in 1usize..60,
    ) {
        let sent = rehearse(Replace::new([0, 1, 0], [9, 9, 9]), &content, window).unwrap();
        let (mut plain, mut at) = (content, 0);
        while at + 3 <= plain.len() {
            if plain[at..at + 3] == [0, 1, 0] {
                plain[at..at + 3].fill(9);
                at += 3;
            } else {
                at += 1;
            }
        }
        prop_assert_eq!(sent, plain);
    }
}

#[test]
fn records_that_cannot_be_are_named() {
    let framing = Framing::Prefixed { header: 1, length: |head| usize::from(head[0]) };
    let error = rehearse(RecordFilter::new(framing, |_| true), &[2, 0, 0], 10).unwrap_err();
    assert_eq!(error.to_string(), "the record at 2 has a length of 0");
    // A record that is cut off by the end of the file is not swallowed in silence.
    let error = rehearse(RecordFilter::new(framing, |_| true), &[2, 0, 9], 10).unwrap_err();
    assert!(error.to_string().contains("goes on using nothing of 1 bytes"), "{error}");
    let error = rehearse(RecordFilter::fixed(0, |_| true), b"x", 10).unwrap_err();
    assert!(error.to_string().contains("0 bytes"), "{error}");
}
