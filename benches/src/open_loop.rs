//! A client that asks at a fixed rate, whatever the answers do: latency from the intended start.
//!
//! A closed loop asks less while the server stalls, and so hides the stall from all who would have asked
//! meanwhile. Here request number k is due at k / rate; if all connections are busy it waits, and that
//! waiting counts.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::canary::Canary;
use crate::http_head;
use crate::loopback::PATIENCE;

/// Keep-alive connections that ask for one small file.
#[derive(Debug)]
pub(crate) struct OpenLoop {
    connections: Vec<Connection>,
    request: Vec<u8>,
    body_len: usize,
    canary: Canary,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    /// When the request that is being answered was due.
    due: Option<Instant>,
    answer: Vec<u8>,
}

/// How often, and how many times at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) per_second: f64,
    pub(crate) requests: u32,
}

/// The most that is received at a time, in bytes.
const CHUNK: usize = 256 * 1024;

impl OpenLoop {
    /// Asks for the file at `path`, which begins with a slash and has the first `body_len` bytes of
    /// `canary`.
    pub(crate) fn new(
        sockets: Vec<TcpStream>,
        path: &str,
        body_len: u64,
        canary: Canary,
    ) -> Result<Self> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
        let connection = |socket| Connection { socket, due: None, answer: Vec::new() };
        let connections = sockets.into_iter().map(connection).collect();
        Ok(Self { connections, request, body_len: usize::try_from(body_len)?, canary })
    }

    /// Asks until `offer` is used up or `enough` says so, awaits what is still due, and gives back the
    /// microseconds from each intended start to the last byte, in the order of completion. Every answer
    /// is compared in full.
    pub(crate) fn run(&mut self, offer: Offer, enough: impl Fn() -> bool) -> Result<Vec<f64>> {
        let interval = Duration::from_secs_f64(1.0 / offer.per_second);
        let mut latencies_us = Vec::with_capacity(offer.requests as usize);
        let mut waiting: VecDeque<Instant> = VecDeque::new();
        let begin = Instant::now();
        let (mut offered, mut limit) = (0, offer.requests);
        loop {
            if offered < limit && enough() {
                limit = offered;
            }
            let now = Instant::now();
            while offered < limit && begin + interval * offered <= now {
                waiting.push_back(begin + interval * offered);
                offered += 1;
            }
            self.ask(&mut waiting)?;
            if latencies_us.len() == limit as usize {
                return Ok(latencies_us);
            }
            let next_due = (offered < limit).then(|| begin + interval * offered);
            for index in self.await_answers(next_due)? {
                if let Some(due) = self.receive(index)? {
                    latencies_us.push(due.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
    }

    /// Asks for what waits, on connections that have nothing to do.
    fn ask(&mut self, waiting: &mut VecDeque<Instant>) -> Result<()> {
        for connection in self.connections.iter_mut().filter(|one| one.due.is_none()) {
            let Some(due) = waiting.pop_front() else { break };
            connection.due = Some(due);
            connection.answer.clear();
            connection.socket.write_all(&self.request).context("a request could not be sent")?;
        }
        Ok(())
    }

    /// The connections on which something has arrived; none if the next request is due.
    fn await_answers(&self, next_due: Option<Instant>) -> Result<Vec<usize>> {
        let busy = self.connections.iter().enumerate().filter(|(_, one)| one.due.is_some());
        let (indices, mut polled): (Vec<usize>, Vec<PollFd<'_>>) =
            busy.map(|(index, one)| (index, PollFd::new(&one.socket, PollFlags::IN))).unzip();
        let longest = next_due.map(|due| due.saturating_duration_since(Instant::now()));
        match rustix::event::poll(&mut polled, Some(&longest.unwrap_or(PATIENCE).try_into()?)) {
            Ok(0) if longest.is_none() => bail!("wrong count: no answer for {PATIENCE:?}"),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = indices.into_iter().zip(&polled).filter(|(_, one)| !one.revents().is_empty());
        Ok(ready.map(|(index, _)| index).collect())
    }

    /// Takes what has arrived; gives back when the request was due if that completes its answer.
    fn receive(&mut self, index: usize) -> Result<Option<Instant>> {
        let connection = &mut self.connections[index];
        let before = connection.answer.len();
        connection.answer.resize(before + CHUNK, 0);
        let room = &mut connection.answer[before..];
        let read = match rustix::net::recv(&connection.socket, room, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => bail!("wrong count: the server closed a connection"),
            Ok((_, read)) => read,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        connection.answer.truncate(before + read);
        let Some(head_len) = http_head::check(&connection.answer, self.body_len)? else {
            return Ok(None);
        };
        let missing = (head_len + self.body_len).checked_sub(connection.answer.len());
        ensure!(missing.is_some(), "wrong count: an answer is too long");
        if missing != Some(0) {
            return Ok(None);
        }
        self.canary.check(0, &connection.answer[head_len..])?;
        Ok(connection.due.take())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::loopback;
    use crate::network::LOCALHOST;

    /// A server of one connection that sleeps before one of its answers.
    fn server(answers: u32, slow_one: u32, sleep: Duration, spoil: bool) -> TcpStream {
        let listener = loopback::listen(LOCALHOST).unwrap();
        let near = loopback::connect(listener.local_addr().unwrap()).unwrap();
        let far = loopback::accept(&listener).unwrap();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(&far).lines();
            for number in 0..answers {
                while !lines.next().unwrap().unwrap().is_empty() {}
                if number == slow_one {
                    std::thread::sleep(sleep);
                }
                let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_vec();
                let head_len = answer.len();
                answer.resize(head_len + 100, 0);
                ringway_testkit::canary::fill(3, 0, &mut answer[head_len..]);
                answer[head_len + 50] ^= u8::from(spoil);
                { &far }.write_all(&answer).unwrap();
            }
        });
        near
    }

    #[test]
    fn stall_counts_for_all_who_would_have_asked_meanwhile() {
        let stall = Duration::from_millis(100);
        let socket = server(150, 20, stall, false);
        let mut client = OpenLoop::new(vec![socket], "/", 100, Canary::new(3)).unwrap();
        let offer = Offer { per_second: 1000.0, requests: 150 };
        let latencies_us = client.run(offer, || false).unwrap();
        assert_eq!(latencies_us.len(), 150);
        // One answer was slow; the closed loop would show one. Due during the first half of the stall: 50.
        let hit = latencies_us.iter().filter(|&&us| us >= 50_000.0).count();
        assert!(hit >= 50, "only {hit} of them waited");
    }

    #[test]
    fn wrong_byte_is_seen_and_enough_is_enough() {
        let socket = server(1, 9, Duration::ZERO, true);
        let mut client = OpenLoop::new(vec![socket], "/", 100, Canary::new(3)).unwrap();
        let offer = Offer { per_second: 1000.0, requests: 1 };
        let error = client.run(offer, || false).unwrap_err().to_string();
        assert!(error.contains("wrong bytes"), "{error}");

        let socket = server(1, 9, Duration::ZERO, false);
        let mut client = OpenLoop::new(vec![socket], "/", 100, Canary::new(3)).unwrap();
        assert_eq!(client.run(offer, || true).unwrap(), Vec::<f64>::new());
    }
}
