//! rustls as the oracle: each opens what the other has sealed.

use proptest::prelude::*;
use rustls::crypto::cipher::{InboundOpaqueMessage, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets as Secrets, ExtractedSecrets, ProtocolVersion, version};

use super::*;
use crate::tls::handshake::{Connection, Records};
use crate::tls::pair::{self, SUITES, Shaken};

/// Lengths at the borders of what a record holds.
const LENGTHS: [usize; 12] =
    [0, 1, 2, 15, 16, 17, 255, 256, 8191, PLAINTEXT_MAX - 17, PLAINTEXT_MAX - 1, PLAINTEXT_MAX];
/// Sequence numbers at the borders of 32 bits, and far beyond.
const SEQUENCES: [u64; 8] = [
    0,
    1,
    (1 << 24) - 1,
    u32::MAX as u64 - 1,
    u32::MAX as u64,
    1 << 32,
    (1 << 32) + 1,
    u64::MAX - 2,
];

/// The secrets of both ends of one session: those of ours, and the same again for the oracle.
fn secrets(suite: Suite) -> (ExtractedSecrets, ExtractedSecrets) {
    let config = pair::client_config(&[pair::suite_of_rustls(suite)], &[&version::TLS13]);
    let Shaken { client, server } = pair::shake(config, pair::server_config());
    let of = |side: Connection| match pair::records(side) {
        Records::Ours(_, secrets) => secrets,
        Records::Kernels(..) | Records::Theirs(_) => panic!("TLS 1.3 gives its secrets away"),
    };
    (of(client.0), of(server.0))
}

fn parts(secrets: Secrets) -> (rustls::crypto::cipher::AeadKey, rustls::crypto::cipher::Iv) {
    match secrets {
        Secrets::Aes128Gcm { key, iv }
        | Secrets::Aes256Gcm { key, iv }
        | Secrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => panic!("a suite of TLS 1.3"),
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).expect("a byte")).collect()
}

/// The oracle seals from 0 on and only upwards, up to the last number but one.
fn in_order(mut cases: Vec<(u64, usize, ContentType)>) -> Vec<(u64, usize, ContentType)> {
    cases.retain(|(sequence, ..)| *sequence < u64::MAX);
    cases.sort_by_key(|(sequence, ..)| *sequence);
    cases.dedup_by_key(|(sequence, ..)| *sequence);
    cases
}

/// Ours seals, rustls opens.
fn we_seal_they_open(suite: Suite, cases: &[(u64, usize, ContentType)]) {
    let (ours, theirs) = secrets(suite);
    let aead = pair::suite_of_rustls(suite).tls13().expect("TLS 1.3").aead_alg;
    let (key, iv) = parts(theirs.rx.1);
    let mut oracle = aead.decrypter(key, iv);
    let mut sealer = Sealer::at(TrafficKey::new(&ours.tx.1).expect("a key"), 0, u64::MAX);
    for &(sequence, len, kind) in cases {
        sealer.move_to(sequence);
        let mut slot = vec![0xee; SLOT + 3];
        slot[HEADER..HEADER + len].copy_from_slice(&content(len));
        let sealed = sealer.seal(&mut slot, len, kind).expect("a key that is not spent");
        assert_eq!(sealed, HEADER + len + TAIL);
        assert_eq!(slot[..3], [23, 3, 3]);
        assert!(slot[sealed..].iter().all(|&byte| byte == 0xee), "written behind the record");
        assert_eq!(sealer.sequence(), sequence + 1);
        let message = InboundOpaqueMessage::new(
            rustls::ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            &mut slot[HEADER..sealed],
        );
        let opened = oracle.decrypt(message, sequence).expect("rustls opens what we sealed");
        assert_eq!(opened.payload, content(len), "{suite} {sequence} {len}");
        assert_eq!(u8::from(opened.typ), kind.code());
    }
}

/// rustls seals, ours opens.
fn they_seal_we_open(suite: Suite, cases: &[(u64, usize, ContentType)]) {
    let (ours, theirs) = secrets(suite);
    let aead = pair::suite_of_rustls(suite).tls13().expect("TLS 1.3").aead_alg;
    let (key, iv) = parts(theirs.tx.1);
    let mut oracle = aead.encrypter(key, iv);
    let mut opener = Opener::new(TrafficKey::new(&ours.rx.1).expect("a key"), 0);
    for &(sequence, len, kind) in cases {
        opener.move_to(sequence);
        let plaintext = content(len);
        let message = OutboundPlainMessage {
            typ: kind.code().into(),
            version: ProtocolVersion::TLSv1_3,
            payload: plaintext.as_slice().into(),
        };
        let mut record = oracle.encrypt(message, sequence).expect("rustls seals").encode();
        let header = Header::read(&record).expect("a header").expect("a whole header");
        assert_eq!(header.record_len, record.len());
        let opened = opener.open(&mut record).expect("we open what rustls sealed");
        assert_eq!(opened.kind, kind);
        assert_eq!(record[opened.plaintext], plaintext, "{suite} {sequence} {len}");
        assert_eq!(opener.sequence(), sequence + 1);
    }
}

#[test]
fn each_opens_what_the_other_sealed_in_every_suite_at_every_border() {
    let kinds = [ContentType::ApplicationData, ContentType::Handshake, ContentType::Alert];
    let mut cases = Vec::new();
    for sequence in SEQUENCES {
        for ((at, len), kind) in (0..).zip(LENGTHS).zip(kinds.into_iter().cycle()) {
            cases.push((sequence.saturating_add(at), len, kind));
        }
    }
    let cases = in_order(cases);
    for suite in SUITES {
        we_seal_they_open(suite, &cases);
        they_seal_we_open(suite, &cases);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_opens_what_the_other_sealed_anywhere(
        suite in prop::sample::select(SUITES.to_vec()),
        cases in prop::collection::vec((0..u64::MAX - 1, 0..=PLAINTEXT_MAX), 1..16),
    ) {
        let data = ContentType::ApplicationData;
        let cases = cases.into_iter().map(|(sequence, len)| (sequence, len, data));
        let cases = in_order([(0, 1, data)].into_iter().chain(cases).collect());
        we_seal_they_open(suite, &cases);
        they_seal_we_open(suite, &cases);
    }
}

#[test]
fn a_record_that_was_changed_anywhere_is_refused() {
    for suite in SUITES {
        let (client, server) = secrets(suite);
        let sealed = {
            let mut sealer = Sealer::at(TrafficKey::new(&client.tx.1).expect("a key"), 0, 1 << 20);
            let mut slot = vec![7; HEADER + 20 + TAIL];
            let len = sealer.seal(&mut slot, 20, ContentType::ApplicationData).expect("a record");
            slot[..len].to_vec()
        };
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x10;
            let mut opener = Opener::new(TrafficKey::new(&server.rx.1).expect("a key"), 0);
            assert_eq!(opener.open(&mut changed), Err(Unreadable::BadTag), "byte {at}");
        }
        let mut opener = Opener::new(TrafficKey::new(&server.rx.1).expect("a key"), 1);
        assert_eq!(opener.open(&mut sealed.clone()), Err(Unreadable::BadTag), "a wrong number");
        let mut opener = Opener::new(TrafficKey::new(&server.rx.1).expect("a key"), 0);
        assert!(opener.open(&mut sealed.clone()).is_ok());
        assert_eq!(opener.open(&mut sealed.clone()), Err(Unreadable::BadTag), "a repeated record");
    }
}

#[test]
fn a_record_that_was_taken_back_is_sealed_again_under_its_number() {
    let (client, _) = secrets(Suite::Aes256Gcm);
    let mut sealer = Sealer::at(TrafficKey::new(&client.tx.1).expect("a key"), 0, 1 << 20);
    let seal = |sealer: &mut Sealer, byte| {
        let mut slot = vec![byte; HEADER + 9 + TAIL];
        sealer.seal(&mut slot, 9, ContentType::ApplicationData).expect("a record");
        slot
    };
    let records: Vec<_> = (0..5).map(|byte| seal(&mut sealer, byte)).collect();
    sealer.rewind(3);
    let again: Vec<_> = (2..5).map(|byte| seal(&mut sealer, byte)).collect();
    assert_eq!(records[2..], again[..]);
}

#[test]
fn a_key_is_spent_before_its_limit_and_keeps_room_for_what_replaces_it() {
    let (client, _) = secrets(Suite::Aes128Gcm);
    let key = TrafficKey::new(&client.tx.1).expect("a key");
    // Two tickets went out under this key already.
    let mut sealer = Sealer::new(key, 2, 10);
    let mut slot = [0; HEADER + 1 + TAIL];
    for _ in 0..5 {
        assert!(!sealer.is_spent());
        sealer.seal(&mut slot, 1, ContentType::ApplicationData).expect("not spent yet");
    }
    assert!(sealer.is_spent());
    let before = slot;
    assert_eq!(sealer.seal(&mut slot, 1, ContentType::ApplicationData), Err(KeySpent));
    assert_eq!(slot, before, "a refused record was touched");
    for _ in 0..3 {
        sealer.seal(&mut slot, 1, ContentType::Handshake).expect("a message of the protocol");
    }
    assert_eq!(sealer.seal(&mut slot, 1, ContentType::Alert), Err(KeySpent));
    sealer.rewind(5);
    assert!(!sealer.is_spent(), "a record that was taken back does not count");
}

#[test]
fn the_limit_is_never_more_than_the_cipher_allows() {
    assert_eq!(Suite::Aes128Gcm.records_max(), 1 << 24);
    assert_eq!(Suite::Aes256Gcm.records_max(), 1 << 24);
    let (client, _) = secrets(Suite::Aes256Gcm);
    let key = TrafficKey::new(&client.tx.1).expect("a key");
    assert!(Sealer::new(key, (1 << 24) - 3, u64::MAX).is_spent());
}

#[test]
fn headers_say_what_is_wrong_with_them() {
    let read = |bytes: &[u8]| Header::read(bytes);
    assert_eq!(read(&[23, 3, 3, 0]), Ok(None));
    assert_eq!(read(&[23, 3, 3, 0x41, 0x00]).map(|h| h.map(|h| h.record_len)), Ok(Some(5 + 16640)));
    assert_eq!(read(&[23, 3, 3, 0x41, 0x01]), Err(Unreadable::TooLong(16641)));
    assert_eq!(read(b"GET /"), Err(Unreadable::NotTls(b'G', 0x4554)));
    assert_eq!(read(&[23, 3, 1, 0, 5]), Err(Unreadable::NotTls(23, 0x301)));
    assert_eq!(read(&[24, 3, 3, 0, 5]), Err(Unreadable::NotTls(24, 0x303)));
}
