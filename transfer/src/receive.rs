//! The other way round: a body out of a stream into a file.
//!
//! ```text
//!   stream ──▶ pipe or buffer ──▶ file        gathered inline, never waiting with anything in hand;
//!              while the one before           written by the ring, where a disk may be waited for
//!              it is being written
//! ```
//!
//! What the peer has sent is spliced into a pipe, or received into a buffer, by calls that do not
//! wait. A worker of the kernel writes it, since a write may wait for a disk at any time, and meanwhile
//! the next pipe or buffer fills. Only files in memory are written by the loop itself. A peer that
//! sends nothing holds neither a pipe nor a buffer, and one that sends little has what it sent written
//! after a moment.

mod drive;
pub mod error;
mod incoming;
pub mod plan;
#[doc(hidden)]
pub mod progress;
pub mod receipt;
mod run;
mod store;
mod vessel;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::time::Duration;

use ringway_runtime as runtime;
use ringway_runtime::fs::{File, FileKind};
use tracing::Instrument;

use crate::cancel::CancelToken;
use crate::error::Side;
use crate::limits::{Limits, Thresholds};
use crate::pace::{Deadline, Floor, Pace};
use crate::plan::{Route, RouteSet};
use crate::route::Watch;
use crate::source;
use crate::transfer::Ended;

pub use error::{Misfit, ReceiveError, ReceiveErrorKind, ShortBody};
pub use incoming::{Decoded, Incoming, Origin};
pub use receipt::Received;

use plan::{Facts, Plan};
use progress::Progress;
use run::Run;

/// What a progress callback is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrived {
    /// Bytes of the body that have come.
    pub received: u64,
    /// Bytes of the body that are in the file.
    pub written: u64,
    /// Bytes in the whole body, where that is known.
    pub total: Option<u64>,
    /// Whether this is the last call, and how it ended.
    pub ended: Option<Ended>,
}

/// Who is told how far it is.
type Report<'t> = Box<dyn FnMut(Arrived) + 't>;

/// A body on its way into a file, to be awaited; see [`transfer_file`](crate::transfer_file).
///
/// It resolves when the last byte was written; that it survives a crash is
/// [`sync_all`](File::sync_all)'s to say. Bytes of the file outside of the body stay as they are.
///
/// # Errors
///
/// [`ReceiveError`] tells what happened, whose fault it likely is, how many bytes had come and how many
/// of them are in the file. What has come is written even if the transfer ends, unless it was the file
/// that failed.
///
/// # Cancel safety
///
/// Dropping the future in the middle is memory-safe, but bytes that were taken out of the stream may
/// be lost, and a write may still happen. The stream is then torn: nothing more is received from it
/// until [`settle_received`](runtime::net::Stream::settle_received) has told how much was taken. For an
/// exact outcome use [`Receive::cancel_token`].
///
/// ```no_run
/// # async fn example(mut stream: ringway::runtime::net::TcpStream, mut file: ringway::runtime::fs::File)
/// # -> Result<(), ringway::ReceiveError> {
/// use std::time::Duration;
/// use ringway::{Incoming, transfer_file};
///
/// let receipt = transfer_file(Incoming::to_the_end(&mut stream).at_most(1 << 30), &mut file)
///     .offset(4096)
///     .minimum_rate(10_000, Duration::from_secs(10))
///     .await?;
/// println!("{receipt}");
/// # Ok(()) }
/// ```
pub struct Receive<'t> {
    incoming: Incoming<'t>,
    file: &'t mut File,
    offset: u64,
    route: Option<Route>,
    forbidden: RouteSet,
    reserve: bool,
    limits: Limits,
    thresholds: Thresholds,
    pace: Option<Pace>,
    floor: Option<(u64, Duration)>,
    deadline: Option<Duration>,
    token: Option<CancelToken>,
    report: Option<Report<'t>>,
}

impl<'t> Receive<'t> {
    pub(crate) fn new(incoming: Incoming<'t>, file: &'t mut File) -> Self {
        Self {
            incoming,
            file,
            offset: 0,
            route: None,
            forbidden: RouteSet::EMPTY,
            reserve: true,
            limits: Limits::default(),
            thresholds: Thresholds::default(),
            pace: None,
            floor: None,
            deadline: None,
            token: None,
            report: None,
        }
    }

    /// Writes from this offset of the file on. Default 0.
    #[must_use]
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Takes this route or fails.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.route = Some(route);
        self
    }

    /// Never takes this route.
    #[must_use]
    pub fn forbid(mut self, route: Route) -> Self {
        self.forbidden = self.forbidden.with(route);
        self
    }

    /// Whether blocks are reserved before the first byte of a longer body whose length is known, so
    /// that a full disk is found early. Default yes; the file keeps its length, but blocks that are
    /// not needed after all stay with it until it is truncated.
    #[must_use]
    pub fn reserve(mut self, on: bool) -> Self {
        self.reserve = on;
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

    /// Receives at most this many bytes per second on the long run, with bursts of at most `burst`
    /// bytes. The receipt tells how long that held the transfer back.
    #[must_use]
    pub fn rate_limit(mut self, bytes_per_second: NonZeroU64, burst: u64) -> Self {
        self.pace = Some(Pace::new(bytes_per_second, burst));
        self
    }

    /// Fails if the peer sends less than this many bytes per second, judged every `grace`. The time
    /// in which nobody received does not count.
    #[must_use]
    pub fn minimum_rate(mut self, bytes_per_second: u64, grace: Duration) -> Self {
        self.floor = Some((bytes_per_second, grace));
        self
    }

    /// Fails if the whole takes longer than this. A write that is under way is still waited for.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Lets this token cancel the transfer, with an exact outcome: what has come is written.
    #[must_use]
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// Tells how far the transfer is, after each step, and once when it has ended, however it did.
    /// It runs on the event loop: be quick. It is not called if the transfer is dropped.
    #[must_use]
    pub fn on_progress(mut self, report: impl FnMut(Arrived) + 't) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    async fn run(self) -> Result<Received, ReceiveError> {
        let watch = Watch::start(
            self.deadline.map(Deadline),
            self.floor.map(|(rate, grace)| Floor::new(rate, grace)),
            self.token.clone(),
            self.limits.peer_timeout,
        );
        let (progress, plan) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => {
                let (received, total) = (error.received(), self.incoming.expected);
                let ended = Some(Ended::Failed);
                if let Some(mut report) = self.report {
                    report(Arrived { received, written: 0, total, ended });
                }
                return Err(error);
            }
        };
        let reserve = self.reserve
            && plan.mode != crate::plan::Mode::Inline
            && progress.expected().is_some_and(|len| len >= self.thresholds.reserve_min_bytes);
        let incoming = self.incoming;
        let mut run = Run::new(incoming, self.file, progress, plan, watch);
        run.limits = self.limits;
        run.thresholds = self.thresholds;
        run.pace = self.pace;
        run.report = self.report;
        run.may_copy = self.route.is_none() && !self.forbidden.contains(Route::Copy);
        let outcome = drive::drive(&mut run, reserve.then_some(self.offset)).await;
        run.end(outcome)
    }

    /// Everything that is decided before the first byte: numbers, facts, plan.
    fn prepare(&self) -> Result<(Progress, Plan), ReceiveError> {
        let given = self.incoming.given.len() as u64;
        let before = |kind| ReceiveError::new(kind, (given, 0));
        self.limits.check().map_err(|invalid| before(ReceiveErrorKind::InvalidLimit(invalid)))?;
        if self.incoming.origin.is_torn() {
            return Err(before(ReceiveErrorKind::Torn));
        }
        let Incoming { expected, most, .. } = self.incoming;
        let progress = Progress::new(self.offset, given, expected, most)
            .map_err(|misfit| before(ReceiveErrorKind::Misfit(misfit)))?;
        let looked = |error| ReceiveError::from_io("fstat", Side::Sink, error, (given, 0));
        let no_offsets = |what| Err(before(ReceiveErrorKind::NoOffsets { what }));
        if self.file.metadata().map_err(looked)?.kind != FileKind::Regular {
            return no_offsets("it is no regular file");
        }
        if self.file.is_append().map_err(looked)? {
            return no_offsets("it was opened with O_APPEND");
        }
        if self.file.is_direct().map_err(looked)? {
            return no_offsets("it was opened with O_DIRECT");
        }
        let here = runtime::capabilities()
            .map_err(|error| ReceiveError::from_io("ring", Side::Host, error, (given, 0)))?;
        let facts = Facts {
            decoded: self.incoming.origin.is_decoded(),
            to_come: expected.map(|expected| expected - given),
            filesystem: source::class_of(self.file.file_system().map_err(looked)?),
            splice: here.splice,
            splice_sqe: here.splice && here.splice_op,
        };
        let plan = plan::plan(&facts, self.route, self.forbidden, &self.thresholds)
            .map_err(|unfit| before(ReceiveErrorKind::Unfit(unfit)))?;
        Ok((progress, plan))
    }
}

impl<'t> IntoFuture for Receive<'t> {
    type Output = Result<Received, ReceiveError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 't>>;

    fn into_future(self) -> Self::IntoFuture {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let span = tracing::debug_span!("receive");
            return Box::pin(self.run().instrument(span));
        }
        Box::pin(self.run())
    }
}

impl fmt::Debug for Receive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receive")
            .field("incoming", &self.incoming)
            .field("file", &self.file)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
