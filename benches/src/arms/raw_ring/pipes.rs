//! One stream through pipes: splice ops linked, unlinked, for one half only, or not at all.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Result, ensure};
use io_uring::{opcode, squeue, types::Fd};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::super::classic::Pipe;
use super::super::{Span, StreamArm, call_len};
use super::ring::Ring;

/// Who makes which half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Both ops at once, the second linked to the first.
    Linked,
    /// Two pipes: one fills while the other drains.
    Unlinked,
    /// The ring fills, the loop drains.
    Hybrid,
    /// The loop does both and the ring only waits.
    Inline,
}

pub(super) struct Pipes {
    ring: Ring,
    file: File,
    socket: TcpStream,
    pipes: [Pipe; 2],
    way: Way,
}

/// What the user data of the ops say.
const FILL: u64 = 0;
const DRAIN: u64 = 1;
const POLL: u64 = 2;

impl Pipes {
    pub(super) fn new(file: File, socket: TcpStream, way: Way, pipe_len: u64) -> Result<Self> {
        socket.set_nonblocking(way == Way::Inline)?;
        let pipes = [Pipe::open(pipe_len)?, Pipe::open(pipe_len)?];
        Ok(Self { ring: Ring::new(8)?, file, socket, pipes, way })
    }

    fn fill_op(&self, pipe: usize, offset: u64, len: usize) -> Result<squeue::Entry> {
        let (file, into) = (Fd(self.file.as_raw_fd()), Fd(self.pipes[pipe].into.as_raw_fd()));
        let offset = i64::try_from(offset)?;
        Ok(opcode::Splice::new(file, offset, into, -1, u32::try_from(len)?).build())
    }

    fn drain_op(&self, pipe: usize, len: usize, last: bool) -> Result<squeue::Entry> {
        let (out, socket) = (Fd(self.pipes[pipe].out.as_raw_fd()), Fd(self.socket.as_raw_fd()));
        let more = if last { 0 } else { libc::SPLICE_F_MORE };
        let splice = opcode::Splice::new(out, -1, socket, -1, u32::try_from(len)?);
        Ok(splice.flags(more).build())
    }

    /// One op alone, from push to completion.
    fn alone(&mut self, op: &squeue::Entry, asked_by: u64, what: &str) -> Result<usize> {
        self.ring.push(op, asked_by)?;
        self.ring.wait()?[0].count(what)
    }

    fn linked(&mut self, span: Span) -> Result<()> {
        let (mut offset, end) = (span.offset, span.offset + span.len);
        while offset < end {
            let want = call_len(end - offset).min(self.pipes[0].len);
            let last = offset + want as u64 == end;
            let fill = self.fill_op(0, offset, want)?.flags(squeue::Flags::IO_LINK);
            let drain = self.drain_op(0, want, last)?;
            self.ring.push(&fill, FILL)?;
            self.ring.push(&drain, DRAIN)?;
            let (mut filled, mut drained) = (0, 0);
            for done in self.ring.wait_for(2)? {
                match done.asked_by {
                    FILL => filled = done.count("a fill")?,
                    // A short fill breaks the link: what it left is drained below.
                    _ if done.result == -libc::ECANCELED => {}
                    _ => drained = done.count("a drain")?,
                }
            }
            ensure!(filled > 0, "the file ended early");
            offset += filled as u64;
            while drained < filled {
                let rest = self.drain_op(0, filled - drained, offset == end)?;
                drained += self.alone(&rest, DRAIN, "a drain")?;
            }
        }
        Ok(())
    }

    fn unlinked(&mut self, span: Span) -> Result<()> {
        let (mut offset, end) = (span.offset, span.offset + span.len);
        let mut held = [0usize; 2];
        let (mut filling, mut draining) = (None, None);
        let (mut next_fill, mut next_drain) = (0, 0);
        let mut left = span.len;
        while left > 0 {
            if filling.is_none()
                && held[next_fill] == 0
                && draining != Some(next_fill)
                && offset < end
            {
                let want = call_len(end - offset).min(self.pipes[next_fill].len);
                let op = self.fill_op(next_fill, offset, want)?;
                self.ring.push(&op, FILL)?;
                filling = Some(next_fill);
            }
            if draining.is_none() && held[next_drain] > 0 {
                let last = held[next_drain] as u64 == left;
                let op = self.drain_op(next_drain, held[next_drain], last)?;
                self.ring.push(&op, DRAIN)?;
                draining = Some(next_drain);
            }
            for done in self.ring.wait()? {
                if done.asked_by == FILL {
                    let count = done.count("a fill")?;
                    ensure!(count > 0, "the file ended early");
                    held[next_fill] = count;
                    offset += count as u64;
                    next_fill = 1 - next_fill;
                    filling = None;
                } else {
                    let count = done.count("a drain")?;
                    held[next_drain] -= count;
                    left -= count as u64;
                    draining = None;
                    if held[next_drain] == 0 {
                        next_drain = 1 - next_drain;
                    }
                }
            }
        }
        Ok(())
    }

    fn by_the_loop(&mut self, span: Span) -> Result<()> {
        let (mut offset, end) = (span.offset, span.offset + span.len);
        while offset < end {
            let want = call_len(end - offset).min(self.pipes[0].len);
            let filled = if self.way == Way::Hybrid {
                let op = self.fill_op(0, offset, want)?;
                self.alone(&op, FILL, "a fill")?
            } else {
                let (mut from, flags) = (offset, SpliceFlags::empty());
                let into: &OwnedFd = &self.pipes[0].into;
                rustix::pipe::splice(&self.file, Some(&mut from), into, None, want, flags)?
            };
            ensure!(filled > 0, "the file ended early");
            offset += filled as u64;
            self.drain_by_the_loop(filled, offset == end)?;
        }
        Ok(())
    }

    fn drain_by_the_loop(&mut self, mut left: usize, last: bool) -> Result<()> {
        let flags = if last { SpliceFlags::empty() } else { SpliceFlags::MORE };
        while left > 0 {
            let out = &self.pipes[0].out;
            match rustix::pipe::splice(out, None, &self.socket, None, left, flags) {
                Ok(count) => left -= count,
                Err(Errno::AGAIN) => {
                    let socket = Fd(self.socket.as_raw_fd());
                    let events = u32::try_from(libc::POLLOUT)?;
                    let poll = opcode::PollAdd::new(socket, events).build();
                    self.alone(&poll, POLL, "a poll")?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl StreamArm for Pipes {
    fn send(&mut self, span: Span) -> Result<()> {
        match self.way {
            Way::Linked => self.linked(span),
            Way::Unlinked => self.unlinked(span),
            Way::Hybrid | Way::Inline => self.by_the_loop(span),
        }
    }
}
