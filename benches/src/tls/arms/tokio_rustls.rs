//! What a Rust user writes today: tokio and tokio-rustls, on one thread.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Result, ensure};
use ringway::tls::rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::CHUNK;
use crate::measure::{Start, Usage};

/// Files are read by tokio's own, whose reads are a thread's.
pub(super) fn copied(file: File, socket: TcpStream, config: Arc<ServerConfig>) -> Result<Usage> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = accept(socket, config).await?;
        let start = Start::now();
        let file = tokio::fs::File::from_std(file);
        let mut reader = BufReader::with_capacity(CHUNK, file);
        tokio::io::copy_buf(&mut reader, &mut stream).await?;
        confirmed(stream).await?;
        Ok(start.used())
    })
}

/// The cheapest for a file that is hot, and a stop of the loop for one that is not.
#[expect(clippy::needless_pass_by_value, reason = "both ways have one type")]
pub(super) fn read_on_the_loop(
    file: File,
    socket: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<Usage> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = accept(socket, config).await?;
        let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
        let start = Start::now();
        loop {
            let read = file.read_at(&mut buffer, offset)?;
            if read == 0 {
                break;
            }
            stream.write_all(&buffer[..read]).await?;
            offset += read as u64;
        }
        confirmed(stream).await?;
        Ok(start.used())
    })
}

async fn accept(
    socket: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<tokio::net::TcpStream>> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpStream::from_std(socket)?;
    Ok(TlsAcceptor::from(config).accept(socket).await?)
}

/// Ends the stream, and waits until the other side has taken everything and closed.
async fn confirmed(mut stream: TlsStream<tokio::net::TcpStream>) -> Result<()> {
    stream.shutdown().await?;
    let end = stream.get_mut().0.read(&mut [0]).await?;
    ensure!(end == 0, "the receiver said something");
    Ok(())
}
