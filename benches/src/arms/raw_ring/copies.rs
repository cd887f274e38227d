//! One stream through registered buffers: READ_FIXED ahead, SEND or SEND_ZC in order.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use io_uring::{cqueue, opcode, types::Fd};
use memmap2::MmapMut;

use super::super::{Counts, Span, StreamArm};
use super::ring::{Done, Ring};
use crate::point::{KIB, MIB};

/// How many buffers of what size, and how they are filled and emptied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    depth: usize,
    chunk: u64,
    direct: bool,
    zero_copy: bool,
}

impl Shape {
    pub(super) const BUFFERED: Self =
        Self { depth: 2, chunk: 256 * KIB, direct: false, zero_copy: false };
    pub(super) const ZERO_COPY: Self =
        Self { depth: 3, chunk: 256 * KIB, direct: false, zero_copy: true };
    pub(super) const DIRECT: Self = Self { depth: 3, chunk: MIB, direct: true, zero_copy: false };
}

/// Of O_DIRECT, for offsets, lengths and memory.
const ALIGNMENT: u64 = 4096;

pub(super) struct Copies {
    ring: Ring,
    buffers: Vec<MmapMut>,
    slots: Vec<Slot>,
    /// Sends without a copy, for each buffer, of which the kernel has not said that it is done with them.
    owed: Vec<u32>,
    file: File,
    socket: TcpStream,
    shape: Shape,
    counts: Counts,
}

/// What a buffer is at. In bytes: `skip` before what is wanted, `len` of it, `sent` so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Reading {
        offset: u64,
        got: usize,
        skip: usize,
        len: usize,
    },
    Full {
        skip: usize,
        len: usize,
        sent: usize,
    },
    /// Sent, and the kernel may still read it.
    Lent,
}

/// What the user data of the ops say, above the number of the buffer.
const READ: u64 = 0;
const SEND: u64 = 1 << 32;

impl Copies {
    pub(super) fn new(file: File, socket: TcpStream, shape: Shape) -> Result<Self> {
        if shape.direct {
            let flags = rustix::fs::fcntl_getfl(&file)? | rustix::fs::OFlags::DIRECT;
            rustix::fs::fcntl_setfl(&file, flags).context("no O_DIRECT here")?;
        }
        let len = usize::try_from(shape.chunk + ALIGNMENT)?;
        let buffers = (0..shape.depth).map(|_| MmapMut::map_anon(len));
        let mut buffers = buffers.collect::<Result<Vec<_>, _>>()?;
        let ring = Ring::new(16)?;
        ring.register(&mut buffers)?;
        let slots = vec![Slot::Free; shape.depth];
        let owed = vec![0; shape.depth];
        let counts = Counts { copied_bytes: Some(0), ..Counts::default() };
        Ok(Self { ring, buffers, slots, owed, file, socket, shape, counts })
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Slot::Reading { offset, got, skip, len } = self.slots[index] else {
            return Ok(());
        };
        let room = self.buffers[index].len() - got;
        let want = (skip + len - got).next_multiple_of(if self.shape.direct { 4096 } else { 1 });
        let target = self.buffers[index][got..].as_mut_ptr();
        let (file, number) = (Fd(self.file.as_raw_fd()), u16::try_from(index)?);
        let want = u32::try_from(want.min(room))?;
        let op = opcode::ReadFixed::new(file, target, want, number).offset(offset + got as u64);
        self.ring.push(&op.build(), READ | index as u64)
    }

    fn send_slot(&mut self, index: usize, last: bool) -> Result<()> {
        let Slot::Full { skip, len, sent } = self.slots[index] else { return Ok(()) };
        let bytes = &self.buffers[index][skip + sent..skip + len];
        let (socket, count) = (Fd(self.socket.as_raw_fd()), u32::try_from(bytes.len())?);
        let more = if last { 0 } else { libc::MSG_MORE };
        let op = if self.shape.zero_copy {
            const REPORT_USAGE: u16 = 1 << 3;
            let number = Some(u16::try_from(index)?);
            let send = opcode::SendZc::new(socket, bytes.as_ptr(), count).buf_index(number);
            send.zc_flags(REPORT_USAGE).flags(more).build()
        } else {
            opcode::Send::new(socket, bytes.as_ptr(), count).flags(more).build()
        };
        self.ring.push(&op, SEND | index as u64)
    }

    /// Tells how many bytes the socket has accepted by this completion.
    fn take(&mut self, done: Done) -> Result<u64> {
        let index = usize::try_from(done.asked_by & 0xffff)?;
        let copied = self.counts.copied_bytes.get_or_insert(0);
        if done.asked_by & SEND == 0 {
            let count = done.count("a read")?;
            let Slot::Reading { offset, got, skip, len } = self.slots[index] else {
                anyhow::bail!("a read that nobody asked for");
            };
            ensure!(count > 0, "the file ended early");
            if !self.shape.direct {
                *copied += count as u64;
            }
            let got = got + count;
            if got >= skip + len {
                self.slots[index] = Slot::Full { skip, len, sent: 0 };
            } else {
                self.slots[index] = Slot::Reading { offset, got, skip, len };
                self.read(index)?;
            }
            return Ok(0);
        }
        if cqueue::notif(done.flags) {
            const COPIED: u32 = 1 << 31;
            self.counts.zero_copy_sends += 1;
            if done.result.cast_unsigned() & COPIED != 0 {
                self.counts.zero_copy_copied += 1;
            }
            self.owed[index] -= 1;
            self.give_back(index);
            return Ok(0);
        }
        let count = done.count("a send")?;
        if !self.shape.zero_copy {
            *copied += count as u64;
        }
        let Slot::Full { skip, len, sent } = self.slots[index] else {
            anyhow::bail!("a send that nobody asked for");
        };
        let sent = sent + count;
        self.slots[index] = match (sent == len, self.shape.zero_copy) {
            (false, _) => Slot::Full { skip, len, sent },
            (true, true) => Slot::Lent,
            (true, false) => Slot::Free,
        };
        // A buffer that went out in two sends is lent twice.
        if cqueue::more(done.flags) {
            self.owed[index] += 1;
        }
        self.give_back(index);
        Ok(count as u64)
    }

    /// Frees a buffer that was sent, if the kernel reads it no more.
    fn give_back(&mut self, index: usize) {
        if self.slots[index] == Slot::Lent && self.owed[index] == 0 {
            self.slots[index] = Slot::Free;
        }
    }
}

impl StreamArm for Copies {
    fn send(&mut self, span: Span) -> Result<()> {
        let end = span.offset + span.len;
        let (mut next_read, mut left) = (span.offset, span.len);
        let (mut reader, mut sender, mut sending) = (0, 0, false);
        let depth = self.shape.depth;
        while left > 0 || self.slots.contains(&Slot::Lent) {
            while next_read < end && self.slots[reader] == Slot::Free {
                let skip = if self.shape.direct { next_read % ALIGNMENT } else { 0 };
                let len = (end - next_read).min(self.shape.chunk);
                let offset = next_read - skip;
                let (skip, count) = (usize::try_from(skip)?, usize::try_from(len)?);
                self.slots[reader] = Slot::Reading { offset, got: 0, skip, len: count };
                self.read(reader)?;
                next_read += len;
                reader = (reader + 1) % depth;
            }
            if !sending && let Slot::Full { len, sent, .. } = self.slots[sender] {
                self.send_slot(sender, (len - sent) as u64 == left)?;
                sending = true;
            }
            let reaped = self.ring.wait()?.to_vec();
            for done in reaped {
                left -= self.take(done)?;
                if done.asked_by & SEND != 0 && !cqueue::notif(done.flags) {
                    sending = false;
                    if !matches!(self.slots[sender], Slot::Full { .. }) {
                        sender = (sender + 1) % depth;
                    }
                }
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        let mut counts = std::mem::take(&mut self.counts);
        self.counts.copied_bytes = Some(0);
        if self.shape.zero_copy && counts.zero_copy_sends > 0 {
            // Known per send only: bytes in proportion.
            let read = counts.copied_bytes.unwrap_or(0);
            let share = counts.zero_copy_copied as f64 / counts.zero_copy_sends as f64;
            counts.copied_bytes = Some(read + rounded(read as f64 * share));
        }
        counts
    }
}

/// A count of bytes from a product that is none.
fn rounded(bytes: f64) -> u64 {
    format!("{bytes:.0}").parse().unwrap_or(0)
}
