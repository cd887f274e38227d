//! A transfer that was ordered: first the short way, then, if something has to wait, the routes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ringway_runtime::fault::Sabotage;
use ringway_runtime::net::Stream;
use ringway_runtime::{self as runtime};
use tracing::Instrument;

use super::prompt::{Begun, Prompt};
use super::{Ended, Options, Progressed, Transfer, tell};
use crate::error::{ErrorKind, TransferError};
use crate::pace::{Deadline, Floor};
use crate::plan::{
    self, Consistency, Obstacle, Plan, Reason, Residency, Route, SinkFacts, SourceFacts, Wishes,
};
use crate::process::Processor;
use crate::progress::{Extent, FILE_END_MAX, Progress};
use crate::receipt::Receipt;
use crate::route::{self, Processing, Run, Seat, Watch};
use crate::source::{Body, Part, Source};
use crate::tls::TlsStream;

/// The future of a [`Transfer`].
///
/// It is small: what a transfer needs while it waits is made when it first has to wait, which a small
/// body that is in memory never does.
#[must_use = "a transfer does nothing unless it is awaited"]
pub struct UnderWay<'t> {
    stage: Stage<'t>,
}

enum Stage<'t> {
    Ordered(Transfer<'t>),
    Driven(Pin<Box<dyn Future<Output = Result<Receipt, TransferError>> + 't>>),
    Over,
}

impl<'t> UnderWay<'t> {
    pub(super) fn new(transfer: Transfer<'t>) -> Self {
        Self { stage: Stage::Ordered(transfer) }
    }
}

impl Future for UnderWay<'_> {
    type Output = Result<Receipt, TransferError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Stage::Ordered(transfer) = &mut this.stage {
            let debugged = tracing::enabled!(tracing::Level::DEBUG);
            let span = debugged.then(|| tracing::debug_span!("transfer"));
            let prompt = match &span {
                Some(span) => span.in_scope(|| transfer.promptly()),
                None => transfer.promptly(),
            };
            let begun = match prompt {
                Prompt::Over(outcome) => {
                    this.stage = Stage::Over;
                    return Poll::Ready(outcome);
                }
                Prompt::Begun(begun) => begun,
            };
            let Stage::Ordered(mut transfer) = std::mem::replace(&mut this.stage, Stage::Over)
            else {
                return Poll::Pending;
            };
            let driven = async move { transfer.run(begun).await };
            this.stage = Stage::Driven(match span {
                Some(span) => Box::pin(driven.instrument(span)),
                None => Box::pin(driven),
            });
        }
        match &mut this.stage {
            Stage::Driven(driven) => driven.as_mut().poll(context),
            // Nobody polls what has resolved; whoever does it all the same waits for nothing.
            Stage::Ordered(_) | Stage::Over => Poll::Pending,
        }
    }
}

impl fmt::Debug for UnderWay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.stage {
            Stage::Ordered(_) => "UnderWay(not polled)",
            Stage::Driven(_) => "UnderWay",
            Stage::Over => "UnderWay(resolved)",
        })
    }
}

impl<'t> Transfer<'t> {
    async fn run(&mut self, begun: Begun) -> Result<Receipt, TransferError> {
        let mut options = self.options.take().map_or_else(Options::default, |options| *options);
        let mut watch = Watch::start(
            options.deadline.map(Deadline),
            options.floor.map(|(rate, grace)| Floor::new(rate, grace)),
            self.token.take(),
            self.limits.peer_timeout,
        );
        // Of a range the length is known, whatever the file tells.
        let generated = options.range.is_none() && self.source.is_generated();
        let was_file = if options.seat.is_some() { self.source.files() } else { Vec::new() };
        let read = match generated {
            true => {
                let reading = Box::pin(self.source.read_generated());
                let read = watch.excused(reading).await;
                read.unwrap_or_else(|kind| Err(TransferError::new(kind, 0)))
            }
            false => Ok(()),
        };
        let seen = match begun.bytes {
            0 if self.only_as_seen => self.as_seen(),
            _ => Ok(()),
        };
        let prepared =
            read.and(seen).and_then(|()| self.prepare(&mut options, &was_file, begun.residency));
        let Prepared { body, plan, mut progress, processing } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let ended = Some(Ended::Failed);
                let sent = begun.bytes;
                tell(&mut options.report, Progressed { sent, total: 0, scanned: 0, ended });
                if sent > 0 {
                    // Something that was sent with MORE may wait for what does not come.
                    self.sink.flush();
                }
                return Err(error.after(sent));
            }
        };
        let stream = self.sink.stream();
        let tls = self.sink.tls();
        let plaintext = tls.map_or(0, TlsStream::accepted);
        progress.skip(begun.bytes);
        let accepted = stream.accepted().saturating_sub(begun.bytes);
        let mut guard = Guard { stream, tls, began: Some((accepted, plaintext)) };
        let copied_before = stream.zero_copy_copied();
        let mut run = Run {
            body: &body,
            sink: self.sink,
            stream,
            progress,
            turn_began: 0,
            plan,
            limits: &self.limits,
            thresholds: &self.thresholds,
            watch,
            pace: options.pace.take(),
            zero_copy: options.zero_copy,
            may_copy: self.wishes.route.is_none() && !self.wishes.forbidden.contains(Route::Copy),
            receipt: first_receipt(&plan, generated, begun),
            report: options.report.take(),
            processing,
            corked: None,
        };
        let outcome = route::drive(&mut run).await;
        guard.began = None;
        run.end(outcome, copied_before)
    }

    /// Whether every file that was seen is still so.
    fn as_seen(&self) -> Result<(), TransferError> {
        match self.source.changed_since_seen() {
            Some(change) => Err(TransferError::new(ErrorKind::SourceChanged(Box::new(change)), 0)),
            None => Ok(()),
        }
    }

    /// Everything that is decided before the first byte: lengths, facts, plan.
    fn prepare(
        &mut self,
        options: &mut Options<'t>,
        was_file: &[bool],
        known: Option<Residency>,
    ) -> Result<Prepared<'t>, TransferError> {
        let before = |kind| TransferError::new(kind, 0);
        let valid = self.limits.check().and_then(|()| options.window_limits.check());
        valid.map_err(|invalid| before(ErrorKind::InvalidLimit(invalid)))?;
        let needed = options.seat.as_ref().and_then(Seat::processor).map(Processor::consistency);
        self.wishes.consistency = self.consistency.or(needed).unwrap_or_default();
        self.wishes.processed = options.seat.is_some();
        let poisoned = self.sink.tls().is_some_and(TlsStream::is_poisoned);
        if poisoned || self.sink.stream().is_poisoned() {
            return Err(before(ErrorKind::Poisoned));
        }
        let mut source = Source { parts: std::mem::take(&mut self.source.parts) };
        if let Some(range) = options.range.take() {
            let (offset, len) = (range.start, range.end.saturating_sub(range.start));
            let beyond = |file_len| before(ErrorKind::InvalidRange { offset, len, file_len });
            match source.parts.as_mut_slice() {
                [Part::File(_, whole @ None)] => *whole = Some(range),
                [Part::File(_, Some(slice))] => {
                    let all = slice.end.saturating_sub(slice.start);
                    if range.start > range.end || range.end > all {
                        return Err(beyond(all));
                    }
                    // Neither sum is beyond the end of the slice.
                    *slice = slice.start + range.start..slice.start + range.end;
                }
                _ => return Err(beyond(0)),
            }
        }
        let facts = self.sink.facts();
        let (wishes, limits) = (&self.wishes, &*self.limits);
        let (body, extents) = Body::fix(source, &facts, wishes, limits, &self.thresholds, known)?;
        let shown = |part: usize| was_file.get(part).copied().unwrap_or(false);
        let stretches = match &options.seat {
            Some(_) => route::stretches(&extents, shown),
            None => Vec::new(),
        };
        let mut progress = Progress::new(extents)
            .map_err(|overflow| before(ErrorKind::LengthOverflow(overflow)))?;
        let given = progress.total();
        if let Some(promised) = options.promised.filter(|promised| *promised != given)
            && options.seat.is_none()
        {
            return Err(before(ErrorKind::SizeMismatch { promised, given }));
        }
        let host = self.host(&body.facts, &facts, &self.wishes)?;
        let plan = plan::plan(&body.facts, &facts, &self.wishes, &host, &self.thresholds)
            .map_err(|refusal| before(ErrorKind::Refused(refusal)))?;
        let processing = options.seat.take().map(|seat| Processing {
            seat,
            limits: options.window_limits.clone(),
            stretches,
            promised: options.promised,
            refers: plan::may_refer(&body.facts, &facts, &self.wishes, &host),
            snapshot: self.wishes.consistency == Consistency::Snapshot,
        });
        if processing.is_some() {
            // What goes out has no length beforehand.
            progress = Progress::new([Extent::Bytes { len: FILE_END_MAX }])
                .map_err(|overflow| before(ErrorKind::LengthOverflow(overflow)))?;
        }
        Ok(Prepared { body, plan, progress, processing })
    }

    /// What the host has for such a body.
    pub(super) fn host(
        &self,
        source: &SourceFacts,
        sink: &SinkFacts,
        wishes: &Wishes,
    ) -> Result<plan::Capabilities, TransferError> {
        let here = runtime::capabilities()
            .map_err(|error| TransferError::from_io("ring", crate::error::Side::Host, error, 0))?;
        let pipe_bytes = route::pipe_bytes(source, sink, wishes, &self.thresholds);
        Ok(plan::Capabilities {
            splice: here.splice,
            splice_sqe: here.splice && here.splice_op,
            registered_buffers: here.registered_buffers(),
            pipe_bytes,
        })
    }
}

/// What is decided before the first byte.
struct Prepared<'t> {
    body: Body,
    plan: Plan,
    progress: Progress,
    processing: Option<Processing<'t>>,
}

/// Poisons the stream if the transfer is dropped after something may have gone out.
struct Guard<'t> {
    stream: &'t Stream,
    tls: Option<&'t TlsStream>,
    /// The counts of socket and session when the transfer began; `None` once it has resolved.
    began: Option<(u64, u64)>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some((began, plaintext)) = self.began
            && (self.stream.accepted() != began || self.stream.is_sending())
            && !runtime::fault::sabotaged(Sabotage::DropNotMarked)
        {
            match self.tls {
                Some(tls) => tls.poison(plaintext),
                None => self.stream.poison(began),
            }
        }
    }
}

/// The account at the start: what could not be had as planned is known already.
fn first_receipt(plan: &Plan, generated: bool, begun: Begun) -> Receipt {
    let mut receipt = Receipt::new(plan);
    receipt.sendfile_calls = begun.sendfile_calls;
    if generated {
        receipt.note_fallback("read whole before sending", "the file tells no length");
    }
    if plan.reason == Reason::SpliceImpossible(Obstacle::NoPipe) {
        receipt.note_fallback("copied instead of spliced", "no pipe is to be had");
    }
    receipt
}
