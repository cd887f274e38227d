//! The one place that enters the kernel: flush submissions, wait, flush completions.
//!
//! Completions are recorded first and acted upon afterwards, so nothing of the user's runs while
//! the completion queue is being read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::error::StartError;
use crate::fault::{Sabotage, sabotaged};
use crate::op::{Aftermath, CANCEL_TAG, DOORBELL_TAG, Port, RESERVED_COMPLETIONS};
use crate::stats::Counters;
use crate::sys::probe;
use crate::sys::ring::{Ring, Setup};
use crate::sys::sqe::{READABLE, Sqe};
use crate::wake::Remote;

/// How long refused enters are repeated before the driver gives up.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two of them.
const REFUSAL_PAUSE: Duration = Duration::from_millis(1);
/// What the kernel allows (`IORING_MAX_ENTRIES`).
const SUBMISSIONS_MAX: u32 = 32768;
/// Locked memory of a ring that has just been closed is refunded late.
const REFUND_TRIES: u32 = 12;
const REFUND_PAUSE: Duration = Duration::from_millis(5);
/// After how long a runtime that ends cancels again what is still in flight.
const SHUTDOWN_PAUSE: Duration = Duration::from_millis(50);

/// A ring and what is under way in it.
pub(crate) struct Driver {
    ring: Ring,
    port: Rc<Port>,
    counters: Rc<Counters>,
    remote: Arc<Remote>,
    after: Aftermath,
    cancels_in_flight: u32,
    doorbell_armed: bool,
    buffers_registered: bool,
}

impl Driver {
    /// Sets a ring up, by the ladder of setups and within the locked memory that there is.
    pub(crate) fn start(
        config: &Config,
        best: Setup,
        counters: Rc<Counters>,
        remote: Arc<Remote>,
    ) -> Result<Self, StartError> {
        let ring = build(config, best).map_err(|error| StartError::new("io_uring_setup", error))?;
        if let Some(op) = probe::Listed::ask(&ring).missing() {
            return Err(StartError::unsupported(op));
        }
        let workers = (config.bounded_workers_max.max(1), config.unbounded_workers_max.max(1));
        let workers = if sabotaged(Sabotage::WorkersNotCapped) { (64, 64) } else { workers };
        if let Err(error) = probe::cap_workers(&ring, workers.0, workers.1) {
            tracing::warn!(%error, "the kernel's workers cannot be capped (Linux 5.15)");
        }
        let port = Rc::new(Port::new(ring.cq_entries(), Rc::clone(&counters)));
        Ok(Self {
            ring,
            port,
            counters,
            remote,
            after: Aftermath::default(),
            cancels_in_flight: 0,
            doorbell_armed: false,
            buffers_registered: false,
        })
    }

    pub(crate) fn port(&self) -> &Rc<Port> {
        &self.port
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Registers memory for fixed reads; waits a moment for locked memory to be refunded.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where the limit of locked memory is too low: the caller goes on without.
    pub(crate) fn register_buffers(&mut self, arenas: &[libc::iovec]) -> io::Result<()> {
        with_refund(|| probe::register_buffers(&self.ring, arenas))?;
        self.buffers_registered = true;
        Ok(())
    }

    /// One round: submits what is queued, waits if `patience` says so, records what came back, then
    /// releases and wakes.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be entered for ten seconds on end.
    pub(crate) fn turn(&mut self, patience: Patience) -> io::Result<()> {
        self.counters.turns.bump();
        self.flush_submissions()?;
        let (want, timeout) = match patience {
            Patience::None => (0, None),
            Patience::Until(None) => (1, None),
            Patience::Until(Some(deadline)) => {
                (1, Some(deadline.saturating_duration_since(Instant::now())))
            }
        };
        self.enter(want, timeout)?;
        self.flush_completions();
        Ok(())
    }

    /// Puts everything that waits into the ring.
    ///
    /// The doorbell first, because waiting without it would be deaf. Cancellations last: one that
    /// overtakes its op finds nothing to cancel, and is lost.
    fn flush_submissions(&mut self) -> io::Result<()> {
        let mut refused_since = None;
        if sabotaged(Sabotage::CancelOvertakesOp) {
            self.queue_cancels();
        }
        while !(self.arm_doorbell() && self.queue_submissions() && self.queue_cancels()) {
            // The submission queue is full: hand it over and go on.
            let before = self.ring.unsubmitted();
            self.enter(0, None)?;
            self.flush_completions();
            if self.ring.unsubmitted() < before {
                refused_since = None;
            } else {
                let since = *refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REFUSAL_TIMEOUT {
                    return Err(io::Error::other("the kernel takes no submissions"));
                }
                std::thread::sleep(REFUSAL_PAUSE);
            }
        }
        Ok(())
    }

    /// The doorbell lets other threads wake this one; it is a poll op that is armed again and again.
    /// Like the two below, it returns `false` when the submission queue is full.
    fn arm_doorbell(&mut self) -> bool {
        if !self.doorbell_armed {
            let mut sqe = Sqe::poll(self.remote.bell().as_raw_fd(), READABLE);
            sqe.set_user_data(DOORBELL_TAG);
            self.doorbell_armed = self.ring.push(&sqe);
        }
        self.doorbell_armed
    }

    fn queue_submissions(&mut self) -> bool {
        let port = Rc::clone(&self.port);
        while let Some(pushed) = port.next_submission(|sqe| self.ring.push(sqe)) {
            if !pushed {
                return false;
            }
        }
        true
    }

    /// What exceeds the completions kept for cancellations waits for the next turn, which comes at
    /// once: a cancellation completes when it is submitted.
    fn queue_cancels(&mut self) -> bool {
        while self.cancels_in_flight < RESERVED_COMPLETIONS - 1 {
            let Some(key) = self.port.next_doomed() else { return true };
            let mut sqe = Sqe::cancel(key.tag());
            sqe.set_user_data(CANCEL_TAG);
            if !self.ring.push(&sqe) {
                // Marked again, so that it is not lost: there is room after the next enter.
                if !sabotaged(Sabotage::CancelLostOnFullQueue) {
                    self.port.doom_again(key);
                }
                return false;
            }
            self.cancels_in_flight += 1;
        }
        true
    }

    /// Whether something is left that only another turn does: in the meantime the ring's descriptor
    /// would not tell of it.
    pub(crate) fn needs_turn(&mut self) -> bool {
        !self.doorbell_armed || self.port.has_queued() || self.ring.unsubmitted() > 0
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let mut refused_since = None;
        loop {
            self.counters.enters.bump();
            let error = match self.ring.enter(want, timeout) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match error.raw_os_error() {
                // The timeout has passed, or a signal came: both are ends of the waiting. What was
                // pushed stays the ring's, and goes with the next enter.
                Some(libc::ETIME | libc::EINTR) => return Ok(()),
                // The kernel is short of memory, or completions must be taken first.
                Some(libc::EAGAIN | libc::EBUSY) => self.counters.enters_refused.bump(),
                _ => {
                    self.counters.enters_refused.bump();
                    self.counters.unexpected_errnos.bump();
                }
            }
            // What has completed may be all that the caller waits for.
            if self.flush_completions_silently() > 0 {
                return Ok(());
            }
            let since = *refused_since.get_or_insert_with(Instant::now);
            if since.elapsed() > REFUSAL_TIMEOUT {
                return Err(error);
            }
            std::thread::sleep(REFUSAL_PAUSE);
        }
    }

    fn flush_completions(&mut self) {
        self.flush_completions_silently();
        self.after.settle();
    }

    /// Records what is there and wakes nobody yet. Returns how many completions that were.
    fn flush_completions_silently(&mut self) -> u64 {
        if self.ring.overflown() {
            self.counters.completions_overflowed.bump();
        }
        let Self { ring, port, after, counters, cancels_in_flight, doorbell_armed, .. } = self;
        let mut rung = false;
        let before = counters.completions.value();
        ring.reap(|cqe| {
            counters.completions.bump();
            match cqe.user_data {
                CANCEL_TAG => *cancels_in_flight -= 1,
                DOORBELL_TAG => {
                    *doorbell_armed = sabotaged(Sabotage::DoorbellNotRearmed);
                    rung = true;
                }
                _ => port.record(cqe, after),
            }
        });
        if rung {
            self.remote.silence();
        }
        self.counters.completions.value() - before
    }

    /// Cancels everything and waits until nothing is in flight, or until the timeout has passed.
    /// Returns whether the kernel has let go of all ops.
    pub(crate) fn shut_down(&mut self, timeout: Duration) -> bool {
        let mut again = Instant::now();
        // Beyond what the clock can tell there is no deadline.
        let deadline = again.checked_add(timeout);
        while self.port.in_flight() > 0 {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return false;
            }
            // Again and again, because what is released can start ops, and because a cancellation
            // misses an op that is just on its way from one wait to the next.
            if now >= again {
                self.port.doom_all();
                again = now + SHUTDOWN_PAUSE;
            }
            let until = deadline.map_or(again, |deadline| again.min(deadline));
            if self.turn(Patience::Until(Some(until))).is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.buffers_registered {
            probe::unregister_buffers(&self.ring);
        }
    }
}

/// How long a turn may wait for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until there is one, or until the deadline.
    Until(Option<Instant>),
}

fn build(config: &Config, best: Setup) -> io::Result<Ring> {
    let submissions = config.submission_entries.clamp(8, SUBMISSIONS_MAX).next_power_of_two();
    // The kernel refuses fewer completions than submissions.
    let mut completions = config.completion_entries.max(4 * RESERVED_COMPLETIONS).max(submissions);
    loop {
        match with_refund(|| Ring::build(best, submissions, completions)) {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOMEM)
                    && completions / 2 >= (4 * RESERVED_COMPLETIONS).max(2 * submissions) =>
            {
                completions /= 2;
                tracing::warn!(completions, "locked memory is short: a smaller completion queue");
            }
            other => return other,
        }
    }
}

/// Repeats what fails with `ENOMEM` for about 50 ms, because the refund of a ring's locked memory
/// comes late.
fn with_refund<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..REFUND_TRIES {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                std::thread::sleep(REFUND_PAUSE);
            }
            other => return other,
        }
    }
    attempt()
}
