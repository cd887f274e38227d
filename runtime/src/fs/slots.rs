//! Vectored reads into the slots of one buffer, inline and by the ring; see [`Slots`].
//!
//! A sealed stream leaves room for a header before each record and for a tag behind it. One read brings
//! the bytes of a file to their places in many records, so that nothing has to be moved afterwards.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::{File, position};
use crate::fault::{Sabotage, sabotaged};
use crate::local;
use crate::mem::{Buffer, Lease, Slots};
use crate::op::{Effect, Held, Op};
use crate::stats::Counters;
use crate::sys::file as calls;
use crate::sys::sqe::{LENGTH_MAX, Sqe};

impl File {
    /// Reads at an offset what is in memory already, to the positions from `from` on in the slots of
    /// a buffer, at most `len` bytes and [`SLOTS_MAX`](crate::SLOTS_MAX) slots. Returns 0 at the end
    /// of the file. See `RWF_NOWAIT` in preadv2(2).
    ///
    /// The length of the lease stays what it was: what lies between the slots has still to be
    /// written, so who wrote it says with [`Lease::set_filled`] that it counts.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where a disk would be asked; `Unsupported` on file systems that cannot tell.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> { ringway_runtime::Runtime::new()?.block_on(async {
    /// use ringway_runtime::{Slots, fs::File, lease};
    ///
    /// let file = File::open("Cargo.toml").await?;
    /// # std::fs::read("Cargo.toml")?; // So that it is in memory.
    /// let mut lease = lease(4096).await?;
    /// let slots = Slots { start: 0, gap: 1, room: 4, tail: 0 };
    /// file.try_read_slots(&mut lease, &slots, 0, 8, 0)?;
    /// lease.spare_mut()[0] = b'<';
    /// lease.spare_mut()[5] = b'>';
    /// lease.set_filled(10);
    /// assert_eq!(&lease[..], b"<[pac>kage");
    /// # Ok(()) }) }
    /// ```
    pub fn try_read_slots(
        &self,
        lease: &mut Lease,
        slots: &Slots,
        from: usize,
        len: usize,
        offset: u64,
    ) -> io::Result<usize> {
        let asked = crate::inline_len("preadv", u32::try_from(len).unwrap_or(LENGTH_MAX))?;
        let (mut slices, count) = slots.slices(lease.spare_mut(), from, asked);
        let read = calls::read_resident_into(self.as_fd(), &mut slices[..count], offset)?;
        if let Some(counters) = local::with(|local| Rc::clone(&local.counters)) {
            counters.file_read_bytes.add(read as u64);
        }
        Ok(if sabotaged(Sabotage::ShortReadIgnored) { len } else { read })
    }

    /// Does the same as an op in the ring, which waits for the disk.
    ///
    /// # Errors
    ///
    /// Of this call: no ring, or an offset that no file has; the buffer is given back to its pool
    /// then. Of the op: those of preadv(2).
    ///
    /// # Cancel safety
    ///
    /// The buffer belongs to the op; dropping the future gives it up.
    pub fn read_slots(
        &self,
        lease: Lease,
        slots: &Slots,
        from: usize,
        len: usize,
        offset: u64,
    ) -> io::Result<Reading> {
        let local = local::current()?;
        position(offset)?;
        let vector = lease.vector(slots, from, len);
        let sqe = Sqe::readv(self.as_fd().as_raw_fd(), vector.parts(), offset);
        let held = Held { memory: Some(Buffer::Lease(lease)), vector: Some(vector), ..self.held() };
        let op = local.port.submit(sqe, held, Effect::None);
        Ok(Reading { op, asked: len, counters: Rc::clone(&local.counters) })
    }
}

/// A vectored read in the ring: resolves to the bytes that were read, and to the buffer.
pub struct Reading {
    op: Op,
    asked: usize,
    counters: Rc<Counters>,
}

impl Reading {
    /// Asks for cancellation. Await the future all the same.
    pub fn cancel(&mut self) {
        self.op.cancel();
    }
}

impl Future for Reading {
    type Output = (io::Result<usize>, Option<Lease>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.op).poll(context));
        let read = outcome.result.map(|read| {
            self.counters.file_read_bytes.add(read.into());
            if sabotaged(Sabotage::ShortReadIgnored) { self.asked } else { read as usize }
        });
        let lease = match outcome.held.memory {
            Some(Buffer::Lease(lease)) => Some(lease),
            _ => None,
        };
        Poll::Ready((read, lease))
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("asked", &self.asked).finish_non_exhaustive()
    }
}
