//! One stream by each peer, as its documentation would have it.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::super::{Span, StreamArm};

/// What the peers read at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// The next part of `span` to read, after `sent` bytes.
fn part(span: Span, sent: u64) -> usize {
    usize::try_from(span.len - sent).unwrap_or(usize::MAX).min(CHUNK)
}

/// A path for peers that open files only by theirs.
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

pub(in crate::arms) struct Tokio {
    runtime: tokio::runtime::Runtime,
    file: Option<tokio::fs::File>,
    socket: tokio::net::TcpStream,
}

impl Tokio {
    pub(in crate::arms) fn new(file: File, socket: TcpStream) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        socket.set_nonblocking(true)?;
        let socket = runtime.block_on(async { tokio::net::TcpStream::from_std(socket) })?;
        Ok(Self { runtime, file: Some(tokio::fs::File::from_std(file)), socket })
    }
}

impl StreamArm for Tokio {
    fn send(&mut self, span: Span) -> Result<()> {
        use tokio::io::{AsyncReadExt, AsyncSeekExt, BufReader};
        let file = self.file.take();
        let socket = &mut self.socket;
        self.file = self.runtime.block_on(async move {
            let Some(mut file) = file else { anyhow::bail!("the file was lost") };
            file.seek(std::io::SeekFrom::Start(span.offset)).await?;
            let mut reader = BufReader::with_capacity(CHUNK, file.take(span.len));
            let copied = tokio::io::copy_buf(&mut reader, socket).await?;
            ensure!(copied == span.len, "the file ended early");
            Ok(Some(reader.into_inner().into_inner()))
        })?;
        Ok(())
    }
}

pub(in crate::arms) struct TokioUring {
    runtime: tokio_uring::Runtime,
    file: tokio_uring::fs::File,
    socket: tokio_uring::net::TcpStream,
}

impl TokioUring {
    pub(in crate::arms) fn new(file: File, socket: TcpStream) -> Result<Self> {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
        let (file, socket) = runtime.block_on(async move {
            let socket = tokio_uring::net::TcpStream::from_std(socket);
            (tokio_uring::fs::File::from_std(file), socket)
        });
        Ok(Self { runtime, file, socket })
    }
}

impl StreamArm for TokioUring {
    fn send(&mut self, span: Span) -> Result<()> {
        use tokio_uring::buf::BoundedBuf;
        self.runtime.block_on(async {
            let mut buffer = vec![0; CHUNK];
            let mut sent = 0;
            while sent < span.len {
                let want = part(span, sent);
                let (read, slice) =
                    self.file.read_at(buffer.slice(..want), span.offset + sent).await;
                let read = read?;
                ensure!(read > 0, "the file ended early");
                let (written, slice) =
                    self.socket.write_all(slice.into_inner().slice(..read)).await;
                written?;
                buffer = slice.into_inner();
                sent += read as u64;
            }
            Ok(())
        })
    }
}

pub(in crate::arms) struct Monoio {
    runtime: monoio::Runtime<monoio::IoUringDriver>,
    file: monoio::fs::File,
    socket: monoio::net::TcpStream,
}

impl Monoio {
    pub(in crate::arms) fn new(file: File, socket: TcpStream) -> Result<Self> {
        let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build()?;
        let (file, socket) = runtime.block_on(async move {
            let socket = monoio::net::TcpStream::from_std(socket)?;
            anyhow::Ok((monoio::fs::File::from_std(file)?, socket))
        })?;
        Ok(Self { runtime, file, socket })
    }
}

impl StreamArm for Monoio {
    fn send(&mut self, span: Span) -> Result<()> {
        use monoio::buf::{IoBuf, IoBufMut};
        use monoio::io::AsyncWriteRentExt;
        let Self { runtime, file, socket } = self;
        runtime.block_on(async {
            let mut buffer = vec![0u8; CHUNK];
            let mut sent = 0;
            while sent < span.len {
                let want = part(span, sent);
                let (read, slice) =
                    file.read_at(buffer.slice_mut(..want), span.offset + sent).await;
                let read = read?;
                ensure!(read > 0, "the file ended early");
                let (written, slice) = socket.write_all(slice.into_inner().slice(..read)).await;
                written?;
                buffer = slice.into_inner();
                sent += read as u64;
            }
            Ok(())
        })
    }
}

pub(in crate::arms) struct Compio {
    runtime: compio::runtime::Runtime,
    file: compio::fs::File,
    socket: compio::net::TcpStream,
}

impl Compio {
    pub(in crate::arms) fn new(file: &File, socket: TcpStream) -> Result<Self> {
        let runtime = compio::runtime::Runtime::new()?;
        let path = path_of(file);
        let (file, socket) = runtime.block_on(async move {
            let socket = compio::net::TcpStream::from_std(socket)?;
            anyhow::Ok((compio::fs::File::open(path).await?, socket))
        })?;
        Ok(Self { runtime, file, socket })
    }
}

impl StreamArm for Compio {
    fn send(&mut self, span: Span) -> Result<()> {
        use compio::buf::{IntoInner, IoBuf};
        use compio::io::{AsyncReadAt, AsyncWriteExt};
        let Self { runtime, file, socket } = self;
        runtime.block_on(async {
            let mut buffer = vec![0u8; CHUNK];
            let mut sent = 0;
            while sent < span.len {
                let want = part(span, sent);
                let read = file.read_at(buffer.slice(..want), span.offset + sent).await;
                let count = read.0?;
                ensure!(count > 0, "the file ended early");
                let written = socket.write_all(read.1.into_inner().slice(..count)).await;
                written.0?;
                buffer = written.1.into_inner();
                sent += count as u64;
            }
            Ok(())
        })
    }
}
