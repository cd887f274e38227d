//! A peer that can say anything, for tests: it has the keys of a real client or server and no manners.

use rustls::version;

use super::{Fault, Keys};
use crate::tls::engine::{Engine, Unread};
use crate::tls::error::TlsError;
use crate::tls::handshake::Records;
use crate::tls::pair::{self, Shaken};
use crate::tls::record::{ContentType, HEADER, Opener, Suite, TAIL, TrafficKey};

/// The keys of the other end.
pub(super) struct Peer {
    key: TrafficKey,
    sequence: u64,
    opener: Opener,
    keys: Keys,
}

impl Peer {
    /// Ours is the server; the peer has the client's keys.
    pub(super) fn of_server() -> (Engine, Self) {
        Self::of(true)
    }

    /// Ours is the client.
    pub(super) fn of_client() -> (Engine, Self) {
        Self::of(false)
    }

    fn of(ours_is_server: bool) -> (Engine, Self) {
        let suite = pair::suite_of_rustls(Suite::Aes128Gcm);
        let config = pair::client_config(&[suite], &[&version::TLS13]);
        let Shaken { client, server } = pair::shake(config, pair::server_config());
        let (ours, other) = if ours_is_server { (server, client) } else { (client, server) };
        let Records::Ours(keys, secrets) = pair::records(other.0) else { panic!("TLS 1.3") };
        let key = TrafficKey::new(&secrets.tx.1).expect("a key");
        let opener = Opener::new(TrafficKey::new(&secrets.rx.1).expect("a key"), secrets.rx.0);
        let peer = Self { key, sequence: secrets.tx.0, opener, keys };
        (pair::ours(ours, u64::MAX), peer)
    }

    /// A record with any content, any type and any padding.
    pub(super) fn record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let inner = [content, &[kind], &vec![0; padding]].concat();
        let (&last, begin) = inner.split_last().expect("at least the type");
        let mut record = vec![0; HEADER + begin.len() + TAIL];
        let len = u16::try_from(begin.len() + TAIL).expect("a length").to_be_bytes();
        let header = [23, 3, 3, len[0], len[1]];
        record[..HEADER].copy_from_slice(&header);
        let (plaintext, tail) = record[HEADER..].split_at_mut(begin.len());
        plaintext.copy_from_slice(begin);
        assert!(self.key.seal(self.sequence, header, plaintext, last, tail));
        self.sequence += 1;
        record
    }

    pub(super) fn data(&mut self, content: &[u8]) -> Vec<u8> {
        self.record(ContentType::ApplicationData.code(), content, 0)
    }

    /// Seals with the next key from now on.
    pub(super) fn update(&mut self) {
        let (sequence, secrets) = self.keys.update_tx().expect("a new key");
        self.key = TrafficKey::new(&secrets).expect("a key");
        self.sequence = sequence;
    }

    /// Opens what ours has said: (type, content) of each record. Follows its key updates.
    pub(super) fn hear(&mut self, ours: &mut Engine) -> Vec<(ContentType, Vec<u8>)> {
        ours.heard_by(&mut self.opener, || {
            let (sequence, secrets) = self.keys.update_rx().expect("a new key");
            Opener::new(TrafficKey::new(&secrets).expect("a key"), sequence)
        })
    }
}

/// How reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Waits,
    End,
    Fault(Fault),
}

/// Reads all there is, in pieces of `step` bytes.
pub(super) fn read_all(ours: &mut Engine, step: usize, into: &mut Vec<u8>) -> Outcome {
    let mut buffer = vec![0; step];
    loop {
        match ours.read(&mut buffer) {
            Ok(Unread::Bytes(count)) => into.extend_from_slice(&buffer[..count]),
            Ok(Unread::Nothing) => return Outcome::Waits,
            Ok(Unread::End) => return Outcome::End,
            Err(error) => return Outcome::Fault(fault_of(ours, &error)),
        }
    }
}

pub(super) fn fault_of(ours: &Engine, _error: &TlsError) -> Fault {
    match ours {
        Engine::Own(session, _) => session.fault().expect("a fault that stays"),
        Engine::Classic(_) => panic!("our own records"),
    }
}

impl Peer {
    /// Whether a record of ours holds this data.
    pub(super) fn opens(&mut self, record: &mut [u8], content: &[u8]) -> bool {
        self.opener.open(record).is_ok_and(|opened| record[opened.plaintext] == *content)
    }
}
