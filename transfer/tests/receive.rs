//! Bodies out of streams into files: every route, every end, and what the counts say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ringway::error::Blame;
use ringway::plan::Mode;
use ringway::receive::plan::Reason;
use ringway::receive::{Decoded, Misfit, Origin, ReceiveErrorKind, ShortBody};
use ringway::runtime::fs::{File, OpenOptions};
use ringway::runtime::net::Stream;
use ringway::runtime::{Config, PipeLease, Runtime, lend_pipe};
use ringway::{Incoming, Limits, Route, transfer_file};
use support::feed::Feed;
use support::tap::gauges;
use support::{canary_bytes, folder, memory_folder, runtime, tcp_pair, unix_pair};

const SIZES: [u64; 9] = [0, 1, 4095, 4096, 4097, 65_537, 300_001, (1 << 20) + 1, (5 << 20) + 7];

async fn new_file(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(true).open(path).await.unwrap()
}

/// The file holds the canary bytes from `offset` on, and nothing behind them.
#[track_caller]
fn assert_holds(path: &Path, id: u64, offset: u64, len: u64) {
    let file = std::fs::File::open(path).unwrap();
    let end = if len == 0 { 0 } else { offset + len };
    assert_eq!(file.metadata().unwrap().len(), end);
    let mut got = vec![0; usize::try_from(len).unwrap()];
    file.read_exact_at(&mut got, offset).unwrap();
    assert!(got == canary_bytes(id, 0, got.len()), "other bytes");
}

#[test]
fn bodies_of_every_size_arrive_by_every_route() {
    let disk = folder();
    let memory = memory_folder();
    let runtime = runtime();
    let base = runtime.stats();
    for (number, size) in SIZES.into_iter().enumerate() {
        for route in [Route::Splice, Route::Copy] {
            for (place, to_end) in [(&disk, false), (&memory, true), (&disk, true)] {
                let path = place.path().join("file");
                let given = if number % 2 == 0 { size / 3 } else { 0 };
                let offset = if to_end { 0 } else { 4097 };
                runtime.block_on(async {
                    let mut file = new_file(&path).await;
                    let feed = Feed::of(3, given, size - given);
                    let (mut stream, sending) = feed.over_tcp();
                    let body = match to_end {
                        true => Incoming::to_the_end(&mut stream),
                        false => Incoming::exactly(&mut stream, size),
                    };
                    let body = body.after(canary_bytes(3, 0, usize::try_from(given).unwrap()));
                    let receipt = transfer_file(body, &mut file).route(route).offset(offset);
                    let receipt = receipt.await.unwrap();
                    assert_eq!(
                        (receipt.received, receipt.written, receipt.given),
                        (size, size, given)
                    );
                    assert_eq!((receipt.route, receipt.reason), (route, Reason::Forced));
                    assert!(receipt.fallbacks.is_empty(), "{receipt}");
                    assert_eq!(stream.received(), size - given);
                    sending.join().unwrap();
                });
                assert_holds(&path, 3, offset, size);
            }
        }
    }
    assert_eq!(gauges(&runtime.stats()), gauges(&base));
}

#[test]
fn auto_picks_by_facts_and_says_why() {
    let (disk, memory) = (folder(), memory_folder());
    let runtime = runtime();
    runtime.block_on(async {
        for (place, len, route, mode, reason) in [
            (&disk, 1 << 20, Route::Splice, Mode::Hybrid, Reason::LargeBody),
            (&memory, 1 << 20, Route::Splice, Mode::Inline, Reason::LargeBody),
            (&disk, 1000, Route::Copy, Mode::Hybrid, Reason::SmallBody),
        ] {
            let path = place.path().join("file");
            let mut file = new_file(&path).await;
            let (mut stream, sending) = Feed::of(3, 0, len).over_unix();
            let receipt =
                transfer_file(Incoming::exactly(&mut stream, len), &mut file).await.unwrap();
            assert_eq!((receipt.route, receipt.mode, receipt.reason), (route, mode, reason));
            sending.join().unwrap();
            assert_holds(&path, 3, 0, len);
            println!("{receipt}");
        }
    });
}

/// The stream goes on behind the body: not a byte of the next message is taken.
#[test]
fn a_stream_is_used_on_behind_an_exact_body() {
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        let (mut stream, sending) = Feed::of(3, 0, 1_000_000).without_an_end().over_tcp();
        for (from, len) in [(0u64, 1u64), (1, 300_000), (300_001, 699_998)] {
            let mut file = new_file(&path).await;
            let receipt =
                transfer_file(Incoming::exactly(&mut stream, len), &mut file).await.unwrap();
            assert_eq!(receipt.written, len);
            let stored = std::fs::read(&path).unwrap();
            assert!(stored == canary_bytes(3, from, stored.len()));
        }
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 1, "the byte behind the last body");
        sending.join().unwrap();
    });
}

#[test]
fn a_short_body_is_an_error_and_what_came_is_in_the_file() {
    let folder = folder();
    let path = folder.path().join("file");
    let runtime = runtime();
    for route in [Route::Splice, Route::Copy] {
        for len in [0, 1, 70_000, 3_000_000] {
            runtime.block_on(async {
                let mut file = new_file(&path).await;
                let (mut stream, sending) = Feed::of(3, 0, len).over_tcp();
                let body = Incoming::exactly(&mut stream, 4_000_000);
                let error = transfer_file(body, &mut file).route(route).await.unwrap_err();
                let short = ShortBody { expected: 4_000_000, received: len };
                assert_eq!(*error.kind(), ReceiveErrorKind::ShortBody(short), "{error}");
                assert_eq!((error.received(), error.written()), (len, len));
                assert_eq!(error.blame(), Blame::Peer);
                assert_eq!(error.receipt().unwrap().route, route);
                assert!(!stream.is_torn(), "the outcome is known");
                sending.join().unwrap();
            });
            assert_holds(&path, 3, 0, len);
        }
    }
}

#[test]
fn a_reset_is_an_error_with_both_counts() {
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        let mut file = new_file(&path).await;
        let (mut stream, mut theirs) = tcp_pair();
        theirs.write_all(&canary_bytes(3, 0, 200_000)).unwrap();
        // Closing with something unread resets the connection.
        stream.write_all(b"x").await.unwrap();
        stream.readable().await.unwrap();
        drop(theirs);
        let body = Incoming::exactly(&mut stream, 1 << 20);
        let error = transfer_file(body, &mut file).await.unwrap_err();
        assert!(matches!(error.kind(), ReceiveErrorKind::PeerClosed { .. }), "{error}");
        assert_eq!((error.blame(), error.received()), (Blame::Peer, error.written()));
        assert_holds(&path, 3, 0, error.written());
    });
}

#[test]
fn more_than_may_come_is_refused_and_not_written() {
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        let mut file = new_file(&path).await;
        for (sent, most) in [(100_000u64, 99_999u64), (1, 0), (2_000_000, 1 << 20)] {
            let (mut stream, sending) = Feed::of(3, 0, sent).over_unix();
            let body = Incoming::to_the_end(&mut stream).at_most(most);
            let error = transfer_file(body, &mut file).await.unwrap_err();
            assert_eq!(*error.kind(), ReceiveErrorKind::TooLong { most }, "{error}");
            assert_eq!((error.received(), error.written()), (most + 1, most));
            drop(stream);
            sending.join().unwrap();
        }
        let (mut stream, sending) = Feed::of(3, 0, 1 << 20).over_unix();
        let body = Incoming::to_the_end(&mut stream).at_most(1 << 20);
        assert_eq!(transfer_file(body, &mut file).await.unwrap().written, 1 << 20);
        let body = Incoming::exactly(&mut stream, 11).at_most(10);
        let error = transfer_file(body, &mut file).await.unwrap_err();
        let announced = Misfit::Announced { expected: 11, most: 10 };
        assert_eq!(*error.kind(), ReceiveErrorKind::Misfit(announced));
        let body = Incoming::exactly(&mut stream, 3).after("four");
        let error = transfer_file(body, &mut file).await.unwrap_err();
        assert_eq!(*error.kind(), ReceiveErrorKind::Misfit(Misfit::Given { given: 4, most: 3 }));
        sending.join().unwrap();
    });
}

#[test]
fn a_file_that_cannot_be_written_at_an_offset_is_named() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, "old").unwrap();
    runtime().block_on(async {
        let (mut stream, _theirs) = unix_pair();
        let appending = std::fs::File::options().append(true).open(&path).unwrap();
        for mut file in [File::from_std(appending), File::open(folder.path()).await.unwrap()] {
            let body = Incoming::exactly(&mut stream, 1).after("x");
            let error = transfer_file(body, &mut file).await.unwrap_err();
            assert!(matches!(error.kind(), ReceiveErrorKind::NoOffsets { .. }), "{error}");
        }
        let mut read_only = File::open(&path).await.unwrap();
        for route in [Route::Splice, Route::Copy] {
            let body = Incoming::exactly(&mut stream, 1).after("x");
            let error = transfer_file(body, &mut read_only).route(route).await.unwrap_err();
            assert!(matches!(error.kind(), ReceiveErrorKind::ReadOnly { .. }), "{error}");
            assert_eq!((error.received(), error.written(), error.blame()), (1, 0, Blame::Caller));
        }
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

/// With all pipes lent, a body is copied, and says so; who forbids the copy is told.
#[test]
fn without_a_pipe_it_is_copied() {
    let folder = folder();
    let path = folder.path().join("file");
    let config = Config { completion_entries: 1024, pipes_max: 1, ..Config::default() };
    Runtime::with_config(config).unwrap().block_on(async {
        let held: Vec<PipeLease> = std::iter::from_fn(|| lend_pipe().unwrap().ok()).collect();
        let mut file = new_file(&path).await;
        let (mut stream, sending) = Feed::of(3, 0, 1 << 20).over_tcp();
        let receipt =
            transfer_file(Incoming::exactly(&mut stream, 1 << 20), &mut file).await.unwrap();
        assert_eq!((receipt.splices, receipt.fallbacks[0].why), (0, "all pipes are lent"));
        sending.join().unwrap();
        assert_holds(&path, 3, 0, 1 << 20);
        let (mut stream, sending) = Feed::of(3, 0, 1 << 20).over_tcp();
        let body = Incoming::exactly(&mut stream, 1 << 20);
        let error = transfer_file(body, &mut file).forbid(Route::Copy).await.unwrap_err();
        assert!(matches!(error.kind(), ReceiveErrorKind::Unfit(_)), "{error}");
        drop((held, stream));
        sending.join().unwrap();
    });
}

/// A coding that doubles every byte.
struct Halving<'t> {
    stream: &'t mut ringway::runtime::net::TcpStream,
    pending: VecDeque<u8>,
}

impl Decoded for Halving<'_> {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut raw = [0; 1000];
        if self.pending.len() < 2 {
            let count = self.stream.try_recv(&mut raw)?;
            if count == 0 && !self.pending.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "half a byte"));
            }
            self.pending.extend(&raw[..count]);
            if self.pending.len() == 1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let count = buffer.len().min(self.pending.len() / 2);
        for byte in &mut buffer[..count] {
            *byte = self.pending.pop_front().unwrap();
            assert_eq!(self.pending.pop_front(), Some(*byte));
        }
        Ok(count)
    }

    fn stream(&self) -> &Stream {
        self.stream
    }
}

#[test]
fn a_decoded_stream_goes_through_memory() {
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        for odd in [false, true] {
            let mut file = new_file(&path).await;
            let (mut stream, mut theirs) = tcp_pair();
            let plain = canary_bytes(3, 0, 400_000);
            let mut doubled: Vec<u8> = plain.iter().flat_map(|byte| [*byte; 2]).collect();
            doubled.extend(odd.then_some(0));
            let sending = std::thread::spawn(move || theirs.write_all(&doubled));
            let mut halving = Halving { stream: &mut stream, pending: VecDeque::new() };
            let body = Incoming::to_the_end(Origin::decoded(&mut halving));
            let limits = Limits::default().with_receive_batch_bytes(16 << 10);
            match transfer_file(body, &mut file).limits(limits).await {
                Ok(receipt) => {
                    assert_eq!((odd, receipt.written), (false, 400_000));
                    assert_eq!((receipt.route, receipt.reason), (Route::Copy, Reason::Decoded));
                }
                Err(error) => {
                    assert_eq!((odd, error.kind()), (true, &ReceiveErrorKind::Malformed));
                    assert_eq!((error.written(), error.blame()), (400_000, Blame::Peer));
                }
            }
            sending.join().unwrap().unwrap();
            assert_holds(&path, 3, 0, 400_000);
        }
        let (mut stream, _theirs) = tcp_pair();
        let mut halving = Halving { stream: &mut stream, pending: VecDeque::new() };
        let body = Incoming::to_the_end(Origin::decoded(&mut halving));
        let mut file = new_file(&path).await;
        let error = transfer_file(body, &mut file).route(Route::Splice).await.unwrap_err();
        assert!(matches!(error.kind(), ReceiveErrorKind::Unfit(_)), "{error}");
    });
}
