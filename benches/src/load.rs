//! The client of the keep-alive points: a closed loop over many connections, in one thread.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use crate::canary::Canary;
use crate::http_head;
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

/// What is asked, and what stands before the bytes of the file.
#[derive(Debug)]
pub(crate) struct Protocol {
    request: Vec<u8>,
    head: Head,
}

#[derive(Debug)]
enum Head {
    /// These bytes, the same every time.
    Fixed(Vec<u8>),
    /// An HTTP head, which is read and checked.
    Http,
}

impl Protocol {
    /// The harness's own: see [`crate::wire`].
    pub(crate) fn fixed(file_len: u64) -> Result<Self> {
        let head = response_header(usize::try_from(file_len)?);
        Ok(Self { request: REQUEST.to_vec(), head: Head::Fixed(head) })
    }

    /// GETs of `path`, which begins with a slash, over HTTP/1.1.
    pub(crate) fn http(path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
        Self { request, head: Head::Http }
    }
}

/// The client: its connections and what it expects to be answered.
#[derive(Debug)]
pub(crate) struct Load {
    connections: Vec<Connection>,
    epoll: OwnedFd,
    protocol: Protocol,
    file_len: usize,
    canary: Canary,
    /// Never sleeps: see [`Self::stay_awake`].
    awake: bool,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    requests_left: u32,
    /// Bytes of the current answer received, head included.
    received: usize,
    /// Length of the current answer, head included; `None` until its head is complete.
    answer_len: Option<usize>,
    /// What has arrived of an HTTP head that is not complete, and of the body behind it.
    head: Vec<u8>,
    asked: Instant,
}

/// Bytes received at a time while a head is awaited; a head must fit in.
const HEAD_LEN_MAX: usize = 8 * 1024;

impl Load {
    pub(crate) fn new(
        sockets: Vec<TcpStream>,
        protocol: Protocol,
        file_len: u64,
        canary: Canary,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for socket in sockets {
            let index = EventData::new_u64(connections.len() as u64);
            epoll::add(&epoll, &socket, index, EventFlags::IN)?;
            let asked = Instant::now();
            connections.push(Connection {
                socket,
                requests_left: 0,
                received: 0,
                answer_len: None,
                head: Vec::with_capacity(HEAD_LEN_MAX),
                asked,
            });
        }
        let file_len = usize::try_from(file_len)?;
        Ok(Self { connections, epoll, protocol, file_len, canary, awake: false })
    }

    /// From now on the client spins instead of sleeping. On loopback the CPU that sends pays for waking
    /// the one that waits, and a fast client waits most; a client on another host costs nothing of that.
    pub(crate) fn stay_awake(&mut self) {
        self.awake = true;
    }

    /// Asks `requests_each` times on every connection, one request at a time on each.
    pub(crate) fn run(&mut self, requests_each: u32, compare: Compare) -> Result<Latency> {
        let mut left = self.connections.len() * usize::try_from(requests_each)?;
        let mut latencies_us = Vec::with_capacity(left);
        let mut buffer = vec![0; self.file_len + HEAD_LEN_MAX];
        let mut events: Vec<Event> = Vec::with_capacity(self.connections.len());
        let patience = if self.awake { Duration::ZERO } else { PATIENCE }.try_into()?;
        for connection in &mut self.connections {
            connection.requests_left = requests_each;
            connection.ask(&self.protocol, self.file_len)?;
        }
        let begin = Instant::now();
        while left > 0 {
            ensure!(begin.elapsed() < TRANSFER_LONGEST, "too slow: {left} answers are missing");
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, Some(&patience)) {
                Ok(0) if self.awake => continue,
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
                        connection.ask(&self.protocol, self.file_len)?;
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
        let (want, discard) = match connection.answer_len {
            // A connection without a question gets no answer: whatever comes is one byte too many.
            Some(len) if !looks => ((len - connection.received).max(1), RecvFlags::TRUNC),
            Some(len) => ((len - connection.received).max(1), RecvFlags::empty()),
            None => (HEAD_LEN_MAX, RecvFlags::empty()),
        };
        let flags = RecvFlags::DONTWAIT | discard;
        let read = match rustix::net::recv(&connection.socket, &mut buffer[..want], flags) {
            Ok((_, 0)) => bail!("wrong count: the sender closed a connection in an answer"),
            Ok((_, read)) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let from = connection.received;
        connection.received += read;
        let Some(answer_len) = connection.answer_len else {
            return self.take_head(index, looks, &buffer[..read]);
        };
        ensure!(connection.received <= answer_len, "wrong count: an answer is too long");
        if looks {
            self.check(from, answer_len - self.file_len, &buffer[..read])?;
        }
        Ok(self.connections[index].received == answer_len)
    }

    /// Takes bytes of an HTTP head, and of the body if it begins in them; tells whether that is all.
    fn take_head(&mut self, index: usize, looks: bool, bytes: &[u8]) -> Result<bool> {
        let connection = &mut self.connections[index];
        connection.head.extend_from_slice(bytes);
        let Some(head_len) = http_head::check(&connection.head, self.file_len)? else {
            ensure!(connection.head.len() < HEAD_LEN_MAX, "wrong answer: the head does not end");
            return Ok(false);
        };
        let answer_len = head_len + self.file_len;
        ensure!(connection.received <= answer_len, "wrong count: an answer is too long");
        connection.answer_len = Some(answer_len);
        if looks {
            self.canary.check(0, &connection.head[head_len..])?;
        }
        Ok(connection.received == answer_len)
    }

    /// Compares bytes of an answer, the first of which stands at `from`; an HTTP head is not among them.
    fn check(&self, from: usize, head_len: usize, bytes: &[u8]) -> Result<()> {
        let split = head_len.saturating_sub(from).min(bytes.len());
        let (before, body) = bytes.split_at(split);
        if let Head::Fixed(head) = &self.protocol.head {
            let expected = head.get(from..from + split).unwrap_or_default();
            ensure!(before == expected, "wrong bytes: in the header");
        }
        let position = (from + split).saturating_sub(head_len);
        self.canary.check(position as u64, body)?;
        Ok(())
    }
}

impl Connection {
    fn ask(&mut self, protocol: &Protocol, file_len: usize) -> Result<()> {
        self.requests_left -= 1;
        self.received = 0;
        self.head.clear();
        self.answer_len = match &protocol.head {
            Head::Fixed(head) => Some(head.len() + file_len),
            Head::Http => None,
        };
        self.asked = Instant::now();
        self.socket.write_all(&protocol.request).context("a request could not be sent")
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
