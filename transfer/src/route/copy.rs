//! By copy: file → buffer → socket, with memory before and after it in the same packets.
//!
//! What is in memory already is read and sent by the loop itself, which is cheapest for small
//! bodies. What is not is read by the ring into a registered buffer. If the peer stalls, the buffer is
//! given back and its bytes are read again later.

use std::io::{self, IoSlice};
use std::pin::pin;

use ringway_runtime::fs::File;
use ringway_runtime::{Lease, lease, try_lease};

use super::{Ready, Run};
use crate::error::errno::{EINVAL, ENOMEM, EOPNOTSUPP};
use crate::error::{ErrorKind, Side, TransferError};
use crate::plan::{DirectIo, Mode};
use crate::progress::{Fill, Segment, Step};
use crate::source::DIRECT_BLOCK;

/// Pieces in one send: more than a header, a file and a trailer need.
const PIECES_MAX: usize = 64;
/// From here on a send without a copy can pay for its second completion.
const ZERO_COPY_MIN: u64 = 32 << 10;

/// What the route holds between two steps: the file bytes that are staged are the last ones of the
/// buffer.
#[derive(Default)]
pub(super) struct Copying {
    lease: Option<Lease>,
    /// The memory that is staged is in the buffer too, so that one op of the ring can send all. It
    /// stays so until the batch is over, whichever call sends the rest of it.
    whole: bool,
}

pub(super) async fn drive(run: &mut Run<'_>) -> Result<(), TransferError> {
    let mut copying = Copying::default();
    loop {
        run.watch.check().map_err(|kind| run.fail(kind))?;
        match run.progress.next(run.limits.quantum_bytes) {
            Step::Done => return Ok(()),
            Step::Truncated(truncated) => return Err(run.truncated(truncated)),
            Step::SendBytes { .. } | Step::Fill(_) | Step::Drain { .. } => {
                let allowed = run.quantum().await?;
                copying.batch(run, allowed).await?;
            }
        }
        run.give_way().await;
    }
}

impl Copying {
    /// Stages at most `allowed` bytes and sends them, or gives them up if the peer stalls.
    pub(super) async fn batch(
        &mut self,
        run: &mut Run<'_>,
        allowed: u64,
    ) -> Result<(), TransferError> {
        self.gather(run, allowed).await?;
        run.unused(allowed.saturating_sub(run.progress.staged()));
        while run.progress.staged() > 0 {
            if self.whole && self.lease.is_none() {
                // The kernel keeps the buffer of a zero-copy send; the rest is read again.
                run.rewind();
                break;
            }
            let sent = if self.whole && by_ring(run) {
                self.send_by_ring(run).await?
            } else {
                self.send_inline(run)
            };
            match sent {
                // A send of nothing would go on for ever.
                Ok(0) => return Err(run.fail(ErrorKind::UnexpectedErrno { op: "send", errno: 0 })),
                Ok(sent) => run.accept(sent)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if run.writable(true).await? == Ready::HoldOver {
                        self.lease = None;
                        run.rewind();
                        run.writable(false).await?;
                    }
                }
                Err(error) => return Err(run.fail_io("send", Side::Sink, error)),
            }
            run.watch.check().map_err(|kind| run.fail(kind))?;
        }
        self.lease = None;
        Ok(())
    }

    /// Stages what follows, up to `allowed` bytes and to what fits into one buffer and one send.
    async fn gather(&mut self, run: &mut Run<'_>, allowed: u64) -> Result<(), TransferError> {
        self.whole = by_ring(run);
        let mut left = allowed.min(run.limits.copy_batch_bytes);
        let mut buffer: Option<Lease> = None;
        for _ in 0..PIECES_MAX.min(run.limits.segments_max) {
            let Some(segment) = run.progress.window(left, 1).next() else { break };
            let staged = match segment {
                Segment::Bytes { len, .. } if !self.whole => Some(len.min(left)),
                Segment::Bytes { part, start, len } => {
                    let lease = lend(&mut buffer, run, left).await?;
                    Some(put(lease, run, part, start, len.min(left))).filter(|put| *put > 0)
                }
                Segment::File(fill) => {
                    lend(&mut buffer, run, left).await?;
                    read(&mut buffer, run, fill).await?
                }
            };
            // There is no room: send what there is first.
            let Some(staged) = staged else { break };
            run.stage(staged)?;
            left -= staged.min(left);
            // At the end of the file, or short: send what there is first.
            let asked = match segment {
                Segment::Bytes { len, .. } | Segment::File(Fill { len, .. }) => len,
            };
            if left == 0 || staged < asked {
                break;
            }
        }
        self.lease = buffer;
        Ok(())
    }

    fn send_inline(&self, run: &Run<'_>) -> io::Result<u64> {
        let buffer: &[u8] = self.lease.as_deref().unwrap_or_default();
        if self.whole {
            let staged = run.progress.staged();
            let rest = &buffer[buffer.len().saturating_sub(to_len(staged))..];
            let more = run.progress.more_after(staged);
            return run.stream.try_send(&[IoSlice::new(rest)], more).map(|sent| sent as u64);
        }
        let mut at = buffer.len().saturating_sub(to_len(run.progress.staged_from_file()));
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let (mut count, mut all) = (0, 0);
        for segment in run.progress.residue(PIECES_MAX) {
            let piece = match segment {
                Segment::File(Fill { len, .. }) => {
                    let from = at;
                    at += to_len(len);
                    buffer.get(from..at).unwrap_or_default()
                }
                Segment::Bytes { part, start, len } => memory(run, part, start, len),
            };
            all += piece.len() as u64;
            pieces[count] = IoSlice::new(piece);
            count += 1;
        }
        let more = run.progress.more_after(all);
        run.stream.try_send(&pieces[..count], more).map(|sent| sent as u64)
    }

    /// The outer error ends the transfer; the inner one is the socket's.
    async fn send_by_ring(&mut self, run: &mut Run<'_>) -> Result<io::Result<u64>, TransferError> {
        let Some(buffer) = self.lease.take() else {
            run.rewind();
            return Err(run.fail(ErrorKind::UnexpectedErrno { op: "send", errno: 0 }));
        };
        let staged = run.progress.staged();
        let start = buffer.len().saturating_sub(to_len(staged));
        let more = run.progress.more_after(staged);
        run.receipt.send_sqes += 1;
        let zero_copy = run.wants_zero_copy(ZERO_COPY_MIN);
        let op = if zero_copy {
            run.stream.send_zero_copy(buffer, start, more)
        } else {
            run.stream.send(buffer, start, more)
        };
        let op = op.map_err(|error| run.fail_io("send", Side::Sink, error))?;
        let ((sent, back), stop) = run.watch.supervised(op, |op| op.cancel(), true).await;
        self.lease = back;
        if let Some(kind) = stop {
            run.accept(sent.unwrap_or(0) as u64)?;
            return Err(run.fail(kind));
        }
        match sent {
            Err(error) if zero_copy && refuses_zero_copy(&error) => {
                run.stream.set_copies_anyway();
                run.receipt.note_fallback("plain sends", "the kernel refuses zero-copy sends here");
                Ok(Err(io::ErrorKind::WouldBlock.into()))
            }
            sent => Ok(sent.map(|sent| sent as u64)),
        }
    }
}

/// Whether an op of the ring sends: then all must be in one buffer.
fn by_ring(run: &Run<'_>) -> bool {
    run.plan.mode == Mode::Ring || run.wants_zero_copy(ZERO_COPY_MIN)
}

/// `ENOMEM`: locked memory is short. `EOPNOTSUPP`: this kind of socket cannot.
fn refuses_zero_copy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOMEM | EOPNOTSUPP))
}

/// Puts memory behind what the buffer holds; 0 if there is no room.
fn put(lease: &mut Lease, run: &Run<'_>, part: usize, start: u64, len: u64) -> u64 {
    let bytes = memory(run, part, start, len);
    let from = lease.len();
    let len = bytes.len().min(lease.capacity() - from);
    lease.spare_mut()[from..from + len].copy_from_slice(&bytes[..len]);
    lease.set_filled(from + len);
    len as u64
}

/// Reads file bytes behind what the buffer holds: inline if they are in memory and that may be, and
/// by the ring otherwise. 0 at the end of the file; `None` if there is no room, which an empty buffer
/// always has.
async fn read(
    buffer: &mut Option<Lease>,
    run: &mut Run<'_>,
    fill: Fill,
) -> Result<Option<u64>, TransferError> {
    let Some(file) = run.body.file(fill.part) else { return Ok(Some(0)) };
    let Some(lease) = buffer else { return Ok(None) };
    let room = lease.capacity() - lease.len();
    let len = to_len(fill.len).min(room);
    if len == 0 {
        return Ok(None);
    }
    if run.body.facts.direct_io != DirectIo::No {
        // Rare and large: in a box it does not make every other future larger.
        return Box::pin(read_direct(buffer, run, fill)).await;
    }
    if run.plan.mode == Mode::Inline {
        match file.try_read(lease, fill.offset, len) {
            Ok(read) => return Ok(Some(read as u64)),
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
    let start = lease.len();
    read_by_ring(buffer, run, file, start, len, fill.offset).await.map(Some)
}

async fn read_by_ring(
    buffer: &mut Option<Lease>,
    run: &mut Run<'_>,
    file: &File,
    start: usize,
    len: usize,
    offset: u64,
) -> Result<u64, TransferError> {
    let Some(lease) = buffer.take() else { return Ok(0) };
    run.receipt.read_sqes += 1;
    let reading = pin!(file.read_at(lease, start, len, offset));
    let outcome = run.watch.excused(reading).await;
    let (read, back) = outcome.map_err(|kind| run.fail(kind))?;
    *buffer = back;
    read.map(|read| read as u64).map_err(|error| run.fail_io("read", Side::Source, error))
}

/// Reads whole blocks around the range, as `O_DIRECT` demands, and keeps what was asked for: it must
/// be the last thing in the buffer, so the buffer must be empty before.
pub(super) async fn read_direct(
    buffer: &mut Option<Lease>,
    run: &mut Run<'_>,
    fill: Fill,
) -> Result<Option<u64>, TransferError> {
    let Some(file) = run.body.file(fill.part) else { return Ok(Some(0)) };
    let Some(lease) = buffer else { return Ok(None) };
    let before = lease.len();
    // Blocks can only be read to a block of the buffer; what is there already moves with them.
    let skip = to_len(fill.offset % DIRECT_BLOCK);
    let start = before.next_multiple_of(to_len(DIRECT_BLOCK));
    let room = lease.capacity().saturating_sub(start) / to_len(DIRECT_BLOCK) * to_len(DIRECT_BLOCK);
    let asked = skip.saturating_add(to_len(fill.len)).next_multiple_of(to_len(DIRECT_BLOCK));
    let len = asked.min(room);
    if len <= skip {
        return Ok(None);
    }
    let read = read_by_ring(buffer, run, file, start, len, fill.offset - skip as u64).await?;
    let useful = to_len(read).saturating_sub(skip).min(to_len(fill.len));
    if let Some(lease) = buffer {
        // Close the gap: the bytes asked for follow what was there before.
        lease.spare_mut().copy_within(start + skip..start + skip + useful, before);
        lease.set_filled(before + useful);
    }
    Ok(Some(useful as u64))
}

/// The buffer of the batch, lent when it is first needed.
async fn lend<'l>(
    buffer: &'l mut Option<Lease>,
    run: &mut Run<'_>,
    bytes: u64,
) -> Result<&'l mut Lease, TransferError> {
    if buffer.is_none() {
        let want = bytes.min(run.progress.remaining());
        // Around a direct read there may be a block more at each end.
        let extra = if run.body.facts.direct_io == DirectIo::No { 0 } else { 3 * DIRECT_BLOCK };
        let no_ring = |run: &Run<'_>, error| run.fail_io("lease", Side::Host, error);
        let bytes = to_len(want + extra);
        let lent = match try_lease(bytes).map_err(|error| no_ring(run, error))? {
            Some(lent) => lent,
            None => {
                let lent = run.watch.excused(pin!(lease(bytes))).await;
                let lent = lent.map_err(|kind| run.fail(kind))?;
                lent.map_err(|error| no_ring(run, error))?
            }
        };
        run.receipt.buffer_bytes = run.receipt.buffer_bytes.max(lent.capacity() as u64);
        run.receipt.buffer_registered = lent.is_registered();
        *buffer = Some(lent);
    }
    match buffer {
        Some(lease) => Ok(lease),
        None => Err(run.fail(ErrorKind::UnexpectedErrno { op: "lease", errno: 0 })),
    }
}

/// A run of the caller's memory.
pub(super) fn memory<'m>(run: &Run<'m>, part: usize, start: u64, len: u64) -> &'m [u8] {
    let from = to_len(start);
    run.body.memory(part).get(from..from.saturating_add(to_len(len))).unwrap_or_default()
}

fn to_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
