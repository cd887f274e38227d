//! Doing what [`Progress`](super::progress::Progress) says next, through pipes or through buffers.

use std::io::{self, ErrorKind};
use std::pin::pin;

use bytes::Bytes;
use ringway_runtime::{PipeLease, PipeRefusal, lease, lend_pipe, try_lease};

use super::error::{ReceiveError, ReceiveErrorKind};
use super::incoming::Decoded;
use super::plan::{Reason, Unfit};
use super::progress::Step;
use super::run::Run;
use super::vessel::{Vessel, to_len};
use crate::error::Side;
use crate::error::errno::*;
use crate::pace::Allowance;
use crate::plan::{Mode, Route};
use crate::route::{Ready, Stop};

/// Times in a row that an interrupted write is begun again. Nobody interrupts them but a test.
const INTERRUPTED_MAX: u32 = 8;
/// Bytes that are copied at once out of a pipe that cannot be spliced on.
const COPIED_OUT_BYTES: usize = 64 << 10;

/// Brings the whole body into the file. If that ends early, what has come is written first, unless it
/// is the file that takes no more.
pub(super) async fn drive(run: &mut Run<'_>, reserve: Option<u64>) -> Result<(), ReceiveError> {
    let mut outcome = match reserve {
        Some(offset) => run.reserve(offset).await,
        None => Ok(()),
    };
    if outcome.is_ok() {
        run.begin();
        outcome = run.steps().await;
    }
    if outcome.is_err() && !run.file_failed {
        run.flush().await?;
    }
    outcome
}

impl Run<'_> {
    async fn steps(&mut self) -> Result<(), ReceiveError> {
        let mut dry = false;
        loop {
            self.watch.check().map_err(|kind| self.stopped(Stop::Kind(kind)))?;
            match self.progress.next(self.batch(), dry) {
                Step::Done => return Ok(()),
                Step::Short(short) => return Err(self.fail(ReceiveErrorKind::ShortBody(short))),
                Step::TooLong { most } => {
                    return Err(self.fail(ReceiveErrorKind::TooLong { most }));
                }
                Step::Receive { len } => dry = self.receive(len).await?,
                Step::Probe => self.probe().await?,
                Step::Store { .. } => {
                    self.store().await?;
                    dry = false;
                }
                Step::Await => {
                    self.collect().await?;
                    dry = false;
                }
            }
            self.give_way().await;
        }
    }

    /// Finds out early whether there is room for the whole body.
    async fn reserve(&mut self, offset: u64) -> Result<(), ReceiveError> {
        let Some(len) = self.progress.expected() else { return Ok(()) };
        let reserving = pin!(self.file.reserve(offset, len));
        let reserved = self.watch.excused(reserving).await;
        match reserved.map_err(|kind| self.stopped(Stop::Kind(kind)))? {
            Ok(()) => self.receipt.reserved = len,
            Err(error) => match error.raw_os_error() {
                Some(EOPNOTSUPP | ENOSYS | EINVAL | EINTR | ENODEV) => {
                    let why = "the file system cannot reserve any";
                    self.receipt.note_fallback("no blocks reserved", why);
                }
                _ => {
                    self.file_failed = true;
                    return Err(self.fail_io("fallocate", Side::Sink, error));
                }
            },
        }
        Ok(())
    }

    /// On the copying route, what was received before shares a buffer with what follows.
    fn begin(&mut self) {
        if self.plan.route != Route::Copy {
            return;
        }
        let wanted = self.progress.gathered() + self.progress.left();
        let wanted = to_len(wanted.min(self.limits.receive_batch_bytes));
        if let Some(Vessel::Given { bytes, start: 0 }) = &self.gathering
            && let Ok(Some(mut lease)) = try_lease(wanted)
            && bytes.len() <= lease.capacity()
        {
            lease.spare_mut()[..bytes.len()].copy_from_slice(bytes);
            lease.set_filled(bytes.len());
            self.note_buffer(&mut lease);
            self.gathering = Some(Vessel::Buffer { lease, start: 0 });
        }
    }

    /// The most that is gathered for one write.
    fn batch(&self) -> u64 {
        let most = match self.gathering.as_ref().or(self.spare.as_ref()) {
            Some(Vessel::Pipe(_)) => self.limits.pipe_bytes,
            None if self.plan.route == Route::Splice => self.limits.pipe_bytes,
            _ => self.limits.receive_batch_bytes,
        };
        self.gathering.as_ref().map_or(most, |vessel| most.min(vessel.capacity()))
    }

    /// Takes what has arrived, and says whether that was all for now.
    async fn receive(&mut self, len: u64) -> Result<bool, ReceiveError> {
        let idle = self.progress.gathered() == 0 && self.progress.storing() == 0;
        let mut allowed = len.min(self.limits.quantum_bytes);
        if let Some(pace) = &mut self.pace {
            match pace.allow(self.watch.elapsed(), allowed) {
                Allowance::Now(bytes) => allowed = bytes.max(1),
                // What is there is written first.
                Allowance::After(_) if !idle => return Ok(true),
                Allowance::After(pause) => {
                    self.release();
                    let paused = self.watch.pause(pause).await;
                    return paused.map(|()| false).map_err(|kind| self.stopped(Stop::Kind(kind)));
                }
            }
        }
        let mut vessel = match self.gathering.take() {
            Some(vessel) => vessel,
            None => match self.lend().await? {
                Some(vessel) => vessel,
                // The write that is under way brings one.
                None => {
                    self.unused(allowed);
                    return Ok(true);
                }
            },
        };
        let by_pipe = matches!(vessel, Vessel::Pipe(_));
        let filled = vessel.fill(&mut self.origin, allowed);
        self.gathering = Some(vessel);
        match filled {
            Ok(received) => {
                self.unused(allowed.saturating_sub(received));
                self.received(received, by_pipe)?;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unused(allowed);
                self.wait_for_more().await
            }
            Err(error) if by_pipe && self.may_copy && cannot(&error) => {
                self.unused(allowed);
                self.copy_from_now_on("the kernel refuses to splice the stream");
                Ok(true)
            }
            Err(error) => Err(self.fail_io("receive", Side::Source, error)),
        }
    }

    fn received(&mut self, bytes: u64, by_pipe: bool) -> Result<(), ReceiveError> {
        self.progress.receive(bytes).map_err(|misstep| self.misstep(misstep))?;
        self.was_readable = false;
        if bytes > 0 {
            let count = if by_pipe { &mut self.receipt.splices } else { &mut self.receipt.reads };
            *count += 1;
            self.watch.heard(self.progress.received());
            self.tell(None);
        }
        Ok(())
    }

    /// What was allowed and did not come goes back to the rate limit.
    fn unused(&mut self, bytes: u64) {
        if let Some(pace) = &mut self.pace {
            pace.give_back(bytes);
        }
    }

    /// Nothing has arrived. Says whether what is gathered is to be written now.
    async fn wait_for_more(&mut self) -> Result<bool, ReceiveError> {
        if self.progress.storing() > 0 {
            return Ok(true);
        }
        let gathered = self.progress.gathered();
        if gathered == 0 {
            self.release();
            return self.readable(false).await.map(|_| false);
        }
        // If the stream was readable and yet nothing came, it is the pipe that is full: of short
        // pieces, each of which takes a page of it.
        let enough = gathered >= self.thresholds.receive_batch_min_bytes || self.was_readable;
        let given = matches!(self.gathering, Some(Vessel::Given { .. }));
        if enough || given || self.readable(true).await? == Ready::HoldOver {
            return Ok(true);
        }
        self.was_readable = true;
        Ok(false)
    }

    async fn readable(&mut self, holding: bool) -> Result<Ready, ReceiveError> {
        let now = self.watch.elapsed();
        let hold = holding.then(|| {
            let since = *self.held_since.get_or_insert(now);
            since.saturating_add(self.limits.stall_hold).saturating_sub(now)
        });
        let received = self.progress.received();
        self.receipt.stalls += 1;
        let ready = self.watch.readable(self.origin.stream(), received, hold).await;
        self.receipt.stalled += self.watch.elapsed().saturating_sub(now);
        ready.map_err(|stop| self.stopped(stop))
    }

    /// As many bytes as may come have come.
    async fn probe(&mut self) -> Result<(), ReceiveError> {
        match self.origin.try_read(&mut [0]) {
            Ok(found) => {
                self.progress.probe(found > 0);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.release();
                self.readable(false).await.map(drop)
            }
            Err(error) => Err(self.fail_io("receive", Side::Source, error)),
        }
    }

    /// Holds nothing while nothing comes.
    fn release(&mut self) {
        self.spare = None;
        self.gathering = None;
    }

    /// An empty vessel; `None` if there is none, but a write is under way that will give one back.
    async fn lend(&mut self) -> Result<Option<Vessel>, ReceiveError> {
        self.held_since = None;
        if let Some(spare) = self.spare.take() {
            return Ok(Some(spare));
        }
        let busy = self.storing.is_some();
        if busy && self.limits.pipes_max < 2 {
            return Ok(None);
        }
        if self.plan.route == Route::Splice {
            let lent = lend_pipe().map_err(|error| self.fail_io("pipe2", Side::Host, error))?;
            match lent {
                Ok(pipe) => {
                    self.receipt.pipes = self.receipt.pipes.max(1 + usize::from(busy));
                    self.receipt.pipe_bytes = pipe.capacity() as u64;
                    return Ok(Some(Vessel::Pipe(pipe)));
                }
                Err(_) if busy => return Ok(None),
                Err(refusal) if self.may_copy => {
                    self.receipt.note_fallback("copied instead of spliced", why(refusal));
                }
                Err(_) => {
                    let unfit = Unfit { route: Route::Splice, why: Reason::NoPipe };
                    return Err(self.fail(ReceiveErrorKind::Unfit(unfit)));
                }
            }
        }
        self.lend_buffer(busy).await
    }

    async fn lend_buffer(&mut self, busy: bool) -> Result<Option<Vessel>, ReceiveError> {
        let bytes = to_len(self.limits.receive_batch_bytes.min(self.progress.left()));
        let no_ring = |run: &Self, error| run.fail_io("lease", Side::Host, error);
        let mut lent = match try_lease(bytes).map_err(|error| no_ring(self, error))? {
            Some(lent) => lent,
            // Who holds one and waits for another may wait for somebody who does the same.
            None if busy => return Ok(None),
            None => {
                let lent = self.watch.excused(pin!(lease(bytes))).await;
                let lent = lent.map_err(|kind| self.stopped(Stop::Kind(kind)))?;
                lent.map_err(|error| no_ring(self, error))?
            }
        };
        self.note_buffer(&mut lent);
        Ok(Some(Vessel::Buffer { lease: lent, start: 0 }))
    }

    fn note_buffer(&mut self, lease: &mut ringway_runtime::Lease) {
        if self.origin.is_secret() {
            lease.set_secret(usize::MAX);
        }
        self.receipt.buffer_bytes = self.receipt.buffer_bytes.max(lease.capacity() as u64);
        self.receipt.buffer_registered = lease.is_registered();
    }

    /// Hands what is gathered to a write.
    async fn store(&mut self) -> Result<(), ReceiveError> {
        let Some(vessel) = self.gathering.take() else { return Err(self.lost()) };
        self.held_since = None;
        self.was_readable = false;
        self.progress.begin_store().map_err(|misstep| self.misstep(misstep))?;
        self.write(vessel).await
    }

    /// Begins the write of a vessel, or in memory makes it.
    async fn write(&mut self, vessel: Vessel) -> Result<(), ReceiveError> {
        match vessel {
            Vessel::Pipe(pipe) if self.plan.route == Route::Copy => self.copy_out(pipe).await,
            Vessel::Pipe(pipe) if self.plan.mode == Mode::Inline => self.write_inline(pipe).await,
            vessel => {
                let store = vessel.store(self.file, self.progress.offset());
                self.storing = Some(store.map_err(|error| self.file_error(error))?);
                Ok(())
            }
        }
    }

    /// Writes to a file in memory.
    async fn write_inline(&mut self, mut pipe: PipeLease) -> Result<(), ReceiveError> {
        while self.progress.storing() > 0 {
            match self.file.try_drain(&mut pipe, self.progress.offset()) {
                Ok(0) => return Err(self.lost()),
                Ok(written) => {
                    self.interrupted = 0;
                    self.stored(written.into())?;
                }
                Err(error) if again(&error) && self.interrupted < INTERRUPTED_MAX => {
                    self.interrupted += 1;
                }
                Err(error) if self.may_copy && cannot(&error) => {
                    self.copy_from_now_on("the kernel refuses to splice into the file");
                    return self.copy_out(pipe).await;
                }
                Err(error) => return Err(self.file_error(error)),
            }
        }
        self.spare = Vessel::Pipe(pipe).emptied();
        Ok(())
    }

    /// Waits for the write that is under way. A stop does not interrupt it.
    async fn collect(&mut self) -> Result<(), ReceiveError> {
        let Some(store) = self.storing.take() else { return Err(self.lost()) };
        let ((written, vessel), stop) = self.watch.supervised(store, |_| {}, false).await;
        self.written(written, vessel).await?;
        stop.map_or(Ok(()), |kind| Err(self.stopped(Stop::Kind(kind))))
    }

    /// A write has ended. What it did not take goes into another one.
    async fn written(
        &mut self,
        written: io::Result<usize>,
        vessel: Option<Vessel>,
    ) -> Result<(), ReceiveError> {
        let Some(mut vessel) = vessel else { return Err(self.lost()) };
        match written {
            // A write of nothing would go on for ever.
            Ok(0) => Err(self.lost()),
            Ok(written) => {
                self.interrupted = 0;
                self.stored(written as u64)?;
                vessel.advance(written as u64);
                if self.progress.storing() > 0 {
                    return self.write(vessel).await;
                }
                self.spare = vessel.emptied();
                Ok(())
            }
            Err(error) if again(&error) && self.interrupted < INTERRUPTED_MAX => {
                self.interrupted += 1;
                self.write(vessel).await
            }
            Err(error) => match vessel {
                Vessel::Pipe(pipe) if self.may_copy && cannot(&error) => {
                    self.copy_from_now_on("the kernel refuses to splice into the file");
                    self.copy_out(pipe).await
                }
                _ => Err(self.file_error(error)),
            },
        }
    }

    fn stored(&mut self, bytes: u64) -> Result<(), ReceiveError> {
        self.progress.store(bytes).map_err(|misstep| self.misstep(misstep))?;
        self.receipt.writes += 1;
        self.tell(None);
        Ok(())
    }

    fn copy_from_now_on(&mut self, why: &'static str) {
        self.plan.route = Route::Copy;
        self.spare = None;
        self.receipt.note_fallback("copied instead of spliced", why);
    }

    /// Writes what is in a pipe that cannot be spliced into the file. It happens once, if ever.
    async fn copy_out(&mut self, mut pipe: PipeLease) -> Result<(), ReceiveError> {
        while self.progress.storing() > 0 {
            let mut chunk = vec![0; COPIED_OUT_BYTES];
            let read = pipe.try_read(&mut chunk);
            let read = read.map_err(|error| self.fail_io("read", Side::Host, error))?;
            chunk.truncate(read);
            let mut rest = Bytes::from(chunk);
            while !rest.is_empty() {
                let (written, _) =
                    self.file.write_at(rest.clone(), 0, self.progress.offset()).await;
                match written {
                    Ok(0) => return Err(self.lost()),
                    Ok(written) => {
                        self.interrupted = 0;
                        self.stored(written as u64)?;
                        rest = rest.slice(written.min(rest.len())..);
                    }
                    Err(error) if again(&error) && self.interrupted < INTERRUPTED_MAX => {
                        self.interrupted += 1;
                    }
                    Err(error) => return Err(self.file_error(error)),
                }
            }
            if read == 0 {
                return Err(self.lost());
            }
        }
        Ok(())
    }

    /// Writes what has come, whatever has ended the transfer.
    async fn flush(&mut self) -> Result<(), ReceiveError> {
        while self.progress.storing() > 0 || self.progress.gathered() > 0 {
            let step = match self.progress.storing() {
                0 => self.store().await,
                _ => self.collect().await,
            };
            // The reason of the end comes with each write that it did not interrupt.
            if let Err(error) = step
                && (self.file_failed || !is_stop(&error))
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The file takes no more.
    fn file_error(&mut self, error: io::Error) -> ReceiveError {
        self.file_failed = true;
        let op = if self.plan.route == Route::Splice { "splice" } else { "write" };
        self.fail_io(op, Side::Sink, error)
    }

    /// Bytes that should be in a vessel are not there, or a write took none of them.
    fn lost(&mut self) -> ReceiveError {
        self.file_failed = true;
        self.fail(ReceiveErrorKind::UnexpectedErrno { op: "write", errno: 0 })
    }
}

fn is_stop(error: &ReceiveError) -> bool {
    use ReceiveErrorKind::*;
    matches!(
        error.kind(),
        Cancelled | DeadlineExceeded { .. } | PeerTooSlow(_) | PeerTimedOut { .. }
    )
}

/// Who was interrupted before it wrote anything can begin again.
fn again(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EAGAIN | EINTR | ECANCELED | ERESTARTSYS))
}

fn cannot(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP))
}

fn why(refusal: PipeRefusal) -> &'static str {
    match refusal {
        PipeRefusal::AllLent => "all pipes are lent",
        PipeRefusal::TooSmall(_) => "the user's pipe pages are spent (fs.pipe-user-pages-soft)",
        PipeRefusal::NoDescriptors => "no descriptors are left (RLIMIT_NOFILE)",
        _ => "the kernel makes no pipe",
    }
}
