//! Keep-alive connections on a ring without a library.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail, ensure};
use io_uring::{opcode, types::Fd};
use memmap2::MmapMut;
use rustix::io::Errno;

use super::super::epoll::{Answer, Body, Connection};
use super::super::{Counts, ExchangeArm};
use super::ring::Ring;
use crate::point::{KIB, Slices};
use crate::wire::{REQUEST_LEN, offset_asked, response_header};

/// The ring waits for requests and for room; how a body leaves is that of the epoll arms.
pub(super) struct BodyServer<B> {
    ring: Ring,
    answer: Answer,
    connections: Vec<Connection>,
    body: B,
}

impl<B: Body> BodyServer<B> {
    pub(super) fn new(
        file: File,
        slices: Slices,
        sockets: Vec<TcpStream>,
        body: B,
    ) -> Result<Self> {
        let ring = Ring::new(u32::try_from(sockets.len())?.next_power_of_two().max(8))?;
        let mut connections = Vec::new();
        for socket in sockets {
            socket.set_nonblocking(true)?;
            connections.push(Connection::new(socket));
        }
        Ok(Self { ring, answer: Answer::new(file, slices)?, connections, body })
    }

    fn poll(&mut self, index: usize, events: libc::c_short) -> Result<()> {
        let socket = Fd(self.connections[index].socket.as_raw_fd());
        let poll = opcode::PollAdd::new(socket, u32::try_from(events)?).build();
        self.ring.push(&poll, index as u64)
    }
}

impl<B: Body> ExchangeArm for BodyServer<B> {
    fn serve(&mut self, requests_each: u32) -> Result<()> {
        let mut left = vec![requests_each; self.connections.len()];
        let mut all = u64::from(requests_each) * self.connections.len() as u64;
        for index in 0..self.connections.len() {
            self.poll(index, libc::POLLIN)?;
        }
        let mut ready = Vec::with_capacity(self.connections.len());
        while all > 0 {
            ready.clear();
            for done in self.ring.wait()? {
                done.count("a poll")?;
                ready.push(usize::try_from(done.asked_by)?);
            }
            for &index in &ready {
                let connection = &mut self.connections[index];
                if !connection.receive(self.answer.slices)? {
                    self.poll(index, libc::POLLIN)?;
                    continue;
                }
                match self.body.advance(&self.answer, connection) {
                    Ok(()) => {
                        connection.reset();
                        all -= 1;
                        left[index] -= 1;
                        if left[index] > 0 {
                            self.poll(index, libc::POLLIN)?;
                        }
                    }
                    Err(Errno::AGAIN) => self.poll(index, libc::POLLOUT)?,
                    Err(errno) => return Err(errno).context("an answer could not be sent"),
                }
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        Counts { copied_bytes: self.body.copied_bytes(), ..Counts::default() }
    }
}

/// RECV, READ_FIXED behind the header, SEND of both.
pub(super) struct CopyServer {
    ring: Ring,
    buffers: Vec<MmapMut>,
    places: Vec<Place>,
    file: File,
    slices: Slices,
    header: Vec<u8>,
    copied_bytes: u64,
}

/// The most of a body that is read at a time, in bytes.
const CHUNK: u64 = 256 * KIB;

/// One connection.
struct Place {
    socket: TcpStream,
    step: Step,
    base: u64,
    /// Bytes of the body that were read, all parts together.
    taken: u64,
    requests_left: u32,
}

/// The op in flight; there is never more than one per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Receiving { got: usize },
    Reading { head: usize },
    Sending { len: usize, sent: usize },
}

impl CopyServer {
    pub(super) fn new(file: File, slices: Slices, sockets: Vec<TcpStream>) -> Result<Self> {
        let header = response_header(slices.len);
        let room = usize::try_from(slices.len.min(CHUNK))? + header.len();
        let buffers = sockets.iter().map(|_| MmapMut::map_anon(room));
        let mut buffers = buffers.collect::<Result<Vec<_>, _>>()?;
        let ring = Ring::new(u32::try_from(sockets.len())?.next_power_of_two().max(8))?;
        ring.register(&mut buffers)?;
        let step = Step::Receiving { got: 0 };
        let place = |socket| Place { socket, step, base: 0, taken: 0, requests_left: 0 };
        let places = sockets.into_iter().map(place).collect();
        Ok(Self { ring, buffers, places, file, slices, header, copied_bytes: 0 })
    }

    /// Asks for what the connection's step says.
    fn ask(&mut self, index: usize) -> Result<()> {
        let (place, buffer) = (&self.places[index], &mut self.buffers[index]);
        let socket = Fd(place.socket.as_raw_fd());
        let op = match place.step {
            Step::Receiving { got } => {
                let part = &mut buffer[got..REQUEST_LEN];
                let len = u32::try_from(part.len())?;
                opcode::Recv::new(socket, part.as_mut_ptr(), len).build()
            }
            Step::Reading { head } => {
                let (file, number) = (Fd(self.file.as_raw_fd()), u16::try_from(index)?);
                let len = u32::try_from((self.slices.len - place.taken).min(CHUNK))?;
                let target = buffer[head..].as_mut_ptr();
                let read = opcode::ReadFixed::new(file, target, len, number);
                read.offset(place.base + place.taken).build()
            }
            Step::Sending { len, sent } => {
                let part = &buffer[sent..len];
                let more = if place.taken < self.slices.len { libc::MSG_MORE } else { 0 };
                let send = opcode::Send::new(socket, part.as_ptr(), u32::try_from(part.len())?);
                send.flags(more).build()
            }
        };
        self.ring.push(&op, index as u64)
    }

    /// Takes the outcome of the step; tells whether the answer is out.
    fn take(&mut self, index: usize, count: usize) -> Result<bool> {
        let place = &mut self.places[index];
        match place.step {
            Step::Receiving { got } => {
                ensure!(count > 0, "a client went away");
                place.step = Step::Receiving { got: got + count };
                if got + count == REQUEST_LEN {
                    let request = self.buffers[index][..REQUEST_LEN].try_into()?;
                    let base = offset_asked(request, self.slices);
                    place.base = base.context("a request for nothing")?;
                    place.taken = 0;
                    self.buffers[index][..self.header.len()].copy_from_slice(&self.header);
                    place.step = Step::Reading { head: self.header.len() };
                }
            }
            Step::Reading { head } => {
                ensure!(count > 0, "the file ended early");
                place.taken += count as u64;
                self.copied_bytes += count as u64;
                place.step = Step::Sending { len: head + count, sent: 0 };
            }
            Step::Sending { len, sent } => {
                self.copied_bytes += count as u64;
                place.step = Step::Sending { len, sent: sent + count };
                if sent + count == len {
                    let complete = place.taken == self.slices.len;
                    place.step = if complete {
                        Step::Receiving { got: 0 }
                    } else {
                        Step::Reading { head: 0 }
                    };
                    return Ok(complete);
                }
            }
        }
        Ok(false)
    }
}

impl ExchangeArm for CopyServer {
    fn serve(&mut self, requests_each: u32) -> Result<()> {
        for index in 0..self.places.len() {
            self.places[index].requests_left = requests_each;
            self.ask(index)?;
        }
        let mut left = u64::from(requests_each) * self.places.len() as u64;
        let mut reaped = Vec::with_capacity(self.places.len());
        while left > 0 {
            reaped.clear();
            reaped.extend_from_slice(self.ring.wait()?);
            for done in &reaped {
                let index = usize::try_from(done.asked_by)?;
                let Ok(count) = done.count("a step of an answer") else {
                    bail!("a step of an answer failed: errno {}", -done.result);
                };
                if self.take(index, count)? {
                    left -= 1;
                    self.places[index].requests_left -= 1;
                    if self.places[index].requests_left == 0 {
                        continue;
                    }
                }
                self.ask(index)?;
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        let copied_bytes = Some(std::mem::take(&mut self.copied_bytes));
        Counts { copied_bytes, ..Counts::default() }
    }
}
