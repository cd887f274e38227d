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
use crate::point::{Reader, Slices};
use crate::wire::{request, response_header};

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
    /// To the first byte of the answer.
    pub(crate) first_byte_p50_us: f64,
    pub(crate) first_byte_p99_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Latency {
    /// Of answers whose first and last bytes took so many microseconds.
    pub(crate) fn of(first_bytes_us: &mut [f64], last_bytes_us: &mut [f64]) -> Self {
        Self {
            first_byte_p50_us: percentile(first_bytes_us, 500),
            first_byte_p99_us: percentile(first_bytes_us, 990),
            p50_us: percentile(last_bytes_us, 500),
            p90_us: percentile(last_bytes_us, 900),
            p99_us: percentile(last_bytes_us, 990),
            p999_us: percentile(last_bytes_us, 999),
        }
    }
}

/// What is asked, and what stands before the bytes of the file.
#[derive(Debug)]
pub(crate) struct Protocol {
    request: Request,
    head: Head,
}

#[derive(Debug)]
enum Request {
    /// These bytes, the same every time.
    Same(Vec<u8>),
    /// Names a slice: see [`crate::wire`].
    Slice,
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
    pub(crate) fn fixed(body_len: u64) -> Self {
        Self { request: Request::Slice, head: Head::Fixed(response_header(body_len)) }
    }

    /// GETs of `path`, which begins with a slash, over HTTP/1.1.
    pub(crate) fn http(path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
        Self { request: Request::Same(request), head: Head::Http }
    }
}

/// The client: its connections and what it expects to be answered.
#[derive(Debug)]
pub(crate) struct Load {
    connections: Vec<Connection>,
    epoll: OwnedFd,
    protocol: Protocol,
    body_len: usize,
    slices: Slices,
    canary: Canary,
    reader: Reader,
    /// The slice that is asked for next.
    next_slice: u64,
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
    /// Where the current body begins in the file.
    base: u64,
    asked: Instant,
    first_byte: Option<Duration>,
}

/// Bytes that a slow reader takes at a time.
const SLOW_CHUNK: usize = 16 * 1024;

/// Bytes received at a time while a head is awaited; a head must fit in.
const HEAD_LEN_MAX: usize = 8 * 1024;

impl Load {
    pub(crate) fn new(
        sockets: Vec<TcpStream>,
        protocol: Protocol,
        slices: Slices,
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
                base: 0,
                asked,
                first_byte: None,
            });
        }
        let body_len = usize::try_from(slices.len)?;
        Ok(Self {
            connections,
            epoll,
            protocol,
            body_len,
            slices,
            canary,
            reader: Reader::Eager,
            next_slice: 0,
            awake: false,
        })
    }

    /// Reads as `reader` does from now on.
    pub(crate) fn read_as(&mut self, reader: Reader) {
        self.reader = reader;
    }

    /// From now on the client spins instead of sleeping. On loopback the CPU that sends pays for waking
    /// the one that waits, and a fast client waits most; a client on another host costs nothing of that.
    pub(crate) fn stay_awake(&mut self) {
        self.awake = true;
    }

    /// Asks `requests_each` times on every connection, one request at a time on each.
    pub(crate) fn run(&mut self, requests_each: u32, compare: Compare) -> Result<Latency> {
        let mut left = self.connections.len() * usize::try_from(requests_each)?;
        let (mut first_bytes_us, mut last_bytes_us) =
            (Vec::with_capacity(left), Vec::with_capacity(left));
        let mut buffer = vec![0; self.body_len + HEAD_LEN_MAX];
        let mut events: Vec<Event> = Vec::with_capacity(self.connections.len());
        let patience = if self.awake { Duration::ZERO } else { PATIENCE }.try_into()?;
        self.next_slice = 0;
        for index in 0..self.connections.len() {
            self.connections[index].requests_left = requests_each;
            self.ask(index)?;
        }
        let begin = Instant::now();
        let mut received = 0;
        while left > 0 {
            if let Reader::Slow { bytes_per_second } = self.reader {
                let due = Duration::from_secs_f64(received as f64 / bytes_per_second as f64);
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
            }
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
                let before = self.connections[index].received;
                let complete = self.receive(index, compare, &mut buffer)?;
                let connection = &mut self.connections[index];
                received += connection.received - before;
                if connection.received > 0 && connection.first_byte.is_none() {
                    connection.first_byte = Some(connection.asked.elapsed());
                }
                if complete {
                    left -= 1;
                    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
                    last_bytes_us.push(microseconds(connection.asked.elapsed()));
                    first_bytes_us.extend(connection.first_byte.map(microseconds));
                    if connection.requests_left > 0 {
                        self.ask(index)?;
                    }
                }
            }
        }
        Ok(Latency::of(&mut first_bytes_us, &mut last_bytes_us))
    }

    /// Makes sure that no connection holds bytes beyond its answers.
    pub(crate) fn expect_silence(&self) -> Result<()> {
        self.connections
            .iter()
            .try_for_each(|connection| crate::receiver::expect_silence(&connection.socket))
    }

    /// Asks on a connection for the next slice.
    fn ask(&mut self, index: usize) -> Result<()> {
        let number = self.next_slice % self.slices.count;
        self.next_slice += 1;
        let connection = &mut self.connections[index];
        connection.base = self.slices.offset(number).context("no such slice")?;
        connection.requests_left -= 1;
        connection.received = 0;
        connection.first_byte = None;
        connection.head.clear();
        connection.answer_len = match &self.protocol.head {
            Head::Fixed(head) => Some(head.len() + self.body_len),
            Head::Http => None,
        };
        connection.asked = Instant::now();
        match &self.protocol.request {
            Request::Same(bytes) => connection.socket.write_all(bytes),
            Request::Slice => connection.socket.write_all(&request(number)),
        }
        .context("a request could not be sent")
    }

    /// Takes what has arrived on a connection; tells whether its answer is complete.
    fn receive(&mut self, index: usize, compare: Compare, buffer: &mut [u8]) -> Result<bool> {
        let connection = &mut self.connections[index];
        let looks = compare == Compare::All || connection.requests_left == 0;
        let most = if self.reader == Reader::Eager { usize::MAX } else { SLOW_CHUNK };
        let (want, discard) = match connection.answer_len {
            // A connection without a question gets no answer: whatever comes is one byte too many.
            Some(len) if !looks => ((len - connection.received).clamp(1, most), RecvFlags::TRUNC),
            Some(len) => ((len - connection.received).clamp(1, most), RecvFlags::empty()),
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
            self.check(index, from, answer_len - self.body_len, &buffer[..read])?;
        }
        Ok(self.connections[index].received == answer_len)
    }

    /// Takes bytes of an HTTP head, and of the body if it begins in them; tells whether that is all.
    fn take_head(&mut self, index: usize, looks: bool, bytes: &[u8]) -> Result<bool> {
        let connection = &mut self.connections[index];
        connection.head.extend_from_slice(bytes);
        let Some(head_len) = http_head::check(&connection.head, self.body_len)? else {
            ensure!(connection.head.len() < HEAD_LEN_MAX, "wrong answer: the head does not end");
            return Ok(false);
        };
        let answer_len = head_len + self.body_len;
        ensure!(connection.received <= answer_len, "wrong count: an answer is too long");
        connection.answer_len = Some(answer_len);
        if looks {
            self.canary.check(connection.base, &connection.head[head_len..])?;
        }
        Ok(connection.received == answer_len)
    }

    /// Compares bytes of an answer, the first of which stands at `from`; an HTTP head is not among them.
    fn check(&self, index: usize, from: usize, head_len: usize, bytes: &[u8]) -> Result<()> {
        let split = head_len.saturating_sub(from).min(bytes.len());
        let (before, body) = bytes.split_at(split);
        if let Head::Fixed(head) = &self.protocol.head {
            let expected = head.get(from..from + split).unwrap_or_default();
            ensure!(before == expected, "wrong bytes: in the header");
        }
        let position = (from + split).saturating_sub(head_len);
        self.canary.check(self.connections[index].base + position as u64, body)
    }
}

/// The value below which so many thousandths of all lie; zero if there are none. Sorts.
pub(crate) fn percentile(values: &mut [f64], per_mille: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let index = (values.len() * per_mille / 1000).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_data() {
        let mut data: Vec<f64> = (0..1000).rev().map(f64::from).collect();
        let latency = Latency::of(&mut [3.0], &mut data);
        let found = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us];
        assert_eq!(found, [500.0, 900.0, 990.0, 999.0]);
        assert_eq!([latency.first_byte_p50_us, latency.first_byte_p99_us], [3.0, 3.0]);
        assert_eq!(percentile(&mut [], 990), 0.0);
    }
}
