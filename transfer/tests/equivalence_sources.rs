//! R1 for sources that are not just a file on the disk: in memory, cold, direct, sparse, generated,
//! empty; and those that are no files at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use ringway::error::{Blame, ErrorKind};
use ringway::plan::{Obstacle, Reason};
use ringway::runtime::fs::{File, OpenOptions};
use ringway::{FileSlice, Mode, Parts, Receipt, Route, Source, TransferError, transfer_file};
use ringway_testkit::{Behaviour, Budget, Checker, canary};
use std::time::Duration;
use support::gated::Gated;
use support::*;

type Way = Option<(Route, Mode)>;

fn ways() -> impl Iterator<Item = Way> {
    WAYS.into_iter().map(Some).chain([None])
}

/// Sends over TCP to a receiver that behaves in this way.
fn send(
    way: Way,
    source: impl Into<Source>,
    behaviour: Behaviour,
) -> (Result<Receipt, TransferError>, ringway_testkit::Received) {
    let (mut stream, receiver) = tcp(behaviour);
    let result = runtime().block_on(async {
        let transfer = transfer_file(source, &mut stream);
        match way {
            Some((route, mode)) => transfer.route(route).mode(mode).await,
            None => transfer.await,
        }
    });
    end(stream);
    (result, receiver.join().unwrap())
}

#[track_caller]
fn assert_sent(way: Way, source: impl Into<Source>, checker: Checker, len: u64) -> Receipt {
    let (result, received) = send(way, source, Behaviour::read_all().expecting(checker));
    let receipt = result.unwrap_or_else(|error| panic!("{way:?}: {error}"));
    received.assert_complete(len);
    assert_eq!(receipt.bytes, len, "{way:?}");
    if let Some((route, _)) = way {
        assert_eq!(receipt.route, route, "{receipt}");
    }
    receipt
}

#[test]
fn files_in_memory_are_sent_in_every_way() {
    let folder = memory_folder();
    for len in [0, 1, 4095, 4097, 65_537, (1 << 20) - 1, (8 << 20) + 7] {
        let file = open(&canary_file(&folder, 3, len));
        for offset in [0, 1, 4096].into_iter().filter(|offset| *offset <= len) {
            for way in ways() {
                let slice = FileSlice::new(&file, offset..len);
                let receipt = assert_sent(way, slice, Checker::new(3, offset), len - offset);
                assert!(receipt.fallbacks.is_empty(), "{receipt}");
            }
        }
    }
}

#[test]
fn cold_files_are_sent_in_every_way() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let len = (4 << 20) + 5;
    let path = canary_file(&folder, 3, len);
    let file = open(&path);
    for way in ways() {
        for offset in [0, 4097] {
            if !make_cold(&path) {
                return;
            }
            let slice = FileSlice::new(&file, offset..len);
            let receipt = assert_sent(way, slice, Checker::new(3, offset), len - offset);
            if way == Some((Route::Copy, Mode::Inline)) {
                // The loop does not wait for a disk, and the receipt says who did.
                assert_eq!(receipt.mode, Mode::Hybrid, "{receipt}");
                assert_eq!(receipt.fallbacks[0].what, "read by the ring", "{receipt}");
            } else {
                assert!(receipt.fallbacks.is_empty(), "{receipt}");
            }
        }
    }
}

/// Opens past the page cache, where the file system can.
fn open_direct(path: &Path) -> Option<File> {
    let opened = runtime().block_on(OpenOptions::new().direct(true).open(path));
    if let Err(error) = &opened {
        println!("skipped: no O_DIRECT on {}: {error}", path.display());
    }
    opened.ok()
}

#[test]
fn aligned_direct_files_go_every_way() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let len = 3 << 20;
    let Some(file) = open_direct(&canary_file(&folder, 3, len)) else { return };
    for way in ways() {
        for range in [0..len, 4096..1 << 20, 8192..12_288] {
            let len = range.end - range.start;
            let checker = Checker::new(3, range.start);
            assert_sent(way, FileSlice::new(&file, range), checker, len);
        }
    }
}

#[test]
fn misaligned_direct_files_are_copied_or_refused() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let len = (1 << 20) + 13;
    let Some(file) = open_direct(&canary_file(&folder, 3, len)) else { return };
    for range in [0..len, 1..2, 4095..4097, 5000..900_000, 262_143..262_145] {
        for way in ways() {
            let (len, start) = (range.end - range.start, range.start);
            let slice = FileSlice::new(&file, range.clone());
            if let Some((Route::Splice, _)) = way {
                let (result, received) = send(way, slice, Behaviour::read_all());
                let error = result.unwrap_err();
                assert!(error.to_string().contains("align the range to 4096 bytes"), "{error}");
                assert_eq!((error.sent(), received.bytes), (0, 0));
                continue;
            }
            let receipt = assert_sent(way, slice, Checker::new(3, start), len);
            if way.is_none() {
                let impossible = Reason::SpliceImpossible(Obstacle::MisalignedDirectIo);
                assert_eq!(receipt.reason, impossible);
            }
        }
    }
}

#[test]
fn a_direct_file_survives_a_peer_that_stalls() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let len = 2 << 20;
    let Some(file) = open_direct(&canary_file(&folder, 3, len)) else { return };
    for way in ways() {
        // Segments are no multiple of a block, so the socket stops in the middle of one; and it
        // stalls for longer than a pipe may be held.
        let behaviour = Behaviour::read_all()
            .expecting(Checker::new(3, 0))
            .receive_buffer(64 << 10)
            .stalling(100_001, Duration::from_millis(80));
        let (mut stream, receiver) = tcp(behaviour);
        stream.set_send_buffer(64 << 10).unwrap();
        let result = runtime().block_on(async {
            let transfer = transfer_file(&file, &mut stream);
            match way {
                Some((route, mode)) => transfer.route(route).mode(mode).await,
                None => transfer.await,
            }
        });
        end(stream);
        let receipt = result.unwrap_or_else(|error| panic!("{way:?}: {error}"));
        receiver.join().unwrap().assert_complete(len);
        if let Some((route, _)) = way {
            assert_eq!((receipt.route, receipt.fallbacks.len()), (route, 0), "{receipt}");
        }
    }
}

#[test]
fn ranges_around_four_gibibytes_of_a_sparse_file_are_exact() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = folder.path().join("sparse");
    let len = (4 << 30) + 100_003;
    canary::write_sparse_file(&path, 3, len).unwrap();
    let file = open(&path);
    let border = 1_u64 << 32;
    let ranges = [
        border - 70_000..border + 70_001,
        border - 1..border + 1,
        border..len,
        (1 << 31) - 5000..(1 << 31) + 5000,
        len - 1..len,
    ];
    for range in ranges {
        for way in ways() {
            let checker = Checker::sparse(3, range.start, len);
            let slice = FileSlice::new(&file, range.clone());
            assert_sent(way, slice, checker, range.end - range.start);
        }
    }
}

#[test]
fn a_generated_file_is_sent_as_long_as_it_turns_out() {
    let cpuinfo: File = std::fs::File::open("/proc/cpuinfo").unwrap().into();
    // The clock rates in it change from one reading to the next, the lines do not.
    let oracle = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    for way in ways() {
        let (result, received) = send(way, &cpuinfo, Behaviour::read_all().keeping(1 << 20));
        let text = String::from_utf8(received.kept).unwrap();
        let receipt = result.unwrap();
        assert_eq!(receipt.bytes, text.len() as u64);
        assert_eq!(text.lines().count(), oracle.lines().count(), "{way:?}");
        assert_eq!(receipt.fallbacks[0].why, "the file tells no length");
    }
    // In sysfs every file says that it has a page.
    let says: File = std::fs::File::open("/sys/kernel/mm/transparent_hugepage/enabled")
        .or_else(|_| std::fs::File::open("/proc/version"))
        .unwrap()
        .into();
    let (result, received) = send(None, &says, Behaviour::read_all().keeping(4096));
    assert_eq!(result.unwrap().bytes, received.kept.len() as u64);
    assert!(received.kept.ends_with(b"\n") && received.kept.len() < 4096);
}

#[test]
fn a_range_of_a_generated_file_is_copied_and_never_spliced() {
    let version: File = std::fs::File::open("/proc/version").unwrap().into();
    let oracle = std::fs::read("/proc/version").unwrap();
    for way in ways() {
        let slice = FileSlice::new(&version, 1..11);
        let (result, received) = send(way, slice, Behaviour::read_all().keeping(100));
        if let Some((Route::Splice, _)) = way {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("pseudo filesystem"), "{error}");
            assert_eq!((error.blame(), received.bytes), (Blame::File, 0));
            continue;
        }
        assert_eq!(result.unwrap().route, Route::Copy);
        assert_eq!(received.kept, oracle[1..11]);
    }
    // What it does not have shows when it is read.
    let slice = FileSlice::new(&version, 0..1 << 20);
    let (result, received) = send(None, slice, Behaviour::read_all());
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
    assert_eq!((error.sent(), received.bytes), (oracle.len() as u64, oracle.len() as u64));
}

/// The range was once applied after the file had been read whole, and then refused.
#[test]
fn a_range_option_holds_for_a_generated_file_too() {
    let version: File = std::fs::File::open("/proc/version").unwrap().into();
    let oracle = std::fs::read("/proc/version").unwrap();
    let (mut stream, receiver) = tcp(Behaviour::read_all().keeping(64));
    let receipt = runtime()
        .block_on(async { transfer_file(&version, &mut stream).range(2..12).await })
        .unwrap();
    end(stream);
    assert_eq!((receipt.bytes, receipt.route), (10, Route::Copy), "{receipt}");
    assert_eq!(receiver.join().unwrap().kept, &oracle[2..12]);
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    // Opened for both, or it would wait for a writer.
    let fifo = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let sources = [
        ("a FIFO", File::from(fifo)),
        ("a folder", open(folder.path())),
        ("a device", open(Path::new("/dev/zero"))),
    ];
    for (what, file) in sources {
        for way in ways() {
            for source in [
                Source::from(&file),
                Source::from(FileSlice::new(&file, 0..1)),
                Source::from(Parts::new().bytes("header").whole_file(&file)),
            ] {
                let (result, received) = send(way, source, Behaviour::read_all());
                let error = result.unwrap_err();
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::SourceNotRegular { .. }), "{what}: {error}");
                assert!(error.to_string().contains("give a regular file"), "{error}");
                assert_eq!((error.sent(), received.bytes), (0, 0), "{what}");
            }
        }
    }
}

#[test]
fn a_file_that_is_open_for_writing_only_is_an_error_and_not_an_empty_body() {
    let folder = folder();
    let path = canary_file(&folder, 3, 100_000);
    let file: File = std::fs::File::options().write(true).open(&path).unwrap().into();
    for way in ways() {
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        let error = runtime()
            .block_on(async {
                let transfer = transfer_file(&file, &mut stream);
                match way {
                    Some((route, mode)) => transfer.route(route).mode(mode).await,
                    None => transfer.await,
                }
            })
            .unwrap_err();
        end(stream);
        assert_eq!((error.sent(), peer.finish().len()), (0, 0));
        assert!(matches!(error.kind(), ErrorKind::InvalidHandle { .. }), "{way:?}: {error}");
        assert_eq!(error.blame(), Blame::Caller);
    }
}
