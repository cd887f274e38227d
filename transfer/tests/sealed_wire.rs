//! R13 where the records are made here: of a file that goes out encrypted, nothing stands on the wire in
//! the clear, by whatever route and mode; and the same search finds all of one that goes out plain.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use ringway::process::{Output, ProcessError, Processor, Window};
use ringway::runtime::fs::{File, OpenOptions};
use ringway::runtime::net::TcpStream;
use ringway::{Receipt, Route, Transfer, transfer_file};
use ringway_testkit::Budget;
use support::sealed::*;
use support::wire::{Plaintext, Wire};
use support::*;

const FILE: u64 = 7;
const LEN: usize = 600_000;
/// Written behind the file, and of the file's pattern as well.
const WRITTEN: usize = 5000;

fn all() -> Plaintext {
    Plaintext::of(FILE, LEN + WRITTEN)
}

fn rest() -> Vec<u8> {
    canary_bytes(FILE, LEN as u64, WRITTEN)
}

/// Sends the file and a little more over a wire, both ways encrypted; what stood on the wire.
fn sent(
    settings: &Settings,
    file: &File,
    way: impl FnOnce(Transfer<'_>) -> Transfer<'_>,
) -> ((Vec<u8>, Vec<u8>), Receipt) {
    let (ours, theirs, wire) = Wire::tapped();
    let receipt = runtime().block_on(async {
        let (mut stream, mut client) = shaken(settings, ours, theirs).await;
        let reading = std::thread::spawn(move || {
            // The peer has something of it as well.
            client.write_all(&rest()).unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            got
        });
        let receipt = way(transfer_file(file, &mut stream)).await.unwrap();
        stream.write_all(&rest()).await.unwrap();
        let mut heard = vec![0; WRITTEN];
        let mut count = 0;
        while count < heard.len() {
            count += stream.read(&mut heard[count..]).await.unwrap();
        }
        assert!(heard == rest());
        stream.close().await.unwrap();
        drop(stream);
        assert!(reading.join().unwrap() == canary_bytes(FILE, 0, LEN + WRITTEN));
        receipt
    });
    let seen = wire.seen();
    assert!(seen.0.len() > LEN + WRITTEN && seen.1.len() > WRITTEN, "all of it was seen");
    (seen, receipt)
}

#[test]
fn nothing_leaves_in_the_clear_in_any_mode_and_suite() {
    let _budget = Budget::new(Duration::from_secs(100));
    let (folder, looked_for) = (folder(), all());
    let file = open(&canary_file(&folder, FILE, LEN as u64));
    for (number, (_, mode)) in SEALED_WAYS.into_iter().enumerate() {
        for (send_buffer, suite) in [(1 << 20, suites()[number]), (16 << 10, suites()[0])] {
            let settings = Settings { suite, send_buffer, ..Settings::default() };
            let (seen, receipt) =
                sent(&settings, &file, |transfer| transfer.route(Route::Registered).mode(mode));
            assert_eq!((receipt.route, receipt.mode), (Route::Registered, mode));
            looked_for.assert_nowhere(&seen, &format!("{receipt}"));
        }
    }
}

#[test]
fn nor_does_it_by_tls_1_2_or_past_the_page_cache() {
    let _budget = Budget::new(Duration::from_secs(100));
    let (folder, looked_for) = (folder(), all());
    let path = canary_file(&folder, FILE, LEN as u64);
    let file = open(&path);
    let (seen, receipt) = sent(&old(), &file, |transfer| transfer);
    assert_eq!(receipt.route, Route::Copy, "rustls makes the records: {receipt}");
    looked_for.assert_nowhere(&seen, "TLS 1.2");
    // Hot or cold, and then past the cache.
    _ = make_cold(&path);
    let direct = runtime().block_on(OpenOptions::new().direct(true).open(&path)).unwrap();
    for file in [file, direct] {
        let (seen, receipt) = sent(&Settings::default(), &file, |transfer| transfer);
        looked_for.assert_nowhere(&seen, &format!("{receipt}"));
    }
}

/// Keeps everything: the window is copied before it is sealed.
struct KeepAll;

impl Processor for KeepAll {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        output.send(0..window.len());
        Ok(window.len())
    }
}

#[test]
fn nor_does_what_a_processor_has_looked_at() {
    let _budget = Budget::new(Duration::from_secs(100));
    let (folder, looked_for) = (folder(), all());
    let file = open(&canary_file(&folder, FILE, LEN as u64));
    let (seen, receipt) = sent(&Settings::default(), &file, |transfer| transfer.process(KeepAll));
    looked_for.assert_nowhere(&seen, &format!("{receipt}"));
}

/// The search bites: without TLS every block of the file is found.
#[test]
fn a_plain_transfer_shows_every_block_of_the_file() {
    let _budget = Budget::new(Duration::from_secs(100));
    let (folder, looked_for) = (folder(), Plaintext::of(FILE, LEN));
    let file = open(&canary_file(&folder, FILE, LEN as u64));
    for (route, mode) in WAYS {
        let (ours, mut theirs, wire) = Wire::tapped();
        runtime().block_on(async {
            let mut stream = TcpStream::from_std(ours).unwrap();
            let reading = std::thread::spawn(move || theirs.read_to_end(&mut Vec::new()));
            let transfer = transfer_file(&file, &mut stream).route(route).mode(mode);
            assert_eq!(transfer.await.unwrap().bytes, LEN as u64);
            end(stream);
            assert_eq!(reading.join().unwrap().unwrap(), LEN);
        });
        let (there, back) = wire.seen();
        assert_eq!(looked_for.found_in(&there), LEN / 16, "{route} {mode}");
        assert_eq!(back, b"");
    }
}
