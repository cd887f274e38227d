//! The client's side: it shakes hands, then opens and compares, or discards what is sealed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ringway::tls::rustls::{ClientConfig, ClientConnection, Stream};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::arms::Sends;
use super::{RECORD_DATA, RECORD_REST};
use crate::canary::Canary;
use crate::loopback;

/// What is to be done with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Compare,
    Discard,
}

/// What must come.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) sends: Sends,
    /// Length of the file.
    pub(super) len: u64,
    pub(super) canary: Canary,
}

/// What a handshake and the end of a stream may add to its records, in bytes.
const AROUND_MAX: u64 = 16 * 1024;

/// Receives until the end.
pub(super) fn receive(
    listener: &TcpListener,
    config: &Arc<ClientConfig>,
    expected: &Expected,
    purpose: Purpose,
) -> Result<()> {
    let mut socket = loopback::accept(listener)?;
    loopback::prepare(&socket)?;
    match (expected.sends, purpose) {
        (Sends::Nothing, _) => {
            let found = discard(&socket)?;
            ensure!(found == 0, "{found} bytes came where none are sent");
        }
        (Sends::Plain, Purpose::Compare) => compare(&mut socket, expected)?,
        (Sends::Plain, Purpose::Discard) => {
            let found = discard(&socket)?;
            ensure!(found == expected.len, "{found} of {} bytes came", expected.len);
        }
        (Sends::Sealed, _) => {
            let mut connection =
                ClientConnection::new(Arc::clone(config), "127.0.0.1".try_into()?)?;
            let mut carrier = Counting { socket, read: 0 };
            while connection.is_handshaking() || connection.wants_write() {
                connection.complete_io(&mut carrier).context("no handshake")?;
            }
            if purpose == Purpose::Compare {
                return compare(&mut Stream::new(&mut connection, &mut carrier), expected);
            }
            let found = carrier.read + discard(&carrier.socket)?;
            let least = expected.len + expected.len / RECORD_DATA * RECORD_REST;
            let range = least..least + AROUND_MAX;
            ensure!(range.contains(&found), "{found} bytes came, which is not in {range:?}");
        }
    }
    Ok(())
}

/// GETs a file over a connection of its own, and discards the sealed answer.
pub(crate) fn discard_answer(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
    len: u64,
) -> Result<()> {
    let socket = loopback::connect(address)?;
    loopback::prepare(&socket)?;
    let mut connection = ClientConnection::new(Arc::clone(config), "127.0.0.1".try_into()?)?;
    let mut carrier = Counting { socket, read: 0 };
    while connection.is_handshaking() {
        connection.complete_io(&mut carrier).context("no handshake")?;
    }
    write!(
        connection.writer(),
        "GET /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )?;
    while connection.wants_write() {
        connection.write_tls(&mut carrier)?;
    }
    let found = carrier.read + discard(&carrier.socket)?;
    // What was sealed was compared before; here it counts that none of it is missing. Servers differ in
    // how full their records are.
    let range = len..len + len / 50 + AROUND_MAX;
    ensure!(range.contains(&found), "{found} bytes came, which is not in {range:?}");
    Ok(())
}

/// Compares everything until the end, which TLS must have announced.
fn compare(stream: &mut impl Read, expected: &Expected) -> Result<()> {
    let (mut buffer, mut position) = (vec![0; 64 << 10], 0);
    loop {
        let read = stream.read(&mut buffer).with_context(|| format!("after {position} bytes"))?;
        if read == 0 {
            ensure!(position == expected.len, "{position} of {} bytes came", expected.len);
            return Ok(());
        }
        expected.canary.check(position, &buffer[..read])?;
        position += read as u64;
    }
}

/// Discards until the end, and counts. With TRUNC, TCP drops the bytes instead of copying them: see tcp(7).
fn discard(socket: &TcpStream) -> Result<u64> {
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    let begin = Instant::now();
    loop {
        ensure!(begin.elapsed() < loopback::TRANSFER_LONGEST, "too slow after {total} bytes");
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::TRUNC) {
            Ok((_, 0)) => return Ok(total),
            Ok((_, read)) => total += read as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context(format!("after {total} bytes")),
        }
    }
}

/// Counts what rustls takes from the socket: some of the file may come with the handshake.
struct Counting {
    socket: TcpStream,
    read: u64,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.socket.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}
