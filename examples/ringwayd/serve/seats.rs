//! The seats of one thread: who is connected, until when each may wait, and who is asked to leave.
//!
//! A timer for each connection would be set and removed with every request. Here a deadline is a
//! store into the seat, and one task looks over all seats once a second; a timeout comes up to that
//! second late, which no client notices.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use ringway::CancelToken;

/// Why a connection is to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// Its deadline has passed.
    Expired,
    /// The daemon ends.
    Stopping,
}

/// All seats of a thread. They are given out one by one, and never more than there are.
#[derive(Debug)]
pub(crate) struct Seats {
    taken: RefCell<Vec<Rc<Place>>>,
    seats_max: usize,
    stopping: Cell<bool>,
    /// Those who wait for a free seat, for the stop, or for the last one to leave.
    watchers: RefCell<Vec<Waker>>,
}

/// The part of a seat that is reached from both sides.
#[derive(Debug)]
struct Place {
    index: Cell<usize>,
    deadline: Cell<Option<Instant>>,
    idle: Cell<bool>,
    interrupt: Cell<Option<Interrupt>>,
    waker: RefCell<Option<Waker>>,
    transfers: RefCell<Option<CancelToken>>,
}

impl Seats {
    pub(crate) fn new(seats_max: usize) -> Rc<Seats> {
        Rc::new(Seats {
            taken: RefCell::default(),
            seats_max,
            stopping: Cell::new(false),
            watchers: RefCell::default(),
        })
    }

    /// Takes a seat, and waits for one if all are taken.
    pub(crate) async fn take(self: &Rc<Self>) -> Seat {
        self.watch(|seats| {
            let mut taken = seats.taken.borrow_mut();
            (taken.len() < seats.seats_max).then(|| {
                let place = Rc::new(Place {
                    index: Cell::new(taken.len()),
                    deadline: Cell::new(None),
                    idle: Cell::new(false),
                    interrupt: Cell::new(None),
                    waker: RefCell::new(None),
                    transfers: RefCell::new(None),
                });
                taken.push(Rc::clone(&place));
                Seat { seats: Rc::clone(seats), place }
            })
        })
        .await
    }

    /// Runs a future until it resolves, or until the thread is to stop while it is pending.
    pub(crate) async fn unless_stopping<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.stopping.get() => Poll::Ready(None),
            Poll::Pending => {
                self.register(context.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// Resolves when nobody is connected any more.
    pub(crate) async fn emptied(self: &Rc<Self>) {
        self.watch(|seats| seats.taken.borrow().is_empty().then_some(())).await;
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.borrow().len()
    }

    /// Whether no further request is to be waited for.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Asks those to leave who wait for a request, and tells the others when they come to wait.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        for place in self.taken.borrow().iter().filter(|place| place.idle.get()) {
            place.call(Interrupt::Stopping);
        }
        self.wake_watchers();
    }

    /// Ends everything that still waits or transfers.
    pub(crate) fn evict(&self) {
        for place in self.taken.borrow().iter() {
            place.call(Interrupt::Stopping);
            if let Some(transfers) = &*place.transfers.borrow() {
                transfers.cancel();
            }
        }
    }

    /// Calls those whose time is up.
    pub(crate) fn expire(&self, now: Instant) {
        for place in self.taken.borrow().iter() {
            if place.deadline.get().is_some_and(|deadline| deadline <= now) {
                place.deadline.set(None);
                place.call(Interrupt::Expired);
            }
        }
    }

    async fn watch<T>(self: &Rc<Self>, look: impl Fn(&Rc<Self>) -> Option<T>) -> T {
        poll_fn(|context| match look(self) {
            Some(seen) => Poll::Ready(seen),
            None => {
                self.register(context.waker());
                Poll::Pending
            }
        })
        .await
    }

    fn register(&self, waker: &Waker) {
        let mut watchers = self.watchers.borrow_mut();
        if !watchers.iter().any(|known| known.will_wake(waker)) {
            watchers.push(waker.clone());
        }
    }

    fn wake_watchers(&self) {
        let watchers = std::mem::take(&mut *self.watchers.borrow_mut());
        watchers.into_iter().for_each(Waker::wake);
    }
}

impl Place {
    fn call(&self, interrupt: Interrupt) {
        self.interrupt.set(Some(interrupt));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The right of one connection to be served. Dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Rc<Seats>,
    place: Rc<Place>,
}

impl Seat {
    /// From now on the connection may wait until `deadline`, however often it does.
    pub(crate) fn allow_until(&self, deadline: Instant) {
        self.place.deadline.set(Some(deadline));
        if self.place.interrupt.get() == Some(Interrupt::Expired) {
            self.place.interrupt.set(None);
        }
    }

    /// Nothing is waited for here: what runs now keeps its time itself.
    pub(crate) fn allow_all(&self) {
        self.place.deadline.set(None);
    }

    /// Waits for a future within the time that was allowed. What is there already comes first.
    pub(crate) async fn wait<F: Future>(&self, future: F) -> Result<F::Output, Interrupt> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if let Some(interrupt) = self.place.interrupt.get() {
                return Poll::Ready(Err(interrupt));
            }
            let mut waker = self.place.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The same while no request has begun: a daemon that ends does not wait for one.
    pub(crate) async fn wait_idle<F: Future>(&self, future: F) -> Result<F::Output, Interrupt> {
        if self.seats.stopping() {
            self.place.call(Interrupt::Stopping);
        }
        self.place.idle.set(true);
        let outcome = self.wait(future).await;
        self.place.idle.set(false);
        // It was meant for one who waits for nothing; a request that has come after all has time.
        self.place.interrupt.set(None);
        outcome
    }

    /// Says by which token the transfers of this connection can be ended.
    pub(crate) fn transfers_by(&self, token: Option<CancelToken>) {
        *self.place.transfers.borrow_mut() = token;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.borrow_mut();
        let index = self.place.index.get();
        taken.swap_remove(index);
        if let Some(moved) = taken.get(index) {
            moved.index.set(index);
        }
        let (left, full_before) = (taken.len(), taken.len() + 1 == self.seats.seats_max);
        drop(taken);
        if full_before || left == 0 {
            self.seats.wake_watchers();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Pending, pending, ready};
    use std::time::Duration;

    use super::*;

    /// Polls a future once with a waker that wakes nobody.
    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(Waker::noop()))
    }

    fn take(seats: &Rc<Seats>) -> Option<Seat> {
        match poll(pin!(seats.take())) {
            Poll::Ready(seat) => Some(seat),
            Poll::Pending => None,
        }
    }

    fn never() -> Pending<()> {
        pending()
    }

    #[test]
    fn there_are_no_more_seats_than_allowed() {
        let seats = Seats::new(2);
        let (first, second) = (take(&seats).unwrap(), take(&seats).unwrap());
        assert!(take(&seats).is_none());
        drop(first);
        let third = take(&seats).unwrap();
        assert!(take(&seats).is_none());
        drop((second, third));
        assert!(poll(pin!(seats.emptied())).is_ready());
    }

    #[test]
    fn a_deadline_interrupts_what_is_pending_and_nothing_else() {
        let seats = Seats::new(1);
        let seat = take(&seats).unwrap();
        let now = Instant::now();
        seat.allow_until(now);
        {
            let mut waiting = pin!(seat.wait(never()));
            assert!(poll(waiting.as_mut()).is_pending());
            seats.expire(now);
            assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(Interrupt::Expired)));
        }
        assert_eq!(
            poll(pin!(seat.wait(ready(7)))),
            Poll::Ready(Ok(7)),
            "what is there comes first"
        );
        seat.allow_until(now + Duration::from_secs(1));
        seats.expire(now);
        assert!(poll(pin!(seat.wait(never()))).is_pending(), "there is time again");
        seat.allow_all();
        seats.expire(now + Duration::from_secs(9));
        assert!(poll(pin!(seat.wait(never()))).is_pending());
    }

    #[test]
    fn a_stop_ends_the_idle_and_eviction_the_rest() {
        let seats = Seats::new(3);
        let (busy, idle) = (take(&seats).unwrap(), take(&seats).unwrap());
        let token = CancelToken::new();
        busy.transfers_by(Some(token.clone()));
        let mut working = pin!(busy.wait(never()));
        let mut waiting = pin!(idle.wait_idle(never()));
        let mut accepting = pin!(seats.unless_stopping(never()));
        assert!(poll(working.as_mut()).is_pending() && poll(waiting.as_mut()).is_pending());
        assert!(poll(accepting.as_mut()).is_pending());
        seats.stop();
        assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(Interrupt::Stopping)));
        assert_eq!(poll(accepting.as_mut()), Poll::Ready(None));
        assert!(poll(working.as_mut()).is_pending() && !token.is_cancelled());
        seats.evict();
        assert_eq!(poll(working.as_mut()), Poll::Ready(Err(Interrupt::Stopping)));
        assert!(token.is_cancelled());
    }

    #[test]
    fn leaving_in_any_order_keeps_the_others_in_place() {
        let seats = Seats::new(9);
        let mut taken: Vec<_> = (0..9).map(|_| take(&seats).unwrap()).collect();
        for index in [0, 7, 3, 0, 4, 1, 2, 1, 0] {
            drop(taken.swap_remove(index));
            let listed = seats.taken.borrow();
            assert_eq!(listed.len(), taken.len());
            for (index, place) in listed.iter().enumerate() {
                assert_eq!(place.index.get(), index);
                assert!(taken.iter().any(|seat| Rc::ptr_eq(&seat.place, place)));
            }
        }
    }
}
