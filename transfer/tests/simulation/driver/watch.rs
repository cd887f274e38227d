//! The mirror of `route/watch.rs`, by the model's clock.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use ringway::error::ErrorKind;
use ringway::pace::{Deadline, Floor};

use crate::kernel::Host;
use crate::scenario::TransferSpec;

/// Why a wait ended early.
pub(super) struct Stop(pub(super) ErrorKind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Writable,
    HoldOver,
}

pub(super) struct Watch {
    host: Host,
    id: usize,
    started: Duration,
    deadline: Option<Deadline>,
    floor: Option<Floor>,
    peer_timeout: Option<Duration>,
    heard: u64,
    heard_at: Duration,
    excused: Duration,
}

impl Watch {
    pub(super) fn start(host: &Host, id: usize, spec: &TransferSpec) -> Self {
        Self {
            started: host.borrow().now,
            host: host.clone(),
            id,
            deadline: spec.deadline(),
            floor: spec.floor(),
            peer_timeout: spec.limits.peer_timeout,
            heard: 0,
            heard_at: Duration::ZERO,
            excused: Duration::ZERO,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.host.borrow().now - self.started
    }

    pub(super) fn heard(&mut self, sent: u64) {
        self.heard = sent;
        self.heard_at = Duration::MAX;
    }

    pub(super) fn check(&mut self) -> Result<(), ErrorKind> {
        if self.is_cancelled() {
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

    pub(super) async fn pause(&mut self, pause: Duration) -> Result<(), ErrorKind> {
        let until = self.elapsed() + pause;
        let sleep = Sleep { host: self.host.clone(), id: self.id, until: self.started + until };
        self.excused(sleep).await
    }

    pub(super) async fn excused<F: Future>(&mut self, future: F) -> Result<F::Output, ErrorKind> {
        let began = self.elapsed();
        let outcome = self.guarded(future, self.deadline_left(began)).await;
        self.excused += self.elapsed().saturating_sub(began);
        self.heard_at = Duration::MAX;
        outcome.ok_or_else(|| self.reason())
    }

    pub(super) async fn supervised<F: Future + Unpin>(
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

    pub(super) async fn writable(
        &mut self,
        sent: u64,
        hold: Option<Duration>,
    ) -> Result<Ready, Stop> {
        let began = self.elapsed();
        if self.heard_at == Duration::MAX {
            self.heard_at = began;
        }
        self.heard = sent;
        let until_hold = hold.map(|hold| began + hold);
        loop {
            let now = self.elapsed();
            self.check_times(now).map_err(Stop)?;
            let silence = self.peer_timeout.map(|limit| self.heard_at.saturating_add(limit));
            if let (Some(end), Some(limit)) = (silence, self.peer_timeout)
                && now >= end
            {
                return Err(Stop(ErrorKind::PeerTimedOut { waited: Some(limit) }));
            }
            if until_hold.is_some_and(|end| now >= end) {
                return Ok(Ready::HoldOver);
            }
            let judged = self.floor.as_ref().map(|floor| floor.due(self.excused));
            let limit = self.deadline.map(|deadline| deadline.0);
            let wake = [until_hold, silence, judged, limit].into_iter().flatten().min();
            let left = wake.map(|end| end.saturating_sub(now).max(Duration::from_micros(50)));
            let (host, id) = (self.host.clone(), self.id);
            let ready = poll_fn(move |_| match host.borrow_mut().is_writable(id) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            match self.guarded(ready, left).await {
                Some(()) => return Ok(Ready::Writable),
                None if self.is_cancelled() => return Err(Stop(ErrorKind::Cancelled)),
                None => {}
            }
        }
    }

    fn deadline_left(&self, now: Duration) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.left(now).unwrap_or_default())
    }

    fn is_cancelled(&self) -> bool {
        self.host.borrow().signals[self.id].cancelled
    }

    fn reason(&self) -> ErrorKind {
        match self.deadline {
            Some(Deadline(limit)) if !self.is_cancelled() => ErrorKind::DeadlineExceeded { limit },
            _ => ErrorKind::Cancelled,
        }
    }

    /// Awaits a future until the transfer is cancelled or the time is up; `None` then.
    async fn guarded<F: Future>(&self, future: F, left: Option<Duration>) -> Option<F::Output> {
        let mut future = pin!(future);
        let until = left.map(|left| self.host.borrow().now.saturating_add(left));
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            if self.is_cancelled() || until.is_some_and(|until| is_past(&self.host, self.id, until))
            {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }
}

/// Whether it is time; otherwise the transfer is woken then.
fn is_past(host: &Host, id: usize, until: Duration) -> bool {
    let mut kernel = host.borrow_mut();
    if kernel.now >= until {
        return true;
    }
    let wake_at = &mut kernel.signals[id].wake_at;
    *wake_at = Some(wake_at.map_or(until, |at| at.min(until)));
    false
}

struct Sleep {
    host: Host,
    id: usize,
    until: Duration,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if is_past(&self.host, self.id, self.until) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Pending once.
pub(super) struct Yield {
    host: Host,
    id: usize,
    yielded: bool,
}

impl Yield {
    pub(super) fn new(host: &Host, id: usize) -> Self {
        Self { host: host.clone(), id, yielded: false }
    }
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        self.host.borrow_mut().wake(self.id);
        Poll::Pending
    }
}
