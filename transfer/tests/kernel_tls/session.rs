//! What the session has to say where the kernel seals, and how it ends.

use std::future::{Future, IntoFuture};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringway::tls::TlsLimits;
use ringway::{Mode, transfer_file};
use ringway_testkit::Checker;

use crate::support::sealed::*;
use crate::support::*;
use crate::{MODES, older_kernel, send, swallow, swallow_all, where_the_kernel_seals};

/// The kernel keeps sealed records for a full socket; a FIN must not overtake them.
#[test]
fn a_close_waits_until_a_slow_peer_has_room_for_the_last_record() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let whole = 300_000;
        let file = open(&canary_file(&folder, 7, whole));
        for round in 0..8 {
            let settings = Settings { send_buffer: 4 << 10, ..by_kernel() };
            let (mut stream, client) = connected(&settings).await;
            let slow = std::thread::spawn(move || {
                let (mut client, mut checker) = (client, Checker::new(7, 0));
                let mut buffer = vec![0; 30_000];
                loop {
                    match client.read(&mut buffer).unwrap() {
                        0 => return checker.position(),
                        count => checker.feed(&buffer[..count]).unwrap(),
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
            let len = whole - round * 4001;
            send(&mut stream, Mode::Inline, &file, 0..len).await;
            stream.close().await.unwrap();
            drop(stream);
            assert_eq!(slow.join().unwrap(), len);
        }
    });
}

#[test]
fn a_key_update_that_the_peer_asks_for_is_made_or_clearly_refused() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 4 << 20));
        let (mut stream, mut client) = connected(&by_kernel()).await;
        client.conn.refresh_traffic_keys().unwrap();
        client.write_all(b"under a new key").unwrap();
        let mut heard = [0; 15];
        let first = stream.read(&mut heard).await;
        let reading = swallow_all(client, Checker::new(7, 0));
        let outcome = transfer_file(&file, &mut stream).await;
        if stream.key_updates().sent > 0 {
            assert_eq!(first.unwrap(), 15);
            assert_eq!(outcome.unwrap().bytes, 4 << 20);
            stream.close().await.unwrap();
            let (len, end) = reading.join().unwrap();
            assert_eq!(len, 4 << 20);
            end.unwrap();
            return;
        }
        older_kernel();
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("the kernel that seals takes only one"), "{error}");
        assert_eq!(error.sent(), 0);
        drop(stream);
        let (len, end) = reading.join().unwrap();
        assert_eq!(len, 0);
        assert!(end.unwrap_err().to_string().contains("InternalError"));
    });
}

#[test]
fn a_spent_key_is_replaced_or_the_end_of_the_connection_in_every_mode() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 4 << 20));
        for mode in MODES {
            let limits = TlsLimits::default().with_key_records_max(40);
            let (mut stream, client) = connected(&Settings { limits, ..by_kernel() }).await;
            let reading = swallow_all(client, Checker::new(7, 0));
            let outcome = transfer_file(&file, &mut stream).mode(mode).await;
            if let Ok(receipt) = outcome {
                // At most 40 records of at most 16 KiB under each key.
                let updates = stream.key_updates().sent;
                assert!(updates >= 6, "{updates} new keys for 256 records: {receipt}");
                assert_eq!(receipt.bytes, 4 << 20);
                stream.close().await.unwrap();
                assert_eq!(reading.join().unwrap().0, 4 << 20);
                continue;
            }
            older_kernel();
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("the kernel that seals takes only one"), "{error}");
            let accepted = stream.accepted();
            assert_eq!(error.sent(), accepted);
            assert!(accepted > 0 && accepted <= 40 * 16_384, "{accepted} bytes under one key");
            drop(stream);
            let (len, end) = reading.join().unwrap();
            assert_eq!(len, accepted);
            assert!(end.unwrap_err().to_string().contains("InternalError"));
        }
    });
}

/// What is filled ahead of the socket must not keep the session from hearing the peer.
#[test]
fn an_alert_of_the_peer_ends_a_transfer_in_every_mode() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 64 << 20));
        for mode in MODES {
            let (mut stream, mut client) = connected(&by_kernel()).await;
            let reading = std::thread::spawn(move || {
                let (mut checker, mut buffer) = (Checker::new(7, 0), vec![0; 1 << 15]);
                while checker.position() < 1 << 20 {
                    let count = client.read(&mut buffer).unwrap();
                    checker.feed(&buffer[..count]).unwrap();
                }
                client.sock.0.write_all(&[&[23, 3, 3, 0, 20][..], &[0; 20]].concat()).unwrap();
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    checker.feed(&buffer[..count]).unwrap();
                }
                checker.position()
            });
            let error = transfer_file(&file, &mut stream).mode(mode).await.unwrap_err();
            assert!(error.to_string().contains("fails its authentication"), "{mode}: {error}");
            assert_eq!(error.sent(), stream.accepted(), "{mode}: {error}");
            // It is over soon, not when all is out.
            assert!(error.sent() < 40 << 20, "{mode}: {error}");
            _ = stream.close().await;
            drop(stream);
            assert!(reading.join().unwrap() <= error.sent());
        }
    });
}

#[test]
fn new_keys_on_demand_need_a_kernel_that_takes_them() {
    where_the_kernel_seals(async || {
        let (mut stream, mut client) = connected(&by_kernel()).await;
        match stream.update_keys(false) {
            Ok(()) => stream.flush().await.unwrap(),
            Err(error) => {
                older_kernel();
                assert!(error.to_string().contains("takes only one"), "{error}");
            }
        }
        stream.write_all(b"goes on").await.unwrap();
        let mut got = [0; 7];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"goes on");
    });
}

#[test]
fn a_transfer_dropped_anywhere_is_settled_exactly_and_the_connection_goes_on() {
    where_the_kernel_seals(async || {
        let len = 1 << 20;
        let folder = folder();
        let file = open(&canary_file(&folder, 7, len));
        for (polls, mode) in (1..16).zip(MODES.into_iter().cycle()) {
            let settings = Settings { send_buffer: 32 << 10, ..by_kernel() };
            let (mut stream, client) = connected(&settings).await;
            let reading = swallow(client, Checker::new(7, 0));
            let mut left = polls;
            let whole = {
                let transfer = transfer_file(&file, &mut stream).mode(mode).into_future();
                let mut transfer = pin!(transfer);
                std::future::poll_fn(|context| {
                    left -= 1;
                    match transfer.as_mut().poll(context) {
                        Poll::Pending if left > 0 => Poll::Pending,
                        Poll::Pending => Poll::Ready(None),
                        Poll::Ready(outcome) => Poll::Ready(Some(outcome.unwrap())),
                    }
                })
                .await
            };
            let settled = stream.settle().await.unwrap();
            let sent = stream.accepted();
            assert_eq!(settled, if whole.is_some() { 0 } else { sent });
            stream.write_all(&canary_bytes(7, sent, 5000)).await.unwrap();
            stream.close().await.unwrap();
            assert_eq!(reading.join().unwrap(), sent + 5000, "{mode} after {polls} polls");
        }
    });
}

#[test]
fn a_file_that_shrinks_ends_the_transfer_with_an_exact_count() {
    where_the_kernel_seals(async || {
        let len: u64 = 8 << 20;
        let folder = folder();
        for mode in MODES {
            let path = canary_file(&folder, 7, len);
            let file = open(&path);
            let settings = Settings { send_buffer: 32 << 10, ..by_kernel() };
            let (mut stream, client) = connected(&settings).await;
            let reading = swallow_all(client, Checker::new(7, 0));
            let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let transfer = transfer_file(&file, &mut stream).mode(mode).on_progress(|progressed| {
                if progressed.sent > 1 << 20 {
                    writer.set_len(2 << 20).unwrap();
                }
            });
            let error = transfer.await.unwrap_err();
            assert!(error.to_string().contains("shorter") || error.sent() < len, "{error}");
            assert!(error.sent() <= len && error.sent() > 1 << 20);
            assert_eq!(error.sent(), stream.accepted());
            // Even without a close: what was accepted has left the kernel's open record.
            let accepted = stream.accepted();
            stream.close().await.unwrap();
            let (got, _) = reading.join().unwrap();
            assert_eq!(got, accepted, "{error}");
        }
    });
}

#[test]
fn a_peer_that_goes_away_is_an_error_and_no_hang() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, 7, 8 << 20));
        for mode in MODES {
            let (mut stream, mut client) = connected(&by_kernel()).await;
            let leaving = std::thread::spawn(move || {
                client.read_exact(&mut [0; 100_000]).unwrap();
                client.sock.0.shutdown(Shutdown::Both).unwrap();
            });
            let outcome = transfer_file(&file, &mut stream).mode(mode).await;
            leaving.join().unwrap();
            // Either the transfer notices, or the end does.
            let closed = stream.close().await;
            assert!(outcome.is_err() || closed.is_err(), "{outcome:?}");
        }
    });
}
