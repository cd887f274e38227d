//! The client of the keep-alive points: a closed loop over many connections, in one thread.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use crate::canary::Canary;
use crate::loopback::{PATIENCE, TRANSFER_LONGEST};
use crate::wire::{REQUEST, response_header};

/// Which answers are received in full and compared; the others are counted and discarded in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    All,
    LastOfEachConnection,
}

/// Time from a request to the last byte of its answer, in microseconds. Closed loop: a client that waits
/// does not ask, so a stall of the server is under-represented here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// The client: its connections and what it expects to be answered.
#[derive(Debug)]
pub(crate) struct Load {
    connections: Vec<Connection>,
    epoll: OwnedFd,
    header: Vec<u8>,
    answer_len: usize,
    canary: Canary,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    requests_left: u32,
    /// Bytes of the current answer received, header included.
    received: usize,
    asked: Instant,
}

impl Load {
    pub(crate) fn new(sockets: Vec<TcpStream>, file_len: u64, canary: Canary) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for socket in sockets {
            let index = EventData::new_u64(connections.len() as u64);
            epoll::add(&epoll, &socket, index, EventFlags::IN)?;
            let asked = Instant::now();
            connections.push(Connection { socket, requests_left: 0, received: 0, asked });
        }
        let file_len = usize::try_from(file_len)?;
        let header = response_header(file_len);
        let answer_len = header.len() + file_len;
        Ok(Self { connections, epoll, header, answer_len, canary })
    }

    /// Asks `requests_each` times on every connection, one request at a time on each.
    pub(crate) fn run(&mut self, requests_each: u32, compare: Compare) -> Result<Latency> {
        let mut left = self.connections.len() * usize::try_from(requests_each)?;
        let mut latencies_us = Vec::with_capacity(left);
        let mut buffer = vec![0; self.answer_len];
        let mut events: Vec<Event> = Vec::with_capacity(self.connections.len());
        let patience = PATIENCE.try_into()?;
        for connection in &mut self.connections {
            connection.requests_left = requests_each;
            connection.ask()?;
        }
        let begin = Instant::now();
        while left > 0 {
            ensure!(begin.elapsed() < TRANSFER_LONGEST, "too slow: {left} answers are missing");
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, Some(&patience)) {
                Ok(0) => bail!("wrong count: {left} answers are missing after {PATIENCE:?}"),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                let complete = self.receive(index, compare, &mut buffer)?;
                if complete {
                    left -= 1;
                    let connection = &mut self.connections[index];
                    latencies_us.push(connection.asked.elapsed().as_secs_f64() * 1e6);
                    if connection.requests_left > 0 {
                        connection.ask()?;
                    }
                }
            }
        }
        Ok(percentiles(&mut latencies_us))
    }

    /// Makes sure that no connection holds bytes beyond its answers.
    pub(crate) fn expect_silence(&self) -> Result<()> {
        self.connections
            .iter()
            .try_for_each(|connection| crate::receiver::expect_silence(&connection.socket))
    }

    /// Takes what has arrived on a connection; tells whether its answer is complete.
    fn receive(&mut self, index: usize, compare: Compare, buffer: &mut [u8]) -> Result<bool> {
        let connection = &mut self.connections[index];
        let looks = compare == Compare::All || connection.requests_left == 0;
        let discard = if looks { RecvFlags::empty() } else { RecvFlags::TRUNC };
        // A connection without a question gets no answer: whatever comes is one byte too many.
        let want = (self.answer_len - connection.received).max(1);
        let flags = RecvFlags::DONTWAIT | discard;
        let read = match rustix::net::recv(&connection.socket, &mut buffer[..want], flags) {
            Ok((_, 0)) => bail!("wrong count: the sender closed a connection in an answer"),
            Ok((_, read)) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let from = connection.received;
        ensure!(from + read <= self.answer_len, "wrong count: an answer is too long");
        connection.received += read;
        if looks {
            self.check(from, &buffer[..read])?;
        }
        Ok(self.connections[index].received == self.answer_len)
    }

    /// Compares bytes of an answer, whose first one stands at `from`.
    fn check(&self, from: usize, bytes: &[u8]) -> Result<()> {
        let split = self.header.len().saturating_sub(from).min(bytes.len());
        let (header, body) = bytes.split_at(split);
        if !header.is_empty() {
            ensure!(header == &self.header[from..from + split], "wrong bytes: in the header");
        }
        let position = (from + split).saturating_sub(self.header.len());
        self.canary.check(position as u64, body)?;
        Ok(())
    }
}

impl Connection {
    fn ask(&mut self) -> Result<()> {
        self.requests_left -= 1;
        self.received = 0;
        self.asked = Instant::now();
        self.socket.write_all(&REQUEST).context("a request could not be sent")
    }
}

fn percentiles(latencies_us: &mut [f64]) -> Latency {
    latencies_us.sort_unstable_by(f64::total_cmp);
    let at = |per_mille: usize| {
        let index = (latencies_us.len() * per_mille / 1000).min(latencies_us.len() - 1);
        latencies_us[index]
    };
    Latency { p50_us: at(500), p99_us: at(990) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_data() {
        let mut data: Vec<f64> = (0..1000).rev().map(f64::from).collect();
        assert_eq!(percentiles(&mut data), Latency { p50_us: 500.0, p99_us: 990.0 });
        assert_eq!(percentiles(&mut [3.0]), Latency { p50_us: 3.0, p99_us: 3.0 });
    }
}
