//! What bytes are gathered in between stream and file, and the write that empties it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use ringway_runtime::fs::{File, Storing};
use ringway_runtime::{Lease, PipeLease};

use super::incoming::{Decoded, Kind, Origin};

/// Something with room for bytes. What is in it begins at `start` in memory; a pipe knows itself.
pub(super) enum Vessel {
    Pipe(PipeLease),
    Buffer {
        lease: Lease,
        start: usize,
    },
    /// What the caller had received before; nothing is added to it.
    Given {
        bytes: Bytes,
        start: usize,
    },
}

impl Vessel {
    /// Takes at most `len` bytes of what has arrived; 0 at the end of the stream.
    pub(super) fn fill(&mut self, origin: &mut Origin<'_>, len: u64) -> io::Result<u64> {
        match self {
            Self::Pipe(pipe) => {
                let Kind::Plain(stream) = &origin.0 else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                let len = u32::try_from(len).unwrap_or(u32::MAX).min(OP_MAX);
                stream.try_fill(pipe, len).map(u64::from)
            }
            Self::Buffer { lease, .. } => {
                let filled = lease.len();
                let end = lease.capacity().min(filled.saturating_add(to_len(len)));
                if end == filled {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let read = origin.try_read(&mut lease.spare_mut()[filled..end])?;
                lease.set_filled(filled + read.min(end - filled));
                Ok(read as u64)
            }
            Self::Given { .. } => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Bytes that fit in all.
    pub(super) fn capacity(&self) -> u64 {
        match self {
            Self::Pipe(pipe) => pipe.capacity() as u64,
            Self::Buffer { lease, .. } => lease.capacity() as u64,
            Self::Given { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Hands what is in it to a write by the ring.
    pub(super) fn store(self, file: &File, offset: u64) -> io::Result<Store> {
        Ok(match self {
            Self::Pipe(pipe) => Store::Pipe(file.drain(pipe, offset)?),
            Self::Buffer { lease, start } => {
                Store::Buffer(file.store(lease, start, offset)?, start)
            }
            Self::Given { bytes, start } => Store::Given(file.store(bytes, start, offset)?, start),
        })
    }

    /// So many of its first bytes are in the file.
    pub(super) fn advance(&mut self, bytes: u64) {
        match self {
            Self::Pipe(_) => {}
            Self::Buffer { start, .. } | Self::Given { start, .. } => {
                *start = start.saturating_add(to_len(bytes));
            }
        }
    }

    /// Ready for other bytes, if it is one that can be used again.
    pub(super) fn emptied(self) -> Option<Self> {
        match self {
            Self::Pipe(pipe) => (pipe.residue() == 0).then_some(Self::Pipe(pipe)),
            Self::Buffer { mut lease, .. } => {
                lease.set_filled(0);
                Some(Self::Buffer { lease, start: 0 })
            }
            Self::Given { .. } => None,
        }
    }
}

/// A write under way. Resolves to what it wrote and to the vessel, with what it did not.
pub(super) enum Store {
    Pipe(Storing<PipeLease>),
    Buffer(Storing<Lease>, usize),
    Given(Storing<Bytes>, usize),
}

impl Future for Store {
    type Output = (io::Result<usize>, Option<Vessel>);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.get_mut() {
            Self::Pipe(op) => {
                let (written, pipe) = ready!(Pin::new(op).poll(context));
                (written, pipe.map(Vessel::Pipe))
            }
            Self::Buffer(op, start) => {
                let (written, lease) = ready!(Pin::new(op).poll(context));
                (written, lease.map(|lease| Vessel::Buffer { lease, start: *start }))
            }
            Self::Given(op, start) => {
                let (written, bytes) = ready!(Pin::new(op).poll(context));
                (written, bytes.map(|bytes| Vessel::Given { bytes, start: *start }))
            }
        })
    }
}

/// The most that one splice moves.
const OP_MAX: u32 = 0x7fff_f000;

pub(super) fn to_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
