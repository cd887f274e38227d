//! Time: sleeping, deadlines and intervals, without a system call of their own.
//!
//! Deadlines stand in an ordered queue of the thread; the nearest one is the timeout of the next
//! io_uring_enter(2), so that a timer costs no op.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::local;
use crate::stats::Counters;

mod queue;

use queue::Queue;
pub(crate) use queue::TimerKey;

/// The deadlines of one ring.
pub(crate) struct Timers {
    queue: RefCell<Queue<Waker>>,
    counters: Rc<Counters>,
}

impl Timers {
    pub(crate) fn new(counters: Rc<Counters>) -> Self {
        Self { queue: RefCell::default(), counters }
    }

    /// The nearest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.borrow().next()
    }

    /// Wakes everyone whose time has come.
    pub(crate) fn fire(&self) {
        if self.queue.borrow().next().is_none() {
            return;
        }
        let now = Instant::now();
        loop {
            let due = self.queue.borrow_mut().pop_due(now);
            let Some(waker) = due else { break };
            self.counters.timers.sub(1);
            waker.wake();
        }
    }

    fn add(&self, deadline: Instant, waker: Waker) -> TimerKey {
        self.counters.timers.bump();
        self.queue.borrow_mut().insert(deadline, waker)
    }

    fn remove(&self, key: TimerKey) {
        let removed = self.queue.borrow_mut().remove(key);
        if removed.is_some() {
            self.counters.timers.sub(1);
        }
    }

    fn renew(&self, key: TimerKey, waker: &Waker) {
        // The old waker is dropped outside of the borrow: it may be the last of what it wakes.
        let _old = self
            .queue
            .borrow_mut()
            .value_mut(key)
            .filter(|known| !known.will_wake(waker))
            .map(|known| std::mem::replace(known, waker.clone()));
    }
}

/// Resolves once a moment has passed. See [`sleep`] and [`sleep_until`].
pub struct Sleep {
    deadline: Instant,
    timer: Option<(Rc<Timers>, TimerKey)>,
}

/// Waits for a while.
///
/// # Cancel safety
///
/// Dropping the future drops the timer.
///
/// # Panics
///
/// The future panics when it is polled outside of a ring.
///
/// ```
/// # fn main() -> Result<(), ringway_runtime::StartError> {
/// use std::time::Duration;
/// ringway_runtime::Runtime::new()?.block_on(ringway_runtime::time::sleep(Duration::from_millis(1)));
/// # Ok(()) }
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(after(Instant::now(), duration))
}

/// A moment after another. What is beyond the clock's range is "never" for all that matters: thirty years.
pub(crate) fn after(moment: Instant, duration: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 86400);
    moment.checked_add(duration).unwrap_or_else(|| moment + NEVER)
}

/// Waits for a moment.
///
/// # Cancel safety
///
/// Dropping the future drops the timer.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

impl Sleep {
    /// The moment that is waited for.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            if let Some((timers, key)) = self.timer.take() {
                timers.remove(key);
            }
            return Poll::Ready(());
        }
        if let Some((timers, key)) = &self.timer {
            timers.renew(*key, context.waker());
            return Poll::Pending;
        }
        let timers = local::with(|local| Rc::clone(&local.timers));
        let timers = timers.expect("a sleep must be polled inside of a ring");
        let key = timers.add(self.deadline, context.waker().clone());
        self.timer = Some((timers, key));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((timers, key)) = self.timer.take() {
            timers.remove(key);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// The deadline of a [`timeout`] has passed; the future was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time allowed has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs a future for at most a while, and drops it then.
///
/// # Errors
///
/// [`Elapsed`] if the time was up first.
///
/// # Cancel safety
///
/// As safe as the future itself, which is dropped when the time is up or when this is dropped.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(duration));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        sleep.as_mut().poll(context).map(|()| Err(Elapsed))
    })
    .await
}

/// Ticks at a fixed period. See [`interval`].
#[derive(Debug)]
pub struct Interval {
    next: Instant,
    period: Duration,
}

/// Ticks now, and then after every `period`. A tick that is missed is not made up for: the next one
/// comes at the next multiple of the period.
#[must_use]
pub fn interval(period: Duration) -> Interval {
    Interval { next: Instant::now(), period: period.max(Duration::from_micros(1)) }
}

impl Interval {
    /// Waits for the next tick.
    ///
    /// # Cancel safety
    ///
    /// A tick that was not waited for to the end is not lost.
    pub async fn tick(&mut self) {
        sleep_until(self.next).await;
        let now = Instant::now();
        self.next = after(self.next, self.period);
        if self.next < now {
            let missed = (now - self.next).as_nanos() / self.period.as_nanos() + 1;
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            self.next = after(self.next, self.period.saturating_mul(missed));
        }
    }
}
