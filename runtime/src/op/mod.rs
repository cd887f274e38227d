//! Operations: who owns what while the kernel may touch it.
//!
//! An op begins as a submission and a [`Held`]: the descriptors, buffers, pipes and addresses that
//! the submission points at. Both go into a slot of the [`table`](table::Table) in one step, and
//! from then on the slot owns them. The future that the caller awaits, [`Op`], holds only a key.
//!
//! # In use
//!
//! The submission waits in the outbox until the driver puts it into the ring. The kernel answers
//! with one completion, or with several: a zero-copy send tells first how many bytes it took, and
//! later that it no longer needs the buffer, and a poll that stands tells of each event, until it is
//! cancelled. Each completion is recorded in the slot, together with
//! its [`Effect`] on the things that outlive the op (a socket's count of accepted bytes, what lies
//! in a pipe, a descriptor that was made). The last one makes the slot *terminal*. The future is
//! woken at the first result and takes what the slot held if the slot is terminal, or leaves it
//! there until it is.
//!
//! # Dropped
//!
//! Dropping the future of an op that is still in flight makes the op an *orphan*. Nothing that the
//! kernel may touch is freed. A cancellation is queued, which cannot be lost: it is a mark in a list
//! of this module, not an entry in a submission queue that might be full. Whatever the op still
//! brings is recorded as if someone waited, and then released: an accepted descriptor is closed, a
//! lease returns to its pool, a pipe whose content is uncertain is destroyed, bytes that a socket
//! took are counted. Who must know what became of it names an [`Heir`] before it lets go, which gets
//! the result and what the slot held instead, after the completions are recorded.
//!
//! ```text
//!            submit                    first result            last completion
//!   (none) ─────────▶ in flight ──────────────────▶ early ──────────────────────▶ terminal
//!                        │  future dropped            │ future took the result        │ taken
//!                        ▼                            ▼                               ▼
//!                      orphan ─────────────────────────────── last completion ─────▶ vacant
//! ```
//!
//! # Safety
//!
//! This module is the reason why pushing a submission is sound: an [`crate::sys::sqe::Sqe`] leaves
//! it only after its `Held` went into a slot, and `Held` leaves a slot only after the last
//! completion. If the runtime must end before that, the table is leaked.

mod flow;
mod held;
mod table;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(crate) use flow::Flow;
pub use flow::Torn;
pub(crate) use held::{Effect, Held, Letter};
use table::{Abandoned, Table};
pub(crate) use table::{CANCEL_TAG, DOORBELL_TAG, Key};

use crate::fault::{Sabotage, sabotaged};
use crate::stats::Counters;
use crate::sys::ring::Cqe;
use crate::sys::sqe::Sqe;
use crate::wake::{Crowd, Ticket};

/// Completions kept free for cancellations and for the doorbell.
pub(crate) const RESERVED_COMPLETIONS: u32 = 64;

/// Where ops are handed in, and where their completions are recorded.
pub(crate) struct Port {
    table: RefCell<Table>,
    outbox: RefCell<VecDeque<Sqe>>,
    doomed: RefCell<VecDeque<Key>>,
    room: Crowd,
    completions_max: Cell<u32>,
    counters: Rc<Counters>,
}

impl Port {
    pub(crate) fn new(completions_max: u32, counters: Rc<Counters>) -> Self {
        Self {
            table: RefCell::default(),
            outbox: RefCell::default(),
            doomed: RefCell::default(),
            room: Crowd::default(),
            completions_max: Cell::new(completions_max),
            counters,
        }
    }

    /// Hands an op in. It is admitted at once if the budget of completions allows it, and otherwise
    /// when the future is polled and there is room.
    pub(crate) fn submit(self: &Rc<Self>, sqe: Sqe, held: Held, effect: Effect) -> Op {
        let state = if self.has_room(sqe.completions_max()) {
            State::Submitted(self.start(sqe, held, effect))
        } else {
            let (ticket, cancelled) = (Ticket::default(), false);
            State::Waiting(Box::new(Order { sqe, held, effect, ticket, cancelled }))
        };
        Op { port: Rc::clone(self), state }
    }

    /// Whether an op that can post `completions` more may start now.
    fn has_room(&self, completions: u32) -> bool {
        let due = self.counters.completions_due.value() + u64::from(completions);
        due + u64::from(RESERVED_COMPLETIONS) <= u64::from(self.completions_max.get())
            || sabotaged(Sabotage::CompletionBudgetIgnored)
    }

    fn start(&self, sqe: Sqe, mut held: Held, effect: Effect) -> Key {
        let mut sqe = injected(sqe, &mut held);
        held.depart(effect);
        self.counters.ops_submitted.bump();
        self.counters.ops_in_flight.bump();
        self.counters.completions_due.add(sqe.completions_max().into());
        if sqe.name() == "splice" {
            self.counters.splices_submitted.bump();
        }
        let key = self.table.borrow_mut().insert(held, effect, &sqe);
        sqe.set_user_data(key.tag());
        self.outbox.borrow_mut().push_back(sqe);
        key
    }

    /// The next submission that waits for a place in the ring; `pushed` says that it has found one.
    pub(crate) fn next_submission(&self, push: impl FnOnce(&Sqe) -> bool) -> Option<bool> {
        let mut outbox = self.outbox.borrow_mut();
        let pushed = push(outbox.front()?);
        if pushed {
            outbox.pop_front();
        }
        Some(pushed)
    }

    /// The next op to cancel that is still in flight.
    pub(crate) fn next_doomed(&self) -> Option<Key> {
        let mut doomed = self.doomed.borrow_mut();
        while let Some(key) = doomed.pop_front() {
            if self.table.borrow().is_in_flight(key) {
                return Some(key);
            }
        }
        None
    }

    /// Queues a cancellation of an op.
    fn doom(&self, key: Key) {
        self.doomed.borrow_mut().push_back(key);
        self.counters.cancels.bump();
    }

    /// Puts a cancellation that found no place back to the front.
    pub(crate) fn doom_again(&self, key: Key) {
        self.doomed.borrow_mut().push_front(key);
    }

    /// Queues a cancellation of everything that is in flight.
    pub(crate) fn doom_all(&self) {
        let keys = self.table.borrow().in_flight();
        for key in keys {
            self.doom(key);
        }
    }

    /// Records a completion. What must be woken or released is put into `after`: nothing of the
    /// caller's runs in here.
    pub(crate) fn record(&self, cqe: Cqe, after: &mut Aftermath) {
        let Some(news) = self.table.borrow_mut().record(cqe, after) else {
            self.counters.completions_stale.bump();
            return;
        };
        if news.copied {
            self.counters.zero_copy_copied.bump();
        }
        if !sabotaged(Sabotage::PlaceHeldUntilPolled) {
            self.counters.completions_due.sub(news.completions_retired.into());
        }
        if news.terminal {
            self.counters.ops_in_flight.sub(1);
            self.counters.ops_completed.bump();
            if news.orphan {
                self.counters.ops_orphaned.sub(1);
            }
            after.wakers.extend(self.room.leave());
        }
    }

    /// Whether submissions or cancellations wait for the driver.
    pub(crate) fn has_queued(&self) -> bool {
        !self.outbox.borrow().is_empty() || !self.doomed.borrow().is_empty()
    }

    /// Ops that the kernel may still complete.
    pub(crate) fn in_flight(&self) -> u64 {
        self.counters.ops_in_flight.value()
    }

    /// Gives up on all ops: what they hold is leaked, since the kernel may still use it.
    pub(crate) fn leak(&self) {
        std::mem::forget(self.table.take());
        std::mem::forget(self.outbox.take());
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// What to do once the completions are recorded, in this order.
#[derive(Default)]
pub(crate) struct Aftermath {
    /// What orphans have brought for those who were named when they were let go.
    pub(crate) inherited: Vec<(Heir, Outcome)>,
    /// Things that orphans held and that nobody wants any more.
    pub(crate) released: Vec<(Held, Option<OwnedFd>)>,
    /// Who waits for one of the results.
    pub(crate) wakers: Vec<Waker>,
}

impl Aftermath {
    /// Hands over, releases, then wakes. The vectors keep their capacity.
    pub(crate) fn settle(&mut self) {
        for (heir, outcome) in self.inherited.drain(..) {
            heir(outcome);
        }
        self.released.clear();
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

/// What an op brought back.
pub(crate) struct Outcome {
    /// The result of the call: bytes moved, or events seen, or nothing of meaning.
    pub(crate) result: io::Result<u32>,
    /// What the op held; empty if the kernel still needs it.
    pub(crate) held: Held,
    /// The descriptor that the op made.
    pub(crate) opened: Option<OwnedFd>,
    /// The op stands, and brings another result: the future can be awaited again.
    pub(crate) more: bool,
}

/// Who gets the outcome of an op that nobody awaits any more. It runs on the ring's thread, and does
/// not wait.
pub(crate) type Heir = Box<dyn FnOnce(Outcome)>;

/// The future of one op. Dropping it makes the op an orphan; see the module's text.
pub(crate) struct Op {
    port: Rc<Port>,
    state: State,
}

enum State {
    /// There was no room among the completions yet.
    Waiting(Box<Order>),
    Submitted(Key),
    Done,
}

/// An op that waits for room: rare, so it may cost an allocation, and the future stays small.
struct Order {
    sqe: Sqe,
    held: Held,
    effect: Effect,
    ticket: Ticket,
    cancelled: bool,
}

impl Op {
    /// Asks the kernel to cancel the op. The future goes on until the last completion, and so
    /// resolves to what really happened. An op that was not handed to the kernel yet just ends.
    pub(crate) fn cancel(&mut self) {
        match &mut self.state {
            State::Submitted(key) => self.port.doom(*key),
            State::Waiting(order) => order.cancelled = true,
            State::Done => {}
        }
    }

    /// Cancels the op and lets go of it: the heir gets its outcome and all that it held, at once if
    /// the op is over or was not handed to the kernel yet, and otherwise after its last completion.
    pub(crate) fn abandon_to(mut self, heir: impl FnOnce(Outcome) + 'static) {
        if let State::Waiting(order) = &mut self.state {
            order.cancelled = true;
        }
        match Pin::new(&mut self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => heir(outcome),
            Poll::Pending => {
                if let State::Submitted(key) = self.state {
                    self.port.table.borrow_mut().bequeath(key, Box::new(heir));
                }
            }
        }
    }

    fn admit(&mut self) -> bool {
        let State::Waiting(order) = &self.state else { return true };
        if !self.port.has_room(order.sqe.completions_max()) {
            return false;
        }
        if let State::Waiting(order) = std::mem::replace(&mut self.state, State::Done) {
            let Order { sqe, held, effect, .. } = *order;
            self.state = State::Submitted(self.port.start(sqe, held, effect));
        }
        true
    }
}

impl Future for Op {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if let State::Waiting(order) = &mut self.state
            && order.cancelled
        {
            let held = std::mem::take(&mut order.held);
            self.state = State::Done;
            let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
            return Poll::Ready(Outcome { result, held, opened: None, more: false });
        }
        if !self.admit() {
            let Self { port, state } = &mut *self;
            if let State::Waiting(order) = state
                && port.room.join(&mut order.ticket, context.waker())
            {
                port.counters.ops_waited.bump();
            }
            return Poll::Pending;
        }
        let State::Submitted(key) = self.state else {
            return Poll::Ready(Outcome {
                result: Err(io::Error::other("an op was polled after it had completed")),
                held: Held::default(),
                opened: None,
                more: false,
            });
        };
        let answer = self.port.table.borrow_mut().take(key, context.waker());
        match answer {
            Ok(outcome) if outcome.more => Poll::Ready(outcome),
            Ok(outcome) => {
                self.state = State::Done;
                if sabotaged(Sabotage::PlaceHeldUntilPolled) {
                    self.port.counters.completions_due.sub(1);
                }
                Poll::Ready(outcome)
            }
            Err(_waker_of_before) => Poll::Pending,
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        let State::Submitted(key) = self.state else { return };
        // Dropped at the end of this function, when nothing is borrowed.
        let abandoned = self.port.table.borrow_mut().abandon(key);
        if let Abandoned::Orphan(_) = abandoned {
            self.port.counters.ops_orphaned.bump();
            self.port.doom(key);
        }
    }
}

#[cfg(feature = "fault")]
fn injected(mut sqe: Sqe, held: &mut Held) -> Sqe {
    match crate::fault::next(sqe.name()) {
        Some(crate::fault::Fault::Errno(errno)) => sqe.inject(-errno),
        Some(crate::fault::Fault::Short(len)) => match &mut held.vector {
            Some(vector) => {
                vector.shorten(len);
                sqe.set_parts(vector.parts().1);
            }
            None => sqe.shorten(len),
        },
        None => {}
    }
    sqe
}

#[cfg(not(feature = "fault"))]
fn injected(sqe: Sqe, _held: &mut Held) -> Sqe {
    sqe
}
