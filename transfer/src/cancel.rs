//! Cancelling a transfer so that its outcome is exact.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// Cancels the transfers that were given it, from any thread.
///
/// A transfer that is cancelled this way stops what it has under way in the ring, waits for the last
/// completion, and resolves to [`ErrorKind::Cancelled`](crate::error::ErrorKind::Cancelled) with the
/// exact number of bytes that the socket accepted. The stream can be used on. (Dropping the future
/// instead is safe too, but leaves the stream poisoned until it is settled.)
///
/// ```
/// let token = ringway::CancelToken::new();
/// let elsewhere = token.clone();
/// std::thread::spawn(move || elsewhere.cancel()).join().unwrap();
/// assert!(token.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    waiters: Mutex<Waiters>,
}

/// Who waits. Each wait has an entry of its own: two waits of one task have the same waker, and the
/// one that ends must not take the other's along.
#[derive(Default)]
struct Waiters {
    wakers: Vec<(Seat, Waker)>,
    next: u64,
}

/// Names one registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat(u64);

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, for good. Doing it twice is harmless.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut self.waiters().wakers);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Registers for the cancellation. Ask [`Self::is_cancelled`] after it, not before.
    pub(crate) fn register(&self, waker: &Waker) -> Seat {
        let mut waiters = self.waiters();
        let seat = Seat(waiters.next);
        waiters.next += 1;
        waiters.wakers.push((seat, waker.clone()));
        seat
    }

    /// Ends a registration, so that a token that lives long does not gather wakers.
    pub(crate) fn forget(&self, seat: Seat) {
        let mut waiters = self.waiters();
        let place = waiters.wakers.iter().position(|(taken, _)| *taken == seat);
        let waker = place.map(|place| waiters.wakers.swap_remove(place));
        // Dropping a waker may run anything, so not under the lock.
        drop(waiters);
        drop(waker);
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Waiters> {
        self.shared.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn two_waits_of_one_task_do_not_end_each_other() {
        let token = CancelToken::new();
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let (first, second) = (token.register(&waker), token.register(&waker));
        token.forget(first);
        assert_eq!(token.waiters().wakers.len(), 1);
        token.cancel();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "the second is still woken");
        token.forget(second);
        assert_eq!(token.waiters().wakers.len(), 0);
    }

    struct Count(AtomicU32);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}
