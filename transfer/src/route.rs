//! The routes: thin async drivers of [`Progress`], and what they share.

mod copy;
mod cork;
mod draft;
mod kernel_tls;
mod library;
mod mapped;
mod registered;
mod session;
mod splice;
mod watch;

use std::time::Duration;

use ringway_runtime as runtime;
use ringway_runtime::fault::{Sabotage, sabotaged};
use ringway_runtime::net::{Corked, Stream};

use crate::error::{ErrorKind, Misstep, Refusal, Side, TransferError, Truncated};
use crate::limits::{Limits, Thresholds};
use crate::pace::{Allowance, Pace};
use crate::plan::{Plan, Residency, Route, SinkFacts, SourceFacts, Wishes};
use crate::progress::Progress;
use crate::receipt::Receipt;
use crate::sink::Sink;
use crate::source::Body;
use crate::tls::{Backend, TlsStream};
use crate::transfer::{Ended, Progressed, Report, tell};

pub(crate) use mapped::{Processing, Scan, Seat, stretches};
pub use mapped::{Work, decisions};
pub(crate) use splice::{cannot, why};
pub(crate) use watch::{Ready, Stop, Watch};

/// One transfer under way.
pub(crate) struct Run<'t> {
    pub(crate) body: &'t Body,
    pub(crate) sink: &'t dyn Sink,
    pub(crate) stream: &'t Stream,
    pub(crate) progress: Progress,
    /// Bytes that were accepted when the current turn began.
    pub(crate) turn_began: u64,
    pub(crate) plan: Plan,
    pub(crate) limits: &'t Limits,
    pub(crate) thresholds: &'t Thresholds,
    pub(crate) watch: Watch,
    pub(crate) pace: Option<Pace>,
    pub(crate) zero_copy: bool,
    /// Copying is not forbidden, so it can stand in for a splice.
    pub(crate) may_copy: bool,
    pub(crate) receipt: Receipt,
    pub(crate) report: Option<Report<'t>>,
    /// Who looks at the bytes, if somebody does. The body's length is not known then, so `progress` has no
    /// end and counts what goes out.
    pub(crate) processing: Option<Processing<'t>>,
    /// Holds partial segments back until the end: see [`cork`].
    pub(crate) corked: Option<Corked<'t>>,
}

/// Takes the planned route to its end.
pub(crate) async fn drive(run: &mut Run<'_>) -> Result<(), TransferError> {
    run.corked = cork::hold(run);
    let outcome = match run.plan.route {
        Route::Splice => splice::drive(run).await,
        Route::Copy if run.sink.tls().is_some() => library::drive(run).await,
        Route::Copy => copy::drive(run).await,
        Route::KernelTls => kernel_tls::drive(run).await,
        Route::Registered => registered::drive(run).await,
        Route::Mapped => match run.processing.take() {
            // Rare and large: in a box it does not make every other future larger.
            Some(processing) => Box::pin(mapped::drive(run, processing)).await,
            None => Err(run.fail(ErrorKind::Refused(Refusal::NothingToProcess))),
        },
    };
    run.corked = None;
    if outcome.is_err() {
        // Something that was sent with MORE may wait for what does not come.
        run.sink.flush();
    }
    outcome
}

/// The outcome of a transfer, with its account.
pub(crate) fn concluded(
    receipt: Receipt,
    outcome: Result<(), TransferError>,
) -> Result<Receipt, TransferError> {
    match outcome {
        Ok(()) => {
            tracing::debug!(%receipt, "a transfer is done");
            Ok(receipt)
        }
        Err(error) => {
            let error = error.with_receipt(receipt);
            tracing::debug!(%error, "a transfer failed");
            Err(error)
        }
    }
}

/// The capacity that a pipe would have now, for the plan; 0 if there is none to be had.
pub(crate) fn pipe_bytes(
    source: &SourceFacts,
    sink: &SinkFacts,
    wishes: &Wishes,
    thresholds: &Thresholds,
) -> u64 {
    let may_splice = sink.takes_file_bytes() && source.file_bytes > thresholds.copy_max_bytes
        || wishes.route == Some(Route::Splice)
        || wishes.forbidden.contains(Route::Copy);
    if !may_splice {
        // A small body is copied and a sealed one is too, so it makes no pipe that it does not need.
        return thresholds.pipe_min_bytes;
    }
    match runtime::lend_pipe() {
        Ok(Ok(pipe)) => pipe.capacity() as u64,
        // sendfile(2) brings a small pipe of its own, which is good enough for what is resident.
        Ok(Err(_)) if source.residency == Residency::Resident => thresholds.pipe_min_bytes,
        Ok(Err(_)) | Err(_) => 0,
    }
}

impl Run<'_> {
    /// Ends the account, and tells whoever wants to know.
    pub(crate) fn end(
        mut self,
        outcome: Result<(), TransferError>,
        copied_before: u64,
    ) -> Result<Receipt, TransferError> {
        let ended = Some(if outcome.is_ok() { Ended::Complete } else { Ended::Failed });
        self.tell(ended);
        let sent = self.progress.accepted();
        let receipt = &mut self.receipt;
        receipt.bytes = sent;
        receipt.file_bytes = match &receipt.processed {
            Some(processed) => processed.file_bytes(),
            None => self.progress.accepted_from_file(),
        };
        receipt.memory_bytes = sent - receipt.file_bytes;
        receipt.discarded_bytes = self.progress.discarded();
        receipt.held_back = self.pace.as_ref().map_or(Duration::ZERO, Pace::held_back);
        receipt.zero_copy_copied = self.stream.zero_copy_copied() - copied_before;
        receipt.source_changed = self.body.change().map(Box::new);
        receipt.duration = self.watch.elapsed();
        concluded(self.receipt, outcome)
    }

    /// Whether the kernel makes records of what reaches the socket: then a key bounds what may be sent, and
    /// the peer is heard between two sends.
    fn kernel_seals(&self) -> bool {
        self.sink.tls().map(TlsStream::backend) == Some(Backend::KernelTls)
    }

    /// One client takes one quantum at a time: after it, the others have their turn.
    async fn give_way(&mut self) {
        let sent = self.progress.accepted();
        if sent - self.turn_began >= self.limits.quantum_bytes {
            self.turn_began = sent;
            runtime::yield_now().await;
        }
    }

    /// An error with the exact count as of now.
    fn fail(&self, kind: ErrorKind) -> TransferError {
        let staged = sabotaged(Sabotage::StagedCountsAsSent).then(|| self.progress.staged());
        TransferError::new(kind, self.progress.accepted() + staged.unwrap_or(0))
    }

    /// The error of a call.
    fn fail_io(&self, op: &'static str, side: Side, error: std::io::Error) -> TransferError {
        if self.stream.is_poisoned() {
            return self.fail(ErrorKind::Poisoned);
        }
        TransferError::from_io(op, side, error, self.progress.accepted())
    }

    fn misstep(&self, misstep: Misstep) -> TransferError {
        self.fail(ErrorKind::Misstep(misstep))
    }

    fn truncated(&self, truncated: Truncated) -> TransferError {
        self.fail(ErrorKind::Truncated(truncated))
    }

    /// Records what the socket took of the staged bytes, and tells whoever wants to know.
    fn accept(&mut self, bytes: u64) -> Result<(), TransferError> {
        self.progress.accept(bytes).map_err(|misstep| self.misstep(misstep))?;
        self.accepted();
        Ok(())
    }

    /// Records what went to the socket with nothing in between.
    fn pass(&mut self, bytes: u64) -> Result<(), TransferError> {
        self.progress.pass(bytes).map_err(|misstep| self.misstep(misstep))?;
        self.accepted();
        Ok(())
    }

    fn stage(&mut self, bytes: u64) -> Result<(), TransferError> {
        self.progress.stage(bytes).map_err(|misstep| self.misstep(misstep))
    }

    fn accepted(&mut self) {
        self.watch.heard(self.progress.accepted());
        self.tell(None);
    }

    /// More of the source was dealt with.
    fn progressed(&mut self) {
        self.tell(None);
    }

    fn tell(&mut self, ended: Option<Ended>) {
        let sent = self.progress.accepted();
        let (total, scanned) = match &self.receipt.processed {
            Some(processed) => (self.body.facts.file_bytes, processed.scanned_bytes),
            None => (self.progress.total(), 0),
        };
        tell(&mut self.report, Progressed { sent, total, scanned, ended });
    }

    /// Throws away what is staged; what it cost goes back to the rate limit.
    fn rewind(&mut self) {
        self.rewind_behind(0);
    }

    /// The same with what is staged behind the first `kept` bytes.
    fn rewind_behind(&mut self, kept: u64) {
        let thrown = self.progress.staged().saturating_sub(kept);
        if thrown > 0 {
            self.progress.rewind_behind(kept);
            self.receipt.rewinds += 1;
            self.unused(thrown);
        }
    }

    /// How many bytes to move next, at most a quantum; waits for the rate limit.
    async fn quantum(&mut self) -> Result<u64, TransferError> {
        // Who holds nothing waits as long as it takes.
        self.quantum_holding(false).await.map(Option::unwrap_or_default)
    }

    /// The same for who may hold something meanwhile: `None` if the kernel seals, the session has
    /// something to say first, and the peer does not take it for as long as something may be held.
    async fn quantum_holding(&mut self, holding: bool) -> Result<Option<u64>, TransferError> {
        let all = sabotaged(Sabotage::PromisedLengthIgnored);
        let left = if all { u64::MAX } else { self.progress.remaining() };
        let mut want = self.limits.quantum_bytes.min(left);
        if self.kernel_seals() {
            match Box::pin(kernel_tls::allowance(self, holding)).await? {
                Some(allowed) => want = want.min(allowed),
                None => return Ok(None),
            }
        }
        loop {
            let Some(pace) = &mut self.pace else { return Ok(Some(want)) };
            match pace.allow(self.watch.elapsed(), want) {
                Allowance::Now(bytes) => return Ok(Some(bytes.max(1))),
                Allowance::After(pause) => {
                    self.watch.pause(pause).await.map_err(|stop| self.fail(stop))?;
                }
            }
        }
    }

    /// What was allowed and not moved goes back to the rate limit.
    fn unused(&mut self, bytes: u64) {
        if let Some(pace) = &mut self.pace {
            pace.give_back(bytes);
        }
    }

    /// Whether what is staged is worth a send without a copy.
    fn wants_zero_copy(&self, at_least: u64) -> bool {
        self.zero_copy
            && self.progress.remaining() >= at_least
            && !self.stream.copies_anyway()
            && self.plan.route == Route::Copy
    }

    /// Waits until the socket takes bytes again, at most as long as something may be held.
    async fn writable(&mut self, holding: bool) -> Result<Ready, TransferError> {
        if self.kernel_seals() {
            return Box::pin(kernel_tls::wait(self, holding)).await;
        }
        let holding = holding && !sabotaged(Sabotage::StalledPeerKeepsPipe);
        let hold = holding.then_some(self.limits.stall_hold);
        self.receipt.stalls += 1;
        if self.corked.is_some() && !sabotaged(Sabotage::StalledPeerIsCorked) {
            // A socket that is full with less than a segment would send nothing for 200 ms.
            self.stream.uncork();
        }
        let began = self.watch.elapsed();
        let ready = self.ready(hold, false).await;
        self.receipt.stalled += self.watch.elapsed().saturating_sub(began);
        ready
    }

    /// Waits until the socket takes bytes again, and with `listening` also until it has some for us.
    async fn ready(
        &mut self,
        hold: Option<Duration>,
        listening: bool,
    ) -> Result<Ready, TransferError> {
        let sent = self.progress.accepted();
        let ready = self.watch.ready(self.stream, sent, hold, listening).await;
        ready.map_err(|kind| match kind {
            watch::Stop::Kind(kind) => self.fail(kind),
            watch::Stop::Io(error) => self.fail_io("poll", Side::Sink, error),
        })
    }
}

pub(crate) fn to_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
