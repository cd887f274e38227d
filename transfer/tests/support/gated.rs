//! A receiver that reads only as much as it is told to, so that a test knows where a transfer stands.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A receiver behind a gate that is shut at first.
pub struct Gated {
    gate: Arc<Gate>,
    reader: JoinHandle<Vec<u8>>,
}

#[derive(Default)]
struct Gate {
    /// Bytes that may be read, and bytes that were.
    counts: Mutex<(u64, u64)>,
    changed: Condvar,
}

impl Gated {
    /// Reads from a blocking connection with a read timeout, in a thread of its own.
    pub fn new(connection: impl Read + Send + 'static) -> Self {
        let gate = Arc::<Gate>::default();
        let shared = Arc::clone(&gate);
        let reader = std::thread::spawn(move || read(connection, &shared));
        Self { gate, reader }
    }

    /// Lets it read up to this many bytes in all.
    pub fn open(&self, bytes: u64) {
        self.gate.counts.lock().unwrap().0 = bytes;
        self.gate.changed.notify_all();
    }

    /// Waits until it has read this many bytes.
    pub fn wait_for(&self, bytes: u64) {
        let end = Instant::now() + Duration::from_secs(30);
        let mut counts = self.gate.counts.lock().unwrap();
        while counts.1 < bytes {
            assert!(Instant::now() < end, "{} of {bytes} bytes have come", counts.1);
            counts = self.gate.changed.wait_timeout(counts, Duration::from_millis(50)).unwrap().0;
        }
    }

    /// Opens the gate for good, and gives all that came until the end of the stream.
    pub fn finish(self) -> Vec<u8> {
        self.open(u64::MAX);
        self.reader.join().unwrap()
    }
}

fn read(mut connection: impl Read, gate: &Gate) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let room = {
            let mut counts = gate.counts.lock().unwrap();
            while counts.0 <= counts.1 {
                counts = gate.changed.wait(counts).unwrap();
            }
            usize::try_from(counts.0 - counts.1).unwrap_or(usize::MAX).min(buffer.len())
        };
        match connection.read(&mut buffer[..room]) {
            Ok(0) => return received,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("receiving failed: {error}"),
        }
        gate.counts.lock().unwrap().1 = received.len() as u64;
        gate.changed.notify_all();
    }
}
