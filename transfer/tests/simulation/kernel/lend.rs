//! Pipes and buffers, and the leases of them. A lease is given back by its drop.

use super::{Host, Kernel};
use crate::bug::Bug;
use crate::content::Rope;
use crate::event::{Call, Outcome};
use crate::scenario::PAGE;

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) content: Rope,
    state: State,
}

impl Pipe {
    /// Bytes that fit, if they begin `within` a page.
    pub(crate) fn room(&self, capacity: u64, within: u64) -> u64 {
        let used = self.content.len().next_multiple_of(PAGE);
        capacity.saturating_sub(used).saturating_sub(within)
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Lent,
    Idle,
    Destroyed,
}

#[derive(Debug)]
pub(crate) struct Buffer {
    /// All that lies in it; what is beyond `filled` is of whoever had it before.
    pub(crate) content: Rope,
    pub(crate) filled: u64,
    lent: bool,
}

impl Buffer {
    pub(crate) fn several(count: usize, bytes: u64) -> Vec<Self> {
        let one = |_| Self { content: Rope::stale(bytes), filled: 0, lent: false };
        (0..count).map(one).collect()
    }
}

/// What is known of a lent pipe while it is lent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PipeState {
    pub(crate) pipe: usize,
    pub(crate) residue: u64,
    /// An op that was interrupted may have moved something.
    pub(crate) uncertain: bool,
}

impl Kernel {
    fn lend_pipe(&mut self, by: usize) -> Option<usize> {
        let refused = self.armed(by, Call::Lend) != Outcome::Full;
        if let Some(at) = self.pipes.iter().position(|pipe| pipe.state == State::Idle)
            && !refused
        {
            self.pipes[at].state = State::Lent;
            if self.pipes[at].content.len() > 0 {
                self.oracle.violate(by, &format!("it is lent pipe {at}, which holds bytes"));
            }
            return Some(at);
        }
        let there = self.pipes.iter().filter(|pipe| pipe.state != State::Destroyed).count();
        if refused || there >= self.pipes_max {
            self.tally.no_pipe += 1;
            return None;
        }
        self.pipes.push(Pipe::default());
        Some(self.pipes.len() - 1)
    }

    pub(crate) fn give_back_pipe(&mut self, state: PipeState) {
        let empty = state.residue == 0 && !state.uncertain;
        let pipe = &mut self.pipes[state.pipe];
        if pipe.state != State::Lent {
            self.oracle.violate(0, &format!("pipe {} is given back twice", state.pipe));
        } else if empty || self.bug == Some(Bug::ReusePipeWithResidue) {
            pipe.state = State::Idle;
        } else {
            pipe.state = State::Destroyed;
            pipe.content.clear();
            self.tally.pipes_destroyed += 1;
        }
    }

    fn lend_buffer(&mut self) -> Option<usize> {
        let at = self.buffers.iter().position(|buffer| !buffer.lent)?;
        self.buffers[at].lent = true;
        self.buffers[at].filled = 0;
        Some(at)
    }

    pub(crate) fn give_back_buffer(&mut self, buffer: usize) {
        self.buffers[buffer].lent = false;
        self.wake_all();
    }

    /// Nothing is lent any more.
    pub(crate) fn check_all_returned(&mut self) {
        let pipes = self.pipes.iter().filter(|pipe| pipe.state == State::Lent).count();
        let buffers = self.buffers.iter().filter(|buffer| buffer.lent).count();
        let maps = self.maps_held();
        if pipes + buffers + maps > 0 {
            let what = format!(
                "at the end {pipes} pipes and {buffers} buffers are lent, {maps} maps are held"
            );
            self.oracle.violate(0, &what);
        }
    }
}

/// An exclusively lent pipe.
pub(crate) struct PipeLease {
    host: Host,
    state: Option<PipeState>,
}

impl PipeLease {
    pub(crate) fn lend(host: &Host, by: usize) -> Option<Self> {
        let pipe = host.borrow_mut().lend_pipe(by)?;
        Some(Self::of(host, PipeState { pipe, residue: 0, uncertain: false }))
    }

    pub(crate) fn of(host: &Host, state: PipeState) -> Self {
        Self { host: host.clone(), state: Some(state) }
    }

    pub(crate) fn residue(&self) -> u64 {
        self.state.map_or(0, |state| state.residue)
    }

    /// The op that takes it gives it back.
    pub(crate) fn into_state(mut self) -> PipeState {
        self.state.take().unwrap()
    }

    pub(crate) fn fill(&mut self, by: usize, range: (usize, u64, u64)) -> Result<u64, i32> {
        let state = self.state.as_mut().unwrap();
        let moved = self.host.borrow_mut().try_fill(by, range, state.pipe)?;
        state.residue += moved;
        Ok(moved)
    }

    pub(crate) fn drain(&mut self, by: usize, more: bool) -> Result<u64, i32> {
        let state = self.state.as_mut().unwrap();
        let moved = self.host.borrow_mut().try_drain(by, state.pipe, state.residue, more)?;
        state.residue -= moved;
        Ok(moved)
    }
}

impl Drop for PipeLease {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.host.borrow_mut().give_back_pipe(state);
        }
    }
}

/// An exclusively lent buffer.
pub(crate) struct BufferLease {
    host: Host,
    buffer: Option<usize>,
}

impl BufferLease {
    pub(crate) fn lend(host: &Host) -> Option<Self> {
        let buffer = host.borrow_mut().lend_buffer()?;
        Some(Self::of(host, buffer))
    }

    pub(crate) fn of(host: &Host, buffer: usize) -> Self {
        Self { host: host.clone(), buffer: Some(buffer) }
    }

    pub(crate) fn id(&self) -> usize {
        self.buffer.unwrap()
    }

    pub(crate) fn into_id(mut self) -> usize {
        self.buffer.take().unwrap()
    }

    pub(crate) fn len(&self) -> u64 {
        self.host.borrow().buffers[self.id()].filled
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.host.borrow().buffer_bytes
    }

    pub(crate) fn set_filled(&self, filled: u64) {
        self.host.borrow_mut().buffers[self.id()].filled = filled;
    }

    /// Writes behind what it holds.
    pub(crate) fn put(&self, bytes: &Rope) {
        let mut kernel = self.host.borrow_mut();
        let buffer = &mut kernel.buffers[self.id()];
        buffer.content.overlay(buffer.filled, bytes);
        buffer.filled += bytes.len();
    }

    /// Writes over what it holds.
    pub(crate) fn overlay(&self, at: u64, bytes: &Rope) {
        self.host.borrow_mut().buffers[self.id()].content.overlay(at, bytes);
    }

    pub(crate) fn slice(&self, from: u64, len: u64) -> Rope {
        self.host.borrow().buffers[self.id()].content.slice(from, len)
    }
}

impl Drop for BufferLease {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.host.borrow_mut().give_back_buffer(buffer);
        }
    }
}
