//! How the bytes of one answer leave: by a buffer, a mapping, sendfile(2), a pipe.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use memmap2::Mmap;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::SpliceFlags;

use super::super::mapping;
use super::{Answer, Body, Connection};
use crate::point::MIB;

/// Reads a part of the body and sends it, again and again; what a full socket did not take is read again
/// later.
pub(in crate::arms) struct ReadSend {
    buffer: Vec<u8>,
    copied_bytes: u64,
}

impl ReadSend {
    pub(in crate::arms) fn new(chunk: u64) -> Self {
        Self { buffer: vec![0; usize::try_from(chunk).unwrap_or(usize::MAX)], copied_bytes: 0 }
    }
}

impl Body for ReadSend {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        connection.send_header(&answer.header)?;
        while connection.sent < answer.len() {
            let position = connection.sent - answer.header.len();
            let want = (answer.body_len - position).min(self.buffer.len());
            let part = &mut self.buffer[..want];
            let from = connection.base + position as u64;
            answer.file.read_exact_at(part, from).map_err(|error| errno_of(&error))?;
            self.copied_bytes += want as u64;
            let last = position + want == answer.body_len;
            let more = if last { SendFlags::empty() } else { SendFlags::MORE };
            let sent = rustix::net::send(&connection.socket, part, more | SendFlags::NOSIGNAL)?;
            self.copied_bytes += sent as u64;
            connection.sent += sent;
        }
        Ok(())
    }

    fn copied_bytes(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.copied_bytes))
    }
}

/// Reads the whole body into one shared buffer; what a full socket did not take is read again later.
#[derive(Default)]
pub(in crate::arms) struct ReadWritev {
    buffer: Vec<u8>,
    copied_bytes: u64,
}

impl Body for ReadWritev {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        self.buffer.resize(answer.body_len, 0);
        let from = connection.sent.saturating_sub(answer.header.len());
        let body = &mut self.buffer[from..];
        let offset = connection.base + from as u64;
        answer.file.read_exact_at(body, offset).map_err(|error| errno_of(&error))?;
        self.copied_bytes += body.len() as u64;
        let before = connection.sent;
        let outcome = write_rest(answer, connection, &self.buffer);
        self.copied_bytes += (connection.sent - before) as u64;
        outcome
    }

    fn copied_bytes(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.copied_bytes))
    }
}

/// Writes out of a mapping of the whole file.
pub(in crate::arms) struct Mapped {
    map: Mmap,
    copied_bytes: u64,
}

impl Mapped {
    pub(in crate::arms) fn new(file: &File) -> Result<Self> {
        Ok(Self { map: mapping::map(file)?, copied_bytes: 0 })
    }
}

impl Body for Mapped {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        let base = usize::try_from(connection.base).map_err(|_| Errno::OVERFLOW)?;
        let before = connection.sent;
        let outcome = write_rest(answer, connection, &self.map[base..base + answer.body_len]);
        self.copied_bytes += (connection.sent - before) as u64;
        outcome
    }

    fn copied_bytes(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.copied_bytes))
    }

    fn rest(&mut self) -> Result<()> {
        mapping::let_go(&self.map)
    }
}

/// Header and `body`, as far as they were not written yet.
fn write_rest(answer: &Answer, connection: &mut Connection, body: &[u8]) -> Result<(), Errno> {
    while connection.sent < answer.len() {
        let header = &answer.header[connection.sent.min(answer.header.len())..];
        let body = &body[connection.sent.saturating_sub(answer.header.len())..];
        let slices = [IoSlice::new(header), IoSlice::new(body)];
        let written = connection.socket.write_vectored(&slices);
        connection.sent += written.map_err(|error| errno_of(&error))?;
    }
    Ok(())
}

pub(in crate::arms) struct Sendfile;

impl Body for Sendfile {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        connection.send_header(&answer.header)?;
        while connection.sent < answer.len() {
            let mut offset = connection.base + (connection.sent - answer.header.len()) as u64;
            let want = answer.len() - connection.sent;
            let socket = &connection.socket;
            match rustix::fs::sendfile(socket, &answer.file, Some(&mut offset), want)? {
                0 => return Err(Errno::NODATA),
                sent => connection.sent += sent,
            }
        }
        Ok(())
    }
}

/// A pipe, empty whenever it lies in the pool.
pub(in crate::arms) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    len: usize,
}

/// Pipes are made when needed and kept: a connection holds one only while its answer is on the way.
pub(in crate::arms) struct Splice {
    pipe_len: usize,
    pool: Vec<Pipe>,
}

impl Splice {
    pub(in crate::arms) fn new(pipe_len: u64) -> Self {
        Self { pipe_len: usize::try_from(pipe_len).unwrap_or(usize::MAX), pool: Vec::new() }
    }
}

impl Body for Splice {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        through_a_pipe(&mut self.pool, self.pipe_len, answer, connection, |pipe, offset, want| {
            let (mut offset, flags) = (offset, SpliceFlags::NONBLOCK);
            let from = Some(&mut offset);
            rustix::pipe::splice(&answer.file, from, &pipe.into, None, want, flags)
        })
    }
}

/// The floor: the body lies in a template pipe, and tee(2) gives its pages again and again.
pub(in crate::arms) struct Tee {
    template: Pipe,
    pool: Vec<Pipe>,
}

impl Tee {
    pub(in crate::arms) fn new(file: &File) -> Result<Self> {
        let template = open_pipe(usize::try_from(MIB)?)?;
        let len = file.metadata()?.len();
        ensure!(len <= template.len as u64, "the floor is for bodies that fit into one pipe");
        let mut offset = 0;
        while offset < len {
            let want = usize::try_from(len - offset)?;
            let (from, flags) = (Some(&mut offset), SpliceFlags::NONBLOCK);
            rustix::pipe::splice(file, from, &template.into, None, want, flags)?;
        }
        Ok(Self { template, pool: Vec::new() })
    }
}

impl Body for Tee {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        let template = &self.template;
        through_a_pipe(&mut self.pool, template.len, answer, connection, |pipe, _, want| {
            rustix::pipe::tee(&template.out, &pipe.into, want, SpliceFlags::NONBLOCK)
        })
    }
}

fn open_pipe(len: usize) -> Result<Pipe, Errno> {
    let (out, into) = rustix::pipe::pipe()?;
    let len = rustix::pipe::fcntl_setpipe_size(&into, len)?;
    Ok(Pipe { out, into, len })
}

/// Header, then the body through a pipe that `fill` puts bytes of the file into: from where, how many.
fn through_a_pipe(
    pool: &mut Vec<Pipe>,
    pipe_len: usize,
    answer: &Answer,
    connection: &mut Connection,
    fill: impl Fn(&Pipe, u64, usize) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    connection.send_header(&answer.header)?;
    let pipe = match connection.pipe.take().or_else(|| pool.pop()) {
        Some(pipe) => pipe,
        None => open_pipe(pipe_len)?,
    };
    let outcome = pump(answer, connection, &pipe, fill);
    match outcome {
        Ok(()) => pool.push(pipe),
        Err(_) => connection.pipe = Some(pipe),
    }
    outcome
}

fn pump(
    answer: &Answer,
    connection: &mut Connection,
    pipe: &Pipe,
    fill: impl Fn(&Pipe, u64, usize) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    let flags = SpliceFlags::NONBLOCK;
    loop {
        let residue = answer.header.len() + connection.taken - connection.sent;
        if residue > 0 {
            let socket = &connection.socket;
            let more = if connection.taken < answer.body_len { SpliceFlags::MORE } else { flags };
            connection.sent +=
                rustix::pipe::splice(&pipe.out, None, socket, None, residue, flags | more)?;
        } else if connection.taken < answer.body_len {
            let offset = connection.base + connection.taken as u64;
            match fill(pipe, offset, (answer.body_len - connection.taken).min(pipe.len))? {
                0 => return Err(Errno::NODATA),
                taken => connection.taken += taken,
            }
        } else {
            return Ok(());
        }
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::NODATA)
}
