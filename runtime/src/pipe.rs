//! The pool of pipes: bounded in number and bytes, and never lent while anything is in one.
//!
//! A pipe is what lets file pages travel to a socket without being copied: splice(2) moves
//! references into it, and out of it again. Between the two the bytes lie in the pipe; that is its
//! *residue*. A pipe that goes back with residue would hand one client's bytes to the next, so a
//! pipe is only kept if it is provably empty, and destroyed otherwise.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::config::Config;
use crate::fault::{Sabotage, sabotaged};
use crate::stats::Counters;
use crate::sys;

/// Below this a pipe costs more than it saves: one write of sixteen pages.
const CAPACITY_MIN: usize = 64 << 10;

/// Why no pipe can be had at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeRefusal {
    /// All pipes that the configuration allows are lent.
    AllLent,
    /// The kernel grants only this many bytes: the user's limit of pipe pages is spent
    /// (`fs.pipe-user-pages-soft`, see pipe(7)).
    TooSmall(usize),
    /// The process or the host has no descriptors left.
    NoDescriptors,
    /// Another errno of pipe2(2) or fcntl(2).
    Errno(i32),
}

impl fmt::Display for PipeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllLent => f.write_str("all pipes are lent (Config::pipes_max)"),
            Self::TooSmall(bytes) => {
                write!(f, "the kernel grants pipes of {bytes} bytes only (fs.pipe-user-pages-soft)")
            }
            Self::NoDescriptors => f.write_str("no descriptors left for a pipe (RLIMIT_NOFILE)"),
            Self::Errno(errno) => write!(f, "no pipe: errno {errno}"),
        }
    }
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

/// The pipes of one ring.
pub(crate) struct PipePool {
    idle: RefCell<Vec<Pipe>>,
    count_max: u64,
    bytes_max: u64,
    /// What to ask the kernel for: a power of two, as it would round up to one.
    ask: usize,
    counters: Rc<Counters>,
}

impl PipePool {
    pub(crate) fn new(config: &Config, counters: Rc<Counters>) -> Self {
        Self {
            idle: RefCell::default(),
            count_max: config.pipes_max.into(),
            bytes_max: config.pipe_bytes_max as u64,
            ask: config.pipe_bytes.clamp(CAPACITY_MIN, 1 << 30).next_power_of_two(),
            counters,
        }
    }

    /// Lends an empty pipe, making one if the bounds allow it. Never waits.
    pub(crate) fn try_lend(self: &Rc<Self>) -> Result<PipeLease, PipeRefusal> {
        let idle = self.idle.borrow_mut().pop();
        let pipe = match idle {
            Some(pipe) => pipe,
            None => self.make().inspect_err(|_| self.counters.pipes_refused.bump())?,
        };
        self.counters.pipes_lent.bump();
        Ok(PipeLease { pipe: Some(pipe), pool: Rc::clone(self), residue: 0, uncertain: false })
    }

    fn make(&self) -> Result<Pipe, PipeRefusal> {
        let bytes = self.counters.pipe_bytes.value();
        if self.counters.pipes.value() >= self.count_max && !sabotaged(Sabotage::PipesNotCounted)
            || bytes + CAPACITY_MIN as u64 > self.bytes_max
        {
            return Err(PipeRefusal::AllLent);
        }
        let (read, write) = sys::pipe::pipe().map_err(|error| refusal(&error))?;
        let capacity = self.grow(write.as_fd(), self.share(bytes))?;
        self.counters.pipes.bump();
        self.counters.pipe_bytes.add(capacity as u64);
        Ok(Pipe { read, write, capacity })
    }

    /// What to ask for when pipes have `bytes` already. Few transfers get large pipes and many get smaller
    /// ones, of the same bytes: the first half goes in whole asks, the next quarter in halves of one, the
    /// last in quarters. Without that, those that came late had to copy.
    fn share(&self, bytes: u64) -> usize {
        let room = self.bytes_max.saturating_sub(bytes);
        let ask = match self.bytes_max {
            max if room > max / 2 => self.ask,
            max if room > max / 4 => self.ask / 2,
            _ => self.ask / 4,
        };
        // Rounded down, so that the kernel's rounding up cannot break the bound.
        let room = 1 << usize::try_from(room).unwrap_or(usize::MAX).max(1).ilog2();
        ask.max(CAPACITY_MIN).min(room)
    }

    /// The size ladder: asks for less until the kernel grants it.
    fn grow(&self, pipe: BorrowedFd<'_>, ask: usize) -> Result<usize, PipeRefusal> {
        let mut want = ask;
        while want >= CAPACITY_MIN {
            match sys::pipe::set_capacity(pipe, want) {
                Ok(granted) if granted >= CAPACITY_MIN => {
                    if want < ask {
                        self.counters.pipes_shrunk.bump();
                    }
                    return Ok(granted);
                }
                Ok(granted) => return Err(PipeRefusal::TooSmall(granted)),
                // EPERM: beyond pipe-max-size or the user's pages. EBUSY and ENOMEM: not now.
                Err(error) => match error.raw_os_error() {
                    Some(libc::EPERM | libc::EBUSY | libc::ENOMEM) => want /= 2,
                    _ => return Err(refusal(&error)),
                },
            }
        }
        match sys::pipe::capacity(pipe) {
            Ok(granted) if granted >= CAPACITY_MIN => {
                self.counters.pipes_shrunk.bump();
                Ok(granted)
            }
            Ok(granted) => Err(PipeRefusal::TooSmall(granted)),
            Err(error) => Err(refusal(&error)),
        }
    }

    fn take_back(&self, pipe: Pipe, empty: bool) {
        self.counters.pipes_lent.sub(1);
        if empty {
            // The largest is lent first.
            let mut idle = self.idle.borrow_mut();
            let at = idle.partition_point(|other| other.capacity <= pipe.capacity);
            idle.insert(at, pipe);
            return;
        }
        self.counters.pipes_destroyed.bump();
        self.forget(&pipe);
    }

    fn forget(&self, pipe: &Pipe) {
        self.counters.pipes.sub(1);
        self.counters.pipe_bytes.sub(pipe.capacity as u64);
    }
}

impl Drop for PipePool {
    fn drop(&mut self) {
        let idle = self.idle.take();
        idle.iter().for_each(|pipe| self.forget(pipe));
    }
}

fn refusal(error: &io::Error) -> PipeRefusal {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => PipeRefusal::NoDescriptors,
        Some(errno) => PipeRefusal::Errno(errno),
        None => PipeRefusal::Errno(0),
    }
}

/// An exclusively lent pipe that knows how many bytes lie in it.
pub struct PipeLease {
    /// Present until the lease is dropped.
    pipe: Option<Pipe>,
    pool: Rc<PipePool>,
    residue: u32,
    uncertain: bool,
}

impl PipeLease {
    /// Bytes that the pipe can hold, if they begin on a page.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.capacity)
    }

    /// Bytes that lie in the pipe.
    #[must_use]
    pub fn residue(&self) -> u32 {
        self.residue
    }

    /// The end to read from, as a number for a submission.
    pub(crate) fn read_fd(&self) -> i32 {
        self.pipe.as_ref().map_or(-1, |pipe| pipe.read.as_raw_fd())
    }

    /// The end to write to, likewise.
    pub(crate) fn write_fd(&self) -> i32 {
        self.pipe.as_ref().map_or(-1, |pipe| pipe.write.as_raw_fd())
    }

    /// An op that moves bytes in or out was handed to the kernel.
    pub(crate) fn set_uncertain(&mut self) {
        self.uncertain = true;
    }

    /// The op is over and this is what it moved.
    pub(crate) fn set_certain(&mut self, staged: u32, drained: u32) {
        self.uncertain = false;
        self.residue = self.residue.saturating_add(staged).saturating_sub(drained);
        self.pool.counters.splice_in_bytes.add(staged.into());
        self.pool.counters.splice_out_bytes.add(drained.into());
    }

    /// Fills the pipe from a file inline. Waits for the disk if the bytes are not resident: ask
    /// first. Returns 0 at the end of the file.
    pub(crate) fn fill(&mut self, file: BorrowedFd<'_>, at: u64, len: u32) -> io::Result<u32> {
        let Some(pipe) = &self.pipe else { return Err(gone()) };
        let len = crate::inline_len("splice", len)?;
        self.pool.counters.splices_inline.bump();
        let moved = sys::pipe::splice_from_file(file, at, pipe.write.as_fd(), len)?;
        let moved = u32::try_from(moved).unwrap_or(u32::MAX);
        self.set_certain(moved, 0);
        Ok(moved)
    }

    /// Drains the pipe into a socket inline, as much as the socket takes without waiting.
    pub(crate) fn drain(&mut self, socket: BorrowedFd<'_>, more: bool) -> io::Result<u32> {
        let Some(pipe) = &self.pipe else { return Err(gone()) };
        let len = crate::inline_len("splice", self.residue)?;
        self.pool.counters.splices_inline.bump();
        let moved = sys::pipe::splice_to_socket(pipe.read.as_fd(), socket, len, more)?;
        let moved = u32::try_from(moved).unwrap_or(u32::MAX);
        self.set_certain(0, moved);
        Ok(moved)
    }

    /// Fills the pipe with what has arrived at a socket, without waiting.
    pub(crate) fn fill_from_socket(&mut self, socket: BorrowedFd<'_>, len: u32) -> io::Result<u32> {
        let Some(pipe) = &self.pipe else { return Err(gone()) };
        let len = crate::inline_len("splice", len)?;
        self.pool.counters.splices_inline.bump();
        let moved = sys::pipe::splice_from_socket(socket, pipe.write.as_fd(), len)?;
        let moved = u32::try_from(moved).unwrap_or(u32::MAX);
        self.set_certain(moved, 0);
        Ok(moved)
    }

    /// Drains the pipe to an offset of a file inline. Waits for the disk if it must.
    pub(crate) fn drain_to_file(&mut self, file: BorrowedFd<'_>, at: u64) -> io::Result<u32> {
        let Some(pipe) = &self.pipe else { return Err(gone()) };
        let len = crate::inline_len("splice", self.residue)?;
        self.pool.counters.splices_inline.bump();
        let moved = sys::pipe::splice_to_file(pipe.read.as_fd(), file, at, len)?;
        let moved = u32::try_from(moved).unwrap_or(u32::MAX);
        self.set_certain(0, moved);
        Ok(moved)
    }

    /// Copies what lies in the pipe into memory, as far as it fits: the way out for bytes that
    /// cannot be spliced on. Returns 0 if the pipe is empty.
    ///
    /// # Errors
    ///
    /// Those of read(2).
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(gone()) };
        let room = u32::try_from(buffer.len()).unwrap_or(u32::MAX).min(self.residue);
        if room == 0 {
            return Ok(0);
        }
        let room = crate::inline_len("pipe-read", room)?;
        let read = sys::pipe::read(pipe.read.as_fd(), &mut buffer[..room])?;
        self.set_certain(0, u32::try_from(read).unwrap_or(u32::MAX));
        Ok(read)
    }
}

fn gone() -> io::Error {
    io::Error::other("the pipe of this lease was given back")
}

impl Drop for PipeLease {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            let empty = (self.residue == 0 || sabotaged(Sabotage::PipeWithResidueKept))
                && (!self.uncertain || sabotaged(Sabotage::UncertainPipeKept));
            self.pool.take_back(pipe, empty);
        }
    }
}

impl fmt::Debug for PipeLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeLease")
            .field("capacity", &self.capacity())
            .field("residue", &self.residue)
            .field("uncertain", &self.uncertain)
            .finish_non_exhaustive()
    }
}
