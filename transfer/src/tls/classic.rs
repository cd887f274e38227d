//! TLS 1.2: rustls seals and opens, and we carry. The payload is copied on the way.

use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};

use super::error::TlsError;
use super::handshake::{Carrier, Connection, Need};
use super::record::PLAINTEXT_MAX;
use super::session::Pending;

/// Why TLS 1.2 takes the slower way, for receipts.
pub(crate) const REASON: &str = "TLS 1.2: its records are sealed by rustls";

/// A session whose records are rustls's.
pub(crate) struct Classic {
    connection: Connection,
    carrier: Carrier,
    read: usize,
    pub(crate) pending: Pending,
    pub(crate) accepted: u64,
    closed_by_us: bool,
    failed: Option<rustls::Error>,
}

impl Classic {
    pub(crate) fn new(
        connection: Connection,
        plaintext: Vec<u8>,
        rest: &[u8],
        closed: bool,
    ) -> Self {
        let mut carrier = Carrier::default();
        carrier.shows_all = true;
        carrier.put(rest);
        (carrier.plaintext, carrier.closed_by_peer) = (plaintext, closed);
        Self {
            connection,
            carrier,
            read: 0,
            pending: Pending::default(),
            accepted: 0,
            closed_by_us: false,
            failed: None,
        }
    }

    /// Does what the received bytes say; what must be answered becomes pending.
    pub(crate) fn step(&mut self) -> Result<(), rustls::Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            let advanced = self.connection.advance(&mut self.carrier);
            let outgoing = std::mem::take(&mut self.carrier.outgoing);
            if !outgoing.is_empty() {
                self.pending.push(&outgoing);
            }
            match advanced {
                Ok(Need::Send) => {}
                Ok(Need::Receive | Need::Nothing) => return Ok(()),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    pub(crate) fn room(&mut self) -> Result<&mut [u8], TlsError> {
        self.carrier.room()
    }

    pub(crate) fn received(&mut self, count: usize) {
        self.carrier.received(count);
    }

    pub(crate) fn unread(&self) -> usize {
        self.carrier.plaintext.len() - self.read
    }

    pub(crate) fn is_closed_by_peer(&self) -> bool {
        self.carrier.closed_by_peer
    }

    pub(crate) fn is_closed_by_us(&self) -> bool {
        self.closed_by_us
    }

    pub(crate) fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.unread());
        into[..count].copy_from_slice(&self.carrier.plaintext[self.read..self.read + count]);
        self.read += count;
        if self.unread() == 0 {
            self.carrier.plaintext.clear();
            self.read = 0;
        }
        count
    }

    /// Nothing will come for a while: gives back what is empty.
    pub(crate) fn rest(&mut self) {
        if self.carrier.filled().is_empty() {
            self.carrier.incoming = Vec::new();
        }
        if self.unread() == 0 {
            self.carrier.plaintext = Vec::new();
        }
    }

    /// Seals up to one record of plaintext and appends it; returns the plaintext that was taken.
    pub(crate) fn seal(
        &mut self,
        plaintext: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<usize, rustls::Error> {
        let piece = &plaintext[..plaintext.len().min(PLAINTEXT_MAX)];
        self.write(into, piece.len() + 128, |traffic, room| traffic.encrypt(piece, room))?;
        Ok(piece.len())
    }

    pub(crate) fn close(&mut self) -> Result<(), rustls::Error> {
        if self.closed_by_us || self.failed.is_some() {
            return Ok(());
        }
        self.closed_by_us = true;
        let mut record = Vec::new();
        self.write(&mut record, 128, |traffic, room| traffic.queue_close_notify(room))?;
        self.pending.push(&record);
        Ok(())
    }

    /// Updates the keys of TLS 1.3, which rustls's own records can have in tests.
    #[cfg(test)]
    pub(super) fn refresh_keys(&mut self) {
        self.step().expect("a good peer");
        match &mut self.connection {
            Connection::Server(connection) => match connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(traffic)) => traffic.refresh_traffic_keys(),
                _ => panic!("a peer that can write"),
            },
            Connection::Client(connection) => match connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(traffic)) => traffic.refresh_traffic_keys(),
                _ => panic!("a peer that can write"),
            },
        }
        .expect("new keys");
        self.step().expect("a good peer");
    }

    fn write(
        &mut self,
        into: &mut Vec<u8>,
        room: usize,
        mut write: impl FnMut(&mut dyn Traffic, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), rustls::Error> {
        // What rustls wants to say itself goes first.
        self.step()?;
        let begin = into.len();
        // The first try says how much room is needed, if it is more than usual.
        let mut room = room;
        for _ in 0..2 {
            into.resize(begin + room, 0);
            let bytes = self.carrier.shown_mut();
            let written = match &mut self.connection {
                Connection::Server(connection) => write_into(
                    connection.process_tls_records(bytes),
                    &mut into[begin..],
                    &mut write,
                ),
                Connection::Client(connection) => write_into(
                    connection.process_tls_records(bytes),
                    &mut into[begin..],
                    &mut write,
                ),
            };
            let (discard, written) = written?;
            self.carrier.discard(discard);
            match written {
                Ok(len) => {
                    into.truncate(begin + len);
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(size)) => room = size.required_size,
                Err(EncryptError::EncryptExhausted) => return Err(rustls::Error::EncryptError),
            }
        }
        Err(rustls::Error::EncryptError)
    }
}

type Written = (usize, Result<usize, EncryptError>);

/// Writes if rustls is ready to; also tells what it has read of the bytes that it was shown.
fn write_into<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    room: &mut [u8],
    write: &mut impl FnMut(&mut dyn Traffic, &mut [u8]) -> Result<usize, EncryptError>,
) -> Result<Written, rustls::Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            Ok((status.discard, write(&mut traffic, room)))
        }
        _ => Err(rustls::Error::HandshakeNotComplete),
    }
}

/// What both sides of a connection can write.
trait Traffic {
    fn encrypt(&mut self, plaintext: &[u8], room: &mut [u8]) -> Result<usize, EncryptError>;
    fn queue_close_notify(&mut self, room: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Traffic for WriteTraffic<'_, Data> {
    fn encrypt(&mut self, plaintext: &[u8], room: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::encrypt(self, plaintext, room)
    }

    fn queue_close_notify(&mut self, room: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::queue_close_notify(self, room)
    }
}
