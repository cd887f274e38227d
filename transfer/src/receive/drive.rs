//! Doing what [`Progress`](super::progress::Progress) says next: gathering what arrives, in pipes or in
//! buffers. What is gathered is written by `store`.

use std::io::ErrorKind;
use std::pin::pin;

use ringway_runtime::{lease, lend_pipe, try_lease};

use super::error::{ReceiveError, ReceiveErrorKind};
use super::incoming::Decoded;
use super::plan::{Reason, Unfit};
use super::progress::Step;
use super::run::Run;
use super::vessel::{Vessel, to_len};
use crate::error::Side;
use crate::error::errno::*;
use crate::pace::Allowance;
use crate::plan::Route;
use crate::route::{Ready, Stop, cannot, why};

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
}
