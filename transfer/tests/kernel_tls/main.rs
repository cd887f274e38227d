//! R13: where the kernel seals, rustls opens exactly the bytes of the file; the session goes on or says
//! why not; and nothing leaves in the clear.
//!
//! On a kernel without TLS only the fallback can be seen, and these tests say that they did not run.
//! `.ci/uml` runs them on a kernel that has it, and there they must.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod hygiene;
mod processing;
#[path = "../scenes/scripted.rs"]
#[expect(unreachable_pub, reason = "other test binaries use it as well")]
mod scripted;
#[path = "../scenes/sealed_aborted.rs"]
#[expect(unreachable_pub, reason = "other test binaries use it as well")]
mod sealed_aborted;
mod session;
#[path = "../support/mod.rs"]
mod support;

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::runtime::fault::{Fault, arm_for, disarm};
use ringway::runtime::fs::File;
use ringway::runtime::net::TcpStream;
use ringway::tls::{Backend, TlsStream};
use ringway::{Mode, Parts, Receipt, Route, transfer_file};
use ringway_testkit::{Budget, Checker};
use support::sealed::*;
use support::tap::tcp_pair;
use support::wire::{Plaintext, Wire};
use support::*;

const SIZES: [u64; 11] =
    [0, 1, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_537, 16 * 16_384, (1 << 20) + 1];
const MODES: [Mode; 3] = [Mode::Ring, Mode::Hybrid, Mode::Inline];
const EBUSY: i32 = 16;
/// Set by the lane whose kernel has TLS: there it must not be missing.
const REQUIRED: &str = "RINGWAY_KERNEL_TLS_REQUIRED";

/// Set by the lane whose kernel takes a second key: there keys must be updated.
const UPDATES_REQUIRED: &str = "RINGWAY_KERNEL_TLS_UPDATES_REQUIRED";

/// What a kernel before 6.14 may do must not pass where a newer one is to be shown.
fn older_kernel() {
    assert!(std::env::var_os(UPDATES_REQUIRED).is_none(), "this kernel takes no second key");
}

/// Whether the kernel seals here; says so if it does not.
async fn kernel_seals() -> bool {
    let (mut stream, _client) = connected(&by_kernel()).await;
    let backend = stream.backend();
    stream.close().await.unwrap();
    if backend != Backend::KernelTls {
        assert!(std::env::var_os(REQUIRED).is_none(), "{backend:?}");
        eprintln!("not run: {backend:?}");
    }
    backend == Backend::KernelTls
}

/// Runs a test on a ring of its own, if the kernel seals.
fn where_the_kernel_seals<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let _budget = Budget::new(Duration::from_secs(100));
    runtime().block_on(async {
        if kernel_seals().await {
            test().await;
        }
    });
}

/// Reads to a clean end, which needs a `close_notify`, and checks every byte.
fn swallow(client: Client, mut checker: Checker) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut client, mut buffer) = (client, vec![0; 1 << 15]);
        let began = checker.position();
        loop {
            match client.read(&mut buffer).unwrap() {
                0 => return checker.position() - began,
                count => checker.feed(&buffer[..count]).unwrap(),
            }
        }
    })
}

/// Reads to whatever end, checks every byte, and tells that end.
fn swallow_all(client: Client, mut checker: Checker) -> JoinHandle<(u64, std::io::Result<()>)> {
    std::thread::spawn(move || {
        let (mut client, mut buffer) = (client, vec![0; 1 << 15]);
        let began = checker.position();
        let end = loop {
            match client.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => checker.feed(&buffer[..count]).unwrap(),
                Err(error) => break Err(error),
            }
        };
        // rustls tells of an alert before it gives what came with it.
        while let Ok(count @ 1..) = client.conn.reader().read(&mut buffer) {
            checker.feed(&buffer[..count]).unwrap();
        }
        (checker.position() - began, end)
    })
}

async fn send(stream: &mut TlsStream, mode: Mode, file: &File, range: Range<u64>) -> Receipt {
    let (len, before) = (range.end - range.start, stream.accepted());
    let transfer = transfer_file(file, stream).range(range.clone()).mode(mode);
    let receipt = transfer.await.unwrap_or_else(|error| panic!("{mode} {range:?}: {error}"));
    assert_eq!((receipt.bytes, receipt.file_bytes), (len, len), "{receipt}");
    assert_eq!(receipt.route, Route::KernelTls, "{receipt}");
    assert!(receipt.fallbacks.is_empty(), "{receipt}");
    assert_eq!((stream.accepted() - before, stream.half_sent()), (len, 0));
    receipt
}

#[test]
fn every_size_and_offset_arrives_in_every_mode_and_suite() {
    where_the_kernel_seals(async || {
        let folder = folder();
        for (suite, mode) in suites().into_iter().zip(MODES) {
            for len in SIZES {
                let file = open(&canary_file(&folder, 7, len));
                let offsets = [0, 1, 4097, len.saturating_sub(1), len];
                for offset in offsets.into_iter().filter(|offset| *offset <= len) {
                    let (mut stream, client) = connected(&Settings { suite, ..by_kernel() }).await;
                    assert_eq!(stream.backend(), Backend::KernelTls, "{suite:?}");
                    let reading = swallow(client, Checker::new(7, offset));
                    send(&mut stream, mode, &file, offset..len).await;
                    stream.close().await.unwrap();
                    assert_eq!(reading.join().unwrap(), len - offset);
                }
            }
        }
    });
}

#[test]
fn a_long_body_is_spliced_and_arrives_whole_however_little_the_socket_takes() {
    where_the_kernel_seals(async || {
        let len = (8 << 20) + 7;
        let folder = folder();
        let file = open(&canary_file(&folder, 8, len));
        for mode in MODES {
            for (send_buffer, len) in [(1 << 20, len), (16 << 10, 1 << 20)] {
                let (mut stream, client) =
                    connected(&Settings { send_buffer, ..by_kernel() }).await;
                let reading = swallow(client, Checker::new(8, 5));
                let receipt = send(&mut stream, mode, &file, 5..len).await;
                assert!(receipt.splice_sqes + receipt.inline_splices > 0, "{receipt}");
                stream.close().await.unwrap();
                assert_eq!(reading.join().unwrap(), len - 5, "{receipt}");
            }
        }
    });
}

#[test]
fn header_file_and_trailer_arrive_in_order_and_at_once() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 200_000));
        for len in [0, 1, 5000, 60_000, 150_000] {
            for mode in MODES {
                let (mut stream, mut client) = connected(&by_kernel()).await;
                let parts =
                    Parts::new().bytes("header").file(&file, 3..3 + len).bytes("and a trailer");
                let receipt = transfer_file(parts, &mut stream).mode(mode).await.unwrap();
                assert_eq!(receipt.route, Route::KernelTls, "{receipt}");
                let bytes = usize::try_from(len).unwrap();
                let expected =
                    [b"header", &canary_bytes(7, 3, bytes)[..], b"and a trailer"].concat();
                // Before the stream is closed: nothing may wait for what does not come.
                let mut got = vec![0; bytes + 19];
                client.read_exact(&mut got).unwrap();
                assert!(got == expected, "{receipt}");
                stream.close().await.unwrap();
                assert_eq!(client.read(&mut [0]).unwrap(), 0);
            }
        }
    });
}

#[test]
fn transfers_and_writes_follow_each_other_on_one_connection() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 2 << 20));
        let (mut stream, client) = connected(&by_kernel()).await;
        let reading = swallow(client, Checker::new(7, 0));
        let mut offset = 0;
        for (number, mode) in (1..).zip(MODES.into_iter().cycle().take(21)) {
            let len = number * 6151 % 190_000;
            send(&mut stream, mode, &file, offset..offset + len).await;
            offset += len;
            stream.write_all(&canary_bytes(7, offset, 1000)).await.unwrap();
            offset += 1000;
        }
        stream.close().await.unwrap();
        assert_eq!(reading.join().unwrap(), offset);
    });
}

#[test]
fn the_peer_may_speak_first_last_and_in_between() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 300_000));
        let (mut stream, mut client) = connected(&by_kernel()).await;
        for round in 0..3_u8 {
            client.write_all(&[round; 100]).unwrap();
            let mut heard = [0; 100];
            let mut count = 0;
            while count < heard.len() {
                count += stream.read(&mut heard[count..]).await.unwrap();
            }
            assert_eq!(heard, [round; 100]);
            let reading = std::thread::spawn(move || {
                let mut got = vec![0; 300_000];
                client.read_exact(&mut got).map(|()| (client, got))
            });
            send(&mut stream, Mode::Inline, &file, 0..300_000).await;
            let got;
            (client, got) = reading.join().unwrap().unwrap();
            assert!(got == canary_bytes(7, 0, 300_000));
        }
        client.conn.send_close_notify();
        client.flush().unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "its end is heard");
        stream.close().await.unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "and so is ours");
    });
}

#[test]
fn a_kernel_that_refuses_leaves_the_records_to_us() {
    let _budget = Budget::new(Duration::from_secs(100));
    let folder = folder();
    let file = open(&canary_file(&folder, 7, 200_000));
    runtime().block_on(async {
        let kernel = kernel_seals().await;
        for (call, why) in [(0, "refused it for this socket"), (1, "refused the key")] {
            arm_for("setsockopt", call, Fault::Errno(EBUSY));
            let (mut stream, client) = connected(&by_kernel()).await;
            let fired = disarm().fired.is_some();
            assert_eq!(fired, kernel, "asked only where there is something to ask");
            let Backend::Registered { kernel_tls } = stream.backend() else {
                panic!("{:?}", stream.backend())
            };
            assert_eq!(kernel_tls.contains(why), kernel, "{kernel_tls}");
            let reading = swallow(client, Checker::new(7, 0));
            let receipt = transfer_file(&file, &mut stream).await.unwrap();
            assert_eq!(receipt.route, Route::Registered, "{receipt}");
            assert!(receipt.reason.to_string().contains(kernel_tls), "{}", receipt.reason);
            stream.close().await.unwrap();
            assert_eq!(reading.join().unwrap(), 200_000);
        }
    });
}

#[test]
fn nothing_leaves_in_the_clear() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 600_000));
        let looked_for = Plaintext::of(7, 605_000);
        for mode in MODES {
            let (ours, theirs, wire) = Wire::tapped();
            let (mut stream, client) = shaken(&by_kernel(), ours, theirs).await;
            let reading = swallow(client, Checker::new(7, 0));
            send(&mut stream, mode, &file, 0..600_000).await;
            stream.write_all(&canary_bytes(7, 600_000, 5000)).await.unwrap();
            stream.close().await.unwrap();
            drop(stream);
            assert_eq!(reading.join().unwrap(), 605_000);
            let seen = wire.seen();
            assert!(seen.0.len() > 605_000, "{} bytes on the wire", seen.0.len());
            // That the search finds what is in the clear is seen in `sealed_wire`.
            looked_for.assert_nowhere(&seen, &format!("{mode}"));
        }
    });
}

#[test]
fn a_stream_can_be_kept_from_the_kernel() {
    let folder = folder();
    let file = open(&canary_file(&folder, 7, 100_000));
    runtime().block_on(async {
        let (ours, theirs) = tcp_pair();
        let (mut stream, client) = shaken(&Settings::default(), ours, theirs).await;
        assert_eq!(stream.backend(), Backend::Registered { kernel_tls: "it was not wanted" });
        let reading = swallow(client, Checker::new(7, 0));
        let receipt = transfer_file(&file, &mut stream).await.unwrap();
        assert_eq!(receipt.route, Route::Registered);
        stream.close().await.unwrap();
        assert_eq!(reading.join().unwrap(), 100_000);
    });
}

#[test]
fn a_plain_socket_knows_no_records() {
    runtime().block_on(async {
        let (ours, _theirs) = tcp_pair();
        let stream = TcpStream::from_std(ours).unwrap();
        let before = stream.queued().unwrap();
        assert_eq!(before, 0);
        stream.try_send(&[std::io::IoSlice::new(b"twelve bytes")], false).unwrap();
        assert_eq!(stream.queued().unwrap(), 12);
        assert!(stream.set_sealing_key(&[0; 40]).is_err());
        assert_ne!(stream.sealing_key(&mut [0; 40]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
