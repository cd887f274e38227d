//! What a session promises, whatever a peer sends and however it arrives.

use proptest::prelude::*;

use super::peer::{Outcome, Peer, read_all};
use super::*;
use crate::tls::engine::Engine;
use crate::tls::pair::{self, SUITES};
use crate::tls::record::{PLAINTEXT_MAX, SLOT, Sent, Suite, Unreadable};

const DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

fn session(engine: &Engine) -> &Session {
    match engine {
        Engine::Own(session, _) => session,
        Engine::Classic(_) => panic!("our own records"),
    }
}

/// What ours has said: records, by type and content.
type Heard = Vec<(ContentType, Vec<u8>)>;

/// `script` is sent to ours; what was read, how it ended, and what ours answered.
fn after(
    (mut ours, mut peer): (Engine, Peer),
    script: impl FnOnce(&mut Peer) -> Vec<Vec<u8>>,
) -> (Vec<u8>, Outcome, Heard) {
    let bytes = script(&mut peer).concat();
    pair::deliver(&mut ours, &bytes);
    let mut read = Vec::new();
    let outcome = read_all(&mut ours, 1000, &mut read);
    let again = read_all(&mut ours, 1000, &mut Vec::new());
    assert_eq!(outcome, again, "an end must stay");
    (read, outcome, peer.hear(&mut ours))
}

#[test]
fn a_broken_peer_gets_the_alert_that_says_so() {
    use Fault::{Illegal, Malformed, Unexpected};
    type Script = fn(&mut Peer) -> Vec<Vec<u8>>;
    type IsExpected = fn(&Fault) -> bool;
    let cases: &[(&str, Script, IsExpected, Alert)] = &[
        (
            "a bad tag",
            |peer| {
                let mut record = peer.data(b"hello");
                *record.last_mut().expect("a tag") ^= 1;
                vec![record]
            },
            |fault| *fault == Fault::Unreadable(Unreadable::BadTag),
            Alert::BAD_RECORD_MAC,
        ),
        (
            "a record that is too long",
            |_| vec![vec![23, 3, 3, 0x41, 0x01]],
            |fault| *fault == Fault::Unreadable(Unreadable::TooLong(16641)),
            Alert::RECORD_OVERFLOW,
        ),
        (
            "more plaintext than a record may hold",
            |peer| vec![peer.data(&vec![1; PLAINTEXT_MAX + 1])],
            |fault| *fault == Fault::Unreadable(Unreadable::TooLong(PLAINTEXT_MAX + 1)),
            Alert::RECORD_OVERFLOW,
        ),
        (
            "a record of padding alone",
            |peer| vec![peer.record(0, &[], 40)],
            |fault| *fault == Fault::Unreadable(Unreadable::NoType),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "plain HTTP",
            |_| vec![b"GET / HTTP/1.1\r\n".to_vec()],
            |fault| matches!(fault, Fault::Unreadable(Unreadable::NotTls(b'G', _))),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "an alert in the clear",
            |_| vec![vec![21, 3, 3, 0, 2, 1, 0]],
            |fault| matches!(fault, Unexpected(_)),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "a key update of an unknown kind",
            |peer| vec![peer.record(HANDSHAKE, &[24, 0, 0, 1, 2], 0)],
            |fault| matches!(fault, Illegal(_)),
            Alert::ILLEGAL_PARAMETER,
        ),
        (
            "a key update that is too long",
            |peer| vec![peer.record(HANDSHAKE, &[24, 0, 0, 2, 0, 0], 0)],
            |fault| matches!(fault, Malformed(_)),
            Alert::DECODE_ERROR,
        ),
        (
            "something behind a key update",
            |peer| vec![peer.record(HANDSHAKE, &[24, 0, 0, 1, 0, 24], 0)],
            |fault| matches!(fault, Unexpected(_)),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "a handshake message that never ends",
            |peer| vec![peer.record(HANDSHAKE, &[4, 1, 0, 0], 0)],
            |fault| matches!(fault, Malformed(_)),
            Alert::DECODE_ERROR,
        ),
        (
            "data in the middle of a handshake message",
            |peer| vec![peer.record(HANDSHAKE, &[24, 0], 0), peer.data(b"x")],
            |fault| matches!(fault, Unexpected(_)),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "an empty handshake record",
            |peer| vec![peer.record(HANDSHAKE, &[], 0)],
            |fault| matches!(fault, Unexpected(_)),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "a renegotiation",
            |peer| vec![peer.record(HANDSHAKE, &[1, 0, 0, 0], 0)],
            |fault| matches!(fault, Unexpected(_)),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "a ticket for a server",
            |peer| vec![peer.record(HANDSHAKE, &[4, 0, 0, 0], 0)],
            |fault| matches!(fault, Unexpected(_)),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "an alert of three bytes",
            |peer| vec![peer.record(ALERT, &[1, 0, 0], 0)],
            |fault| matches!(fault, Malformed(_)),
            Alert::DECODE_ERROR,
        ),
        (
            "a ChangeCipherSpec inside",
            |peer| vec![peer.record(20, &[1], 0)],
            |fault| matches!(fault, Unexpected(_)),
            Alert::UNEXPECTED_MESSAGE,
        ),
        (
            "empty records without end",
            |peer| (0..65).map(|_| peer.data(b"")).collect(),
            |fault| *fault == Fault::Flood,
            Alert::UNEXPECTED_MESSAGE,
        ),
    ];
    for (what, script, is_expected, alert) in cases {
        let before = |peer: &mut Peer| {
            let first = peer.data(b"before");
            [vec![first], script(peer)].concat()
        };
        let (read, outcome, heard) = after(Peer::of_server(), before);
        assert_eq!(read, b"before", "{what}");
        let Outcome::Fault(fault) = outcome else { panic!("{what}: {outcome:?}") };
        assert!(is_expected(&fault), "{what}: {fault:?}");
        assert_eq!(heard, [(ContentType::Alert, vec![2, alert.0])], "{what}");
    }
}

#[test]
fn a_ticket_that_cannot_be_read_ends_a_client() {
    let broken = |peer: &mut Peer| vec![peer.record(HANDSHAKE, &[4, 0, 0, 2, 9, 9], 0)];
    let (_, outcome, heard) = after(Peer::of_client(), broken);
    assert!(matches!(outcome, Outcome::Fault(Fault::Malformed(_))), "{outcome:?}");
    assert_eq!(heard, [(ContentType::Alert, vec![2, Alert::DECODE_ERROR.0])]);
}

#[test]
fn padding_is_taken_off_and_the_longest_record_is_read() {
    let longest = vec![9; PLAINTEXT_MAX];
    let (read, outcome, heard) = after(Peer::of_server(), |peer| {
        vec![
            peer.record(DATA, b"a", 100),
            peer.record(DATA, &longest, CIPHERTEXT_PADDING),
            peer.record(DATA, b"", 10),
            peer.record(DATA, &[b'b', 0, 0], 1),
        ]
    });
    assert_eq!(read, [b"a", longest.as_slice(), b"b\0\0"].concat());
    assert_eq!((outcome, heard), (Outcome::Waits, vec![]));
}

/// What a record may be padded by, behind as much plaintext as it can hold.
const CIPHERTEXT_PADDING: usize = 256 - TAIL;

#[test]
fn a_close_notify_ends_and_what_follows_it_is_ignored() {
    let (read, outcome, heard) = after(Peer::of_server(), |peer| {
        let last = [peer.data(b"last"), peer.record(ALERT, &[1, 0], 0)].concat();
        vec![last, peer.data(b"too late"), b"garbage".to_vec()]
    });
    assert_eq!((read.as_slice(), outcome), (&b"last"[..], Outcome::End));
    assert_eq!(heard, [], "a close_notify is no reason to close the other half");
}

#[test]
fn an_alert_of_the_peer_ends_the_session_without_an_answer() {
    let (read, outcome, heard) = after(Peer::of_server(), |peer| {
        vec![
            peer.data(b"x"),
            peer.record(ALERT, &[1, Alert::USER_CANCELED.0], 0),
            peer.record(ALERT, &[2, 48], 0),
        ]
    });
    assert_eq!(read, b"x");
    assert_eq!(outcome, Outcome::Fault(Fault::AlertReceived(Alert(48))));
    assert_eq!(heard, []);
}

#[test]
fn an_alert_in_the_clear_is_a_reason_only_before_the_first_sealed_record() {
    let plain = |alert: Alert| vec![21, 3, 3, 0, 2, 2, alert.0];
    let (_, outcome, heard) = after(Peer::of_server(), |_| vec![plain(Alert(48))]);
    assert_eq!((outcome, heard), (Outcome::Fault(Fault::AlertReceived(Alert(48))), vec![]));
    // Never an end: whoever is on the way could cut off what follows.
    for alert in [Alert::CLOSE_NOTIFY, Alert::USER_CANCELED] {
        let (_, outcome, _) = after(Peer::of_server(), |_| vec![plain(alert)]);
        assert_eq!(outcome, Outcome::Fault(Fault::Unexpected("an end that is not encrypted")));
    }
    let not_encrypted = Outcome::Fault(Fault::Unexpected("a record that is not encrypted"));
    let (read, outcome, _) =
        after(Peer::of_server(), |peer| vec![peer.data(b"x"), plain(Alert(48))]);
    assert_eq!((read.as_slice(), &outcome), (&b"x"[..], &not_encrypted));
    // New keys count from 0 again, and are keys all the same.
    let (_, outcome, _) = after(Peer::of_server(), |peer| {
        let update = peer.record(HANDSHAKE, &[24, 0, 0, 1, 0], 0);
        peer.update();
        vec![update, plain(Alert(48))]
    });
    assert_eq!(outcome, not_encrypted);
}

#[test]
fn an_end_without_a_close_notify_is_a_truncation() {
    let (mut ours, mut peer) = Peer::of_server();
    let record = peer.data(b"hello");
    pair::deliver(&mut ours, &record[..record.len() - 1]);
    assert_eq!(read_all(&mut ours, 10, &mut Vec::new()), Outcome::Waits);
    let error = ours.end_of_stream().expect_err("a truncation").into_io();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().starts_with("truncated: "), "{error}");
    assert_eq!(peer.hear(&mut ours), [], "the peer is gone: nothing is said");
}

#[test]
fn many_requests_for_new_keys_get_one_answer_before_the_next_data() {
    let (mut ours, mut peer) = Peer::of_server();
    for _ in 0..5 {
        let update = peer.record(HANDSHAKE, &[24, 0, 0, 1, 1], 0);
        peer.update();
        pair::deliver(&mut ours, &update);
    }
    let data = peer.data(b"under the sixth key");
    pair::deliver(&mut ours, &data);
    let mut read = Vec::new();
    assert_eq!(read_all(&mut ours, 100, &mut read), Outcome::Waits);
    assert_eq!(read, b"under the sixth key");
    assert!(ours.owes());
    let heard = peer.hear(&mut ours);
    assert_eq!(heard, [(ContentType::Handshake, vec![24, 0, 0, 1, 0])]);
    assert_eq!(session(&ours).key_updates(), KeyUpdates { sent: 1, received: 5 });
    let mut record = Vec::new();
    assert_eq!(ours.seal_copy(b"hello", &mut record), Ok(5));
    assert!(peer.opens(&mut record, b"hello"), "the answer came before, so this is the new key");
}

#[test]
fn key_updates_of_a_peer_that_is_sent_to_are_no_flood() {
    let (mut ours, mut peer) = Peer::of_server();
    for _ in 0..200 {
        let update = peer.record(HANDSHAKE, &[24, 0, 0, 1, 1], 0);
        peer.update();
        pair::deliver(&mut ours, &update);
        assert_eq!(read_all(&mut ours, 100, &mut Vec::new()), Outcome::Waits);
        peer.hear(&mut ours);
        let mut record = Vec::new();
        ours.seal_copy(b"data", &mut record).expect("data");
        ours.took(1, 4);
        assert!(peer.opens(&mut record, b"data"));
    }
    assert_eq!(session(&ours).key_updates(), KeyUpdates { sent: 200, received: 200 });
}

#[test]
fn nothing_is_sealed_after_a_close() {
    let (mut ours, mut peer) = Peer::of_server();
    ours.close().expect("a close");
    ours.close().expect("a second one says nothing more");
    let update = peer.record(HANDSHAKE, &[24, 0, 0, 1, 1], 0);
    pair::deliver(&mut ours, &update);
    assert_eq!(read_all(&mut ours, 100, &mut Vec::new()), Outcome::Waits);
    assert_eq!(ours.seal_copy(b"late", &mut Vec::new()), Err(Unsealed::Closed));
    assert_eq!(peer.hear(&mut ours), [(ContentType::Alert, vec![1, 0])]);
}

#[test]
fn an_idle_session_holds_no_buffer() {
    let (mut ours, mut peer) = Peer::of_server();
    let ticket = peer.record(HANDSHAKE, &[24, 0], 0);
    let rest = peer.record(HANDSHAKE, &[0, 1, 1], 0);
    peer.update();
    let data = peer.data(&[7; 10_000]);
    pair::deliver(&mut ours, &[ticket, rest, data].concat());
    let mut read = Vec::new();
    assert_eq!(read_all(&mut ours, 1000, &mut read), Outcome::Waits);
    assert_eq!(read.len(), 10_000);
    assert_eq!(peer.hear(&mut ours).len(), 1);
    ours.rest();
    let Engine::Own(session, inbox) = &ours else { panic!("our own records") };
    assert_eq!((inbox.held(), session.fragment.capacity()), (0, 0));
    assert_eq!(session.pending().held(), 0);
    // What is left is the session itself; the keys of the cipher are the library's.
    assert!(size_of::<Engine>() <= 2048, "{} bytes", size_of::<Engine>());
}

#[test]
fn keys_are_replaced_before_their_limit_and_rustls_follows() {
    for suite in SUITES {
        let (mut ours, mut theirs) = pair::server_and_rustls(suite, 16);
        let (mut sent, mut read) = (Vec::new(), Vec::new());
        for at in 0..200_u8 {
            let mut record = Vec::new();
            while let Err(unsealed) = ours.seal_copy(&[at; 3], &mut record) {
                assert_eq!(unsealed, Unsealed::PrepareFirst);
                pair::carry(&mut ours, &mut theirs);
            }
            ours.took(1, 3);
            pair::deliver(&mut theirs, &record);
            sent.extend([at; 3]);
            let mut buffer = [0; 10];
            if let Ok(crate::tls::engine::Unread::Bytes(count)) = theirs.read(&mut buffer) {
                read.extend_from_slice(&buffer[..count]);
            }
        }
        assert_eq!(read, sent, "{suite}");
        // 13 records of data for each key, of which the first has sealed the tickets.
        assert!(session(&ours).key_updates().sent >= 200 / 13, "{suite}");
    }
}

/// What a sender does in the test below.
#[derive(Debug, Clone)]
enum Deed {
    /// Seals so many bytes, and the socket takes this share of the batch at once.
    Send(usize, f64),
    UpdateKeys(bool),
    /// The peer asks for new keys.
    Asked,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1_usize..5 * PLAINTEXT_MAX, 0.0..=1.0).prop_map(|(len, share)| Deed::Send(len, share)),
        2 => (1_usize..5 * PLAINTEXT_MAX).prop_map(|len| Deed::Send(len, 1.0)),
        1 => any::<bool>().prop_map(Deed::UpdateKeys),
        1 => Just(Deed::Asked),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A transfer that stalls, gives up its buffer, takes records back and goes on: rustls reads every
    /// byte once and in order.
    #[test]
    fn no_byte_is_lost_or_doubled_wherever_the_socket_stops(
        deeds in prop::collection::vec(deed(), 1..24),
        is_server: bool,
    ) {
        let make = if is_server { pair::server_and_rustls } else { pair::client_and_rustls };
        let (mut ours, mut theirs) = make(Suite::Aes128Gcm, 24);
        let content: Vec<u8> = (0..=250).cycle().take(24 * 5 * PLAINTEXT_MAX).collect();
        // `committed` bytes will arrive, whatever happens: they went out, or are pending.
        let (mut committed, mut read) = (0_usize, Vec::new());
        for deed in deeds {
            match deed {
                Deed::UpdateKeys(asks) => match &mut ours {
                    Engine::Own(session, _) => session.update_keys(asks),
                    Engine::Classic(_) => unreachable!(),
                },
                Deed::Asked => {
                    theirs.refresh_keys();
                    pair::carry(&mut theirs, &mut ours);
                    prop_assert_eq!(read_all(&mut ours, 64, &mut Vec::new()), Outcome::Waits);
                }
                Deed::Send(len, share) => {
                    pair::carry(&mut ours, &mut theirs);
                    let (mut batch, mut end) = (vec![0; 5 * SLOT], 0);
                    let mut left = &content[committed..committed + len];
                    while !left.is_empty() {
                        let piece = left.len().min(PLAINTEXT_MAX);
                        let slot = &mut batch[end..];
                        slot[HEADER..HEADER + piece].copy_from_slice(&left[..piece]);
                        match ours.seal(slot, piece) {
                            Ok(sealed) => end += sealed,
                            Err(unsealed) => {
                                prop_assert_eq!(unsealed, Unsealed::PrepareFirst);
                                break;
                            }
                        }
                        left = &left[piece..];
                    }
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let taken = ((end as f64) * share) as usize;
                    let sent = Sent::of(end, taken);
                    pair::deliver(&mut theirs, &batch[..taken]);
                    ours.took(sent.whole, sent.plaintext);
                    ours.rewind(sent.untouched);
                    if !sent.rest.is_empty() {
                        ours.keep(&batch[sent.rest.clone()], sent.rest_plaintext);
                        prop_assert_eq!(ours.seal(&mut batch, 1), Err(Unsealed::PrepareFirst));
                    }
                    committed += usize::try_from(sent.plaintext + sent.rest_plaintext).expect("len");
                    prop_assert_eq!(ours.accepted() + sent.rest_plaintext, committed as u64);
                    prop_assert_eq!(session(&ours).staged(), 0);
                }
            }
            read_rustls(&mut theirs, &mut read);
        }
        pair::carry(&mut ours, &mut theirs);
        read_rustls(&mut theirs, &mut read);
        prop_assert_eq!(ours.accepted(), committed as u64);
        prop_assert!(read == content[..committed], "{} read, {} sent", read.len(), committed);
    }
}

fn read_rustls(theirs: &mut Engine, into: &mut Vec<u8>) {
    let mut buffer = vec![0; PLAINTEXT_MAX];
    while let crate::tls::engine::Unread::Bytes(count) =
        theirs.read(&mut buffer).expect("good records")
    {
        into.extend_from_slice(&buffer[..count]);
    }
}
