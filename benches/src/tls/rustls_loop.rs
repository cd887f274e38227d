//! rustls over the runtime's loop: its buffered connection, whose bytes the loop carries.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ringway::runtime::net::{Half, TcpStream};
use ringway::runtime::{fs, lease};
use ringway::tls::rustls::{ServerConfig, ServerConnection};

use super::arms::CHUNK;

/// The socket as rustls sees it: full or empty is `WouldBlock`.
struct Socket<'s>(&'s TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_recv(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_send(&[IoSlice::new(bytes)], false)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_send(pieces, false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the server's side of a handshake.
pub(super) async fn accept(
    stream: &TcpStream,
    config: Arc<ServerConfig>,
) -> Result<ServerConnection> {
    let mut connection = ServerConnection::new(config)?;
    while connection.is_handshaking() {
        flush(stream, &mut connection).await?;
        stream.readable().await?;
        match connection.read_tls(&mut Socket(stream)) {
            Ok(0) => anyhow::bail!("the client has gone"),
            Ok(_) => {
                connection.process_new_packets().context("no handshake")?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    flush(stream, &mut connection).await?;
    Ok(connection)
}

/// Reads a part of the file, gives it to rustls, and sends what that makes of it.
pub(super) async fn send(
    stream: &TcpStream,
    connection: &mut ServerConnection,
    file: &fs::File,
) -> Result<()> {
    let len = file.metadata()?.len;
    let (mut buffer, mut offset) = (lease(CHUNK).await?, 0);
    while offset < len {
        buffer.set_filled(0);
        let read = match file.try_read(&mut buffer, offset, CHUNK) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let (read, back) = file.read_at(buffer, 0, CHUNK, offset).await;
                buffer = back.context("the buffer was lost")?;
                read?
            }
            Err(error) => return Err(error.into()),
        };
        ensure!(read > 0, "the file has shrunk");
        offset += read as u64;
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let taken = connection.writer().write(rest)?;
            rest = &rest[taken..];
            flush(stream, connection).await?;
        }
    }
    close(stream, connection).await
}

/// Says that nothing follows.
pub(super) async fn close(stream: &TcpStream, connection: &mut ServerConnection) -> Result<()> {
    connection.send_close_notify();
    flush(stream, connection).await?;
    Ok(stream.shutdown(Half::Write)?)
}

async fn flush(stream: &TcpStream, connection: &mut ServerConnection) -> Result<()> {
    while connection.wants_write() {
        match connection.write_tls(&mut Socket(stream)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
