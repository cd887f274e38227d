//! A TLS 1.3 session after its handshake: bytes in, bytes out, no descriptor and no clock.
//!
//! rustls has made the keys and keeps the secrets behind them; what is sealed and opened with them, and
//! in which order, is decided here. Everything that a peer can say after the handshake has its arm in
//! [`Session::receive`]; everything that must be said goes out by [`Session::prepare`], at a border of
//! records, before any further data.

mod fault;
mod inbox;
mod kernel;
mod message;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod replay;
mod sending;

use std::fmt;
use std::ops::Range;

use ringway_runtime::fault::{Sabotage, sabotaged};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

pub(crate) use fault::Fault;
pub(crate) use inbox::Inbox;
pub(crate) use message::{Alert, Message};
pub(crate) use sending::Pending;

use crate::tls::record::{ContentType, HEADER, Header, Opener, Sealer, TAIL, TrafficKey};
use message::{KEY_UPDATE, MESSAGE_MAX, NEW_SESSION_TICKET};
use sending::Sending;

/// Records without any data that a peer may send in a row while we send none either: more is a flood.
const FRUITLESS_MAX: u32 = 64;

/// An established session of TLS 1.3.
#[derive(Debug)]
pub(crate) struct Session {
    keys: Keys,
    sending: Sending,
    opener: Opener,
    /// How many records one key seals at most.
    records_max: u64,
    /// The beginning of a handshake message that goes on in the next record.
    fragment: Vec<u8>,
    /// The peer has said that nothing follows.
    closed_by_peer: bool,
    /// We have said so.
    closed_by_us: bool,
    fault: Option<Fault>,
    fruitless: u32,
    /// Records of data that we had sealed when the last fruitless one came.
    sealed_then: u64,
    key_updates: KeyUpdates,
}

/// How often keys were updated since the handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyUpdates {
    /// By us, answers included.
    pub sent: u64,
    /// By the peer.
    pub received: u64,
}

/// What rustls keeps, so that the next keys can be made and tickets stored.
pub(crate) enum Keys {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
    /// Of no handshake, for a fuzzer.
    #[cfg(any(test, fuzzing))]
    Counted(super::fuzzing::Counted),
}

/// What a record brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Data: where it stands in the record.
    Data(Range<usize>),
    /// Something for the session itself.
    Control,
    /// The peer will send nothing more.
    Closed,
}

/// Why nothing can be sealed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsealed {
    /// Something must go first: call [`Session::prepare`] and send what is pending. Staged records must
    /// have gone out, or be taken back, before.
    PrepareFirst,
    /// We have closed the session.
    Closed,
    /// The session has failed.
    Failed(Fault),
}

impl Session {
    /// Takes over after a handshake, when all its bytes are out. `None` for a suite that is unknown.
    pub(crate) fn new(keys: Keys, secrets: &ExtractedSecrets, records_max: u64) -> Option<Self> {
        let (sequence, key) = (secrets.tx.0, TrafficKey::new(&secrets.tx.1)?);
        let sealer = Sealer::new(key, sequence, records_max);
        Self::with_sealer(keys, Some(sealer), &secrets.rx, records_max)
    }

    fn with_sealer(
        keys: Keys,
        sealer: Option<Sealer>,
        receiving: &(u64, ConnectionTrafficSecrets),
        records_max: u64,
    ) -> Option<Self> {
        Some(Self {
            keys,
            sending: Sending::new(sealer),
            opener: Opener::new(TrafficKey::new(&receiving.1)?, receiving.0),
            records_max,
            fragment: Vec::new(),
            closed_by_peer: false,
            closed_by_us: false,
            fault: None,
            fruitless: 0,
            sealed_then: 0,
            key_updates: KeyUpdates::default(),
        })
    }

    /// Seals `len` bytes of plaintext in place; see [`Sealer::seal`]. The record is then *staged* until
    /// [`took`](Self::took), [`keep`](Self::keep) or [`rewind`](Self::rewind) says what became of it.
    ///
    /// # Errors
    ///
    /// [`Unsealed`]; nothing was touched then.
    pub(crate) fn seal(&mut self, slot: &mut [u8], len: usize) -> Result<usize, Unsealed> {
        if self.closed_by_us {
            return Err(Unsealed::Closed);
        }
        if let Some(fault) = self.fault.filter(|_| !self.may_send()) {
            return Err(Unsealed::Failed(fault));
        }
        if !self.sending.pending.is_empty() {
            return Err(Unsealed::PrepareFirst);
        }
        self.sending.seal(slot, len).map_err(|_spent| Unsealed::PrepareFirst)
    }

    /// The socket has taken the first `records` staged records whole: `plaintext` bytes in all.
    pub(crate) fn took(&mut self, records: u64, plaintext: u64) {
        self.sending.took(records, plaintext);
    }

    /// The socket has taken the beginning of the first staged record: its rest becomes pending, and goes
    /// out before anything else. All that was staged behind it must be taken back.
    pub(crate) fn keep(&mut self, rest: &[u8], plaintext: u64) {
        self.sending.keep(rest, plaintext);
    }

    /// Takes back the last `records` staged records, of which no byte has reached the socket.
    pub(crate) fn rewind(&mut self, records: u64) {
        self.sending.rewind(records);
    }

    /// Records that are sealed and in the hands of a caller.
    #[cfg(test)]
    pub(crate) fn staged(&self) -> u64 {
        self.sending.staged()
    }

    /// Plaintext of all records that the socket has taken whole, in bytes.
    pub(crate) fn accepted(&self) -> u64 {
        self.sending.accepted()
    }

    /// Sealed bytes that go before anything else.
    pub(crate) fn pending(&self) -> &Pending {
        &self.sending.pending
    }

    /// The socket has taken this much of what was pending.
    pub(crate) fn pending_sent(&mut self, count: usize) {
        self.sending.pending_sent(count);
    }

    /// Whether something must be said before further data: answers, alerts, a key that is spent.
    pub(crate) fn owes(&self) -> bool {
        let owed = &self.sending.owed;
        let spent = self.sending.is_spent() && self.may_send();
        owed.answer || owed.update.is_some() || owed.alert.is_some() || spent
    }

    /// Seals what is owed and makes it pending. Does nothing while a record is staged or bytes are
    /// pending, because those go first: call it again after them.
    ///
    /// # Errors
    ///
    /// If no new key can be made: the session is over then.
    pub(crate) fn prepare(&mut self) -> Result<(), Fault> {
        if self.sending.staged() > 0 || !self.sending.pending.is_empty() {
            return Ok(());
        }
        let is_open = self.may_send();
        if is_open && self.sending.is_spent() && self.sending.owed.update.is_none() {
            self.sending.owed.update = Some(false);
        }
        if std::mem::take(&mut self.sending.owed.answer) {
            self.update_tx(false)?;
        }
        if let Some(asks) = self.sending.owed.update.take() {
            self.update_tx(asks)?;
        }
        if let Some(alert) = self.sending.owed.alert.take() {
            self.push(ContentType::Alert, &alert.encode())?;
        }
        Ok(())
    }

    /// Makes new keys for sending at the next border of records; `asks` the peer to do the same.
    pub(crate) fn update_keys(&mut self, asks: bool) {
        if !self.may_send() {
            return;
        }
        let update = &mut self.sending.owed.update;
        *update = Some(asks || *update == Some(true));
    }

    /// Says that nothing more follows.
    pub(crate) fn close(&mut self) {
        if self.may_send() {
            self.closed_by_us = true;
            self.sending.owed.alert = Some(Alert::CLOSE_NOTIFY);
        }
    }

    /// The peer has said in the handshake already that nothing more follows.
    pub(crate) fn peer_has_closed(&mut self) {
        self.closed_by_peer = true;
    }

    /// Whether the peer has said that nothing more follows.
    pub(crate) fn is_closed_by_peer(&self) -> bool {
        self.closed_by_peer
    }

    /// Whether we have said so, though it may still wait to be sent.
    pub(crate) fn is_closed_by_us(&self) -> bool {
        self.closed_by_us
    }

    /// Whether there may be more data. A peer that has stopped sending, even without a word, can still
    /// receive.
    pub(crate) fn may_send(&self) -> bool {
        !self.closed_by_us && self.fault.is_none_or(|fault| fault == Fault::Truncated)
    }

    /// What ended the session, if something did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes of memory held for a message that goes on.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn fragment_held(&self) -> usize {
        self.fragment.capacity()
    }

    pub(crate) fn key_updates(&self) -> KeyUpdates {
        self.key_updates
    }

    /// Opens a whole record in place and does what it says.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the session is over, and the alert that tells the peer is owed.
    pub(crate) fn receive(&mut self, header: Header, record: &mut [u8]) -> Result<Event, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.closed_by_peer {
            return Ok(Event::Closed);
        }
        let event = self.receive_open(header, record);
        event.map_err(|fault| self.fail(fault))
    }

    /// Ends the session for a reason that was found elsewhere; returns the first one.
    pub(crate) fn fail(&mut self, fault: Fault) -> Fault {
        let first = *self.fault.get_or_insert(fault);
        if first == fault && !self.closed_by_us {
            self.sending.owed.alert = fault.alert();
        }
        first
    }

    /// The stream has ended: fine only after the peer has said so.
    pub(crate) fn end_of_stream(&mut self) -> Result<(), Fault> {
        if self.closed_by_peer { Ok(()) } else { Err(self.fail(Fault::Truncated)) }
    }

    fn receive_open(&mut self, header: Header, record: &mut [u8]) -> Result<Event, Fault> {
        if header.kind != ContentType::ApplicationData {
            return Err(self.plain(header, &record[HEADER..]));
        }
        let opened = self.opener.open(record)?;
        let content = &record[opened.plaintext.clone()];
        match opened.kind {
            ContentType::ApplicationData if !self.fragment.is_empty() => {
                Err(Fault::Unexpected("data in the middle of a handshake message"))
            }
            ContentType::ApplicationData if content.is_empty() => self.fruitless(),
            ContentType::ApplicationData => {
                self.fruitless = 0;
                Ok(Event::Data(opened.plaintext))
            }
            ContentType::Alert => self.alert(content),
            ContentType::Handshake => {
                self.handshake(content)?;
                self.fruitless()
            }
            ContentType::ChangeCipherSpec => {
                Err(Fault::Unexpected("a ChangeCipherSpec after the handshake"))
            }
        }
    }

    /// A record that is not encrypted ends the session. A peer that never got as far as our keys can
    /// give its reason in no other way, so before its first sealed record an alert is taken for one.
    /// Anyone on the path could have sent it, but they can end a connection anyway; what must not be
    /// forged, an end that looks like all has been said, is never taken from the clear.
    fn plain(&self, header: Header, content: &[u8]) -> Fault {
        let has_opened = self.opener.sequence() > 0 || self.key_updates.received > 0;
        match (header.kind, content) {
            (ContentType::Alert, &[_level, description]) if !has_opened => match Alert(description)
            {
                Alert::CLOSE_NOTIFY | Alert::USER_CANCELED => {
                    Fault::Unexpected("an end that is not encrypted")
                }
                alert => Fault::AlertReceived(alert),
            },
            _ => Fault::Unexpected("a record that is not encrypted"),
        }
    }

    fn alert(&mut self, content: &[u8]) -> Result<Event, Fault> {
        let &[_level, description] = content else {
            return Err(Fault::Malformed("an alert that is not two bytes long"));
        };
        // In TLS 1.3 the level says nothing (RFC 8446, 6).
        match Alert(description) {
            Alert::CLOSE_NOTIFY => {
                self.closed_by_peer = true;
                Ok(Event::Closed)
            }
            Alert::USER_CANCELED => self.fruitless(),
            alert => Err(Fault::AlertReceived(alert)),
        }
    }

    fn handshake(&mut self, content: &[u8]) -> Result<(), Fault> {
        if content.is_empty() {
            return Err(Fault::Unexpected("an empty handshake record"));
        }
        let mut joined = std::mem::take(&mut self.fragment);
        let mut rest = content;
        if !joined.is_empty() {
            joined.extend_from_slice(content);
            rest = &joined;
        }
        while let Some((kind, len)) = message::head(rest) {
            if len > MESSAGE_MAX {
                return Err(Fault::Malformed("a handshake message that is too long"));
            }
            let Some((body, behind)) = rest[4..].split_at_checked(len) else { break };
            self.message(kind, body, behind.is_empty())?;
            rest = behind;
        }
        self.fragment = rest.to_vec();
        Ok(())
    }

    fn message(&mut self, kind: u8, body: &[u8], is_last: bool) -> Result<(), Fault> {
        match (kind, &mut self.keys) {
            (KEY_UPDATE, _) => self.key_update(body, is_last),
            (NEW_SESSION_TICKET, Keys::Client(keys)) => {
                let stored = keys.handle_new_session_ticket(body);
                stored.map_err(|_error| Fault::Malformed("a session ticket that cannot be read"))
            }
            _ => Err(Fault::Unexpected("a handshake message after the handshake")),
        }
    }

    fn key_update(&mut self, body: &[u8], is_last: bool) -> Result<(), Fault> {
        let asks = match body {
            [0] => false,
            [1] => true,
            [_] => return Err(Fault::Illegal("a KeyUpdate of an unknown kind")),
            _ => return Err(Fault::Malformed("a KeyUpdate that is not one byte long")),
        };
        if !is_last {
            return Err(Fault::Unexpected("a message behind a KeyUpdate in its record"));
        }
        let (sequence, secrets) = self.keys.update_rx().map_err(|_error| Fault::NoKey)?;
        self.opener = Opener::new(TrafficKey::new(&secrets).ok_or(Fault::NoKey)?, sequence);
        self.key_updates.received += 1;
        // However often it asks before we answer, one answer is enough (RFC 8446, 4.6.3).
        let answers = !self.closed_by_us && !sabotaged(Sabotage::KeyUpdateUnanswered);
        self.sending.owed.answer |= asks && answers;
        Ok(())
    }

    fn fruitless(&mut self) -> Result<Event, Fault> {
        let sealed = self.sending.sealed();
        if sealed != self.sealed_then {
            self.fruitless = 0;
        }
        self.sealed_then = sealed;
        self.fruitless += 1;
        if self.fruitless > FRUITLESS_MAX {
            return Err(Fault::Flood);
        }
        Ok(Event::Control)
    }

    fn update_tx(&mut self, asks: bool) -> Result<(), Fault> {
        self.push(ContentType::Handshake, &message::key_update(asks))?;
        let next = self.keys.update_tx().ok().and_then(|(sequence, secrets)| {
            Some(Sealer::new(TrafficKey::new(&secrets)?, sequence, self.records_max))
        });
        self.sending.sealer = Some(next.ok_or_else(|| self.fail(Fault::NoKey))?);
        self.key_updates.sent += 1;
        Ok(())
    }

    /// Seals a short message of the protocol and makes it pending.
    fn push(&mut self, kind: ContentType, content: &[u8]) -> Result<(), Fault> {
        let mut record = [0; HEADER + 8 + TAIL];
        record[HEADER..HEADER + content.len()].copy_from_slice(content);
        let sealer = self.sending.sealer.as_mut();
        match sealer.map(|sealer| sealer.seal(&mut record, content.len(), kind)) {
            Some(Ok(len)) => self.sending.pending.push(&record[..len]),
            Some(Err(_)) | None => return Err(self.fail(Fault::NoKey)),
        }
        Ok(())
    }
}

impl Keys {
    pub(crate) fn update_tx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        match self {
            Self::Server(keys) => keys.update_tx_secret(),
            Self::Client(keys) => keys.update_tx_secret(),
            #[cfg(any(test, fuzzing))]
            Self::Counted(keys) => Ok(keys.next(true)),
        }
    }

    pub(crate) fn update_rx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        match self {
            Self::Server(keys) => keys.update_rx_secret(),
            Self::Client(keys) => keys.update_rx_secret(),
            #[cfg(any(test, fuzzing))]
            Self::Counted(keys) => Ok(keys.next(false)),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Keys::Server",
            Self::Client(_) => "Keys::Client",
            #[cfg(any(test, fuzzing))]
            Self::Counted(_) => "Keys::Counted",
        })
    }
}
