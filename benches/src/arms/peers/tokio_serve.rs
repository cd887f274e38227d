//! Keep-alive connections by tokio: a task each, files by the blocking pool.

use std::fs::File;
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};

use super::super::{ExchangeArm, Span};
use crate::point::Slices;
use crate::wire::{REQUEST_LEN, offset_asked, response_header};

pub(in crate::arms) struct Server {
    runtime: tokio::runtime::Runtime,
    connections: Vec<Connection>,
    header: Arc<Vec<u8>>,
    slices: Slices,
}

/// Each has the file opened for itself: tokio's file has one position.
struct Connection {
    socket: tokio::net::TcpStream,
    file: tokio::fs::File,
}

impl Server {
    pub(in crate::arms) fn new(
        file: &File,
        slices: Slices,
        sockets: Vec<TcpStream>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut connections = Vec::new();
        for socket in sockets {
            socket.set_nonblocking(true)?;
            let socket = runtime.block_on(async { tokio::net::TcpStream::from_std(socket) })?;
            let file = tokio::fs::File::from_std(reopened(file)?);
            connections.push(Connection { socket, file });
        }
        let header = Arc::new(response_header(slices.len));
        Ok(Self { runtime, connections, header, slices })
    }
}

fn reopened(file: &File) -> Result<File> {
    use std::os::fd::AsRawFd;
    Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?)
}

impl ExchangeArm for Server {
    fn serve(&mut self, requests_each: u32) -> Result<()> {
        let connections = std::mem::take(&mut self.connections);
        let (header, slices) = (&self.header, self.slices);
        self.connections = self.runtime.block_on(async {
            let serve = |connection| {
                let header = Arc::clone(header);
                tokio::spawn(converse(connection, header, slices, requests_each))
            };
            let tasks: Vec<_> = connections.into_iter().map(serve).collect();
            let mut connections = Vec::new();
            for task in tasks {
                connections.push(task.await??);
            }
            anyhow::Ok(connections)
        })?;
        Ok(())
    }
}

async fn converse(
    mut connection: Connection,
    header: Arc<Vec<u8>>,
    slices: Slices,
    requests: u32,
) -> Result<Connection> {
    for _ in 0..requests {
        let mut request = [0; REQUEST_LEN];
        connection.socket.read_exact(&mut request).await?;
        let offset = offset_asked(&request, slices).context("a request for nothing")?;
        connection.socket.write_all(&header).await?;
        let body = Span { offset, len: slices.len };
        connection.file.seek(std::io::SeekFrom::Start(body.offset)).await?;
        let mut reader = BufReader::with_capacity(64 * 1024, (&mut connection.file).take(body.len));
        let copied = tokio::io::copy_buf(&mut reader, &mut connection.socket).await?;
        ensure!(copied == body.len, "the file ended early");
    }
    Ok(connection)
}
