//! What a fuzzer drives, and what must hold whatever it comes up with. `fuzz/` beside this package looks for
//! inputs; those that were worth keeping are run by the tests, from `tests/corpus`.
//!
//! | entry | input |
//! |---|---|
//! | [`records`] | a script of a peer that has the keys: what it seals and how it arrives |
//! | [`hello`] | the first bytes of a client |

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::{ConnectionTrafficSecrets, ServerConfig};

use super::engine::{Engine, Unread};
use super::handshake::{Carrier, Connection, Need};
use super::hello::{self, Hello};
use super::record::{ContentType, HEADER, Opener, TAIL, TrafficKey};
use super::session::{Fault, Inbox, KeyUpdates, Keys, Session};

/// Bytes on the wire for one script: more would only take long.
const WIRE_MAX: usize = 256 << 10;
/// What may be held while more is awaited: a record, room for a receive, a message of a handshake.
const HELD_MAX: usize = (64 << 10) + 2 * (16 << 10) + 1024 + 0xffff + 16384;

/// Runs a script in one piece and in many: the outcome is the same, nothing is read that was not sealed as
/// data, and nothing is held that a peer could make large.
///
/// ```text
/// byte 0     how much of it came with the end of the handshake, in units of 8 bytes
/// byte 1     how long the pieces are that it arrives in
/// then       a step each: its kind in the lowest three bits of a byte, and what it needs
/// ```
///
/// # Panics
///
/// If one of these does not hold.
pub fn records(script: &[u8]) {
    let mut input = Input(script);
    let (residue, pieces) = (8 * usize::from(input.byte()), input.byte());
    let said = Said::by(input);
    let whole = play(&said.wire, 0, usize::MAX);
    let sizes = [1, 2, 4, 5, 6, 21, 400, 5000];
    let least = if said.wire.len() > 4096 { 5 } else { 0 };
    let size = sizes[least.max(usize::from(pieces) % sizes.len())];
    let cut = play(&said.wire, residue.min(said.wire.len()), size);
    assert_eq!(whole, cut, "the outcome depends on how it arrives");
    assert!(said.data.starts_with(&whole.read), "something was read that was never said");
}

/// Reads the first bytes of a client, and lets rustls read them, in one piece and in many.
///
/// # Panics
///
/// If the outcomes differ, or a hello that was read changes when more arrives.
pub fn hello(config: Arc<ServerConfig>, received: &[u8]) {
    let received = &received[..received.len().min(WIRE_MAX)];
    let whole = hello::read(received);
    for end in [received.len() / 3, received.len() / 2, received.len().saturating_sub(1)] {
        let earlier = hello::read(&received[..end]);
        assert!(earlier == Hello::Incomplete || earlier == whole, "{earlier:?} became {whole:?}");
    }
    let size = 1 + received.len() / 5;
    let alone = answer(Arc::clone(&config), received, received.len().max(1));
    assert_eq!(alone, answer(config, received, size), "the outcome depends on how it arrives");
}

/// How rustls goes on after these bytes, and whether it has something to say.
fn answer(
    config: Arc<ServerConfig>,
    received: &[u8],
    size: usize,
) -> (Result<Need, rustls::Error>, bool) {
    let connection = UnbufferedServerConnection::new(config).expect("a configuration");
    let (mut connection, mut carrier) =
        (Connection::Server(Box::new(connection)), Carrier::default());
    let (mut need, mut speaks) = (Ok(Need::Receive), false);
    for piece in received.chunks(size) {
        if carrier.room().is_err() {
            break;
        }
        carrier.put(piece);
        loop {
            need = connection.advance(&mut carrier);
            speaks |= !std::mem::take(&mut carrier.outgoing).is_empty();
            if need != Ok(Need::Send) {
                break;
            }
        }
        if need.is_err() {
            break;
        }
    }
    (need, speaks)
}

/// Keys that anybody can compute, so that no handshake is needed: the next one has the next number.
pub(crate) struct Counted {
    ours: u8,
    theirs: u8,
}

impl Counted {
    pub(super) fn next(&mut self, is_ours: bool) -> (u64, ConnectionTrafficSecrets) {
        let number = if is_ours { &mut self.ours } else { &mut self.theirs };
        *number = number.wrapping_add(1);
        (0, secrets(is_ours, *number))
    }
}

fn secrets(is_ours: bool, number: u8) -> ConnectionTrafficSecrets {
    let (key, iv) = ([number; 32], [u8::from(is_ours); 12]);
    ConnectionTrafficSecrets::Aes256Gcm { key: key.into(), iv: iv.into() }
}

fn key(is_ours: bool, number: u8) -> TrafficKey {
    TrafficKey::new(&secrets(is_ours, number)).expect("a key")
}

struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    fn take(&mut self, count: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// What a peer has put on the wire.
struct Said {
    wire: Vec<u8>,
    /// The data in it.
    data: Vec<u8>,
    key: u8,
    sequence: u64,
}

impl Said {
    fn by(mut input: Input<'_>) -> Self {
        let mut said = Self { wire: Vec::new(), data: Vec::new(), key: 0, sequence: 0 };
        while !input.0.is_empty() && said.wire.len() < WIRE_MAX {
            let step = input.byte();
            let len = usize::from(step >> 3);
            match step & 7 {
                0 => said.record(23, input.take(len), 0),
                1 => said.record(22, input.take(len), 0),
                2 => said.record(21, input.take(len), 0),
                3 => said.record(input.byte(), input.take(len), 0),
                4 => said.wire.extend_from_slice(input.take(len)),
                5 => (said.key, said.sequence) = (said.key.wrapping_add(1), 0),
                6 => {
                    let kind = if len & 1 == 0 { 23 } else { 22 };
                    let content = vec![input.byte(); input.number() % 17_000];
                    said.record(kind, &content, 0);
                }
                _ => said.record(23, input.take(len), input.number() % 17_000),
            }
        }
        said
    }

    fn record(&mut self, kind: u8, content: &[u8], padding: usize) {
        let mut inner = [content, &[kind]].concat();
        // Its type is the last byte that is not padding, whatever was meant.
        if let Some(at) = inner.iter().rposition(|byte| *byte != 0).filter(|at| inner[*at] == 23) {
            self.data.extend_from_slice(&inner[..at]);
        }
        inner.resize(inner.len() + padding, 0);
        let (&last, begin) = inner.split_last().expect("at least the type");
        let [high, low] = u16::try_from(begin.len() + TAIL).expect("a length").to_be_bytes();
        let header = [23, 3, 3, high, low];
        let mut record = vec![0; HEADER + begin.len() + TAIL];
        record[..HEADER].copy_from_slice(&header);
        let (plaintext, tail) = record[HEADER..].split_at_mut(begin.len());
        plaintext.copy_from_slice(begin);
        assert!(key(false, self.key).seal(self.sequence, header, plaintext, last, tail));
        self.sequence += 1;
        self.wire.extend(record);
    }
}

/// What came of a script.
#[derive(Debug, PartialEq, Eq)]
struct Played {
    read: Vec<u8>,
    has_ended: bool,
    fault: Option<Fault>,
    heard: Vec<(ContentType, Vec<u8>)>,
    key_updates: KeyUpdates,
}

/// `residue` bytes have come with the end of the handshake, the rest comes in pieces of `size`.
fn play(wire: &[u8], residue: usize, size: usize) -> Played {
    let keys = Keys::Counted(Counted { ours: 0, theirs: 0 });
    let extracted =
        rustls::ExtractedSecrets { tx: (0, secrets(true, 0)), rx: (0, secrets(false, 0)) };
    let session = Session::new(keys, &extracted, u64::MAX).expect("a suite that is known");
    let (early, late) = wire.split_at(residue);
    let mut ours = Engine::Own(session, Inbox::with_leftover(&[], early));
    let mut read = Vec::new();
    let mut goes_on = read_all(&mut ours, size, &mut read);
    for piece in late.chunks(size.min(late.len()).max(1)) {
        if !goes_on {
            break;
        }
        let mut rest = piece;
        while goes_on && !rest.is_empty() {
            let room = ours.room().expect("room");
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            ours.received(count);
            rest = &rest[count..];
            goes_on = read_all(&mut ours, size, &mut read);
        }
        ours.rest();
        assert!(ours.held() <= HELD_MAX, "{} bytes are held", ours.held());
    }
    let mut number = 0;
    let heard = ours.heard_by(&mut Opener::new(key(true, number), 0), || {
        number += 1;
        Opener::new(key(true, number), 0)
    });
    let Engine::Own(session, _) = &ours else { unreachable!("our own records") };
    let (fault, has_ended) = (session.fault(), session.is_closed_by_peer());
    Played { read, has_ended, fault, heard, key_updates: session.key_updates() }
}

/// Whether there may be more.
fn read_all(ours: &mut Engine, step: usize, into: &mut Vec<u8>) -> bool {
    let mut buffer = vec![0; step.clamp(1, 20_000)];
    loop {
        match ours.read(&mut buffer) {
            Ok(Unread::Bytes(count)) => into.extend_from_slice(&buffer[..count]),
            Ok(Unread::Nothing) => return true,
            Ok(Unread::End) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair;

    fn kept(folder: &str) -> Vec<Vec<u8>> {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
        let entries = std::fs::read_dir(folder).expect("the corpus");
        entries
            .map(|entry| std::fs::read(entry.expect("the corpus").path()).expect("an input"))
            .collect()
    }

    #[test]
    fn what_the_fuzzer_has_found_holds_for_records() {
        let inputs = kept("fuzzed-records");
        assert!(inputs.len() > 40, "the corpus is incomplete");
        inputs.iter().for_each(|input| records(input));
    }

    #[test]
    fn what_the_fuzzer_has_found_holds_for_hellos() {
        let inputs = kept("fuzzed-hellos");
        assert!(inputs.len() > 20, "the corpus is incomplete");
        let config = Arc::new(pair::server_config());
        inputs.iter().for_each(|input| hello(Arc::clone(&config), input));
    }

    #[test]
    fn a_script_is_read_as_it_was_said() {
        // Data, a question for new keys, data under the next one, an end; and something behind it.
        let script = [
            &[0, 3][..],
            &[3 << 3, b'a', b'b', b'c'],
            &[5 << 3 | 1, 24, 0, 0, 1, 1],
            &[5],
            &[1 << 3, b'd'],
            &[2 << 3 | 2, 1, 0],
            &[1 << 3, b'e'],
        ];
        let said = Said::by(Input(&script.concat()[2..]));
        assert_eq!(said.data, b"abcde");
        let played = play(&said.wire, 0, usize::MAX);
        assert_eq!(
            (played.read.as_slice(), played.has_ended, played.fault),
            (&b"abcd"[..], true, None)
        );
        assert_eq!(played.heard.len(), 1, "{played:?}");
        records(&script.concat());
    }
}
