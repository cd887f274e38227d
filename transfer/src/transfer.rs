//! The call: a builder that is a future.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::num::NonZeroU64;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use ringway_runtime::fault::Sabotage;
use ringway_runtime::net::Stream;
use ringway_runtime::{self as runtime};
use tracing::Instrument;

use crate::cancel::CancelToken;
use crate::destination::Destination;
use crate::error::{ErrorKind, TransferError};
use crate::limits::{Limits, Thresholds};
use crate::pace::{Deadline, Floor, Pace};
use crate::plan::{self, Consistency, Mode, Obstacle, Plan, Reason, Route, SinkFacts, Wishes};
use crate::process::{Processor, WindowLimits};
use crate::progress::{Extent, FILE_END_MAX, Progress};
use crate::receipt::Receipt;
use crate::route::{self, Processing, Run, Seat, Watch, Work};
use crate::sink::Sink;
use crate::source::{Body, Part, Source};
use crate::tls::TlsStream;

/// Moves a source into a stream, or a body out of one into a file. Await it, after any options.
///
/// It resolves when the socket has accepted the last byte; see [the crate](crate) for what that means
/// for the file.
///
/// # Errors
///
/// [`TransferError`] tells what happened, whose fault it likely is, how many bytes the socket had
/// accepted, and what to change.
///
/// # Cancel safety
///
/// Dropping the future in the middle is memory-safe. The stream is then poisoned: nothing more can be
/// sent over it until [`Stream::settle`] has told how many bytes went out. For an exact outcome use
/// [`Transfer::cancel_token`].
///
/// ```no_run
/// # async fn example(file: ringway::runtime::fs::File, mut stream: ringway::runtime::net::TcpStream)
/// # -> Result<(), ringway::TransferError> {
/// use std::time::Duration;
/// use ringway::{Route, transfer_file};
///
/// let receipt = transfer_file(&file, &mut stream)
///     .range(1000..2_000_000)
///     .forbid(Route::Copy)
///     .deadline(Duration::from_secs(30))
///     .await?;
/// assert_eq!(receipt.bytes, 1_999_000);
/// # Ok(()) }
/// ```
///
/// The other way round, from a stream into a file, it is the same call: see [`Receive`](crate::Receive).
///
/// ```no_run
/// # async fn example(mut stream: ringway::runtime::net::TcpStream, mut file: ringway::runtime::fs::File)
/// # -> Result<(), ringway::ReceiveError> {
/// use ringway::{Incoming, transfer_file};
///
/// transfer_file(Incoming::exactly(&mut stream, 5_000_000), &mut file).await?;
/// # Ok(()) }
/// ```
pub fn transfer_file<'t, S, D: Destination<'t, S>>(source: S, sink: &'t mut D) -> D::Transfer {
    sink.order(source)
}

/// Bytes that go into a stream.
pub(crate) fn into_stream(source: Source, sink: &mut dyn Sink) -> Transfer<'_> {
    Transfer {
        source,
        sink,
        range: None,
        promised: None,
        wishes: Wishes::default(),
        limits: Limits::default(),
        thresholds: Thresholds::default(),
        zero_copy: false,
        pace: None,
        floor: None,
        deadline: None,
        token: None,
        report: None,
        consistency: None,
        seat: None,
        window_limits: WindowLimits::default(),
    }
}

/// What a progress callback is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progressed {
    /// Bytes that the socket has accepted.
    pub sent: u64,
    /// Bytes in the whole body; with a processor, in the files that it is shown.
    pub total: u64,
    /// Bytes of those files that a processor has dealt with; 0 without one.
    pub scanned: u64,
    /// Whether this is the last call, and how it ended.
    pub ended: Option<Ended>,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The socket has accepted everything.
    Complete,
    /// It did not; the result says why.
    Failed,
}

/// Who is told how far a transfer is.
pub(crate) type Report<'t> = Box<dyn FnMut(Progressed) + 't>;

/// A transfer to be awaited; see [`transfer_file`].
pub struct Transfer<'t> {
    source: Source,
    sink: &'t mut dyn Sink,
    range: Option<Range<u64>>,
    promised: Option<u64>,
    wishes: Wishes,
    limits: Limits,
    thresholds: Thresholds,
    zero_copy: bool,
    pace: Option<Pace>,
    floor: Option<(u64, Duration)>,
    deadline: Option<Duration>,
    token: Option<CancelToken>,
    report: Option<Report<'t>>,
    /// The caller's choice, if it made one.
    consistency: Option<Consistency>,
    seat: Option<Seat<'t>>,
    window_limits: WindowLimits,
}

impl<'t> Transfer<'t> {
    /// Sends only these bytes of the file, counted in the slice if it is one. For parts, give each
    /// its own range.
    #[must_use]
    pub fn range(mut self, bytes: Range<u64>) -> Self {
        self.range = Some(bytes);
        self
    }

    /// Checks that the parts come to this many bytes before anything is sent: what a header has
    /// promised already. With a processor nothing is known then: see [`crate::process`].
    #[must_use]
    pub fn expecting(mut self, bytes: u64) -> Self {
        self.promised = Some(bytes);
        self
    }

    /// Takes this route or fails.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.wishes.route = Some(route);
        self
    }

    /// Never takes this route.
    #[must_use]
    pub fn forbid(mut self, route: Route) -> Self {
        self.wishes.forbidden = self.wishes.forbidden.with(route);
        self
    }

    /// Uses this mode throughout. [`Mode::Inline`] makes the event loop wait for a cold file.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.wishes.mode = Some(mode);
        self
    }

    /// Which version of the file the peer may see if it is overwritten in place meanwhile.
    #[must_use]
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = Some(consistency);
        self
    }

    /// Shows the file's bytes to a processor and sends what it says: see [`crate::process`]. Memory
    /// parts are sent as they are. It runs on the event loop, within
    /// [`WindowLimits::turn_budget`](crate::process::WindowLimits::turn_budget).
    #[must_use]
    pub fn process(mut self, processor: impl Processor + 't) -> Self {
        self.seat = Some(Seat::Here(Box::new(processor)));
        self
    }

    /// The same for a processor that takes its time: each turn of it is handed to `run`, which gives it
    /// to a thread that may block.
    ///
    /// ```no_run
    /// # async fn example(file: ringway::runtime::fs::File, mut stream: ringway::runtime::net::TcpStream)
    /// # -> Result<(), ringway::TransferError> {
    /// # let slow = ringway::process::Replace::new(*b"a", *b"b");
    /// let receipt = ringway::transfer_file(&file, &mut stream)
    ///     .process_on(slow, |work| drop(std::thread::spawn(work)))
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A pool's spawn function does as well. If the transfer is dropped, a turn that has begun ends
    /// where it runs, and nobody waits for it. Work that is dropped without being run ends the transfer.
    #[must_use]
    pub fn process_on(
        mut self,
        processor: impl Processor + Send + 'static,
        run: impl FnMut(Work) + 't,
    ) -> Self {
        self.seat = Some(Seat::Elsewhere(Some(Box::new(processor)), Box::new(run)));
        self
    }

    /// What processing may hold, and how long a turn may take.
    #[must_use]
    pub fn window_limits(mut self, limits: WindowLimits) -> Self {
        self.window_limits = limits;
        self
    }

    /// The most bytes to move before other tasks have their turn; short for a field of
    /// [`Self::limits`].
    #[must_use]
    pub fn quantum(mut self, bytes: u64) -> Self {
        self.limits.quantum_bytes = bytes;
        self
    }

    /// What this transfer may hold, and for how long.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The measured points at which the plan changes its mind.
    #[must_use]
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Sends copied bytes by `SEND_ZC` where that pays (32 KiB and more). Off by default: only a real
    /// network card shows a gain, and loopback copies anyway, after which it is not tried again on
    /// this connection.
    #[must_use]
    pub fn zero_copy(mut self, on: bool) -> Self {
        self.zero_copy = on;
        self
    }

    /// Sends at most this many bytes per second on the long run, with bursts of at most `burst`
    /// bytes. The receipt tells how long that held the transfer back.
    #[must_use]
    pub fn rate_limit(mut self, bytes_per_second: NonZeroU64, burst: u64) -> Self {
        self.pace = Some(Pace::new(bytes_per_second, burst));
        self
    }

    /// Fails if the peer takes less than this many bytes per second, judged every `grace`. The time
    /// in which it had nothing to take does not count.
    #[must_use]
    pub fn minimum_rate(mut self, bytes_per_second: u64, grace: Duration) -> Self {
        self.floor = Some((bytes_per_second, grace));
        self
    }

    /// Fails if the whole takes longer than this.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Lets this token cancel the transfer, with an exact outcome.
    #[must_use]
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// Tells how far the transfer is, after each step, and once when it has ended, however it did.
    /// It runs on the event loop: be quick. It is not called if the transfer is dropped.
    #[must_use]
    pub fn on_progress(mut self, report: impl FnMut(Progressed) + 't) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    async fn run(&mut self) -> Result<Receipt, TransferError> {
        let watch = Watch::start(
            self.deadline.map(Deadline),
            self.floor.map(|(rate, grace)| Floor::new(rate, grace)),
            self.token.take(),
            self.limits.peer_timeout,
        );
        // Of a range the length is known, whatever the file tells.
        let generated = self.range.is_none() && self.source.is_generated();
        let was_file = if self.seat.is_some() { self.source.files() } else { Vec::new() };
        let read = match generated {
            true => Box::pin(self.source.read_generated()).await,
            false => Ok(()),
        };
        let prepared = read.and_then(|()| self.prepare(&was_file));
        let Prepared { body, plan, progress, processing } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let ended = Some(Ended::Failed);
                tell(&mut self.report, Progressed { sent: 0, total: 0, scanned: 0, ended });
                return Err(error);
            }
        };
        let stream = self.sink.stream();
        let tls = self.sink.tls();
        let plaintext = tls.map_or(0, TlsStream::accepted);
        let mut guard = Guard { stream, tls, began: Some((stream.accepted(), plaintext)) };
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
            pace: self.pace.take(),
            zero_copy: self.zero_copy,
            may_copy: self.wishes.route.is_none() && !self.wishes.forbidden.contains(Route::Copy),
            receipt: first_receipt(&plan, generated),
            report: self.report.take(),
            processing,
        };
        let outcome = route::drive(&mut run).await;
        guard.began = None;
        run.end(outcome, copied_before)
    }

    /// Everything that is decided before the first byte: lengths, facts, plan.
    fn prepare(&mut self, was_file: &[bool]) -> Result<Prepared<'t>, TransferError> {
        let before = |kind| TransferError::new(kind, 0);
        let valid = self.limits.check().and_then(|()| self.window_limits.check());
        valid.map_err(|invalid| before(ErrorKind::InvalidLimit(invalid)))?;
        let needed = self.seat.as_ref().and_then(Seat::processor).map(Processor::consistency);
        self.wishes.consistency = self.consistency.or(needed).unwrap_or_default();
        self.wishes.processed = self.seat.is_some();
        let poisoned = self.sink.tls().is_some_and(TlsStream::is_poisoned);
        if poisoned || self.sink.stream().is_poisoned() {
            return Err(before(ErrorKind::Poisoned));
        }
        let mut source = Source { parts: std::mem::take(&mut self.source.parts) };
        if let Some(range) = self.range.take() {
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
        let (wishes, limits) = (&self.wishes, &self.limits);
        let (body, extents) = Body::fix(source, &facts, wishes, limits, &self.thresholds)?;
        let shown = |part: usize| was_file.get(part).copied().unwrap_or(false);
        let stretches = match &self.seat {
            Some(_) => route::stretches(&extents, shown),
            None => Vec::new(),
        };
        let mut progress = Progress::new(extents)
            .map_err(|overflow| before(ErrorKind::LengthOverflow(overflow)))?;
        let given = progress.total();
        if let Some(promised) = self.promised.filter(|promised| *promised != given)
            && self.seat.is_none()
        {
            return Err(before(ErrorKind::SizeMismatch { promised, given }));
        }
        let host = self.host(&body, &facts)?;
        let plan = plan::plan(&body.facts, &facts, &self.wishes, &host, &self.thresholds)
            .map_err(|refusal| before(ErrorKind::Refused(refusal)))?;
        let processing = self.seat.take().map(|seat| Processing {
            seat,
            limits: self.window_limits.clone(),
            stretches,
            promised: self.promised,
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

    fn host(&self, body: &Body, sink: &SinkFacts) -> Result<plan::Capabilities, TransferError> {
        let here = runtime::capabilities()
            .map_err(|error| TransferError::from_io("ring", crate::error::Side::Host, error, 0))?;
        let pipe_bytes = route::pipe_bytes(body, sink, &self.wishes, &self.thresholds);
        Ok(plan::Capabilities {
            splice: here.splice,
            splice_sqe: here.splice && here.splice_op,
            registered_buffers: here.registered_buffers(),
            pipe_bytes,
        })
    }
}

impl<'t> IntoFuture for Transfer<'t> {
    type Output = Result<Receipt, TransferError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 't>>;

    fn into_future(self) -> Self::IntoFuture {
        let mut transfer = self;
        if tracing::enabled!(tracing::Level::DEBUG) {
            let span = tracing::debug_span!("transfer");
            return Box::pin(async move { transfer.run().await }.instrument(span));
        }
        Box::pin(async move { transfer.run().await })
    }
}

impl fmt::Debug for Transfer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("source", &self.source)
            .field("wishes", &self.wishes)
            .finish_non_exhaustive()
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

pub(crate) fn tell(report: &mut Option<Report<'_>>, progressed: Progressed) {
    if let Some(report) = report {
        report(progressed);
    }
}

/// The account at the start: what could not be had as planned is known already.
fn first_receipt(plan: &Plan, generated: bool) -> Receipt {
    let mut receipt = Receipt::new(plan);
    if generated {
        receipt.note_fallback("read whole before sending", "the file tells no length");
    }
    if plan.reason == Reason::SpliceImpossible(Obstacle::NoPipe) {
        receipt.note_fallback("copied instead of spliced", "no pipe is to be had");
    }
    receipt
}
