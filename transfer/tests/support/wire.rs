//! What stands on the wire: a relay that keeps all that it carries, and plaintext that is looked for in it.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::thread::JoinHandle;

use super::canary_bytes;
use super::tap::tcp_pair;

/// A connection whose bytes are kept, in both directions.
pub struct Wire {
    there: JoinHandle<Vec<u8>>,
    back: JoinHandle<Vec<u8>>,
}

impl Wire {
    /// The two ends of a connection, and what is between them.
    pub fn tapped() -> (StdStream, StdStream, Wire) {
        let ((ours, wire_in), (wire_out, theirs)) = (tcp_pair(), tcp_pair());
        let back = carried(wire_out.try_clone().unwrap(), wire_in.try_clone().unwrap());
        (ours, theirs, Wire { there: carried(wire_in, wire_out), back })
    }

    /// All that was carried, first from the first end and then from the other. Both must be closed.
    pub fn seen(self) -> (Vec<u8>, Vec<u8>) {
        (self.there.join().unwrap(), self.back.join().unwrap())
    }
}

/// Carries bytes until they end, and keeps them.
fn carried(mut from: StdStream, mut to: StdStream) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..count]);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // It may be gone by itself.
        _ = to.shutdown(Shutdown::Write);
        seen
    })
}

/// Bytes of a block that is looked for. Whatever leaks twice as many in a row leaks a whole block.
const BLOCK: usize = 16;

/// The blocks of a canary file, to be found at any place of a wire.
pub struct Plaintext(HashSet<[u8; BLOCK]>);

impl Plaintext {
    /// Of the first bytes of this file.
    pub fn of(id: u64, len: usize) -> Self {
        let bytes = canary_bytes(id, 0, len);
        Self(bytes.as_chunks().0.iter().copied().collect())
    }

    /// How many places of these bytes begin a block of the file.
    pub fn found_in(&self, seen: &[u8]) -> usize {
        seen.windows(BLOCK).filter(|place| self.0.contains(*place)).count()
    }

    /// Asserts that nothing of the file stands there, in either direction.
    #[track_caller]
    pub fn assert_nowhere(&self, (there, back): &(Vec<u8>, Vec<u8>), what: &str) {
        let found = (self.found_in(there), self.found_in(back));
        assert_eq!(found, (0, 0), "plaintext on the wire: {what}");
    }
}
