//! Sealed transfers at the places where a record, a key or a buffer changes hands.

use std::future::{IntoFuture, poll_fn};
use std::io::Read;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::limits::Limits;
use ringway::runtime::lease;
use ringway::tls::{TlsLimits, TlsStream};
use ringway::{Mode, transfer_file};
use ringway_testkit::Checker;

use crate::support::sealed::{Client, SEALED_WAYS, Settings, connected, narrow};
use crate::support::{canary_bytes, canary_file, folder, open, runtime, runtime_with_buffers};

const FILE: u64 = 61;
const RECORD: u64 = 16_384;
const BUFFER: usize = 512 << 10;

/// Reads to the end, with a pause after each piece; does something after the first.
fn reading(
    mut client: Client,
    pause: Duration,
    act: impl FnOnce(&mut Client) + Send + 'static,
) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut checker, mut buffer) = (Checker::new(FILE, 0), vec![0; 1 << 14]);
        let mut act = Some(act);
        loop {
            match client.read(&mut buffer) {
                Ok(0) => return checker.position(),
                Ok(count) => checker.feed(&buffer[..count]).unwrap(),
                Err(error) => panic!("a record does not open: {error}"),
            }
            if let Some(act) = act.take() {
                act(&mut client);
            }
            std::thread::sleep(pause);
        }
    })
}

async fn finish(mut stream: TlsStream, reader: JoinHandle<u64>, len: u64) {
    // The peer may be gone, and tells why.
    let _ = stream.close().await;
    assert_eq!(reader.join().expect("the peer reads to the end"), len);
}

/// A peer that is slower than patience allows: buffers are given back in the middle of records.
pub fn stall_in_the_middle_of_records() {
    const LEN: u64 = 600_001;
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, FILE, LEN));
    for (_, mode) in SEALED_WAYS {
        runtime.block_on(async {
            let (mut stream, client) = connected(&narrow()).await;
            let reader = reading(client, Duration::from_millis(2), |_| {});
            let limits = Limits::default().with_stall_hold(Duration::from_micros(100));
            let outcome = transfer_file(&file, &mut stream).limits(limits).mode(mode).await;
            finish(stream, reader, LEN).await;
            let receipt = outcome.unwrap();
            assert!(receipt.stalls > 0, "nothing was given back: {receipt}");
        });
    }
}

/// Transfers that are dropped whenever the ring has just begun to send; each goes on where the one before
/// it was settled.
pub fn drop_in_the_middle_of_sends() {
    const LEN: u64 = 600_001;
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, FILE, LEN));
    runtime.block_on(async {
        let (mut stream, client) = connected(&narrow()).await;
        let reader = reading(client, Duration::ZERO, |_| {});
        let (mut at, mut dropped) = (0, 0);
        while at < LEN {
            let socket = stream.tcp().share();
            let transfer = transfer_file(&file, &mut stream).range(at..LEN).mode(Mode::Ring);
            let mut transfer = Box::pin(transfer.into_future());
            let done = poll_fn(|context| match transfer.as_mut().poll(context) {
                Poll::Pending if socket.is_sending() => Poll::Ready(None),
                polled => polled.map(Some),
            });
            if let Some(outcome) = done.await {
                at += outcome.unwrap().bytes;
                continue;
            }
            dropped += 1;
            drop(transfer);
            at += stream.settle().await.unwrap();
            // So that each one can send something.
            socket.writable().await.unwrap();
            assert!(dropped < 1000, "dropped {dropped} times, and {at} bytes are out");
        }
        finish(stream, reader, LEN).await;
        assert!(dropped > 5, "no transfer was dropped while the ring was sending: {dropped}");
    });
}

/// Keys that are spent in the middle of a batch; then somebody else gets the only buffer.
pub fn look_into_the_buffer() {
    const RECORDS: u64 = 20;
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, RECORDS * RECORD));
    runtime_with_buffers(BUFFER, 1).block_on(async {
        let limits = TlsLimits::default().with_kernel_tls(false).with_key_records_max(8);
        let (mut stream, client) = connected(&Settings { limits, ..Settings::default() }).await;
        let reader = reading(client, Duration::ZERO, |_| {});
        let outcome = transfer_file(&file, &mut stream).mode(Mode::Inline).await;
        finish(stream, reader, RECORDS * RECORD).await;
        outcome.unwrap();
        let mut next = lease(BUFFER).await.unwrap();
        let found = next.spare_mut();
        for record in 0..RECORDS {
            let plaintext = canary_bytes(FILE, record * RECORD + 100, 32);
            let is_there = found.windows(plaintext.len()).any(|window| window == plaintext);
            assert!(!is_there, "plaintext is left in the buffer, of record {record}");
        }
    });
}

/// A transfer that is longer than a key may serve.
pub fn spend_keys() {
    const RECORDS_MAX: u64 = 16;
    const RECORDS: u64 = 100;
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, FILE, RECORDS * RECORD));
    runtime.block_on(async {
        let limits = TlsLimits::default().with_kernel_tls(false).with_key_records_max(RECORDS_MAX);
        let (mut stream, client) = connected(&Settings { limits, ..Settings::default() }).await;
        let reader = reading(client, Duration::ZERO, |_| {});
        transfer_file(&file, &mut stream).await.unwrap();
        let made = stream.key_updates().sent;
        assert!(made >= RECORDS / RECORDS_MAX, "a key sealed more records than it may: {made} new");
        finish(stream, reader, RECORDS * RECORD).await;
    });
}

/// A peer that asks for new keys while it downloads.
pub fn ask_for_keys() {
    const LEN: u64 = 20 << 20;
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, FILE, LEN));
    runtime.block_on(async {
        let settings = Settings { send_buffer: 256 << 10, ..Settings::default() };
        let (mut stream, client) = connected(&settings).await;
        let reader = reading(client, Duration::ZERO, |client| {
            client.conn.refresh_traffic_keys().unwrap();
            while client.conn.wants_write() {
                client.conn.write_tls(&mut client.sock).unwrap();
            }
        });
        transfer_file(&file, &mut stream).await.unwrap();
        let updates = stream.key_updates();
        assert_eq!(updates.received, 1, "the question came");
        assert_eq!(updates.sent, 1, "the peer asked for new keys and got none");
        finish(stream, reader, LEN).await;
    });
}
