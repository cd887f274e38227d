//! One stream, sent as programs have always sent it: read+write, mmap+write, sendfile(2), splice(2).

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use memmap2::Mmap;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::{Arm, Counts, Span, StreamArm, call_len, mapping};
use crate::loopback::await_ready;
use crate::point::{KIB, MIB};

pub(super) const ARMS: &[Arm] = &[
    Arm::stream("read-send-16k", "pread and write, one 16 KiB buffer", 2, |file, socket| {
        Ok(Box::new(ReadWrite::new(file, socket, 16 * KIB)?))
    }),
    Arm::stream("read-send-64k", "pread and write, one 64 KiB buffer", 2, |file, socket| {
        Ok(Box::new(ReadWrite::new(file, socket, 64 * KIB)?))
    })
    .quick(),
    Arm::stream("read-send-1m", "pread and write, one 1 MiB buffer", 2, |file, socket| {
        Ok(Box::new(ReadWrite::new(file, socket, MIB)?))
    }),
    Arm::stream("mmap-write", "write of 256 KiB at a time from a mapping", 1, |file, socket| {
        Ok(Box::new(MmapWrite { map: mapping::map(&file)?, socket, copied_bytes: 0 }))
    })
    .quick(),
    Arm::stream(
        "sendfile",
        "sendfile(2) on a blocking socket, as much per call as the kernel takes",
        0,
        |file, socket| Ok(Box::new(Sendfile { file, socket })),
    )
    .quick(),
    Arm::stream(
        "sendfile-poll",
        "sendfile(2) on a non-blocking socket, poll(2) when it is full",
        0,
        |file, socket| {
            socket.set_nonblocking(true)?;
            Ok(Box::new(Sendfile { file, socket }))
        },
    )
    .quick(),
    Arm::stream(
        "splice-64k",
        "splice(2) through a 64 KiB pipe into a blocking socket",
        0,
        |file, socket| Ok(Box::new(Splice::new(file, socket, 64 * KIB)?)),
    ),
    Arm::stream(
        "splice-256k",
        "splice(2) through a 256 KiB pipe into a blocking socket",
        0,
        |file, socket| Ok(Box::new(Splice::new(file, socket, 256 * KIB)?)),
    ),
    Arm::stream(
        "splice-1m",
        "splice(2) through a 1 MiB pipe into a blocking socket",
        0,
        |file, socket| Ok(Box::new(Splice::new(file, socket, MIB)?)),
    )
    .quick(),
];

/// `read(2)` into a buffer, `write(2)` out of it.
struct ReadWrite {
    file: File,
    socket: TcpStream,
    buffer: Vec<u8>,
    copied_bytes: u64,
}

impl ReadWrite {
    fn new(file: File, socket: TcpStream, buffer_len: u64) -> Result<Self> {
        let buffer = vec![0; usize::try_from(buffer_len)?];
        Ok(Self { file, socket, buffer, copied_bytes: 0 })
    }
}

impl StreamArm for ReadWrite {
    fn send(&mut self, span: Span) -> Result<()> {
        let mut sent = 0;
        while sent < span.len {
            let want = call_len(span.len - sent).min(self.buffer.len());
            let read = self.file.read_at(&mut self.buffer[..want], span.offset + sent)?;
            ensure!(read > 0, "the file ended {} bytes early", span.len - sent);
            self.socket.write_all(&self.buffer[..read])?;
            sent += read as u64;
        }
        // Once out of the page cache, once into the socket.
        self.copied_bytes += 2 * sent;
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        let copied_bytes = Some(std::mem::take(&mut self.copied_bytes));
        Counts { copied_bytes, ..Counts::default() }
    }
}

/// `write(2)` out of a mapping: one copy, and the faults that fill the page table.
struct MmapWrite {
    map: Mmap,
    socket: TcpStream,
    copied_bytes: u64,
}

/// A part of a mapping that is written at a time, in bytes.
const MAPPED_CHUNK: usize = 256 * 1024;

impl StreamArm for MmapWrite {
    fn send(&mut self, span: Span) -> Result<()> {
        let begin = usize::try_from(span.offset)?;
        let bytes = &self.map[begin..begin + usize::try_from(span.len)?];
        bytes.chunks(MAPPED_CHUNK).try_for_each(|chunk| self.socket.write_all(chunk))?;
        self.copied_bytes += span.len;
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        let copied_bytes = Some(std::mem::take(&mut self.copied_bytes));
        Counts { copied_bytes, ..Counts::default() }
    }

    fn rest(&mut self) -> Result<()> {
        mapping::let_go(&self.map)
    }
}

/// `sendfile(2)`; a socket that would block is waited for with `poll(2)`.
struct Sendfile {
    file: File,
    socket: TcpStream,
}

impl StreamArm for Sendfile {
    fn send(&mut self, span: Span) -> Result<()> {
        let mut offset = span.offset;
        let end = span.offset + span.len;
        while offset < end {
            let want = call_len(end - offset);
            match rustix::fs::sendfile(&self.socket, &self.file, Some(&mut offset), want) {
                Ok(0) => anyhow::bail!("the file ended {} bytes early", end - offset),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => await_ready(&self.socket, PollFlags::OUT)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// `splice(2)` from the file into a pipe, and from the pipe into the socket.
pub(super) struct Splice {
    file: File,
    socket: TcpStream,
    pub(super) pipe: Pipe,
}

/// A pipe and how much it holds.
pub(super) struct Pipe {
    pub(super) out: OwnedFd,
    pub(super) into: OwnedFd,
    pub(super) len: usize,
}

impl Pipe {
    pub(super) fn open(len: u64) -> Result<Self> {
        let (out, into) = rustix::pipe::pipe()?;
        let len = rustix::pipe::fcntl_setpipe_size(&into, usize::try_from(len)?)?;
        Ok(Self { out, into, len })
    }

    /// Empties `left` bytes into a blocking socket.
    pub(super) fn drain(&self, socket: &TcpStream, mut left: usize, last: bool) -> Result<()> {
        // MORE before the last pipe-full would hold back the tail.
        let flags = if last { SpliceFlags::empty() } else { SpliceFlags::MORE };
        while left > 0 {
            left -= rustix::pipe::splice(&self.out, None, socket, None, left, flags)?;
        }
        Ok(())
    }
}

impl Splice {
    pub(super) fn new(file: File, socket: TcpStream, pipe_len: u64) -> Result<Self> {
        Ok(Self { file, socket, pipe: Pipe::open(pipe_len)? })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl StreamArm for Splice {
    fn send(&mut self, span: Span) -> Result<()> {
        let mut offset = span.offset;
        let end = span.offset + span.len;
        while offset < end {
            let want = call_len(end - offset).min(self.pipe.len);
            let flags = SpliceFlags::empty();
            let from = Some(&mut offset);
            let filled =
                rustix::pipe::splice(&self.file, from, &self.pipe.into, None, want, flags)?;
            ensure!(filled > 0, "the file ended {} bytes early", end - offset);
            self.pipe.drain(&self.socket, filled, offset >= end)?;
        }
        Ok(())
    }
}
