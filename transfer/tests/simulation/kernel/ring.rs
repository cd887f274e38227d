//! The ring: ops that own what the kernel touches, are done in any order, and are seen later.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::lend::{BufferLease, PipeLease, PipeState};
use super::{Host, Kernel};
use crate::bug::Bug;
use crate::content::Rope;
use crate::event::{ECANCELED, EINTR, Outcome};

/// What an op does, with what it owns until it is reaped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Fill {
        inode: usize,
        at: u64,
        len: u64,
        pipe: PipeState,
    },
    Drain {
        pipe: PipeState,
        more: bool,
    },
    Read {
        inode: usize,
        at: u64,
        len: u64,
        buffer: usize,
        start: u64,
    },
    Send {
        buffer: usize,
        start: u64,
        len: u64,
        more: bool,
        zero_copy: bool,
    },
    /// Into memory of the op's own.
    ReadHeap {
        inode: usize,
        at: u64,
        len: u64,
    },
    /// Makes the pages of a map present, which it holds.
    Populate {
        map: usize,
    },
    /// A turn of a processor in another thread.
    Errand,
    /// Memory of the caller, which it shares.
    SendMemory {
        part: usize,
        start: u64,
        len: u64,
        more: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Op {
    id: u64,
    pub(crate) transfer: usize,
    pub(crate) work: Work,
    pub(crate) cancelled: bool,
    orphan: bool,
    /// Set when the kernel has done it.
    pub(crate) result: Option<Result<u64, i32>>,
    read: Rope,
    pub(crate) reaped: bool,
}

/// How an op ended, and what it gives back.
pub(crate) struct Ended {
    pub(crate) result: Result<u64, i32>,
    pub(crate) pipe: Option<PipeLease>,
    pub(crate) buffer: Option<BufferLease>,
    /// What was read into memory of its own.
    pub(crate) read: Rope,
}

impl Kernel {
    fn submit(&mut self, transfer: usize, work: Work) -> u64 {
        self.reads += 1;
        let id = self.reads;
        if let Work::Populate { map } = work {
            self.hold_map(map);
        }
        let read = Rope::default();
        let op = Op {
            id,
            transfer,
            work,
            cancelled: false,
            orphan: false,
            result: None,
            read,
            reaped: false,
        };
        self.ops.push(op);
        id
    }

    fn nth(&self, transfer: usize, nth: usize, done: bool) -> Option<usize> {
        let is_it = |op: &Op| op.transfer == transfer && !op.reaped && op.result.is_some() == done;
        self.ops.iter().enumerate().filter(|(_, op)| is_it(op)).map(|(at, _)| at).nth(nth)
    }

    /// The kernel does an op, whether it was cancelled or not: a cancel may come too late.
    pub(super) fn execute(&mut self, transfer: usize, nth: usize, outcome: Outcome) -> bool {
        let Some(at) = self.nth(transfer, nth, false) else { return false };
        let work = self.ops[at].work;
        let mut read = Rope::default();
        let result = match work {
            Work::Fill { inode, at, len, pipe } => {
                self.fill_pipe(transfer, (inode, at, len), pipe.pipe, outcome).map(|it| {
                    read = it;
                    read.len()
                })
            }
            Work::Read { inode, at, len, buffer, start } => {
                self.read_into(transfer, (inode, at, len), (buffer, start), outcome).map(|it| {
                    read = it;
                    read.len()
                })
            }
            Work::Drain { pipe, more } => {
                self.drain_pipe(transfer, (pipe.pipe, pipe.residue, more), outcome)
            }
            Work::Send { buffer, start, len, more, .. } => {
                let bytes = self.buffers[buffer].content.slice(start, len);
                self.send_bytes(transfer, &bytes, more, outcome)
            }
            Work::ReadHeap { inode, at, len } => self.bounded(transfer, outcome, len).map(|len| {
                read = self.read_file(transfer, inode, at, len, false);
                read.len()
            }),
            Work::Populate { map } => self.populate(transfer, map, outcome),
            Work::Errand => self.bounded(transfer, outcome, 1),
            Work::SendMemory { part, start, len, more } => {
                let bytes = self.oracle.memory(transfer, part, start, len);
                self.send_bytes(transfer, &bytes, more, outcome)
            }
        };
        self.ops[at].result = Some(result);
        self.ops[at].read = read;
        true
    }

    /// A completion is seen. What nobody waits for any more is given back here.
    pub(super) fn reap(&mut self, transfer: usize, nth: usize) -> bool {
        let Some(at) = self.nth(transfer, nth, true) else { return false };
        let op = &mut self.ops[at];
        let result = op.result.unwrap_or(Err(0));
        let moved = result.unwrap_or(0);
        let interrupted = matches!(result, Err(ECANCELED | EINTR));
        if let Work::Fill { pipe, .. } | Work::Drain { pipe, .. } = &mut op.work {
            pipe.uncertain = interrupted;
        }
        match &mut op.work {
            Work::Fill { pipe, .. } => pipe.residue += moved,
            Work::Drain { pipe, .. } => pipe.residue -= moved,
            _ => {}
        }
        op.reaped = true;
        self.wake(transfer);
        if self.ops[at].orphan {
            let op = self.ops.remove(at);
            self.bury(&op);
        }
        true
    }

    fn bury(&mut self, op: &Op) {
        match op.work {
            Work::Fill { pipe, .. } | Work::Drain { pipe, .. } => self.give_back_pipe(pipe),
            Work::Read { buffer, .. } if !self.has(Bug::FreeBufferOnDrop) => {
                self.give_back_buffer(buffer);
            }
            Work::Send { buffer, zero_copy, .. } if !self.has(Bug::FreeBufferOnDrop) => {
                if zero_copy {
                    self.hold(op.transfer, buffer);
                } else {
                    self.give_back_buffer(buffer);
                }
            }
            Work::Populate { map } => self.release_map(map),
            Work::Read { .. }
            | Work::ReadHeap { .. }
            | Work::Errand
            | Work::Send { .. }
            | Work::SendMemory { .. } => {}
        }
    }

    /// The buffer of a zero-copy send is the kernel's until the peer has read it.
    fn hold(&mut self, by: usize, buffer: usize) {
        let until = self.oracle.taken_bytes(by);
        self.unacknowledged.push((by, buffer, until));
        self.acknowledge();
    }

    fn orphan(&mut self, id: u64) {
        let Some(at) = self.ops.iter().position(|op| op.id == id) else { return };
        if let Work::Read { buffer, .. } | Work::Send { buffer, .. } = self.ops[at].work
            && self.has(Bug::FreeBufferOnDrop)
        {
            self.give_back_buffer(buffer);
        }
        if self.ops[at].reaped {
            let op = self.ops.remove(at);
            return self.bury(&op);
        }
        self.ops[at].orphan = true;
        self.ops[at].cancelled = true;
    }

    /// Hands a completed op to its future.
    fn collect(&mut self, id: u64) -> Option<Op> {
        let at = self.ops.iter().position(|op| op.id == id && op.reaped)?;
        let op = self.ops.remove(at);
        match (op.work, op.result) {
            (Work::Fill { .. }, Some(Ok(_))) => {
                self.oracle.reported(op.transfer, op.read.clone());
            }
            (Work::Read { buffer, start, .. }, Some(Ok(read))) => {
                self.buffers[buffer].filled = start + read;
                self.oracle.reported(op.transfer, op.read.clone());
            }
            (Work::Send { buffer, zero_copy: true, .. }, Some(Ok(_))) => {
                self.hold(op.transfer, buffer);
            }
            (Work::Populate { map }, _) => self.release_map(map),
            _ => {}
        }
        Some(op)
    }
}

/// An op under way. Dropped, it becomes an orphan.
pub(crate) struct Pending {
    host: Host,
    id: Option<u64>,
}

impl Pending {
    pub(crate) fn submit(host: &Host, transfer: usize, work: Work) -> Self {
        let id = host.borrow_mut().submit(transfer, work);
        Self { host: host.clone(), id: Some(id) }
    }

    /// Asks for cancellation. It is awaited all the same.
    pub(crate) fn cancel(&mut self) {
        let mut kernel = self.host.borrow_mut();
        let id = self.id;
        kernel.ops.iter_mut().filter(|op| Some(op.id) == id).for_each(|op| op.cancelled = true);
    }
}

impl Future for Pending {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Ended> {
        let Some(id) = self.id else { return Poll::Pending };
        let Some(op) = self.host.borrow_mut().collect(id) else { return Poll::Pending };
        self.id = None;
        let result = op.result.unwrap_or(Err(0));
        let (mut pipe, mut buffer) = (None, None);
        match op.work {
            Work::Fill { pipe: state, .. } | Work::Drain { pipe: state, .. } => {
                pipe = Some(PipeLease::of(&self.host, state));
            }
            Work::Send { zero_copy: true, .. } if result.is_ok() => {}
            Work::Read { buffer: id, .. } | Work::Send { buffer: id, .. } => {
                buffer = Some(BufferLease::of(&self.host, id));
            }
            Work::ReadHeap { .. } | Work::Populate { .. } | Work::Errand => {}
            Work::SendMemory { .. } => {}
        }
        Poll::Ready(Ended { result, pipe, buffer, read: op.read })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.host.borrow_mut().orphan(id);
        }
    }
}
