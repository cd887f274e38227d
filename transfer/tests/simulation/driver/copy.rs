//! The mirror of `route/copy.rs`, without `O_DIRECT`.

use ringway::Mode;
use ringway::error::{ErrorKind, Side};
use ringway::progress::{Fill, Segment, Step};

use super::watch::Ready;
use super::{Run, would_block};
use crate::bug::Bug;
use crate::content::Rope;
use crate::event::{EAGAIN, EINVAL, ENOMEM, EOPNOTSUPP};
use crate::kernel::lend::BufferLease;
use crate::kernel::ring::{Pending, Work};
use crate::oracle::End;

const PIECES_MAX: usize = 64;
/// Less than the route's, since the bodies are smaller.
const ZERO_COPY_MIN: u64 = 4 << 10;

#[derive(Default)]
pub(super) struct Copying {
    lease: Option<BufferLease>,
    whole: bool,
    /// What was in the buffer before a rewind, for [`Bug::SendOldRead`].
    old: Option<Rope>,
}

pub(super) async fn drive(run: &mut Run) -> Result<(), End> {
    let mut copying = Copying::default();
    let mut turn_began = 0;
    loop {
        run.watch.check().map_err(|kind| run.fail(kind))?;
        match run.progress.next(run.limits.quantum_bytes) {
            Step::Done => return Ok(()),
            Step::Truncated(truncated) => return Err(run.fail(ErrorKind::Truncated(truncated))),
            Step::SendBytes { .. } | Step::Fill(_) | Step::Drain { .. } => {
                let allowed = run.quantum().await?;
                copying.batch(run, allowed).await?;
            }
        }
        run.share(&mut turn_began).await;
    }
}

impl Copying {
    pub(super) async fn batch(&mut self, run: &mut Run, allowed: u64) -> Result<(), End> {
        self.gather(run, allowed).await?;
        run.unused(allowed.saturating_sub(run.progress.staged()));
        while run.progress.staged() > 0 {
            if self.whole && self.lease.is_none() {
                run.rewind();
                break;
            }
            let offered = run.progress.staged();
            let sent = if self.whole && by_ring(run) {
                self.send_by_ring(run).await?
            } else {
                self.send_inline(run)
            };
            match sent {
                Ok(0) => return Err(run.fail(ErrorKind::UnexpectedErrno { op: "send", errno: 0 })),
                Ok(sent) => run.accept(if run.has(Bug::AcceptOffered) { offered } else { sent })?,
                Err(errno) if would_block(errno) => {
                    if run.writable(true).await? == Ready::HoldOver {
                        if run.has(Bug::SendOldRead) {
                            self.old = self.lease.as_ref().map(|b| b.slice(0, b.len()));
                        }
                        self.lease = None;
                        run.rewind();
                        run.writable(false).await?;
                    }
                }
                Err(errno) => return Err(run.fail_io("send", Side::Sink, errno)),
            }
            run.watch.check().map_err(|kind| run.fail(kind))?;
        }
        self.lease = None;
        Ok(())
    }

    async fn gather(&mut self, run: &mut Run, allowed: u64) -> Result<(), End> {
        self.whole = by_ring(run);
        let mut left = allowed.min(run.limits.copy_batch_bytes);
        let mut buffer: Option<BufferLease> = None;
        for _ in 0..PIECES_MAX.min(run.limits.segments_max) {
            let Some(segment) = run.progress.window(left, 1).next() else { break };
            let staged = match segment {
                Segment::Bytes { len, .. } if !self.whole => Some(len.min(left)),
                Segment::Bytes { part, start, len } => {
                    lend(&mut buffer, run).await?;
                    Some(put(buffer.as_ref(), run, part, start, len.min(left))).filter(|n| *n > 0)
                }
                Segment::File(fill) => {
                    lend(&mut buffer, run).await?;
                    read(&mut buffer, run, fill).await?
                }
            };
            let Some(staged) = staged else { break };
            run.stage(staged)?;
            left -= staged.min(left);
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

    fn send_inline(&self, run: &Run) -> Result<u64, i32> {
        let lease = self.lease.as_ref();
        let filled = lease.map_or(0, BufferLease::len);
        let slice = |from, len| match (&self.old, lease) {
            (Some(old), _) => old.slice(from, len),
            (None, Some(lease)) => lease.slice(from, len),
            (None, None) => Rope::default(),
        };
        let resend = run.has(Bug::ResendFromStart);
        let start = |staged: u64| if resend { 0 } else { filled.saturating_sub(staged) };
        if self.whole {
            let staged = run.progress.staged();
            let more = run.more_after(staged);
            let rest = slice(start(staged), staged);
            return run.host.borrow_mut().try_send(run.id, &rest, more);
        }
        let mut at = start(run.progress.staged_from_file());
        let mut pieces = Rope::default();
        for segment in run.progress.residue(PIECES_MAX) {
            match segment {
                Segment::File(Fill { len, .. }) => {
                    pieces.append(&slice(at, len));
                    at += len;
                }
                Segment::Bytes { part, start, len } => pieces.append(&run.memory(part, start, len)),
            }
        }
        let more = run.more_after(pieces.len());
        run.host.borrow_mut().try_send(run.id, &pieces, more)
    }

    async fn send_by_ring(&mut self, run: &mut Run) -> Result<Result<u64, i32>, End> {
        let Some(buffer) = self.lease.take() else {
            run.rewind();
            return Err(run.fail(ErrorKind::UnexpectedErrno { op: "send", errno: 0 }));
        };
        let staged = run.progress.staged();
        let start = buffer.len().saturating_sub(staged);
        let start = if run.has(Bug::ResendFromStart) { 0 } else { start };
        let more = run.more_after(staged);
        let zero_copy = run.wants_zero_copy(ZERO_COPY_MIN);
        let len = buffer.len() - start;
        let work = Work::Send { buffer: buffer.into_id(), start, len, more, zero_copy };
        let op = Pending::submit(&run.host, run.id, work);
        let (ended, stop) = run.watch.supervised(op, Pending::cancel, true).await;
        self.lease = ended.buffer;
        if let Some(kind) = stop {
            run.accept(ended.result.unwrap_or(0))?;
            return Err(run.fail(kind));
        }
        match ended.result {
            Err(ENOMEM | EOPNOTSUPP) if zero_copy => {
                run.copies_anyway = true;
                Ok(Err(EAGAIN))
            }
            sent => Ok(sent),
        }
    }
}

fn by_ring(run: &Run) -> bool {
    run.plan.mode == Mode::Ring || run.wants_zero_copy(ZERO_COPY_MIN)
}

fn put(lease: Option<&BufferLease>, run: &Run, part: usize, start: u64, len: u64) -> u64 {
    let Some(lease) = lease else { return 0 };
    let len = len.min(lease.capacity() - lease.len());
    let bytes = run.memory(part, start, len);
    lease.put(&bytes);
    bytes.len()
}

async fn read(
    buffer: &mut Option<BufferLease>,
    run: &mut Run,
    fill: Fill,
) -> Result<Option<u64>, End> {
    let Some(lease) = buffer else { return Ok(None) };
    let start = lease.len();
    let len = fill.len.min(lease.capacity() - start);
    if len == 0 {
        return Ok(None);
    }
    let range = run.range(Fill { len, ..fill });
    let mut done = None;
    if run.plan.mode == Mode::Inline {
        let read = run.host.borrow_mut().try_read(run.id, range, lease.id());
        match read {
            Ok(read) => done = Some(read),
            Err(EAGAIN | EINVAL | EOPNOTSUPP) => {}
            Err(errno) => return Err(run.fail_io("preadv2", Side::Source, errno)),
        }
    }
    let read = match done {
        Some(read) => read,
        None => read_by_ring(buffer, run, start, range).await?,
    };
    if let Some(lease) = buffer
        && run.has(Bug::IgnoreShortRead)
        && read > 0
    {
        lease.set_filled(start + len);
        return Ok(Some(len));
    }
    Ok(Some(read))
}

async fn read_by_ring(
    buffer: &mut Option<BufferLease>,
    run: &mut Run,
    start: u64,
    (inode, at, len): (usize, u64, u64),
) -> Result<u64, End> {
    let Some(lease) = buffer.take() else { return Ok(0) };
    let work = Work::Read { inode, at, len, buffer: lease.into_id(), start };
    let reading = Pending::submit(&run.host, run.id, work);
    let outcome = run.watch.excused(reading).await;
    let ended = outcome.map_err(|kind| run.fail(kind))?;
    *buffer = ended.buffer;
    ended.result.map_err(|errno| run.fail_io("read", Side::Source, errno))
}

/// The buffer of the batch, lent when it is first needed.
async fn lend(buffer: &mut Option<BufferLease>, run: &mut Run) -> Result<(), End> {
    if buffer.is_none() {
        let host = run.host.clone();
        let lending = std::future::poll_fn(move |_| match BufferLease::lend(&host) {
            Some(lease) => std::task::Poll::Ready(lease),
            None => std::task::Poll::Pending,
        });
        let lent = run.watch.excused(lending).await;
        *buffer = Some(lent.map_err(|kind| run.fail(kind))?);
    }
    Ok(())
}
