//! The handshake: rustls decides, this carries its bytes. The machine is pure; [`run`] is the thin
//! driver that waits for the socket.

use std::io::{self, IoSlice};

use ringway_runtime::net::{Half, TcpStream};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{
    CommonState, ConnectionTrafficSecrets, ExtractedSecrets, HandshakeKind, ProtocolVersion,
};

use super::error::{TlsError, TlsErrorKind};
use super::record::{HEADER, PLAINTEXT_MAX};
use super::session::Keys;

/// Handshake bytes that are kept at most: the longest message that rustls takes, in records.
const INCOMING_MAX: usize = 80 << 10;
/// A length that no record may have: TLS 1.2 allows 2 KiB more than the plaintext.
const RECORD_MAX: usize = PLAINTEXT_MAX + 2048 + 1;
/// Room for one receive.
const ROOM: usize = 4 << 10;
/// Bytes that are thrown away so that the alert of a refused handshake is not lost to a reset.
const DISCARD_MAX: usize = 64 << 10;

/// A connection of rustls, from either side. In a box, so that the futures around it, which are moved into
/// each other, are small.
pub(crate) enum Connection {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What a handshake has agreed on.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) suite: rustls::CipherSuite,
    pub(crate) kind: HandshakeKind,
    pub(crate) peer_certificates: Option<Box<[CertificateDer<'static>]>>,
}

/// A handshake that is done; all its bytes are with the socket.
pub(crate) struct Established {
    pub(crate) agreed: Agreed,
    pub(crate) records: Records,
    /// Plaintext that came with the end of the handshake.
    pub(crate) plaintext: Vec<u8>,
    /// The beginning of a record that rustls has not opened.
    pub(crate) ciphertext: Vec<u8>,
    /// The peer has already said that nothing follows.
    pub(crate) closed_by_peer: bool,
}

/// Who seals and opens from now on.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(crate) enum Records {
    /// TLS 1.3: we do.
    Ours(Keys, ExtractedSecrets),
    /// TLS 1.3: the kernel has the key for sending; we open.
    Kernels(Keys, (u64, ConnectionTrafficSecrets)),
    /// TLS 1.2: rustls does.
    Theirs(Connection),
}

/// Bytes between a socket and rustls during the handshake.
#[derive(Default)]
pub(crate) struct Carrier {
    pub(crate) incoming: Vec<u8>,
    filled: usize,
    pub(crate) outgoing: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) closed_by_peer: bool,
    /// The first bytes of the peer, for the sentence of an error.
    first: [u8; 8],
    first_len: usize,
    /// Bytes of `incoming` that rustls may see: it must not open what stands behind the handshake. It would
    /// answer a key update only before its own next record, which never comes.
    shown: usize,
    /// rustls opens the records after the handshake as well, so it sees everything.
    pub(crate) shows_all: bool,
}

/// What the handshake waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// That `outgoing` is sent.
    Send,
    /// More bytes.
    Receive,
    /// Nothing: data may flow.
    Nothing,
}

impl Carrier {
    /// Room for a receive.
    pub(crate) fn room(&mut self) -> Result<&mut [u8], TlsError> {
        if self.filled >= INCOMING_MAX {
            let error = rustls::InvalidMessage::HandshakePayloadTooLarge.into();
            return Err(TlsError::new(TlsErrorKind::Misbehaved(error)));
        }
        self.incoming.resize(self.filled + ROOM, 0);
        Ok(&mut self.incoming[self.filled..])
    }

    pub(crate) fn received(&mut self, count: usize) {
        if self.first_len == 0 {
            self.first_len = count.min(self.first.len());
            self.first[..self.first_len].copy_from_slice(&self.incoming[..self.first_len]);
        }
        self.filled += count;
    }

    /// What was received and not yet opened, for rustls.
    pub(crate) fn shown_mut(&mut self) -> &mut [u8] {
        &mut self.incoming[..self.shown]
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.incoming[..self.filled]
    }

    /// Puts bytes in that were received elsewhere.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.incoming.truncate(self.filled);
        self.incoming.extend_from_slice(bytes);
        self.received(bytes.len());
    }

    /// Bytes of the peer that nobody has opened.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.filled().to_vec();
        (self.incoming, self.filled, self.shown) = (Vec::new(), 0, 0);
        rest
    }

    pub(crate) fn discard(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.incoming.copy_within(count..self.filled, 0);
        self.filled -= count;
        self.shown = self.shown.saturating_sub(count);
    }

    /// Shows one whole record more, or all of what is no record; `false` if there is none.
    fn show_more(&mut self) -> bool {
        let before = self.shown;
        self.shown += match &self.incoming[self.shown..self.filled] {
            all if self.shows_all => all.len(),
            [] => 0,
            &[20..=23, 3, _, high, low, ref rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                match len {
                    // Longer than any record: rustls says so.
                    RECORD_MAX.. => HEADER + rest.len(),
                    _ if rest.len() >= len => HEADER + len,
                    _ => 0,
                }
            }
            [20..=23] | [20..=23, 3] | [20..=23, 3, _] | [20..=23, 3, _, _] => 0,
            garbage => {
                // What follows is its rest, whatever it looks like, until rustls has enough to refuse it.
                self.shows_all = true;
                garbage.len()
            }
        };
        self.shown > before
    }
}

impl Connection {
    /// Goes on as far as the bytes at hand allow.
    ///
    /// # Errors
    ///
    /// Those of rustls. An alert may be in `outgoing` all the same.
    pub(crate) fn advance(&mut self, carrier: &mut Carrier) -> Result<Need, rustls::Error> {
        match self {
            Self::Server(connection) => advance(
                &mut **connection as &mut UnbufferedConnectionCommon<ServerConnectionData>,
                UnbufferedConnectionCommon::<ServerConnectionData>::process_tls_records,
                carrier,
            ),
            Self::Client(connection) => advance(
                &mut **connection as &mut UnbufferedConnectionCommon<ClientConnectionData>,
                UnbufferedConnectionCommon::<ClientConnectionData>::process_tls_records,
                carrier,
            ),
        }
    }

    pub(crate) fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }

    /// Whether what is left to be sent are tickets of TLS 1.3: the client has finished, and waits for
    /// nothing. So they leave in one packet with the first data, or with the end (or by themselves, after
    /// 200 ms): a packet of their own would cost a send, and wake the client for nothing.
    fn has_tickets_left(&self) -> bool {
        let is_server = matches!(self, Self::Server(_));
        let version = self.common().protocol_version();
        is_server && version == Some(ProtocolVersion::TLSv1_3) && !self.common().is_handshaking()
    }

    fn agreed(&self, server_name: Option<String>) -> Result<Agreed, rustls::Error> {
        let common = self.common();
        let missing = || rustls::Error::HandshakeNotComplete;
        Ok(Agreed {
            alpn: common.alpn_protocol().map(Box::from),
            server_name: server_name.map(String::into_boxed_str),
            protocol: common.protocol_version().ok_or_else(missing)?,
            suite: common.negotiated_cipher_suite().ok_or_else(missing)?.suite(),
            kind: common.handshake_kind().ok_or_else(missing)?,
            peer_certificates: common.peer_certificates().map(Box::from),
        })
    }

    /// TLS 1.3 gives its keys away; TLS 1.2 keeps its records.
    pub(super) fn into_records(self) -> Result<Records, rustls::Error> {
        if self.common().protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Ok(Records::Theirs(self));
        }
        Ok(match self {
            Self::Server(connection) => {
                let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
                Records::Ours(Keys::Server(keys), secrets)
            }
            Self::Client(connection) => {
                let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
                Records::Ours(Keys::Client(keys), secrets)
            }
        })
    }
}

type Process<Data> = for<'c, 'i> fn(
    &'c mut UnbufferedConnectionCommon<Data>,
    &'i mut [u8],
) -> UnbufferedStatus<'c, 'i, Data>;

fn advance<Data>(
    connection: &mut UnbufferedConnectionCommon<Data>,
    process: Process<Data>,
    carrier: &mut Carrier,
) -> Result<Need, rustls::Error> {
    loop {
        let status = process(connection, &mut carrier.incoming[..carrier.shown]);
        let mut discard = status.discard;
        let need = match status.state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut carrier.outgoing, |room| data.encode(room)).map(|()| None)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // Nothing else happens before all of it is sent, so it counts as sent.
                data.done();
                Ok(Some(Need::Send))
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    carrier.plaintext.extend_from_slice(record.payload);
                }
                Ok(None)
            }
            Ok(ConnectionState::PeerClosed) => {
                carrier.closed_by_peer = true;
                Ok(None)
            }
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                Ok(Some(Need::Nothing))
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Some(Need::Receive)),
            // Early data is switched off, so rustls skips it by itself.
            Ok(_) => Err(rustls::Error::General("unexpected early data".into())),
            Err(error) => Err(error),
        };
        carrier.discard(discard);
        match need {
            Ok(None) => {}
            // Before the client has finished, a server could only send.
            Ok(Some(need @ (Need::Receive | Need::Nothing))) => {
                let goes_on = connection.is_handshaking() || carrier.shows_all;
                if !(goes_on && carrier.show_more()) {
                    return Ok(if connection.is_handshaking() { Need::Receive } else { need });
                }
            }
            Ok(Some(Need::Send)) => return Ok(Need::Send),
            Err(error) => {
                collect_alert(connection, process, carrier);
                return Err(error);
            }
        }
    }
}

/// What rustls still wants to say after it has failed.
fn collect_alert<Data>(
    connection: &mut UnbufferedConnectionCommon<Data>,
    process: Process<Data>,
    carrier: &mut Carrier,
) {
    // Only as long as it has something to say: it must not read the same bytes again.
    while connection.wants_write() {
        let status = process(connection, &mut carrier.incoming[..carrier.shown]);
        let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else { return };
        if encode(&mut carrier.outgoing, |room| data.encode(room)).is_err() {
            return;
        }
    }
}

/// Asks for the size, makes room, encodes.
fn encode(
    outgoing: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let begin = outgoing.len();
    match encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            outgoing.resize(begin + size.required_size, 0);
            let written = encode(&mut outgoing[begin..]);
            let written = written.map_err(|error| rustls::Error::General(error.to_string()))?;
            outgoing.truncate(begin + written);
        }
        Ok(_) | Err(EncodeError::AlreadyEncoded) => {}
    }
    Ok(())
}

/// Takes a handshake to its end. `carrier` may hold what was received already.
pub(crate) async fn run(
    stream: &TcpStream,
    mut connection: Connection,
    mut carrier: Carrier,
    server_name: Option<String>,
) -> Result<Established, TlsError> {
    let mut has_sent = false;
    loop {
        match connection.advance(&mut carrier) {
            Ok(Need::Send) => {
                let more = connection.has_tickets_left();
                send(stream, &mut carrier.outgoing, more).await?;
                has_sent = true;
            }
            Ok(Need::Receive) => {
                // The peer's answer takes a while: a receive would find nothing.
                if std::mem::take(&mut has_sent) {
                    stream.readable().await?;
                }
                receive(stream, &mut carrier).await?;
            }
            Ok(Need::Nothing) => break,
            Err(error) => {
                refuse(stream, &carrier.outgoing);
                return Err(TlsError::of_handshake(error, &carrier.first[..carrier.first_len]));
            }
        }
    }
    // Whatever rustls had to say is with the socket: tickets, too.
    send(stream, &mut carrier.outgoing, false).await?;
    let wrong = |error| TlsError::of_handshake(error, &[22, 3]);
    Ok(Established {
        agreed: connection.agreed(server_name).map_err(wrong)?,
        records: connection.into_records().map_err(wrong)?,
        ciphertext: carrier.take_rest(),
        plaintext: carrier.plaintext,
        closed_by_peer: carrier.closed_by_peer,
    })
}

/// Gives the socket all of it; with `more` it waits there for what follows, 200 ms at most.
async fn send(stream: &TcpStream, outgoing: &mut Vec<u8>, more: bool) -> Result<(), TlsError> {
    let mut sent = 0;
    while sent < outgoing.len() {
        match stream.try_send(&[IoSlice::new(&outgoing[sent..])], more) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.uncork();
                stream.writable().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    outgoing.clear();
    Ok(())
}

/// Receives at least one byte.
pub(crate) async fn receive(stream: &TcpStream, carrier: &mut Carrier) -> Result<(), TlsError> {
    loop {
        match stream.try_recv(carrier.room()?) {
            Ok(0) => return Err(TlsError::new(TlsErrorKind::Unfinished)),
            Ok(count) => {
                carrier.received(count);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells the peer why, as far as the socket takes it at once, and reads what is there so that it arrives:
/// closing a socket with unread bytes would reset it and lose the alert.
fn refuse(stream: &TcpStream, alert: &[u8]) {
    // The error of the handshake is the one to tell; what fails here adds nothing.
    let _ = stream.try_send(&[IoSlice::new(alert)], false);
    let _ = stream.shutdown(Half::Write);
    let mut discarded = 0;
    let mut scratch = [0; 4096];
    while discarded < DISCARD_MAX {
        match stream.try_recv(&mut scratch) {
            Ok(count) if count > 0 => discarded += count,
            Ok(_) | Err(_) => break,
        }
    }
}
