//! By reference: page cache → pipe → socket.
//!
//! A pipe is filled from the file and drained into the socket. What the socket does not take stays
//! in the pipe for a moment; if the peer stalls longer, the pipe is given up (and destroyed, since it
//! is not empty) and the transfer goes back to what the socket has accepted. While one pipe drains, a
//! worker of the kernel can fill a second one, which pays when the file is cold.

use ringway_runtime::fs::{File, Filling};
use ringway_runtime::net::Stream;
use ringway_runtime::{PipeLease, PipeRefusal, lend_pipe};

use super::copy::Copying;
use super::{Ready, Run, copy, kernel_tls};
use crate::error::errno::{EINVAL, EIO, EISDIR, EOPNOTSUPP};
use crate::error::{ErrorKind, Side, TransferError};
use crate::plan::{DirectIo, Mode, Route};
use crate::progress::{Fill, Step};

/// What the route holds between two steps.
#[derive(Default)]
struct Splicing {
    /// The pipe that holds what is staged, or an empty one for the next quantum.
    pipe: Option<PipeLease>,
    /// A fill that runs ahead, of what follows the staged bytes.
    ahead: Option<Filling>,
    /// For a quantum that can only be copied.
    copying: Copying,
    /// The residency of the first quantum is known from the plan.
    begun: bool,
    /// The peer has stalled so long that a pipe was given up, and has not caught up since. A pipe
    /// would be filled anew for each bit that it takes, so it gets what is resident by sendfile(2).
    slow: bool,
}

/// Whether the route can go on.
enum Course {
    On,
    /// The kernel refuses to splice this file: the rest is copied.
    Refused,
}

pub(super) async fn drive(run: &mut Run<'_>) -> Result<(), TransferError> {
    let mut splicing = Splicing::default();
    loop {
        run.watch.check().map_err(|kind| run.fail(kind))?;
        match run.progress.next(run.limits.quantum_bytes) {
            Step::Done => return Ok(()),
            Step::Truncated(truncated) => return Err(run.truncated(truncated)),
            Step::SendBytes { part, start, len, .. } => {
                // It may wait for the peer, and it needs no pipe for that.
                splicing.pipe = None;
                send_memory(run, part, start, len).await?;
            }
            Step::Drain { more, .. } => splicing.drain(run, more).await?,
            Step::Fill(fill) => {
                if let Course::Refused = splicing.fill(run, fill).await? {
                    drop(splicing);
                    // The kernel seals what is copied just the same.
                    if run.plan.route == Route::Splice {
                        run.plan.route = Route::Copy;
                        run.receipt.route = Route::Copy;
                    }
                    return copy::drive(run).await;
                }
            }
        }
        run.give_way().await;
    }
}

/// Sends memory of the caller, corked if more of the body follows.
pub(super) async fn send_memory(
    run: &mut Run<'_>,
    part: usize,
    start: u64,
    len: u64,
) -> Result<(), TransferError> {
    let allowed = run.quantum().await?;
    let len = len.min(allowed);
    // Before a long body it goes out at once: see `Thresholds::cork_max_bytes`.
    let more = run.progress.more_after(len)
        && run.thresholds.corks(run.progress.remaining() - len, || run.stream.is_paced());
    let from = usize::try_from(start).unwrap_or(usize::MAX);
    let to = from.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
    let bytes = run.body.memory(part);
    let bytes = bytes.slice(from.min(bytes.len())..to.min(bytes.len()));
    let stream = run.stream;
    let sent = if run.plan.mode == Mode::Ring {
        run.receipt.send_sqes += 1;
        let op = stream.send(bytes, 0, more);
        let op = op.map_err(|error| run.fail_io("send", Side::Sink, error))?;
        let ((sent, _), stop) = run.watch.supervised(op, |op| op.cancel(), true).await;
        if let Some(kind) = stop {
            run.pass(sent.unwrap_or(0) as u64)?;
            return Err(run.fail(kind));
        }
        sent
    } else {
        stream.try_send(&[std::io::IoSlice::new(&bytes)], more)
    };
    match sent {
        Ok(sent) => {
            run.unused(allowed.saturating_sub(sent as u64));
            run.pass(sent as u64)
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            run.unused(allowed);
            run.writable(false).await.map(drop)
        }
        Err(error) => Err(run.fail_io("send", Side::Sink, error)),
    }
}

impl Splicing {
    /// Brings file bytes into a pipe, or on their way without one.
    async fn fill(&mut self, run: &mut Run<'_>, fill: Fill) -> Result<Course, TransferError> {
        let Some(file) = run.body.file(fill.part) else {
            return Err(run.fail(ErrorKind::SourceNotRegular { op: "splice", errno: 0 }));
        };
        if self.ahead.is_some() && run.kernel_seals() && !may_go_on(run).await? {
            self.ahead = None;
        }
        if let Some(filling) = self.ahead.take() {
            let course = self.collect(run, filling).await?;
            self.fill_ahead(run, file)?;
            return Ok(course);
        }
        if run.pace.is_some() {
            // The rate limit may make it wait, and others may need the pipe meanwhile.
            self.pipe = None;
        }
        let allowed = run.quantum().await?;
        let fill = Fill { len: fill.len.min(allowed).min(run.limits.pipe_bytes), ..fill };
        let mode = self.mode(run, fill);
        run.receipt.mode = mode;
        if mode == Mode::Inline && (ends_short(run, fill) || self.slow && !run.plan.mode_fixed) {
            let accepted = run.progress.accepted();
            let course = sendfile(run, file, fill, allowed).await?;
            self.slow &= run.progress.accepted() - accepted < fill.len;
            return Ok(course);
        }
        let pipe = match self.pipe.take() {
            Some(pipe) => Ok(pipe),
            None => lend(run)?,
        };
        let staged_before = run.progress.staged();
        let course = match (pipe, mode) {
            (Ok(pipe), Mode::Inline) => self.fill_inline(run, file, pipe, fill)?,
            (Ok(pipe), Mode::Ring | Mode::Hybrid) => {
                let len = u32::try_from(fill.len).unwrap_or(u32::MAX);
                let filling = file.fill(pipe, fill.offset, len);
                let filling =
                    filling.map_err(|error| run.fail_io("splice", Side::Source, error))?;
                run.receipt.splice_sqes += 1;
                let course = self.collect(run, filling).await?;
                self.fill_ahead(run, file)?;
                course
            }
            // Who rules out the copy gets this too, though it may wait for a cold file.
            (Err(refusal), mode) if mode == Mode::Inline || !run.may_copy => {
                run.receipt.note_fallback("sendfile(2) instead of a pipe", why(refusal));
                return sendfile(run, file, fill, allowed).await;
            }
            (Err(refusal), _) => {
                run.receipt.note_fallback("copied instead of spliced", why(refusal));
                // Rare and large: in a box it does not make every other future larger.
                Box::pin(self.copying.batch(run, allowed)).await?;
                return Ok(Course::On);
            }
        };
        run.unused(allowed.saturating_sub(run.progress.staged() - staged_before));
        Ok(course)
    }

    /// Who fills: planned, or decided by whether the range is in memory now.
    fn mode(&mut self, run: &Run<'_>, fill: Fill) -> Mode {
        let first = !std::mem::replace(&mut self.begun, true);
        if first || run.plan.mode_fixed {
            return run.plan.mode;
        }
        run.plan.mode_for(run.body.residency(fill.part, fill.offset, fill.len, run.limits))
    }

    fn fill_inline(
        &mut self,
        run: &mut Run<'_>,
        file: &File,
        mut pipe: PipeLease,
        fill: Fill,
    ) -> Result<Course, TransferError> {
        let len = u32::try_from(fill.len).unwrap_or(u32::MAX);
        run.receipt.inline_splices += 1;
        match file.try_fill(&mut pipe, fill.offset, len) {
            Ok(moved) => {
                run.stage(moved.into())?;
                self.pipe = Some(pipe);
                Ok(Course::On)
            }
            Err(error) => refused(run, error),
        }
    }

    /// Awaits a fill in the ring.
    async fn collect(
        &mut self,
        run: &mut Run<'_>,
        filling: Filling,
    ) -> Result<Course, TransferError> {
        let (outcome, stop) = run.watch.supervised(filling, Filling::cancel, false).await;
        if let Some(kind) = stop {
            return Err(run.fail(kind));
        }
        let (moved, pipe) = outcome;
        match moved {
            Ok(moved) => {
                run.stage(moved.into())?;
                self.pipe = pipe;
                Ok(Course::On)
            }
            Err(error) => refused(run, error),
        }
    }

    /// Starts to fill a second pipe with what follows, if that is not in memory already.
    fn fill_ahead(&mut self, run: &mut Run<'_>, file: &File) -> Result<(), TransferError> {
        if run.pace.is_some() || run.limits.pipes_max < 2 || run.progress.staged() == 0 {
            return Ok(());
        }
        let quantum = run.limits.quantum_bytes.min(run.limits.pipe_bytes);
        let Some(next) = run.progress.next_fill(quantum) else { return Ok(()) };
        let same_file = run.body.file(next.part).is_some_and(|other| std::ptr::eq(other, file));
        if !same_file || self.mode(run, next) == Mode::Inline {
            return Ok(());
        }
        // Without a second pipe it goes on with one.
        let Ok(pipe) = lend(run)? else { return Ok(()) };
        let len = u32::try_from(next.len).unwrap_or(u32::MAX);
        let filling = file.fill(pipe, next.offset, len);
        self.ahead = Some(filling.map_err(|error| run.fail_io("splice", Side::Source, error))?);
        run.receipt.splice_sqes += 1;
        run.receipt.pipes = 2;
        Ok(())
    }

    /// Brings staged bytes into the socket, or gives them up if the peer stalls.
    async fn drain(&mut self, run: &mut Run<'_>, more: bool) -> Result<(), TransferError> {
        let Some(mut pipe) = self.pipe.take() else {
            // What was filled ahead would follow bytes that are gone.
            self.ahead = None;
            run.rewind();
            return Ok(());
        };
        let stream = run.stream;
        let moved = if run.plan.mode == Mode::Ring {
            run.receipt.splice_sqes += 1;
            let op = stream.drain(pipe, more);
            let op = op.map_err(|error| run.fail_io("splice", Side::Sink, error))?;
            let ((moved, back), stop) = run.watch.supervised(op, |op| op.cancel(), true).await;
            self.pipe = back;
            if let Some(kind) = stop {
                run.accept(moved.unwrap_or(0) as u64)?;
                return Err(run.fail(kind));
            }
            moved
        } else {
            run.receipt.inline_splices += 1;
            let moved = stream.try_drain(&mut pipe, more);
            self.pipe = Some(pipe);
            moved.map(|moved| moved as usize)
        };
        match moved {
            // Nothing moved out of a pipe that holds bytes: that would go on for ever.
            Ok(0) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "splice", errno: 0 })),
            Ok(moved) => {
                run.accept(moved as u64)?;
                if run.progress.staged() == 0 && self.pipe.as_ref().is_some_and(|p| p.residue() > 0)
                {
                    self.pipe = None;
                }
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // A direct file cannot be spliced from the middle of a block, where the socket may
                // have stopped: without the copy to go on with, the pipe is kept.
                let holding = run.may_copy || run.body.facts.direct_io == DirectIo::No;
                if run.writable(holding).await? == Ready::HoldOver {
                    self.pipe = None;
                    self.ahead = None;
                    self.slow = true;
                    run.rewind();
                    run.writable(false).await?;
                }
                Ok(())
            }
            Err(error) => Err(run.fail_io("splice", Side::Sink, error)),
        }
    }
}

/// What the kernel seals is asked for before each pipe, and not only before a fill that nobody has made
/// ahead: whether the peer is still there and content, and the key good for a whole pipe. Otherwise what was
/// filled ahead is forgotten, and the next fill is as long as it may be.
async fn may_go_on(run: &mut Run<'_>) -> Result<bool, TransferError> {
    let most = run.limits.quantum_bytes.min(run.limits.pipe_bytes);
    let allowed = Box::pin(kernel_tls::allowance(run, true)).await?;
    Ok(allowed.is_some_and(|allowed| allowed >= most))
}

/// Whether what is left is so short that one sendfile(2) does the work of two splices for less. Only at the end of a body, because sendfile(2) cannot cork.
fn ends_short(run: &Run<'_>, fill: Fill) -> bool {
    !run.plan.mode_fixed
        && fill.len <= run.thresholds.sendfile_max_bytes
        && !run.progress.more_after(fill.len)
}

/// Lends a pipe, and notes it.
pub(super) fn lend(run: &mut Run<'_>) -> Result<Result<PipeLease, PipeRefusal>, TransferError> {
    let lent = lend_pipe().map_err(|error| run.fail_io("pipe2", Side::Host, error))?;
    if let Ok(pipe) = &lent {
        run.receipt.pipes = run.receipt.pipes.max(1);
        run.receipt.pipe_bytes = pipe.capacity() as u64;
    }
    Ok(lent)
}

/// Sends a range without a pipe of ours; what the socket does not take stays in the file.
async fn sendfile(
    run: &mut Run<'_>,
    file: &File,
    fill: Fill,
    allowed: u64,
) -> Result<Course, TransferError> {
    let len = u32::try_from(fill.len).unwrap_or(u32::MAX);
    run.receipt.sendfile_calls += 1;
    let stream: &Stream = run.stream;
    match stream.try_sendfile(std::os::fd::AsFd::as_fd(file), fill.offset, len) {
        Ok(sent) => {
            run.unused(allowed.saturating_sub(sent.into()));
            run.pass(sent.into())?;
            Ok(Course::On)
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            run.unused(allowed);
            run.writable(false).await?;
            Ok(Course::On)
        }
        // sendfile(2) does not tell which side an errno is from; these are the file's.
        Err(error) => match error.raw_os_error() {
            Some(EINVAL | EIO | EISDIR) => refused(run, error),
            _ => Err(run.fail_io("sendfile", Side::Sink, error)),
        },
    }
}

/// A file that cannot be spliced is copied, unless that is forbidden; other errors are final.
fn refused(run: &mut Run<'_>, error: std::io::Error) -> Result<Course, TransferError> {
    if cannot(&error) && run.may_copy {
        run.receipt.note_fallback("copied instead of spliced", "the kernel refuses to splice it");
        return Ok(Course::Refused);
    }
    Err(run.fail_io("splice", Side::Source, error))
}

/// Whether this is how the kernel says that a file cannot be spliced.
pub(crate) fn cannot(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP))
}

pub(crate) fn why(refusal: PipeRefusal) -> &'static str {
    match refusal {
        PipeRefusal::AllLent => "all pipes are lent",
        PipeRefusal::TooSmall(_) => "the user's pipe pages are spent (fs.pipe-user-pages-soft)",
        PipeRefusal::NoDescriptors => "no descriptors are left (RLIMIT_NOFILE)",
        _ => "the kernel makes no pipe",
    }
}
