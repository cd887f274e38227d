//! What the session itself has to say while a transfer sends: keys that are spent or asked for, alerts,
//! and data of the peer. rustls is the peer, and keeps count.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::error::{Blame, ErrorKind};
use ringway::limits::Limits;
use ringway::runtime::{Runtime, stats};
use ringway::tls::{TlsLimits, TlsStream};
use ringway::transfer_file;
use ringway_testkit::{Budget, Checker};
use support::sealed::*;
use support::*;

const LEN: u64 = 3_000_000;

/// Reads to the end and does something after so many bytes; gives the bytes that came.
fn reading(
    mut client: Client,
    after: u64,
    act: impl FnOnce(&mut Client) + Send + 'static,
) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut checker, mut buffer) = (Checker::new(7, 0), vec![0; 1 << 16]);
        let mut act = Some(act);
        loop {
            if checker.position() >= after
                && let Some(act) = act.take()
            {
                act(&mut client);
            }
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => return checker.position(),
                Ok(count) => checker.feed(&buffer[..count]).unwrap(),
            }
        }
    })
}

/// Sends what the client has to say.
fn say(client: &mut Client) {
    while client.conn.wants_write() {
        client.conn.write_tls(&mut client.sock).unwrap();
    }
}

async fn close(stream: &mut TlsStream) {
    stream.close().await.unwrap();
}

#[test]
fn a_key_that_is_spent_is_updated_in_the_middle_of_a_transfer() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, LEN));
    for (_, mode) in SEALED_WAYS {
        for records in [8, 9, 64, 100] {
            runtime.block_on(async {
                let limits = TlsLimits::default().with_key_records_max(records);
                let (mut stream, client) =
                    connected(&Settings { limits, ..Settings::default() }).await;
                let reader = reading(client, u64::MAX, |_| {});
                let receipt = transfer_file(&file, &mut stream).mode(mode).await.unwrap();
                assert_eq!(
                    (receipt.bytes, receipt.records),
                    (LEN, LEN.div_ceil(16_384)),
                    "{receipt}"
                );
                let spent = receipt.records / records;
                assert!(stream.key_updates().sent >= spent, "{:?}", stream.key_updates());
                close(&mut stream).await;
                assert_eq!(reader.join().unwrap(), LEN);
            });
        }
    }
}

#[test]
fn a_peer_that_asks_for_new_keys_while_it_downloads_gets_them() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 40 << 20));
    for (_, mode) in SEALED_WAYS {
        runtime.block_on(async {
            let (mut stream, client) = connected(&narrow_but_quick()).await;
            let reader = reading(client, 1 << 20, |client| {
                client.conn.refresh_traffic_keys().unwrap();
                say(client);
            });
            let receipt = transfer_file(&file, &mut stream).mode(mode).await.unwrap();
            assert_eq!(receipt.bytes, 40 << 20);
            let updates = stream.key_updates();
            assert_eq!(
                (updates.received, updates.sent),
                (1, 1),
                "asked and answered, while sending"
            );
            close(&mut stream).await;
            assert_eq!(reader.join().unwrap(), 40 << 20);
        });
    }
}

fn narrow_but_quick() -> Settings {
    Settings { send_buffer: 256 << 10, ..Settings::default() }
}

#[test]
fn what_the_peer_says_meanwhile_is_kept_up_to_the_bound() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 40 << 20));
    // Less than the bound, and far more: the rest waits in the socket until somebody reads.
    for said in [3000, 300_000] {
        runtime.block_on(async {
            let (mut stream, client) = connected(&narrow_but_quick()).await;
            let reader = reading(client, 1 << 20, move |client| {
                client.conn.set_buffer_limit(None);
                client.conn.writer().write_all(&canary_bytes(9, 0, said)).unwrap();
                // The bound makes the sender stop receiving, so this must not wait for it.
                let mut sock = client.sock.0.try_clone().unwrap();
                let mut records = Vec::new();
                while client.conn.wants_write() {
                    client.conn.write_tls(&mut records).unwrap();
                }
                std::thread::spawn(move || sock.write_all(&records).unwrap());
            });
            let receipt = transfer_file(&file, &mut stream).await.unwrap();
            assert_eq!(receipt.bytes, 40 << 20);
            let (mut heard, mut buffer) = (Vec::new(), vec![0; 10_000]);
            while heard.len() < said {
                let count = stream.read(&mut buffer).await.unwrap();
                heard.extend_from_slice(&buffer[..count]);
            }
            assert!(heard == canary_bytes(9, 0, said));
            close(&mut stream).await;
            assert_eq!(reader.join().unwrap(), 40 << 20);
        });
    }
}

#[test]
fn an_alert_or_a_broken_record_of_the_peer_ends_the_transfer() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 200 << 20));
    for (_, mode) in SEALED_WAYS {
        runtime.block_on(async {
            let (mut stream, client) = connected(&narrow_but_quick()).await;
            let reader = reading(client, 1 << 20, |client| {
                // A record that nobody has sealed.
                let record = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
                client.sock.write_all(&record).unwrap();
            });
            let error = transfer_file(&file, &mut stream).mode(mode).await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Tls { blame: Blame::Peer }, "{error}");
            assert!(error.to_string().contains("fails its authentication"), "{error}");
            assert_eq!(error.sent(), stream.accepted());
            assert!(transfer_file(&file, &mut stream).await.is_err(), "the session is over");
            let socket = stream.tcp().share();
            drop(stream);
            end(socket);
            let came = reader.join().unwrap();
            assert!(came <= error.sent(), "{came} of {}", error.sent());
        });
    }
}

#[test]
fn tickets_wait_for_the_first_data_and_come_by_themselves_if_there_is_none() {
    let _budget = Budget::new(Duration::from_secs(60));
    runtime().block_on(async {
        let (mut stream, mut client) = connected(&Settings::default()).await;
        let waiting = std::thread::spawn(move || {
            while client.conn.tls13_tickets_received() == 0 {
                assert!(client.conn.read_tls(&mut client.sock).unwrap() > 0, "no ticket came");
                let state = client.conn.process_new_packets().unwrap();
                assert_eq!(state.plaintext_bytes_to_read(), 0, "data came before its tickets");
            }
            client
        });
        let mut client = waiting.join().unwrap();
        stream.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0]).unwrap();
        close(&mut stream).await;
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end comes with its reason");
    });
}

#[test]
fn nothing_follows_a_close() {
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 1000));
    runtime.block_on(async {
        let (mut stream, client) = connected(&Settings::default()).await;
        let reader = reading(client, u64::MAX, |_| {});
        transfer_file(&file, &mut stream).await.unwrap();
        close(&mut stream).await;
        let error = transfer_file(&file, &mut stream).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Tls { blame: Blame::Caller }, "{error}");
        assert_eq!((error.sent(), reader.join().unwrap()), (0, 1000));
    });
}

#[test]
fn a_stalled_peer_holds_no_buffer_and_gets_every_byte_once() {
    let _budget = Budget::new(Duration::from_secs(60));
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 7, 8 << 20));
    for (_, mode) in SEALED_WAYS {
        runtime.block_on(async {
            let (mut stream, client) = connected(&narrow_but_quick()).await;
            let peer = gated::Gated::new(client);
            let file = file.clone();
            let task = ringway::runtime::spawn(async move {
                let limits = Limits::default().with_stall_hold(Duration::from_millis(1));
                let transfer = transfer_file(&file, &mut stream).limits(limits).mode(mode);
                let receipt = transfer.await.unwrap();
                stream.close().await.unwrap();
                receipt
            });
            stalls(&task).await;
            assert_eq!(stats().unwrap().leases, 0, "{mode}");
            let reading = std::thread::spawn(move || peer.finish());
            let receipt = task.await.unwrap();
            assert!(receipt.rewinds > 0 && receipt.stalls > 0, "{receipt}");
            assert_eq!((receipt.bytes, receipt.records), (8 << 20, 512), "{receipt}");
            assert!(reading.join().unwrap() == canary_bytes(7, 0, 8 << 20));
        });
    }
}

/// Waits until the transfer waits without a buffer.
async fn stalls<T>(task: &ringway::runtime::JoinHandle<T>) {
    for _ in 0..2000 {
        ringway::runtime::time::sleep(Duration::from_millis(5)).await;
        assert!(!task.is_finished());
        if stats().unwrap().leases == 0 && stats().unwrap().timers <= 2 {
            return;
        }
    }
    panic!("it keeps a buffer");
}

#[test]
fn no_plaintext_stays_in_a_buffer_that_was_given_back() {
    let folder = folder();
    let file = open(&canary_file(&folder, 7, 1 << 20));
    let runtime: Runtime = runtime_with_buffers(68 << 10, 1);
    for (_, mode) in SEALED_WAYS {
        runtime.block_on(async {
            let (mut stream, client) = connected(&Settings::default()).await;
            let reader = reading(client, u64::MAX, |_| {});
            transfer_file(&file, &mut stream).mode(mode).await.unwrap();
            close(&mut stream).await;
            // Refused before anything is sealed, when the plaintext is there already.
            assert!(transfer_file(&file, &mut stream).mode(mode).await.is_err());
            assert_eq!(reader.join().unwrap(), 1 << 20);
            let mut lease = ringway::runtime::lease(1).await.unwrap();
            let canary = canary_bytes(7, 0, 1 << 20);
            let windows: std::collections::HashSet<&[u8]> = canary.chunks_exact(8).collect();
            let left = lease.spare_mut().windows(8).filter(|window| windows.contains(window));
            assert_eq!(left.count(), 0, "{mode}");
        });
    }
}
