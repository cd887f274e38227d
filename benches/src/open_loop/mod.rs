//! A client that asks at a fixed rate, whatever the answers do: latency from the intended start.
//!
//! A closed loop asks less while the server stalls, and so hides the stall from all who would have asked
//! meanwhile. Here request number k is due at k / rate; if all connections are busy it waits, and that
//! waiting counts. The client says how late it was itself: what it sends late, it would blame on the server.

mod line;
mod pace;
mod tally;
mod urgent;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use line::{CHUNK, Came};
pub(crate) use line::{Line, Question};
pub(crate) use pace::Offer;
use pace::{Next, Pace};
pub(crate) use tally::Tally;
pub(crate) use urgent::become_urgent;

/// Keep-alive connections that ask for one file; they take turns.
pub(crate) struct OpenLoop<'c> {
    slots: Vec<Slot>,
    epoll: OwnedFd,
    /// Those that have nothing to do, the one first that has waited longest.
    idle: VecDeque<usize>,
    question: Question,
    answers: Answers,
    /// Makes a new connection in place of one that has ended.
    connect: Box<dyn Fn() -> Result<Line> + 'c>,
    scratch: Vec<u8>,
}

/// What is done with answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Compared in full.
    Compared,
    /// Counted; heads are checked, except over TLS.
    Discarded,
}

struct Slot {
    line: Line,
    /// When the request that is being answered was due.
    due: Option<Duration>,
    free_since: Duration,
}

impl<'c> OpenLoop<'c> {
    /// Opens so many connections by `connect`, which also replaces those that end.
    ///
    /// # Errors
    ///
    /// A connection cannot be made.
    pub(crate) fn new(
        connections: u32,
        question: Question,
        connect: impl Fn() -> Result<Line> + 'c,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut client = Self {
            slots: Vec::new(),
            epoll,
            idle: VecDeque::new(),
            question,
            answers: Answers::Compared,
            connect: Box::new(connect),
            scratch: vec![0; CHUNK],
        };
        for _ in 0..connections {
            let line = (client.connect)()?;
            client.watch(&line, client.slots.len())?;
            client.idle.push_back(client.slots.len());
            client.slots.push(Slot { line, due: None, free_since: Duration::ZERO });
        }
        Ok(client)
    }

    /// From now on answers are discarded instead of compared. Over TLS one must have been compared.
    pub(crate) fn discard(&mut self) {
        let head_len = self.slots.iter().find_map(|slot| slot.line.head_len());
        for slot in &mut self.slots {
            head_len.into_iter().for_each(|head_len| slot.line.expect_like(head_len));
        }
        self.answers = Answers::Discarded;
    }

    /// Asks until `offer` is used up or `enough` says so, and awaits the answers. A connection that ends is
    /// an error that is counted, and replaced.
    ///
    /// # Errors
    ///
    /// An answer is wrong; a connection cannot be replaced.
    pub(crate) fn run(&mut self, offer: Offer, enough: impl Fn() -> bool) -> Result<Tally> {
        let (mut pace, mut tally) = (Pace::new(offer), Tally::new());
        let mut events: Vec<Event> = Vec::with_capacity(self.slots.len());
        self.slots.iter_mut().for_each(|slot| slot.free_since = Duration::ZERO);
        let begin = Instant::now();
        loop {
            if enough() {
                pace.stop();
            }
            self.ask(&mut pace, &mut tally, begin)?;
            let now = begin.elapsed();
            let until = match pace.next(now, self.slots.len() - self.idle.len()) {
                Next::Wait(until) => until.saturating_sub(now),
                Next::Over => break,
                Next::GiveUp => {
                    self.give_up(&mut tally, now)?;
                    break;
                }
            };
            self.await_events(&mut events, until)?;
            // A connection whose answer is read late was free before that: the turn's begin is nearer to it.
            let turn = begin.elapsed();
            for event in &events {
                self.receive(usize::try_from(event.data.u64())?, turn, begin, &mut tally)?;
                self.ask(&mut pace, &mut tally, begin)?;
            }
        }
        tally.wall = begin.elapsed();
        let end = tally.wall;
        pace.unsent().for_each(|due| tally.given_up(end.saturating_sub(due), false));
        Ok(tally)
    }

    /// What has happened within `time`, which epoll_wait(2) would round up to a millisecond.
    fn await_events(&self, events: &mut Vec<Event>, time: Duration) -> Result<()> {
        let mut polled = [PollFd::new(&self.epoll, PollFlags::IN)];
        events.clear();
        match rustix::event::poll(&mut polled, Some(&time.try_into()?)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let spare = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, spare, Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Asks for what is due, on connections that have nothing to do.
    fn ask(&mut self, pace: &mut Pace, tally: &mut Tally, begin: Instant) -> Result<()> {
        while let Some(index) = self.idle.front().copied() {
            let Some(due) = pace.take(begin.elapsed()) else { return Ok(()) };
            let slot = &mut self.slots[index];
            let sent = begin.elapsed();
            if !slot.line.ask(&self.question)? {
                tally.errors += 1;
                pace.put_back(due);
                self.replace(index)?;
                continue;
            }
            tally.sent(pace::lateness(due, slot.free_since, sent));
            slot.due = Some(due);
            self.idle.pop_front();
        }
        Ok(())
    }

    /// Takes what has arrived on a connection.
    fn receive(
        &mut self,
        index: usize,
        turn: Duration,
        begin: Instant,
        tally: &mut Tally,
    ) -> Result<()> {
        let slot = &mut self.slots[index];
        let Some(due) = slot.due else {
            if slot.line.has_ended()? {
                tally.errors += 1;
                self.replace(index)?;
            }
            return Ok(());
        };
        let came = match self.answers {
            Answers::Compared => slot.line.compare(&self.question, &mut self.scratch)?,
            Answers::Discarded => slot.line.discard(&self.question, &mut self.scratch)?,
        };
        match came {
            Came::More => return Ok(()),
            Came::Everything => tally.answered(begin.elapsed().saturating_sub(due)),
            Came::End => {
                tally.errors += 1;
                self.replace(index)?;
            }
        }
        let slot = &mut self.slots[index];
        (slot.due, slot.free_since) = (None, turn);
        self.idle.push_back(index);
        Ok(())
    }

    /// What is awaited still is given up; nobody wants the rest of those answers.
    fn give_up(&mut self, tally: &mut Tally, now: Duration) -> Result<()> {
        for index in 0..self.slots.len() {
            let Some(due) = self.slots[index].due.take() else { continue };
            tally.given_up(now.saturating_sub(due), true);
            self.replace(index)?;
            self.idle.push_back(index);
        }
        Ok(())
    }

    fn replace(&mut self, index: usize) -> Result<()> {
        let mut line = (self.connect)().context("a connection has ended, and there is no other")?;
        if let Some(head_len) = self.slots[index].line.head_len() {
            line.expect_like(head_len);
        }
        self.watch(&line, index)?;
        self.slots[index].line = line;
        Ok(())
    }

    fn watch(&self, line: &Line, index: usize) -> Result<()> {
        Ok(epoll::add(&self.epoll, &line.socket, EventData::new_u64(index as u64), EventFlags::IN)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpStream;

    use anyhow::bail;

    use super::*;
    use crate::canary::Canary;
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
                loop {
                    match lines.next() {
                        Some(Ok(line)) if line.is_empty() => break,
                        Some(Ok(_)) => {}
                        None | Some(Err(_)) => return,
                    }
                }
                if number == slow_one {
                    std::thread::sleep(sleep);
                }
                let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_vec();
                let head_len = answer.len();
                answer.resize(head_len + 100, 0);
                ringway_testkit::canary::fill(3, 0, &mut answer[head_len..]);
                answer[head_len + 50] ^= u8::from(spoil);
                if { &far }.write_all(&answer).is_err() {
                    return;
                }
            }
        });
        near
    }

    /// A client of that one connection; there is no second.
    fn client(socket: TcpStream) -> OpenLoop<'static> {
        let question = Question::new("/", 100, Canary::new(3)).unwrap();
        let socket = std::cell::Cell::new(Some(socket));
        let connect = move || match socket.take() {
            Some(socket) => Ok(Line::plain(socket)),
            None => bail!("there was one"),
        };
        OpenLoop::new(1, question, connect).unwrap()
    }

    fn offer(requests: u32) -> Offer {
        Offer { per_second: 1000.0, requests, grace: loopback::PATIENCE }
    }

    #[test]
    fn stall_counts_for_all_who_would_have_asked_meanwhile() {
        for discards in [false, true] {
            let mut client = client(server(150, 20, Duration::from_millis(100), false));
            if discards {
                client.discard();
            }
            let tally = client.run(offer(150), || false).unwrap();
            assert_eq!(
                [tally.answered, tally.errors, tally.unsent, tally.unanswered],
                [150, 0, 0, 0]
            );
            // One answer was slow; the closed loop would show one. Due during the first half of the stall: 50.
            let hit = tally.as_slow_as(Duration::from_millis(50));
            assert!(hit >= 50, "only {hit} of them waited");
        }
    }

    #[test]
    fn what_has_no_answer_when_the_grace_ends_is_given_up_and_counted() {
        let question = Question::new("/", 100, Canary::new(3)).unwrap();
        let connect = || Ok(Line::plain(server(100, 1, Duration::from_secs(600), false)));
        let mut client = OpenLoop::new(1, question, connect).unwrap();
        let impatient = Offer { grace: Duration::from_millis(50), ..offer(20) };
        let tally = client.run(impatient, || false).unwrap();
        assert_eq!([tally.answered, tally.unanswered, tally.unsent], [1, 1, 18]);
        assert!(tally.latency_us(99.0) >= 50_000.0);
        // The connection was replaced: it serves again.
        assert_eq!(client.run(offer(1), || false).unwrap().answered, 1);
    }

    #[test]
    fn connection_that_ends_is_counted_and_replaced() {
        let question = Question::new("/", 100, Canary::new(3)).unwrap();
        let connect = || Ok(Line::plain(server(10, 99, Duration::ZERO, false)));
        let mut client = OpenLoop::new(1, question, connect).unwrap();
        let tally = client.run(offer(35), || false).unwrap();
        assert!(tally.errors >= 3, "{}", tally.errors);
        assert_eq!(tally.unsent + tally.unanswered, 0);
        assert!((30..=35).contains(&tally.answered), "{}", tally.answered);
    }

    #[test]
    fn wrong_byte_is_seen_and_enough_is_enough() {
        let error = client(server(1, 9, Duration::ZERO, true)).run(offer(1), || false);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("wrong bytes"), "{error}");
        let tally = client(server(1, 9, Duration::ZERO, false)).run(offer(1), || true).unwrap();
        assert_eq!(tally.answered, 0);
    }
}
