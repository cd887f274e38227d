//! One stream, sent as programs have always sent it: read+write, sendfile(2), splice(2).

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::{Arm, Make, Span, StreamArm};
use crate::loopback::await_ready;
use crate::point::{KIB, MIB};

pub(super) const ARMS: &[Arm] = &[
    Arm {
        name: "read-write-64k",
        about: "pread and write, one 64 KiB buffer",
        make: Make::Stream(|file, socket| Ok(Box::new(ReadWrite::new(file, socket, 64 * KIB)?))),
        hidden: false,
    },
    Arm {
        name: "read-write-256k",
        about: "pread and write, one 256 KiB buffer",
        make: Make::Stream(|file, socket| Ok(Box::new(ReadWrite::new(file, socket, 256 * KIB)?))),
        hidden: false,
    },
    Arm {
        name: "sendfile",
        about: "sendfile(2) on a blocking socket, as much per call as the kernel takes",
        make: Make::Stream(|file, socket| Ok(Box::new(Sendfile { file, socket }))),
        hidden: false,
    },
    Arm {
        name: "sendfile-poll",
        about: "sendfile(2) on a non-blocking socket, poll(2) when it is full",
        make: Make::Stream(|file, socket| {
            socket.set_nonblocking(true)?;
            Ok(Box::new(Sendfile { file, socket }))
        }),
        hidden: false,
    },
    Arm {
        name: "splice-1m",
        about: "splice(2) through a 1 MiB pipe into a blocking socket",
        make: Make::Stream(|file, socket| Ok(Box::new(Splice::new(file, socket, MIB)?))),
        hidden: false,
    },
];

/// The most that one call may be asked for (`MAX_RW_COUNT`), in bytes.
const CALL_MAX: u64 = 0x7fff_f000;

/// `read(2)` into a buffer, `write(2)` out of it.
struct ReadWrite {
    file: File,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl ReadWrite {
    fn new(file: File, socket: TcpStream, buffer_len: u64) -> Result<Self> {
        Ok(Self { file, socket, buffer: vec![0; usize::try_from(buffer_len)?] })
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
        Ok(())
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
struct Splice {
    file: File,
    socket: TcpStream,
    pipe_out: OwnedFd,
    pipe_in: OwnedFd,
    pipe_len: usize,
}

impl Splice {
    fn new(file: File, socket: TcpStream, pipe_len: u64) -> Result<Self> {
        let (pipe_out, pipe_in) = rustix::pipe::pipe()?;
        let pipe_len = rustix::pipe::fcntl_setpipe_size(&pipe_in, usize::try_from(pipe_len)?)?;
        Ok(Self { file, socket, pipe_out, pipe_in, pipe_len })
    }
}

impl StreamArm for Splice {
    fn send(&mut self, span: Span) -> Result<()> {
        let mut offset = span.offset;
        let end = span.offset + span.len;
        while offset < end {
            let want = call_len(end - offset).min(self.pipe_len);
            let flags = SpliceFlags::empty();
            let from = Some(&mut offset);
            let filled = rustix::pipe::splice(&self.file, from, &self.pipe_in, None, want, flags)?;
            ensure!(filled > 0, "the file ended {} bytes early", end - offset);
            // More follows except after the last pipe-full: MORE there would hold back the tail.
            let flags = if offset < end { SpliceFlags::MORE } else { SpliceFlags::empty() };
            let mut left = filled;
            while left > 0 {
                left -=
                    rustix::pipe::splice(&self.pipe_out, None, &self.socket, None, left, flags)?;
            }
        }
        Ok(())
    }
}

/// `left`, clamped to what one call may be asked for.
fn call_len(left: u64) -> usize {
    usize::try_from(left.min(CALL_MAX)).unwrap_or(usize::MAX)
}
