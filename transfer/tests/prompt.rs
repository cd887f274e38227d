//! Small bodies: in memory they leave in the first poll, and what does not fit goes on by the route; and
//! a file that was seen is sent as it was seen, or not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::future::{IntoFuture, poll_fn};
use std::io::Write;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringway::error::{Blame, ErrorKind};
use ringway::{Mode, Parts, Route, transfer_file};
use support::gated::Gated;
use support::*;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Lengths on both sides of each way that a small body can take.
const LENGTHS: [u64; 6] = [1, 700, 4096, 4097, 65_536, 200_000];

#[test]
fn a_small_body_in_memory_leaves_in_the_first_poll() {
    let folder = folder();
    for len in LENGTHS {
        let file = open(&canary_file(&folder, len, len));
        let (mut stream, theirs) = unix_pair();
        let peer = Gated::new(theirs);
        peer.open(u64::MAX);
        let receipt = runtime().block_on(async {
            let parts = Parts::new().bytes(HEAD).file(&file, 0..len);
            let mut transfer = pin!(transfer_file(parts, &mut stream).into_future());
            let first = poll_fn(|context| Poll::Ready(transfer.as_mut().poll(context))).await;
            match first {
                Poll::Ready(outcome) => outcome.unwrap(),
                // Only what a Unix socket has no room for may have to wait.
                Poll::Pending if len > 65_536 => transfer.await.unwrap(),
                Poll::Pending => panic!("{len} bytes had to wait"),
            }
        });
        end(stream);
        assert_eq!((receipt.memory_bytes, receipt.file_bytes), (HEAD.len() as u64, len));
        let by = if len <= 4096 { Route::Copy } else { Route::Splice };
        assert_eq!((receipt.route, receipt.mode), (by, Mode::Inline), "{len}: {receipt}");
        assert_eq!(receipt.source_changed, None);
        let received = peer.finish();
        assert_eq!(&received[..HEAD.len()], HEAD);
        assert!(received[HEAD.len()..] == canary_bytes(len, 0, received.len() - HEAD.len()));
        assert_eq!(received.len() as u64, receipt.bytes);
    }
}

#[test]
fn what_the_socket_has_no_room_for_goes_on_from_the_byte_where_it_stopped() {
    let folder = folder();
    let head = vec![b'h'; 3000];
    for len in LENGTHS {
        let file = open(&canary_file(&folder, len, len));
        let (mut stream, theirs) = unix_pair();
        // The kernel doubles this; the smallest that it takes is some 4.5 KiB.
        rustix::net::sockopt::set_socket_send_buffer_size(&*stream, 1).unwrap();
        let peer = Gated::new(theirs);
        let receipt = runtime().block_on(async {
            // What stands in the socket already leaves little room, or none.
            let mut filler = 0;
            while let Ok(sent) = stream.try_send(&[std::io::IoSlice::new(&[b'f'; 512])], false) {
                filler += sent as u64;
            }
            peer.open(filler / 2);
            let parts = Parts::new().bytes(head.clone()).file(&file, 0..len);
            let mut transfer = pin!(transfer_file(parts, &mut stream).into_future());
            let mut polls = 0;
            let outcome = poll_fn(|context| {
                polls += 1;
                let polled = transfer.as_mut().poll(context);
                peer.open(u64::MAX);
                polled
            })
            .await;
            (outcome.unwrap(), filler)
        });
        let (receipt, filler) = receipt;
        end(stream);
        assert_eq!((receipt.memory_bytes, receipt.file_bytes), (3000, len), "{receipt}");
        let received = peer.finish();
        let (before, body) = received.split_at(usize::try_from(filler).unwrap());
        assert!(before.iter().all(|byte| *byte == b'f'));
        assert!(
            body[..3000] == head[..] && body[3000..] == canary_bytes(len, 0, body.len() - 3000)
        );
        assert_eq!(body.len() as u64, receipt.bytes);
    }
}

#[test]
fn a_file_that_is_no_longer_as_it_was_seen_is_not_sent() {
    let folder = folder();
    for len in [1, 4096, 60_000, 3_000_000] {
        for (route, mode) in [(None, None), (Some(Route::Copy), Some(Mode::Ring))] {
            let path = canary_file(&folder, 9, len);
            let file = open(&path);
            let seen = file.metadata().unwrap();
            let (mut stream, theirs) = unix_pair();
            let peer = Gated::new(theirs);
            peer.open(u64::MAX);
            runtime().block_on(async {
                let parts = || Parts::new().bytes(HEAD).file_as_seen(&file, 0..len, seen);
                let transfer = transfer_file(parts(), &mut stream).only_as_seen();
                assert_eq!(transfer.await.unwrap().file_bytes, len);
                // A clock that does not tell two moments from each other tells no change either.
                std::thread::sleep(Duration::from_millis(20));
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .write_all(b"x")
                    .unwrap();
                let mut transfer = transfer_file(parts(), &mut stream).only_as_seen();
                if let (Some(route), Some(mode)) = (route, mode) {
                    transfer = transfer.route(route).mode(mode);
                }
                let error = transfer.await.unwrap_err();
                let ErrorKind::SourceChanged(change) = error.kind() else { panic!("{error}") };
                assert_ne!(change.before.mtime, change.after.mtime);
                assert_eq!((error.sent(), error.blame()), (0, Blame::File));
            });
            end(stream);
            let once = HEAD.len() as u64 + len;
            assert_eq!(peer.finish().len() as u64, once, "{len} {route:?}");
        }
    }
}
