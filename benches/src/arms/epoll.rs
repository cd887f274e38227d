//! Keep-alive connections served by one thread with epoll(7), as nginx and its like do it.
//!
//! The loop is the same for every arm; only how one answer's bytes leave differs ([`Body`]).

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::SpliceFlags;

use super::{Arm, ExchangeArm, Make};
use crate::loopback::PATIENCE;
use crate::wire::{REQUEST_LEN, response_header};

pub(super) const ARMS: &[Arm] = &[
    Arm {
        name: "epoll-read-write",
        about: "epoll; pread, then header and body in one writev(2)",
        make: Make::Exchange(|file, sockets| make(file, sockets, ReadWritev::default())),
        hidden: false,
    },
    Arm {
        name: "epoll-sendfile",
        about: "epoll; header by send(MSG_MORE), body by sendfile(2)",
        make: Make::Exchange(|file, sockets| make(file, sockets, Sendfile)),
        hidden: false,
    },
    Arm {
        name: "epoll-splice-1m",
        about: "epoll; header by send(MSG_MORE), body by splice(2) through pooled 1 MiB pipes",
        make: Make::Exchange(|file, sockets| make(file, sockets, Splice::default())),
        hidden: false,
    },
];

/// What all answers share.
struct Answer {
    file: File,
    file_len: usize,
    header: Vec<u8>,
}

/// One connection and how far its current answer is.
struct Connection {
    socket: TcpStream,
    /// Bytes of the request received.
    requested: usize,
    /// Bytes of header and body accepted by the socket.
    sent: usize,
    /// Bytes of the body that were moved from the file into `pipe`.
    taken: usize,
    /// Holds bytes of this answer only while the socket is full.
    pipe: Option<Pipe>,
    /// Waits for room in the socket, not for a request.
    wants_room: bool,
}

/// How the bytes of one answer leave.
trait Body {
    /// Sends until the answer is complete (`Ok`) or the socket is full (`EAGAIN`).
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno>;
}

struct EpollServer<B> {
    answer: Answer,
    connections: Vec<Connection>,
    epoll: OwnedFd,
    body: B,
}

fn make<B: Body + 'static>(
    file: File,
    sockets: Vec<TcpStream>,
    body: B,
) -> Result<Box<dyn ExchangeArm>> {
    let file_len = usize::try_from(file.metadata()?.len())?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for socket in sockets {
        socket.set_nonblocking(true)?;
        let index = EventData::new_u64(connections.len() as u64);
        epoll::add(&epoll, &socket, index, EventFlags::IN)?;
        connections.push(Connection {
            socket,
            requested: 0,
            sent: 0,
            taken: 0,
            pipe: None,
            wants_room: false,
        });
    }
    let answer = Answer { file, file_len, header: response_header(file_len) };
    Ok(Box::new(EpollServer { answer, connections, epoll, body }))
}

impl<B: Body> ExchangeArm for EpollServer<B> {
    fn serve(&mut self, requests_each: u32) -> Result<()> {
        let mut left = self.connections.len() * usize::try_from(requests_each)?;
        let mut events: Vec<Event> = Vec::with_capacity(self.connections.len());
        let patience = PATIENCE.try_into()?;
        while left > 0 {
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, Some(&patience)) {
                Ok(0) => bail!("no request for {PATIENCE:?}, {left} answers still to give"),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                let connection = &mut self.connections[index];
                if connection.requested < REQUEST_LEN && !connection.receive()? {
                    continue;
                }
                let complete = match self.body.advance(&self.answer, connection) {
                    Ok(()) => true,
                    Err(Errno::AGAIN) => false,
                    Err(errno) => return Err(errno).context("an answer could not be sent"),
                };
                connection.watch(&self.epoll, event.data, !complete)?;
                if complete {
                    left -= 1;
                    connection.requested = 0;
                    connection.sent = 0;
                    connection.taken = 0;
                }
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Whether the request has arrived as a whole.
    fn receive(&mut self) -> Result<bool> {
        let mut request = [0; REQUEST_LEN];
        match self.socket.read(&mut request[self.requested..]) {
            Ok(0) => bail!("a client went away"),
            Ok(read) => self.requested += read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.requested == REQUEST_LEN)
    }

    /// Watches for room in the socket or for the next request; a call only when that changes.
    fn watch(&mut self, epoll: &OwnedFd, index: EventData, wants_room: bool) -> Result<()> {
        if self.wants_room != wants_room {
            let flags = if wants_room { EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(epoll, &self.socket, index, flags)?;
            self.wants_room = wants_room;
        }
        Ok(())
    }

    /// Sends what is left of the header, corked: the body follows in the same packet.
    fn send_header(&mut self, header: &[u8]) -> Result<(), Errno> {
        while self.sent < header.len() {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            self.sent += rustix::net::send(&self.socket, &header[self.sent..], flags)?;
        }
        Ok(())
    }
}

/// Reads the body into one shared buffer; what a full socket did not take is read again later.
#[derive(Default)]
struct ReadWritev {
    buffer: Vec<u8>,
}

impl Body for ReadWritev {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        self.buffer.resize(answer.file_len, 0);
        let from = connection.sent.saturating_sub(answer.header.len());
        let body = &mut self.buffer[from..];
        answer.file.read_exact_at(body, from as u64).map_err(|error| errno_of(&error))?;
        while connection.sent < answer.header.len() + answer.file_len {
            let header = &answer.header[connection.sent.min(answer.header.len())..];
            let body = &self.buffer[connection.sent.saturating_sub(answer.header.len())..];
            let slices = [IoSlice::new(header), IoSlice::new(body)];
            let written = connection.socket.write_vectored(&slices);
            connection.sent += written.map_err(|error| errno_of(&error))?;
        }
        Ok(())
    }
}

struct Sendfile;

impl Body for Sendfile {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        connection.send_header(&answer.header)?;
        let mut offset = (connection.sent - answer.header.len()) as u64;
        while offset < answer.file_len as u64 {
            let want = answer.header.len() + answer.file_len - connection.sent;
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
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Pipes are made when needed and kept: a connection holds one only while its answer is on the way.
#[derive(Default)]
struct Splice {
    pool: Vec<Pipe>,
}

const PIPE_LEN: usize = 1024 * 1024;

impl Body for Splice {
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno> {
        connection.send_header(&answer.header)?;
        let pipe = match connection.pipe.take().or_else(|| self.pool.pop()) {
            Some(pipe) => pipe,
            None => open_pipe()?,
        };
        let outcome = pump(answer, connection, &pipe);
        match outcome {
            Ok(()) => self.pool.push(pipe),
            Err(_) => connection.pipe = Some(pipe),
        }
        outcome
    }
}

fn open_pipe() -> Result<Pipe, Errno> {
    let (out, into) = rustix::pipe::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&into, PIPE_LEN)?;
    Ok(Pipe { out, into })
}

fn pump(answer: &Answer, connection: &mut Connection, pipe: &Pipe) -> Result<(), Errno> {
    let flags = SpliceFlags::NONBLOCK;
    loop {
        let residue = answer.header.len() + connection.taken - connection.sent;
        if residue > 0 {
            let socket = &connection.socket;
            let more = if connection.taken < answer.file_len { SpliceFlags::MORE } else { flags };
            connection.sent +=
                rustix::pipe::splice(&pipe.out, None, socket, None, residue, flags | more)?;
        } else if connection.taken < answer.file_len {
            let mut offset = connection.taken as u64;
            let want = (answer.file_len - connection.taken).min(PIPE_LEN);
            let from = Some(&mut offset);
            match rustix::pipe::splice(&answer.file, from, &pipe.into, None, want, flags)? {
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
