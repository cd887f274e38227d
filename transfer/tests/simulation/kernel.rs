//! The model of what is below the routes: files, pipes, buffers, sockets, and calls made inline.
//!
//! The ring is in [`ring`], what is lent is in [`lend`]. The kernel tells the oracle what truly
//! happened; the driver reports what it believes.

pub(crate) mod lend;
pub(crate) mod maps;
pub(crate) mod ring;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::bug::Bug;
use crate::content::{Origin, Piece, Rope};
use crate::event::{Call, EAGAIN, ECONNRESET, Event, Outcome};
use crate::oracle::Oracle;
use crate::scenario::{PAGE, Scenario};
use lend::{Buffer, Pipe};
use maps::Map;
use ring::Op;

pub(crate) type Host = Rc<RefCell<Kernel>>;

/// Calls in one turn of a transfer, beyond which it spins.
const CALLS_MAX: u32 = 4000;

/// An open file; a name can come to mean another one.
#[derive(Debug)]
pub(crate) struct Inode {
    len: u64,
    /// The least that it ever was.
    least: u64,
    version: u32,
    pub(crate) resident: bool,
}

#[derive(Debug)]
pub(crate) struct Socket {
    room: u64,
    /// Bytes that the peer has not read.
    pub(crate) queued: u64,
    /// Bytes that the peer has read.
    read: u64,
    reset: bool,
    /// The last bytes were sent with `MSG_MORE`.
    corked: bool,
}

/// What a transfer's task is woken by, and what awaits its next calls.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) woken: bool,
    /// The earliest time that it waits for.
    pub(crate) wake_at: Option<Duration>,
    pub(crate) cancelled: bool,
    armed: Vec<(Call, Outcome)>,
}

/// How often each of the interesting things happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) transfers: u64,
    pub(crate) completed: u64,
    pub(crate) faults: u64,
    pub(crate) cancels: u64,
    pub(crate) drops: u64,
    pub(crate) mutations: u64,
    pub(crate) truncations: u64,
    pub(crate) rewinds: u64,
    pub(crate) no_pipe: u64,
    pub(crate) ahead: u64,
    pub(crate) sendfiles: u64,
    pub(crate) pipes_destroyed: u64,
    pub(crate) windows_mapped: u64,
    pub(crate) windows_read: u64,
    pub(crate) turns: u64,
    /// Pages that were gone when somebody touched them.
    pub(crate) map_faults: u64,
    /// Windows that were found cut.
    pub(crate) windows_cut: u64,
    /// Peers that stalled while something of a window was left.
    pub(crate) windows_let_go: u64,
    /// Bytes of processed bodies: by reference, gathered, changed, added.
    pub(crate) by_kind: [u64; 4],
    pub(crate) processed_completed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.transfers += other.transfers;
        self.completed += other.completed;
        self.faults += other.faults;
        self.cancels += other.cancels;
        self.drops += other.drops;
        self.mutations += other.mutations;
        self.truncations += other.truncations;
        self.rewinds += other.rewinds;
        self.no_pipe += other.no_pipe;
        self.ahead += other.ahead;
        self.sendfiles += other.sendfiles;
        self.pipes_destroyed += other.pipes_destroyed;
        self.windows_mapped += other.windows_mapped;
        self.windows_read += other.windows_read;
        self.turns += other.turns;
        self.map_faults += other.map_faults;
        self.windows_cut += other.windows_cut;
        self.windows_let_go += other.windows_let_go;
        self.processed_completed += other.processed_completed;
        for (mine, theirs) in self.by_kind.iter_mut().zip(other.by_kind) {
            *mine += theirs;
        }
    }
}

pub(crate) struct Kernel {
    pub(crate) now: Duration,
    pub(crate) inodes: Vec<Inode>,
    /// The inode that each file's name means now.
    pub(crate) names: Vec<usize>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) signals: Vec<Signals>,
    pub(crate) ops: Vec<Op>,
    pub(crate) oracle: Oracle,
    pub(crate) tally: Tally,
    pub(crate) bug: Option<Bug>,
    pub(crate) pipes_max: usize,
    pub(crate) pipe_pages: u64,
    pub(super) maps: Vec<Map>,
    /// What files had when they were opened first.
    first_lens: Vec<u64>,
    pipes: Vec<Pipe>,
    buffers: Vec<Buffer>,
    pub(crate) buffer_bytes: u64,
    /// Buffers of zero-copy sends: whose, which, and how much the peer must have read.
    unacknowledged: Vec<(usize, usize, u64)>,
    reads: u64,
    calls: u32,
}

impl Kernel {
    pub(crate) fn new(scenario: &Scenario, bug: Option<Bug>) -> Host {
        let inode = |&len: &u64| Inode { len, least: len, version: 0, resident: true };
        let transfers = &scenario.transfers;
        let room = scenario.socket_bytes;
        let socket = |_| Socket { room, queued: 0, read: 0, reset: false, corked: false };
        Rc::new(RefCell::new(Self {
            now: Duration::ZERO,
            inodes: scenario.files.iter().map(inode).collect(),
            names: (0..scenario.files.len()).collect(),
            sockets: (0..transfers.len()).map(socket).collect(),
            signals: transfers.iter().map(|_| Signals::default()).collect(),
            ops: Vec::new(),
            oracle: Oracle::new(transfers),
            tally: Tally::default(),
            bug,
            pipes_max: scenario.pipes_max,
            pipe_pages: scenario.pipe_pages,
            maps: Vec::new(),
            first_lens: scenario.files.clone(),
            pipes: Vec::new(),
            buffers: Buffer::several(scenario.buffers_max, scenario.buffer_bytes),
            buffer_bytes: scenario.buffer_bytes,
            unacknowledged: Vec::new(),
            reads: 0,
            calls: 0,
        }))
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn wake(&mut self, transfer: usize) {
        self.signals[transfer].woken = true;
    }

    pub(crate) fn wake_all(&mut self) {
        self.signals.iter_mut().for_each(|signals| signals.woken = true);
    }

    /// A turn of a transfer begins.
    pub(crate) fn turn(&mut self, transfer: usize) {
        self.calls = 0;
        self.signals[transfer].woken = false;
        self.signals[transfer].wake_at = None;
    }

    /// Applies what needs no task; `false` if it cannot happen now.
    pub(crate) fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Execute { transfer, nth, outcome } => {
                return self.execute(transfer, nth, outcome);
            }
            Event::Reap { transfer, nth } => return self.reap(transfer, nth),
            Event::Arm { transfer, call, outcome } => {
                self.signals[transfer].armed.push((call, outcome));
                if call == Call::Writable {
                    self.wake(transfer);
                }
            }
            Event::PeerReads { transfer, bytes } => {
                let socket = &mut self.sockets[transfer];
                if socket.queued == 0 {
                    return false;
                }
                let bytes = bytes.min(socket.queued);
                socket.queued -= bytes;
                socket.read += bytes;
                self.acknowledge();
                self.wake(transfer);
            }
            Event::PeerResets { transfer } => {
                self.sockets[transfer].reset = true;
                self.sockets[transfer].queued = 0;
                self.sockets[transfer].read = u64::MAX;
                self.acknowledge();
                self.wake(transfer);
            }
            Event::Advance { micros } => {
                self.now += Duration::from_micros(micros);
                let now = self.now;
                for signals in &mut self.signals {
                    signals.woken |= signals.wake_at.is_some_and(|at| at <= now);
                }
            }
            Event::Pipes { max } => self.pipes_max = max,
            Event::Residency { file, resident } => {
                let inode = self.names[file];
                self.inodes[inode].resident = resident;
            }
            _ => self.mutate(event),
        }
        true
    }

    fn mutate(&mut self, event: Event) {
        self.tally.mutations += 1;
        match event {
            Event::Truncate { file, len } => {
                let name = self.names[file];
                let inode = &mut self.inodes[name];
                inode.len = inode.len.min(len);
                inode.least = inode.least.min(len);
                self.cut_maps(name, len);
            }
            Event::Grow { file, by } => {
                let name = self.names[file];
                let inode = &mut self.inodes[name];
                inode.len = inode.len.saturating_add(by).min(i64::MAX as u64);
                if inode.least < inode.len && inode.least < self.first_lens[name] {
                    self.oracle.cut_and_grown(name, inode.least);
                }
            }
            Event::Overwrite { file } => self.inodes[self.names[file]].version += 1,
            Event::Replace { file, len } => {
                self.names[file] = self.inodes.len();
                self.first_lens.push(len);
                self.inodes.push(Inode { len, least: len, version: 0, resident: true });
            }
            _ => {}
        }
    }

    /// How the next inline call of this kind ends. A transfer that does nothing else spins.
    fn armed(&mut self, transfer: usize, call: Call) -> Outcome {
        self.calls += 1;
        if self.calls > CALLS_MAX {
            self.oracle.violate(transfer, "it spins: one turn makes calls without end");
        }
        if self.oracle.is_violated() {
            // Ends every task soon; nothing after the first violation counts.
            return Outcome::Errno(crate::event::EIO);
        }
        let armed = &mut self.signals[transfer].armed;
        match armed.iter().position(|(of, _)| *of == call) {
            Some(at) => armed.remove(at).1,
            None => Outcome::Full,
        }
    }

    /// How a turn of its processor goes.
    pub(crate) fn turn_of_processor(&mut self, transfer: usize) -> Outcome {
        self.tally.turns += 1;
        self.armed(transfer, Call::Turn)
    }

    /// Bytes of a file as they are now, at most `len` and fewer at its end.
    fn read_file(
        &mut self,
        by: usize,
        inode: usize,
        at: u64,
        len: u64,
        by_reference: bool,
    ) -> Rope {
        let file = &self.inodes[inode];
        let len = len.min(file.len.saturating_sub(at));
        self.reads += 1;
        let origin = Origin::File { inode, at, version: file.version };
        let mut rope = Rope::default();
        rope.push(Piece { owner: by, origin, len, read: self.reads, by_reference });
        if len == 0 {
            self.oracle.saw_end(by, inode, at);
        }
        rope
    }

    /// `outcome` as a bound on a length, or its errno, which is noted as the reason to fail.
    fn bounded(&mut self, by: usize, outcome: Outcome, len: u64) -> Result<u64, i32> {
        match outcome {
            Outcome::Full => Ok(len),
            Outcome::Short(most) => {
                self.tally.faults += 1;
                Ok(len.min(most.max(1)))
            }
            Outcome::Errno(errno) => {
                self.tally.faults += 1;
                self.oracle.may_fail(by, errno);
                Err(errno)
            }
        }
    }

    fn fill_pipe(
        &mut self,
        by: usize,
        (inode, at, len): (usize, u64, u64),
        pipe: usize,
        outcome: Outcome,
    ) -> Result<Rope, i32> {
        let len = self.bounded(by, outcome, len)?;
        // Whole pages: a range that begins in one leaves the rest of its slot unused.
        let room = self.pipes[pipe].room(self.pipe_pages * PAGE, at % PAGE);
        if room == 0 {
            return Err(EAGAIN);
        }
        let read = self.read_file(by, inode, at, len.min(room), true);
        self.pipes[pipe].content.append(&read);
        Ok(read)
    }

    fn drain_pipe(
        &mut self,
        by: usize,
        (pipe, len, more): (usize, u64, bool),
        outcome: Outcome,
    ) -> Result<u64, i32> {
        let most = self.bounded(by, outcome, len)?;
        let offered = self.pipes[pipe].content.slice(0, len);
        let taken = self.take(by, &offered, most, Some(more))?;
        self.pipes[pipe].content.take(taken);
        Ok(taken)
    }

    fn send_bytes(
        &mut self,
        by: usize,
        offered: &Rope,
        more: bool,
        outcome: Outcome,
    ) -> Result<u64, i32> {
        let most = self.bounded(by, outcome, offered.len())?;
        self.take(by, offered, most, Some(more))
    }

    /// The socket takes what it has room for, at most `most`.
    fn take(
        &mut self,
        by: usize,
        offered: &Rope,
        most: u64,
        more: Option<bool>,
    ) -> Result<u64, i32> {
        let socket = &mut self.sockets[by];
        if socket.reset {
            self.oracle.may_fail(by, ECONNRESET);
            return Err(ECONNRESET);
        }
        if let Some(more) = more {
            self.oracle.offered(by, offered.len(), more);
        }
        let room = socket.room.saturating_sub(socket.queued);
        if room == 0 && offered.len() > 0 {
            return Err(EAGAIN);
        }
        let taken = offered.slice(0, most.min(room));
        socket.queued += taken.len();
        // sendfile(2) corks by itself while bytes of its range are left, and uncorks with the last.
        socket.corked = more.unwrap_or(taken.len() < offered.len());
        self.oracle.taken(by, &taken, self.now);
        Ok(taken.len())
    }

    fn acknowledge(&mut self) {
        let (sockets, oracle) = (&self.sockets, &self.oracle);
        let is_over = |&(by, _, until): &(usize, usize, u64)| {
            sockets[by].read >= until.min(oracle.taken_bytes(by))
        };
        let (over, left) = std::mem::take(&mut self.unacknowledged).into_iter().partition(is_over);
        self.unacknowledged = left;
        let over: Vec<_> = over;
        over.into_iter().for_each(|(_, buffer, _)| self.give_back_buffer(buffer));
    }

    /// Whether a wait for the socket is over: a third of it is free, or it is broken.
    pub(crate) fn is_writable(&mut self, by: usize) -> bool {
        let socket = &self.sockets[by];
        let free = socket.room.saturating_sub(socket.queued);
        socket.reset || free > socket.room / 3 || self.armed(by, Call::Writable) != Outcome::Full
    }

    pub(crate) fn flush(&mut self, by: usize) {
        self.sockets[by].corked = false;
    }

    pub(crate) fn is_corked(&self, by: usize) -> bool {
        self.sockets[by].corked
    }

    pub(crate) fn try_fill(
        &mut self,
        by: usize,
        range: (usize, u64, u64),
        pipe: usize,
    ) -> Result<u64, i32> {
        let outcome = self.armed(by, Call::Fill);
        let read = self.fill_pipe(by, range, pipe, outcome)?;
        Ok(self.oracle.reported(by, read))
    }

    pub(crate) fn try_drain(
        &mut self,
        by: usize,
        pipe: usize,
        len: u64,
        more: bool,
    ) -> Result<u64, i32> {
        let outcome = self.armed(by, Call::Drain);
        self.drain_pipe(by, (pipe, len, more), outcome)
    }

    pub(crate) fn try_send(&mut self, by: usize, bytes: &Rope, more: bool) -> Result<u64, i32> {
        let outcome = self.armed(by, Call::Send);
        self.send_bytes(by, bytes, more, outcome)
    }

    /// `EAGAIN` if the bytes are not in memory.
    pub(crate) fn try_read(
        &mut self,
        by: usize,
        range: (usize, u64, u64),
        buffer: usize,
    ) -> Result<u64, i32> {
        let outcome = self.armed(by, Call::Read);
        if !self.inodes[range.0].resident {
            return Err(EAGAIN);
        }
        let start = self.buffers[buffer].filled;
        let read = self.read_into(by, range, (buffer, start), outcome)?;
        self.buffers[buffer].filled += read.len();
        Ok(self.oracle.reported(by, read))
    }

    fn read_into(
        &mut self,
        by: usize,
        (inode, at, len): (usize, u64, u64),
        (buffer, start): (usize, u64),
        outcome: Outcome,
    ) -> Result<Rope, i32> {
        let len = self.bounded(by, outcome, len)?;
        let read = self.read_file(by, inode, at, len, false);
        self.buffers[buffer].content.overlay(start, &read);
        Ok(read)
    }

    pub(crate) fn try_sendfile(
        &mut self,
        by: usize,
        (inode, at, len): (usize, u64, u64),
    ) -> Result<u64, i32> {
        let outcome = self.armed(by, Call::Sendfile);
        let len = self.bounded(by, outcome, len)?;
        self.tally.sendfiles += 1;
        let room = self.sockets[by].room.saturating_sub(self.sockets[by].queued);
        if room == 0 && !self.sockets[by].reset {
            return Err(EAGAIN);
        }
        // What the socket does not take stays in the file.
        let read = self.read_file(by, inode, at, len.min(room.max(1)), true);
        let taken = self.take(by, &read, read.len(), None)?;
        self.oracle.reported(by, read);
        Ok(taken)
    }
}
