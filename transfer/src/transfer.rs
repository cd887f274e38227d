//! The call: a builder that becomes a future.

mod prompt;
mod setting;
mod under_way;

use std::fmt;
use std::future::IntoFuture;
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::destination::Destination;
use crate::error::TransferError;
use crate::limits::{Limits, Thresholds};
use crate::pace::Pace;
use crate::plan::{Consistency, Mode, Route, Wishes};
use crate::process::{Processor, WindowLimits};
use crate::receipt::Receipt;
use crate::route::{Seat, Work};
use crate::sink::Sink;
use crate::source::Source;

pub use setting::Setting;
pub use under_way::UnderWay;

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
/// sent over it until [`Stream::settle`](ringway_runtime::net::Stream::settle) has told how many bytes went out. For an exact outcome use
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
        wishes: Wishes::default(),
        consistency: None,
        only_as_seen: false,
        limits: (&Limits::DEFAULT).into(),
        thresholds: (&Thresholds::DEFAULT).into(),
        token: None,
        options: None,
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
    wishes: Wishes,
    /// The caller's choice, if it made one.
    consistency: Option<Consistency>,
    only_as_seen: bool,
    limits: Setting<'t, Limits>,
    thresholds: Setting<'t, Thresholds>,
    token: Option<CancelToken>,
    /// What few callers ask for, in a box: the builder is moved with each of its calls.
    options: Option<Box<Options<'t>>>,
}

/// What few callers ask for.
#[derive(Default)]
struct Options<'t> {
    range: Option<Range<u64>>,
    promised: Option<u64>,
    zero_copy: bool,
    pace: Option<Pace>,
    floor: Option<(u64, Duration)>,
    deadline: Option<Duration>,
    report: Option<Report<'t>>,
    seat: Option<Seat<'t>>,
    window_limits: WindowLimits,
}

impl<'t> Transfer<'t> {
    /// Sends only these bytes of the file, counted in the slice if it is one. For parts, give each
    /// its own range.
    #[must_use]
    pub fn range(mut self, bytes: Range<u64>) -> Self {
        self.options().range = Some(bytes);
        self
    }

    /// Checks that the parts come to this many bytes before anything is sent: what a header has
    /// promised already. With a processor nothing is known then: see [`crate::process`].
    #[must_use]
    pub fn expecting(mut self, bytes: u64) -> Self {
        self.options().promised = Some(bytes);
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

    /// Sends nothing of a file that is not as the caller had seen it
    /// ([`Parts::file_as_seen`](crate::Parts::file_as_seen)), so that a header made from that never
    /// precedes other content: it fails with [`ErrorKind::SourceChanged`](crate::error::ErrorKind)
    /// before the first byte.
    ///
    /// A small body that is copied is looked at after it was read and before it is sent. A longer one is
    /// looked at when it starts, and [`Receipt::source_changed`](crate::Receipt) tells what was seen at
    /// its end.
    #[must_use]
    pub fn only_as_seen(mut self) -> Self {
        self.only_as_seen = true;
        self
    }

    /// Shows the file's bytes to a processor and sends what it says: see [`crate::process`]. Memory
    /// parts are sent as they are. It runs on the event loop, within
    /// [`WindowLimits::turn_budget`](crate::process::WindowLimits::turn_budget).
    #[must_use]
    pub fn process(mut self, processor: impl Processor + 't) -> Self {
        self.options().seat = Some(Seat::Here(Box::new(processor)));
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
        self.options().seat = Some(Seat::Elsewhere(Some(Box::new(processor)), Box::new(run)));
        self
    }

    /// What processing may hold, and how long a turn may take.
    #[must_use]
    pub fn window_limits(mut self, limits: WindowLimits) -> Self {
        self.options().window_limits = limits;
        self
    }

    /// The most bytes to move before other tasks have their turn; short for a field of
    /// [`Self::limits`].
    #[must_use]
    pub fn quantum(mut self, bytes: u64) -> Self {
        self.limits.change(|limits| limits.quantum_bytes = bytes);
        self
    }

    /// What this transfer may hold, and for how long.
    #[must_use]
    pub fn limits(mut self, limits: impl Into<Setting<'t, Limits>>) -> Self {
        self.limits = limits.into();
        self
    }

    /// The measured points at which the plan changes its mind.
    #[must_use]
    pub fn thresholds(mut self, thresholds: impl Into<Setting<'t, Thresholds>>) -> Self {
        self.thresholds = thresholds.into();
        self
    }

    /// Sends copied bytes by `SEND_ZC` where that pays (32 KiB and more). Off by default: only a real
    /// network card shows a gain, and loopback copies anyway, after which it is not tried again on
    /// this connection.
    #[must_use]
    pub fn zero_copy(mut self, on: bool) -> Self {
        self.options().zero_copy = on;
        self
    }

    /// Sends at most this many bytes per second on the long run, with bursts of at most `burst`
    /// bytes. The receipt tells how long that held the transfer back.
    #[must_use]
    pub fn rate_limit(mut self, bytes_per_second: NonZeroU64, burst: u64) -> Self {
        self.options().pace = Some(Pace::new(bytes_per_second, burst));
        self
    }

    /// Fails if the peer takes less than this many bytes per second, judged every `grace`. The time
    /// in which it had nothing to take does not count.
    #[must_use]
    pub fn minimum_rate(mut self, bytes_per_second: u64, grace: Duration) -> Self {
        self.options().floor = Some((bytes_per_second, grace));
        self
    }

    /// Fails if the whole takes longer than this.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.options().deadline = Some(limit);
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
        self.options().report = Some(Box::new(report));
        self
    }

    fn options(&mut self) -> &mut Options<'t> {
        self.options.get_or_insert_default()
    }
}

impl<'t> IntoFuture for Transfer<'t> {
    type Output = Result<Receipt, TransferError>;
    type IntoFuture = UnderWay<'t>;

    fn into_future(self) -> UnderWay<'t> {
        UnderWay::new(self)
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

pub(crate) fn tell(report: &mut Option<Report<'_>>, progressed: Progressed) {
    if let Some(report) = report {
        report(progressed);
    }
}
