//! The clock of one transfer: deadlines, the peer's pace, cancellation; and waiting under them.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use ringway_runtime::net::Stream;
use ringway_runtime::time::sleep;

use crate::cancel::{CancelToken, Seat};
use crate::error::ErrorKind;
use crate::pace::{Deadline, Floor};

/// Why a wait ended early.
pub(crate) enum Stop {
    Kind(ErrorKind),
    Io(io::Error),
}

/// How a wait for the socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It takes bytes again.
    Writable,
    /// There is something to receive; if both were waited for, it takes no bytes yet.
    Readable,
    /// What is held was held long enough.
    HoldOver,
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
enum Awaited {
    Writable,
    Readable,
    Either,
}

/// Everything that can end a transfer from outside.
pub(crate) struct Watch {
    started: Instant,
    deadline: Option<Deadline>,
    floor: Option<Floor>,
    token: Option<CancelToken>,
    peer_timeout: Option<Duration>,
    /// Bytes that the socket had accepted at `heard_at`.
    heard: u64,
    heard_at: Duration,
    /// Time in which the peer had nothing to take.
    excused: Duration,
}

impl Watch {
    pub(crate) fn start(
        deadline: Option<Deadline>,
        floor: Option<Floor>,
        token: Option<CancelToken>,
        peer_timeout: Option<Duration>,
    ) -> Self {
        Self {
            started: Instant::now(),
            deadline,
            floor,
            token,
            peer_timeout,
            heard: 0,
            heard_at: Duration::ZERO,
            excused: Duration::ZERO,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The socket has accepted bytes. The clock is only read while somebody waits.
    pub(crate) fn heard(&mut self, sent: u64) {
        self.heard = sent;
        self.heard_at = Duration::MAX;
    }

    /// Whether to stop before the next step.
    pub(crate) fn check(&mut self) -> Result<(), ErrorKind> {
        if self.token.as_ref().is_some_and(CancelToken::is_cancelled) {
            return Err(ErrorKind::Cancelled);
        }
        if self.deadline.is_none() && self.floor.is_none() {
            return Ok(());
        }
        let now = self.elapsed();
        self.check_times(now)
    }

    fn check_times(&mut self, now: Duration) -> Result<(), ErrorKind> {
        if let Some(Deadline(limit)) = self.deadline.filter(|limit| limit.left(now).is_none()) {
            return Err(ErrorKind::DeadlineExceeded { limit });
        }
        if let Some(floor) = &mut self.floor {
            floor.check(now, self.heard, self.excused).map_err(ErrorKind::PeerTooSlow)?;
        }
        Ok(())
    }

    /// Time has passed in which the peer had nothing to take, and nobody waited.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.excused += time;
    }

    /// Sleeps, excused, unless something ends the transfer first.
    pub(crate) async fn pause(&mut self, pause: Duration) -> Result<(), ErrorKind> {
        self.excused(pin!(sleep(pause))).await
    }

    /// Awaits something that the peer has no part in, unless something ends the transfer first; the
    /// future is then dropped.
    pub(crate) async fn excused<F: Future>(&mut self, future: F) -> Result<F::Output, ErrorKind> {
        let began = self.elapsed();
        let outcome = self.guarded(future, self.deadline_left(began)).await;
        self.excused += self.elapsed().saturating_sub(began);
        self.heard_at = Duration::MAX;
        match outcome {
            Some(output) => Ok(output),
            None => Err(self.reason()),
        }
    }

    /// Awaits an op that must be seen to its end. If something ends the transfer first, `cancel` is
    /// called once and the op is awaited all the same; the reason comes with its outcome.
    pub(crate) async fn supervised<F: Future + Unpin>(
        &mut self,
        mut op: F,
        cancel: impl FnOnce(&mut F),
        peer: bool,
    ) -> (F::Output, Option<ErrorKind>) {
        let began = self.elapsed();
        let left = self.deadline_left(began);
        let mut stop = None;
        let output = match self.guarded(&mut op, left).await {
            Some(output) => output,
            None => {
                stop = Some(self.reason());
                cancel(&mut op);
                op.await
            }
        };
        if !peer {
            self.excused += self.elapsed().saturating_sub(began);
        }
        (output, stop)
    }

    /// Waits until the socket takes bytes, or with `listening` also until it has some for us, for at
    /// most `hold`, and no longer than the peer may be silent or too slow.
    pub(super) async fn ready(
        &mut self,
        stream: &Stream,
        sent: u64,
        hold: Option<Duration>,
        listening: bool,
    ) -> Result<Ready, Stop> {
        let awaited = if listening { Awaited::Either } else { Awaited::Writable };
        self.await_ready(stream, awaited, sent, hold).await
    }

    /// Waits until the socket has something to receive, likewise.
    pub(crate) async fn readable(
        &mut self,
        stream: &Stream,
        received: u64,
        hold: Option<Duration>,
    ) -> Result<Ready, Stop> {
        self.await_ready(stream, Awaited::Readable, received, hold).await
    }

    async fn await_ready(
        &mut self,
        stream: &Stream,
        awaited: Awaited,
        moved: u64,
        hold: Option<Duration>,
    ) -> Result<Ready, Stop> {
        let began = self.elapsed();
        if self.heard_at == Duration::MAX {
            self.heard_at = began;
        }
        self.heard = moved;
        let until_hold = hold.map(|hold| began.saturating_add(hold));
        loop {
            let now = self.elapsed();
            self.check_times(now).map_err(Stop::Kind)?;
            let silence = self.peer_timeout.map(|limit| self.heard_at.saturating_add(limit));
            if let (Some(end), Some(limit)) = (silence, self.peer_timeout)
                && now >= end
            {
                return Err(Stop::Kind(ErrorKind::PeerTimedOut { waited: Some(limit) }));
            }
            if until_hold.is_some_and(|end| now >= end) {
                return Ok(Ready::HoldOver);
            }
            let judged = self.floor.as_ref().map(|floor| floor.due(self.excused));
            let limit = self.deadline.map(|deadline| deadline.0);
            let ends = [until_hold, silence, judged, limit];
            let wake = ends.into_iter().flatten().min();
            let left = wake.map(|end| end.saturating_sub(now).max(Duration::from_micros(50)));
            match self.guarded(pin!(poll(stream, awaited)), left).await {
                Some(Ok(ready)) => return Ok(ready),
                Some(Err(error)) => return Err(Stop::Io(error)),
                None if self.is_cancelled() => return Err(Stop::Kind(ErrorKind::Cancelled)),
                None => {}
            }
        }
    }

    fn deadline_left(&self, now: Duration) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.left(now).unwrap_or_default())
    }

    fn is_cancelled(&self) -> bool {
        self.token.as_ref().is_some_and(CancelToken::is_cancelled)
    }

    fn reason(&self) -> ErrorKind {
        match self.deadline {
            Some(Deadline(limit)) if !self.is_cancelled() => ErrorKind::DeadlineExceeded { limit },
            _ => ErrorKind::Cancelled,
        }
    }

    /// Awaits a future until the token is cancelled or the time is up; `None` then.
    async fn guarded<F: Future>(&self, future: F, left: Option<Duration>) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut timer = pin!(left.map(sleep));
        let mut registration = Registration { token: self.token.as_ref(), seat: None };
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if registration.watch(context.waker()) {
                return Poll::Ready(None);
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(context).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

async fn poll(stream: &Stream, awaited: Awaited) -> io::Result<Ready> {
    match awaited {
        Awaited::Writable => stream.writable().await.map(|()| Ready::Writable),
        Awaited::Readable => stream.readable().await.map(|()| Ready::Readable),
        Awaited::Either => {
            let ready = stream.readable_or_writable().await?;
            Ok(if ready.writable { Ready::Writable } else { Ready::Readable })
        }
    }
}

/// Leaves no waker behind in a token that outlives the wait.
struct Registration<'t> {
    token: Option<&'t CancelToken>,
    seat: Option<(Seat, Waker)>,
}

impl Registration<'_> {
    /// Whether it is cancelled; if not, `waker` is woken when it is.
    fn watch(&mut self, waker: &Waker) -> bool {
        let Some(token) = self.token else { return false };
        if !self.seat.as_ref().is_some_and(|(_, known)| known.will_wake(waker)) {
            self.forget();
            self.seat = Some((token.register(waker), waker.clone()));
        }
        // After registering, or a cancellation in between would wake nobody.
        token.is_cancelled()
    }

    fn forget(&mut self) {
        if let (Some(token), Some((seat, _))) = (self.token, self.seat.take()) {
            token.forget(seat);
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}
