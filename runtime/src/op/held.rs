//! What a slot owns for the kernel, and what a completion does to things that outlive the op.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use io_uring::types::OpenHow;

use super::Flow;
use crate::mem::region::Region;
use crate::mem::{Buffer, Vector};
use crate::pipe::PipeLease;

/// Everything that a submission may point at. All of it keeps its place in memory when moved.
#[derive(Default)]
pub(crate) struct Held {
    /// A descriptor that is no stream socket.
    #[expect(dead_code, reason = "held so that it stays open, never read")]
    pub(crate) file: Option<Arc<OwnedFd>>,
    /// A stream socket, with its count of accepted bytes.
    pub(crate) flow: Option<Arc<Flow>>,
    /// Bytes to read into or to send from.
    pub(crate) memory: Option<Buffer>,
    /// The parts of that memory, for a vectored op.
    #[cfg_attr(not(feature = "fault"), expect(dead_code, reason = "it is kept for the kernel"))]
    pub(crate) vector: Option<Vector>,
    /// Pages that are being populated, or flushed.
    #[expect(dead_code, reason = "held so that they stay mapped, never read")]
    pub(crate) region: Option<Arc<Region>>,
    /// A pipe that is being filled or drained.
    pub(crate) pipe: Option<PipeLease>,
    /// Small structures of the kernel's: paths, attributes.
    pub(crate) letter: Option<Box<Letter>>,
}

/// Structures that the kernel reads or writes by address.
pub(crate) enum Letter {
    /// One path, with how to open it.
    Path { path: CString, how: OpenHow },
    /// Two paths, and the folder that the second is in, if it is not the op's own.
    Paths {
        from: CString,
        to: CString,
        #[expect(dead_code, reason = "held so that it stays open, never read")]
        folder: Option<Arc<OwnedFd>>,
    },
    /// A path, and the attributes that the kernel writes.
    Attributes { path: CString, stat: Box<libc::statx> },
}

/// What the result of an op means for things that outlive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// A result ≥ 0 is a new descriptor.
    Descriptor,
    /// A result > 0 is a number of bytes that the socket accepted.
    Accepted,
    /// A result > 0 is a number of bytes that came into the pipe.
    Staged,
    /// A result > 0 is a number of bytes that went from the pipe into the socket.
    Drained,
}

impl Effect {
    fn sends(self) -> bool {
        matches!(self, Self::Accepted | Self::Drained)
    }
}

impl Held {
    /// The op goes to the kernel: from now on its effects can happen at any time.
    pub(super) fn depart(&mut self, effect: Effect) {
        if let Some(flow) = self.sender(effect) {
            flow.departed();
        }
        if let Some(pipe) = &mut self.pipe {
            pipe.set_uncertain();
        }
    }

    /// The op's result is known.
    pub(super) fn arrive(&mut self, effect: Effect, result: i32) {
        let moved = u32::try_from(result).unwrap_or(0);
        if let Some(flow) = self.sender(effect) {
            flow.accept(moved.into());
            flow.arrived();
        }
        match (effect, &mut self.pipe) {
            // Interrupted in the middle: how much was moved is not known, so the pipe stays
            // uncertain and is destroyed when its lease ends.
            (_, Some(_)) if interrupted(result) => {}
            (Effect::Staged, Some(pipe)) => pipe.set_certain(moved, 0),
            (Effect::Drained, Some(pipe)) => pipe.set_certain(0, moved),
            _ => {}
        }
    }

    /// The flow that the op sends to, if it does.
    pub(super) fn sender(&self, effect: Effect) -> Option<&Flow> {
        self.flow.as_deref().filter(|_| effect.sends())
    }
}

/// `ERESTARTSYS` leaks out of a splice that was cancelled while it ran.
fn interrupted(result: i32) -> bool {
    const ERESTARTSYS: i32 = 512;
    matches!(-result, libc::ECANCELED | libc::EINTR | ERESTARTSYS)
}
