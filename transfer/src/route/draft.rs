//! A batch of plaintext that comes together in the record slots of one buffer: file bytes by vectored
//! reads, memory by copying it in between.

use std::io;
use std::pin::pin;

use ringway_runtime::fault::{Sabotage, sabotaged};
use ringway_runtime::fs::{File, Reading};
use ringway_runtime::{Lease, Slots, lease, try_lease};

use super::{Run, copy};
use crate::error::errno::{EINVAL, EOPNOTSUPP};
use crate::error::{ErrorKind, Side, TransferError};
use crate::plan::{DirectIo, Mode, Residency};
use crate::progress::{Fill, Segment};
use crate::source::DIRECT_BLOCK;

/// A buffer whose slots are being filled. What was put into it and not sealed is wiped in the end,
/// whoever ends it.
pub(super) struct Draft {
    pub(super) lease: Lease,
    pub(super) slots: Slots,
    /// Plaintext that fits, in bytes.
    room: usize,
    /// Plaintext that is there.
    pub(super) filled: usize,
}

/// How the slots lie in a buffer.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Of one whole record; in a buffer that is too short for it, one slot takes all there is.
    pub(super) slots: Slots,
    /// The most bytes of one buffer.
    pub(super) bytes_max: u64,
}

/// Where drafts come from, and the read that runs ahead for the next one.
pub(super) struct Drafting {
    layout: Layout,
    ahead: Option<Ahead>,
    /// The last file bytes were not in memory, so the next ones may not be either.
    cold: bool,
}

/// A read that runs while the batch before it is sealed and sent.
struct Ahead {
    reading: Reading,
    asked: usize,
    slots: Slots,
    room: usize,
}

impl Drafting {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, ahead: None, cold: false }
    }

    /// What was read ahead would follow bytes that are read again.
    pub(super) fn forget_ahead(&mut self) {
        self.ahead = None;
    }

    /// Brings together what follows, up to `allowed` bytes and to what fits into one buffer, and
    /// stages it; `None` if there is nothing more.
    pub(super) async fn gather(
        &mut self,
        run: &mut Run<'_>,
        allowed: u64,
    ) -> Result<Option<Draft>, TransferError> {
        let mut left = allowed;
        let mut draft = None;
        if let Some(ahead) = self.ahead.take() {
            let (read, complete) = collect(run, ahead, &mut draft).await?;
            left = left.saturating_sub(read);
            if !complete {
                return Ok(draft.filled());
            }
        }
        for _ in 0..run.limits.segments_max {
            let Some(segment) = run.progress.window(left, 1).next().filter(|_| left > 0) else {
                break;
            };
            if draft.is_none() {
                draft = Some(self.begin(run, left).await?);
            }
            let staged = match segment {
                Segment::Bytes { part, start, len } => {
                    let bytes = copy::memory(run, part, start, len.min(left));
                    draft.as_mut().and_then(|draft| draft.put(bytes))
                }
                Segment::File(fill) => self.read(run, &mut draft, fill).await?,
            };
            // There is no room: send what there is first.
            let Some(staged) = staged else { break };
            run.stage(staged)?;
            left = left.saturating_sub(staged);
            // The end of the file: what there is goes out, and then the truncation is told. A read
            // that is merely short goes on, so that records are full.
            if staged == 0 {
                break;
            }
        }
        Ok(draft.filled())
    }

    /// A new buffer, lent for at most `bytes` of plaintext.
    pub(super) async fn begin(
        &self,
        run: &mut Run<'_>,
        bytes: u64,
    ) -> Result<Draft, TransferError> {
        let want = self.layout.bytes_for(bytes.min(run.progress.remaining()));
        let lent = run.watch.excused(pin!(lease(want))).await;
        let lent = lent.map_err(|kind| run.fail(kind))?;
        let lent = lent.map_err(|error| run.fail_io("lease", Side::Host, error))?;
        run.receipt.buffer_bytes = run.receipt.buffer_bytes.max(lent.capacity() as u64);
        run.receipt.buffer_registered = lent.is_registered();
        Ok(Draft::new(lent, self.layout))
    }

    /// Reads file bytes behind what is there: inline if they are in memory and that may be, and by the
    /// ring otherwise. 0 at the end of the file; `None` if there is no room.
    async fn read(
        &mut self,
        run: &mut Run<'_>,
        place: &mut Option<Draft>,
        fill: Fill,
    ) -> Result<Option<u64>, TransferError> {
        let Some(file) = run.body.file(fill.part) else { return Ok(Some(0)) };
        let Some(draft) = place else { return Ok(None) };
        let len = to_len(fill.len).min(draft.room - draft.filled);
        if len == 0 {
            return Ok(None);
        }
        if run.body.facts.direct_io != DirectIo::No {
            // Rare and large: in a box it does not make every other future larger.
            return Box::pin(read_direct(run, draft, fill)).await;
        }
        if run.plan.mode == Mode::Inline || !run.plan.mode_fixed {
            match file.try_read_slots(
                &mut draft.lease,
                &draft.slots,
                draft.filled,
                len,
                fill.offset,
            ) {
                Ok(read) => {
                    self.cold = false;
                    draft.filled += read;
                    return Ok(Some(read as u64));
                }
                // The ring waits for it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if run.plan.mode_fixed {
                        run.receipt.note_fallback("read by the ring", "it is not in memory");
                    }
                }
                // A file system that cannot tell.
                Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP)) => {}
                Err(error) => return Err(run.fail_io("preadv2", Side::Source, error)),
            }
            run.receipt.mode = Mode::Hybrid;
        }
        self.cold = true;
        read_by_ring(run, place, file, len, fill.offset).await.map(Some)
    }

    /// Starts to read at most so much of what follows into a second buffer, if it is not in memory
    /// already.
    pub(super) fn read_ahead(&mut self, run: &mut Run<'_>, most: u64) -> Result<(), TransferError> {
        let direct = run.body.facts.direct_io != DirectIo::No;
        if !self.cold || run.pace.is_some() || direct || run.progress.staged() == 0 {
            return Ok(());
        }
        let fits = self.layout.plaintext_in(to_len(self.layout.bytes_max));
        let quantum = run.limits.quantum_bytes.min(fits as u64).min(most);
        let Some(next) = run.progress.next_fill(quantum) else { return Ok(()) };
        let Some(file) = run.body.file(next.part) else { return Ok(()) };
        let residency = || run.body.residency(next.part, next.offset, next.len, run.limits);
        if !run.plan.mode_fixed && residency() == Residency::Resident {
            return Ok(());
        }
        // Without a second buffer it goes on with one.
        let lent = try_lease(self.layout.bytes_for(next.len));
        let lent = lent.map_err(|error| run.fail_io("lease", Side::Host, error))?;
        let Some(draft) = lent.map(|lease| Draft::new(lease, self.layout)) else { return Ok(()) };
        let asked = to_len(next.len).min(draft.room);
        let Draft { lease, slots, room, .. } = draft;
        let reading = file.read_slots(lease, &slots, 0, asked, next.offset);
        let reading = reading.map_err(|error| run.fail_io("readv", Side::Source, error))?;
        run.receipt.read_sqes += 1;
        self.ahead = Some(Ahead { reading, asked, slots, room });
        Ok(())
    }
}

/// Awaits a read that ran ahead and stages what it brought; whether that was all it was to bring.
async fn collect(
    run: &mut Run<'_>,
    ahead: Ahead,
    place: &mut Option<Draft>,
) -> Result<(u64, bool), TransferError> {
    let Ahead { reading, asked, slots, room } = ahead;
    let outcome = run.watch.excused(pin!(reading)).await;
    let (read, lease) = outcome.map_err(|kind| run.fail(kind))?;
    let filled = read.map_err(|error| run.fail_io("readv", Side::Source, error))?;
    run.stage(filled as u64)?;
    *place = lease.map(|lease| Draft { lease, slots, room, filled });
    Ok((filled as u64, filled == asked))
}

async fn read_by_ring(
    run: &mut Run<'_>,
    place: &mut Option<Draft>,
    file: &File,
    len: usize,
    offset: u64,
) -> Result<u64, TransferError> {
    let Some(Draft { lease, slots, room, filled }) = place.take() else { return Ok(0) };
    run.receipt.read_sqes += 1;
    let reading = file.read_slots(lease, &slots, filled, len, offset);
    let reading = reading.map_err(|error| run.fail_io("readv", Side::Source, error))?;
    let outcome = run.watch.excused(pin!(reading)).await;
    let (read, lease) = outcome.map_err(|kind| run.fail(kind))?;
    let read = read.map_err(|error| run.fail_io("readv", Side::Source, error))?;
    *place = lease.map(|lease| Draft { lease, slots, room, filled: filled + read });
    Ok(read as u64)
}

/// `O_DIRECT` reads whole blocks to whole blocks, and no slot lies on one: through a second buffer.
async fn read_direct(
    run: &mut Run<'_>,
    draft: &mut Draft,
    fill: Fill,
) -> Result<Option<u64>, TransferError> {
    run.receipt.note_fallback("read through a second buffer", "O_DIRECT reads whole blocks");
    let want = fill.len.min((draft.room - draft.filled) as u64);
    let lent = run.watch.excused(pin!(lease(to_len(want + 2 * DIRECT_BLOCK)))).await;
    let lent = lent.map_err(|kind| run.fail(kind))?;
    let mut lent = lent.map_err(|error| run.fail_io("lease", Side::Host, error))?;
    lent.set_secret(usize::MAX);
    let mut blocks = Some(lent);
    let read = copy::read_direct(&mut blocks, run, Fill { len: want, ..fill }).await?;
    match (read, &blocks) {
        (Some(_), Some(blocks)) => Ok(draft.put(blocks).or(Some(0))),
        _ => Err(run.fail(ErrorKind::UnexpectedErrno { op: "read", errno: 0 })),
    }
}

impl Draft {
    fn new(mut lease: Lease, layout: Layout) -> Self {
        let whole = layout.slots.whole_in(lease.capacity());
        let slots = match whole {
            0 => Slots { room: layout.plaintext_in(lease.capacity()), ..layout.slots },
            _ => layout.slots,
        };
        lease.set_secret(if sabotaged(Sabotage::UnsealedRemainsKept) { 0 } else { usize::MAX });
        Self { lease, slots, room: whole.max(1) * slots.room, filled: 0 }
    }

    /// Copies memory behind what is there, as much as fits; `None` if nothing does.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<u64> {
        self.put_by(bytes.len(), |from, part| {
            part.copy_from_slice(&bytes[from..from + part.len()]);
            true
        })
    }

    /// The same for `len` bytes that `copy` knows: it is given how many it has copied, and where the next
    /// ones go. What it does not copy ends this, and is not counted.
    pub(super) fn put_by(
        &mut self,
        len: usize,
        mut copy: impl FnMut(usize, &mut [u8]) -> bool,
    ) -> Option<u64> {
        let len = len.min(self.room - self.filled);
        let (mut copied, buffer) = (0, self.lease.spare_mut());
        for range in self.slots.ranges(self.filled, len) {
            let part = range.len();
            if !copy(copied, &mut buffer[range]) {
                break;
            }
            copied += part;
        }
        self.filled += copied;
        (copied > 0).then_some(copied as u64)
    }
}

impl Layout {
    /// The buffer that takes so much plaintext, in bytes.
    fn bytes_for(&self, plaintext: u64) -> usize {
        let records = plaintext.div_ceil(self.slots.room as u64).max(1);
        let around = (self.slots.gap + self.slots.tail) as u64;
        to_len(plaintext.saturating_add(records.saturating_mul(around)).min(self.bytes_max))
    }

    /// The plaintext that a buffer of so many bytes takes.
    fn plaintext_in(&self, bytes: usize) -> usize {
        match self.slots.whole_in(bytes) {
            0 => bytes.saturating_sub(self.slots.gap + self.slots.tail),
            whole => whole * self.slots.room,
        }
    }
}

/// Whether a draft has anything in it.
trait Filled {
    fn filled(self) -> Self;
}

impl Filled for Option<Draft> {
    fn filled(self) -> Self {
        self.filter(|draft| draft.filled > 0)
    }
}

fn to_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
