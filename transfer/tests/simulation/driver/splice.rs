//! The mirror of `route/splice.rs`.

use ringway::Mode;
use ringway::error::{ErrorKind, Side};
use ringway::plan::{Filesystem, Residency, Route};
use ringway::progress::{Fill, Step};

use super::copy::{self, Copying};
use super::watch::Ready;
use super::{Run, would_block};
use crate::bug::Bug;
use crate::event::{EINVAL, EIO, EOPNOTSUPP};
use crate::kernel::lend::PipeLease;
use crate::kernel::ring::{Pending, Work};
use crate::oracle::End;

#[derive(Default)]
struct Splicing {
    pipe: Option<PipeLease>,
    ahead: Option<Pending>,
    copying: Copying,
    begun: bool,
    slow: bool,
}

enum Course {
    On,
    Refused,
}

pub(super) async fn drive(run: &mut Run) -> Result<(), End> {
    let mut splicing = Splicing::default();
    let mut turn_began = 0;
    loop {
        run.watch.check().map_err(|kind| run.fail(kind))?;
        match run.progress.next(run.limits.quantum_bytes) {
            Step::Done => return Ok(()),
            Step::Truncated(truncated) => return Err(run.fail(ErrorKind::Truncated(truncated))),
            Step::SendBytes { part, start, len, .. } => {
                splicing.pipe = None;
                send_memory(run, part, start, len).await?;
            }
            Step::Drain { more, .. } => splicing.drain(run, more).await?,
            Step::Fill(fill) => {
                if let Course::Refused = splicing.fill(run, fill).await? {
                    drop(splicing);
                    run.plan.route = Route::Copy;
                    return copy::drive(run).await;
                }
            }
        }
        run.share(&mut turn_began).await;
    }
}

pub(super) async fn send_memory(
    run: &mut Run,
    part: usize,
    start: u64,
    len: u64,
) -> Result<(), End> {
    let allowed = run.quantum().await?;
    let len = len.min(allowed);
    // Whether something follows what is processed is not known, so nothing is corked for it.
    let more = run.more_after(len) && run.spec.script.is_none();
    let sent = if run.plan.mode == Mode::Ring {
        let op = Pending::submit(&run.host, run.id, Work::SendMemory { part, start, len, more });
        let (ended, stop) = run.watch.supervised(op, Pending::cancel, true).await;
        if let Some(kind) = stop {
            run.pass(ended.result.unwrap_or(0))?;
            return Err(run.fail(kind));
        }
        ended.result
    } else {
        let bytes = run.memory(part, start, len);
        run.host.borrow_mut().try_send(run.id, &bytes, more)
    };
    match sent {
        Ok(sent) => {
            run.unused(allowed.saturating_sub(sent));
            run.pass(sent)
        }
        Err(errno) if would_block(errno) => {
            run.unused(allowed);
            run.writable(false).await.map(drop)
        }
        Err(errno) => Err(run.fail_io("send", Side::Sink, errno)),
    }
}

impl Splicing {
    async fn fill(&mut self, run: &mut Run, fill: Fill) -> Result<Course, End> {
        if let Some(filling) = self.ahead.take() {
            let course = self.collect(run, filling).await?;
            self.fill_ahead(run, fill.part);
            return Ok(course);
        }
        if run.pace.is_some() {
            self.pipe = None;
        }
        let allowed = run.quantum().await?;
        let fill = Fill { len: fill.len.min(allowed).min(run.limits.pipe_bytes), ..fill };
        let mode = self.mode(run, fill.part);
        if mode == Mode::Inline && (ends_short(run, fill) || self.slow && !run.plan.mode_fixed) {
            let accepted = run.progress.accepted();
            let course = sendfile(run, fill, allowed).await?;
            self.slow &= run.progress.accepted() - accepted < fill.len;
            return Ok(course);
        }
        let pipe = match self.pipe.take() {
            Some(pipe) => Some(pipe),
            None => PipeLease::lend(&run.host, run.id),
        };
        let staged_before = run.progress.staged();
        let course = match (pipe, mode) {
            (Some(pipe), Mode::Inline) => self.fill_inline(run, pipe, fill)?,
            (Some(pipe), Mode::Ring | Mode::Hybrid) => {
                let filling = submit(run, pipe, fill);
                let course = self.collect(run, filling).await?;
                self.fill_ahead(run, fill.part);
                course
            }
            (None, mode) if mode == Mode::Inline || !run.may_copy => {
                return sendfile(run, fill, allowed).await;
            }
            (None, _) => {
                self.copying.batch(run, allowed).await?;
                return Ok(Course::On);
            }
        };
        run.unused(allowed.saturating_sub(run.progress.staged() - staged_before));
        Ok(course)
    }

    fn mode(&mut self, run: &Run, part: usize) -> Mode {
        let first = !std::mem::replace(&mut self.begun, true);
        if first || run.plan.mode_fixed {
            return run.plan.mode;
        }
        let known = run.spec.filesystem == Filesystem::Local && run.is_resident(part);
        run.plan.mode_for(if known { Residency::Resident } else { Residency::Cold })
    }

    fn fill_inline(
        &mut self,
        run: &mut Run,
        mut pipe: PipeLease,
        fill: Fill,
    ) -> Result<Course, End> {
        match pipe.fill(run.id, run.range(fill)) {
            Ok(moved) => {
                staged(run, moved)?;
                self.pipe = Some(pipe);
                Ok(Course::On)
            }
            Err(errno) => refused(run, errno),
        }
    }

    async fn collect(&mut self, run: &mut Run, filling: Pending) -> Result<Course, End> {
        let (ended, stop) = run.watch.supervised(filling, Pending::cancel, false).await;
        if let Some(kind) = stop {
            return Err(run.fail(kind));
        }
        match ended.result {
            Ok(moved) => {
                staged(run, moved)?;
                self.pipe = ended.pipe;
                Ok(Course::On)
            }
            Err(errno) => refused(run, errno),
        }
    }

    fn fill_ahead(&mut self, run: &Run, part: usize) {
        if run.pace.is_some() || run.limits.pipes_max < 2 || run.progress.staged() == 0 {
            return;
        }
        let quantum = run.limits.quantum_bytes.min(run.limits.pipe_bytes);
        let Some(next) = run.progress.next_fill(quantum) else { return };
        if run.inodes[next.part] != run.inodes[part] || self.mode(run, next.part) == Mode::Inline {
            return;
        }
        let Some(pipe) = PipeLease::lend(&run.host, run.id) else { return };
        run.host.borrow_mut().tally.ahead += 1;
        self.ahead = Some(submit(run, pipe, next));
    }

    async fn drain(&mut self, run: &mut Run, more: bool) -> Result<(), End> {
        let more = more || run.has(Bug::MoreOnTail);
        let Some(mut pipe) = self.pipe.take() else {
            self.forget_ahead(run);
            run.rewind();
            return Ok(());
        };
        let offered = pipe.residue();
        let moved = if run.plan.mode == Mode::Ring {
            let work = Work::Drain { pipe: pipe.into_state(), more };
            let op = Pending::submit(&run.host, run.id, work);
            let (ended, stop) = run.watch.supervised(op, Pending::cancel, true).await;
            self.pipe = ended.pipe;
            if let Some(kind) = stop {
                run.accept(ended.result.unwrap_or(0))?;
                return Err(run.fail(kind));
            }
            ended.result
        } else {
            let moved = pipe.drain(run.id, more);
            self.pipe = Some(pipe);
            moved
        };
        match moved {
            Ok(0) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "splice", errno: 0 })),
            Ok(moved) => {
                run.accept(if run.has(Bug::AcceptOffered) { offered } else { moved })?;
                if run.progress.staged() == 0 && self.pipe.as_ref().is_some_and(|p| p.residue() > 0)
                {
                    self.pipe = None;
                }
                Ok(())
            }
            Err(errno) if would_block(errno) => {
                if run.writable(true).await? == Ready::HoldOver {
                    self.pipe = None;
                    self.forget_ahead(run);
                    self.slow = true;
                    run.rewind();
                    run.writable(false).await?;
                }
                Ok(())
            }
            Err(errno) => Err(run.fail_io("splice", Side::Sink, errno)),
        }
    }

    /// What was filled ahead would follow bytes that are gone.
    fn forget_ahead(&mut self, run: &Run) {
        if !run.has(Bug::KeepAheadOnRewind) {
            self.ahead = None;
        }
    }
}

fn submit(run: &Run, pipe: PipeLease, fill: Fill) -> Pending {
    let (inode, at, len) = run.range(fill);
    Pending::submit(&run.host, run.id, Work::Fill { inode, at, len, pipe: pipe.into_state() })
}

fn staged(run: &mut Run, moved: u64) -> Result<(), End> {
    run.stage(moved)?;
    if run.has(Bug::CountOnEntry) { run.accept(moved) } else { Ok(()) }
}

fn ends_short(run: &Run, fill: Fill) -> bool {
    !run.plan.mode_fixed
        && fill.len <= run.spec.sendfile_max_bytes
        && !run.progress.more_after(fill.len)
}

async fn sendfile(run: &mut Run, fill: Fill, allowed: u64) -> Result<Course, End> {
    let range = run.range(fill);
    let sent = run.host.borrow_mut().try_sendfile(run.id, range);
    match sent {
        Ok(sent) => {
            run.unused(allowed.saturating_sub(sent));
            run.pass(sent)?;
            Ok(Course::On)
        }
        Err(errno) if would_block(errno) => {
            run.unused(allowed);
            run.writable(false).await?;
            Ok(Course::On)
        }
        Err(errno @ (EINVAL | EIO)) => refused(run, errno),
        Err(errno) => Err(run.fail_io("sendfile", Side::Sink, errno)),
    }
}

fn refused(run: &Run, errno: i32) -> Result<Course, End> {
    if matches!(errno, EINVAL | EOPNOTSUPP) && run.may_copy {
        return Ok(Course::Refused);
    }
    Err(run.fail_io("splice", Side::Source, errno))
}
