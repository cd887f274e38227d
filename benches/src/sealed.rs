//! The receiving end of a stream over TLS: opens and compares at first, then counts what is sealed.

use std::io::Read;
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ringway::tls::rustls::{ClientConnection, Stream};
use rustix::event::PollFlags;

use crate::arms::Span;
use crate::canary::Canary;
use crate::loopback::{TRANSFER_LONGEST, await_ready};
use crate::receiver::Times;
use crate::records::Records;
use crate::tls::{TLS_SUITE, credulous_client};

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Sealed {
    socket: TcpStream,
    session: ClientConnection,
}

/// Bytes asked for at a time.
const CHUNK: usize = 1024 * 1024;

impl Sealed {
    /// Shakes hands as a client.
    ///
    /// # Errors
    ///
    /// They do not agree.
    pub(crate) fn shake(mut socket: TcpStream) -> Result<Self> {
        let config = credulous_client(TLS_SUITE)?;
        let mut session = ClientConnection::new(config, "localhost".try_into()?)?;
        while session.is_handshaking() || session.wants_write() {
            session.complete_io(&mut socket).context("no handshake")?;
        }
        Ok(Self { socket, session })
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    /// Receives `span`, opens it, and compares every byte of it.
    ///
    /// # Errors
    ///
    /// A byte is wrong or missing.
    pub(crate) fn compare(&mut self, span: Span, canary: Canary) -> Result<()> {
        let mut stream = Stream::new(&mut self.session, &mut self.socket);
        let (mut buffer, mut received) = (vec![0; CHUNK], 0);
        let at = |received: u64| format!("wrong count: {received} of {} bytes arrived", span.len);
        while received < span.len {
            let want = usize::try_from((span.len - received).min(CHUNK as u64))?;
            let read = stream.read(&mut buffer[..want]).with_context(|| at(received))?;
            ensure!(read > 0, "{}", at(received));
            canary.check(span.offset + received, &buffer[..read])?;
            received += read as u64;
        }
        Ok(())
    }

    /// Receives `len` bytes without opening them: the headers of the records say how many they are. After
    /// that the session cannot open any more.
    ///
    /// # Errors
    ///
    /// Bytes are missing or too many.
    pub(crate) fn discard(&mut self, len: u64, ordered: Instant) -> Result<Times> {
        await_ready(&self.socket, PollFlags::IN)?;
        let first_byte = ordered.elapsed();
        let (mut records, mut received) = (Records::default(), 0);
        let mut buffer = vec![0; CHUNK];
        while received < len || !records.between() {
            let told = format!("wrong count: {received} of {len} bytes arrived");
            ensure!(ordered.elapsed() < TRANSFER_LONGEST, "too slow: {told}");
            let read = self.socket.read(&mut buffer).context(told.clone())?;
            ensure!(read > 0, told);
            received += records.plaintext(&buffer[..read])? as u64;
        }
        ensure!(received == len, "wrong count: {received} of {len} bytes arrived");
        Ok(Times { first_byte, last_byte: ordered.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::loopback;
    use crate::network::LOCALHOST;
    use crate::tls::{server_of_a_moment, shaken};

    const SPAN: Span = Span { offset: 7, len: 50_000 };

    /// A client of a server that seals `SPAN` twice, the second time as `spoil` leaves it.
    fn client(spoil_first: bool, second_len: usize) -> Sealed {
        let listener = loopback::listen(LOCALHOST).unwrap();
        let near = loopback::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = loopback::accept(&listener).unwrap();
        std::thread::spawn(move || {
            let config = server_of_a_moment(TLS_SUITE).unwrap();
            let mut session = shaken(&mut far, config).unwrap();
            session.set_buffer_limit(None);
            let mut bytes = vec![0; 50_000];
            ringway_testkit::canary::fill(1, 7, &mut bytes);
            bytes[30_000] ^= u8::from(spoil_first);
            for part in [&bytes[..], &vec![0; second_len]] {
                session.writer().write_all(part).unwrap();
                while session.wants_write() {
                    session.write_tls(&mut far).unwrap();
                }
                // As a sender that waits for its next order.
                far.read_exact(&mut [0]).unwrap();
            }
        });
        Sealed::shake(near).unwrap()
    }

    #[test]
    fn right_bytes_are_opened_and_the_next_are_counted() {
        for (sent, right) in [(123_456, true), (123_457, false)] {
            let mut client = client(false, sent);
            client.compare(SPAN, Canary::new(1)).unwrap();
            client.socket.write_all(b".").unwrap();
            assert_eq!(client.discard(123_456, Instant::now()).is_ok(), right, "{sent}");
            // It may have ended already.
            let _ = client.socket.write_all(b".");
        }
    }

    #[test]
    fn wrong_byte_is_seen() {
        let error = client(true, 0).compare(SPAN, Canary::new(1)).unwrap_err();
        assert!(format!("{error:#}").contains("wrong bytes"), "{error:#}");
    }
}
