//! Keep-alive connections served by one thread with epoll(7), as nginx and its like do it.
//!
//! The loop is the same for every arm; only how one answer's bytes leave differs: see `bodies`.

pub(super) mod bodies;

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

use self::bodies::{Mapped, Pipe, ReadSend, ReadWritev, Sendfile, Splice, Tee};
use super::{Arm, Counts, ExchangeArm};
use crate::loopback::PATIENCE;
use crate::point::{KIB, MIB, Slices};
use crate::wire::{REQUEST_LEN, offset_asked, response_header};

pub(super) const ARMS: &[Arm] = &[
    Arm::exchange(
        "epoll-read-send-16k",
        "epoll; pread and send, 16 KiB at a time",
        2,
        |f, s, c| make(f, s, c, |_| Ok(ReadSend::new(16 * KIB))),
    ),
    Arm::exchange(
        "epoll-read-send-64k",
        "epoll; pread and send, 64 KiB at a time",
        2,
        |f, s, c| make(f, s, c, |_| Ok(ReadSend::new(64 * KIB))),
    ),
    Arm::exchange("epoll-read-send-1m", "epoll; pread and send, 1 MiB at a time", 2, |f, s, c| {
        make(f, s, c, |_| Ok(ReadSend::new(MIB)))
    }),
    Arm::exchange(
        "epoll-read-writev",
        "epoll; pread, then header and body in one writev(2)",
        2,
        |f, s, c| make(f, s, c, |_| Ok(ReadWritev::default())),
    )
    .quick(),
    Arm::exchange(
        "epoll-mmap-writev",
        "epoll; header and mapping in one writev(2)",
        1,
        |f, s, c| make(f, s, c, Mapped::new),
    ),
    Arm::exchange(
        "epoll-sendfile",
        "epoll; header by send(MSG_MORE), body by sendfile(2)",
        0,
        |f, s, c| make(f, s, c, |_| Ok(Sendfile)),
    )
    .quick(),
    Arm::exchange(
        "epoll-splice-64k",
        "epoll; header by send(MSG_MORE), body by splice(2) through pooled 64 KiB pipes",
        0,
        |f, s, c| make(f, s, c, |_| Ok(Splice::new(64 * KIB))),
    ),
    Arm::exchange(
        "epoll-splice-256k",
        "epoll; header by send(MSG_MORE), body by splice(2) through pooled 256 KiB pipes",
        0,
        |f, s, c| make(f, s, c, |_| Ok(Splice::new(256 * KIB))),
    ),
    Arm::exchange(
        "epoll-splice-1m",
        "epoll; header by send(MSG_MORE), body by splice(2) through pooled 1 MiB pipes",
        0,
        |f, s, c| make(f, s, c, |_| Ok(Splice::new(MIB))),
    )
    .quick(),
    Arm::exchange(
        "epoll-floor",
        "epoll; header by send(MSG_MORE), body by tee(2) and splice(2) from a pipe, no file",
        0,
        |f, s, c| make(f, s, c, Tee::new),
    )
    .quick()
    .hot_only(),
];

/// What all answers share.
pub(super) struct Answer {
    pub(super) file: File,
    pub(super) slices: Slices,
    pub(super) body_len: usize,
    pub(super) header: Vec<u8>,
}

/// One connection and how far its current answer is.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    request: [u8; REQUEST_LEN],
    /// Bytes of the request received.
    requested: usize,
    /// Where the body of the current answer begins in the file.
    pub(super) base: u64,
    /// Bytes of header and body accepted by the socket.
    pub(super) sent: usize,
    /// Bytes of the body that were moved from the file into `pipe`.
    pub(super) taken: usize,
    /// Holds bytes of this answer only while the socket is full.
    pub(super) pipe: Option<Pipe>,
    /// Waits for room in the socket, not for a request.
    wants_room: bool,
}

/// How the bytes of one answer leave.
pub(super) trait Body {
    /// Sends until the answer is complete (`Ok`) or the socket is full (`EAGAIN`).
    fn advance(&mut self, answer: &Answer, connection: &mut Connection) -> Result<(), Errno>;

    /// Bytes that were copied since this was last asked, if the body counts them.
    fn copied_bytes(&mut self) -> Option<u64> {
        None
    }

    /// See [`ExchangeArm::rest`].
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Answer {
    pub(super) fn new(file: File, slices: Slices) -> Result<Self> {
        let body_len = usize::try_from(slices.len)?;
        Ok(Self { file, slices, body_len, header: response_header(slices.len) })
    }

    /// Header and body, in bytes.
    pub(super) fn len(&self) -> usize {
        self.header.len() + self.body_len
    }
}

impl Connection {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            request: [0; REQUEST_LEN],
            requested: 0,
            base: 0,
            sent: 0,
            taken: 0,
            pipe: None,
            wants_room: false,
        }
    }

    /// Takes what has arrived; tells whether the request is there as a whole.
    pub(super) fn receive(&mut self, slices: Slices) -> Result<bool> {
        if self.requested == REQUEST_LEN {
            return Ok(true);
        }
        match self.socket.read(&mut self.request[self.requested..]) {
            Ok(0) => bail!("a client went away"),
            Ok(read) => self.requested += read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if self.requested < REQUEST_LEN {
            return Ok(false);
        }
        self.base = offset_asked(&self.request, slices).context("a request for nothing")?;
        Ok(true)
    }

    /// The answer is out: the next one begins at nothing.
    pub(super) fn reset(&mut self) {
        self.requested = 0;
        self.sent = 0;
        self.taken = 0;
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

struct EpollServer<B> {
    answer: Answer,
    connections: Vec<Connection>,
    epoll: OwnedFd,
    body: B,
}

fn make<B: Body + 'static>(
    file: File,
    slices: Slices,
    sockets: Vec<TcpStream>,
    body: impl FnOnce(&File) -> Result<B>,
) -> Result<Box<dyn ExchangeArm>> {
    let body = body(&file)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for socket in sockets {
        socket.set_nonblocking(true)?;
        let index = EventData::new_u64(connections.len() as u64);
        epoll::add(&epoll, &socket, index, EventFlags::IN)?;
        connections.push(Connection::new(socket));
    }
    let answer = Answer::new(file, slices)?;
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
                if !connection.receive(self.answer.slices)? {
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
                    connection.reset();
                }
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        Counts { copied_bytes: self.body.copied_bytes(), ..Counts::default() }
    }

    fn rest(&mut self) -> Result<()> {
        self.body.rest()
    }
}
