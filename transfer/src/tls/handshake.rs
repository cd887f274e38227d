//! The handshake: rustls decides, this carries its bytes. The machine is pure; [`drive`] waits for the
//! socket.

mod carrier;
mod drive;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{
    CommonState, ConnectionTrafficSecrets, ExtractedSecrets, HandshakeKind, ProtocolVersion,
};

pub(crate) use carrier::Carrier;
pub(crate) use drive::{receive, run};

use super::session::Keys;

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
