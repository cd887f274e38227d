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
    waiters: Mutex<Vec<Waker>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, for good. Doing it twice is harmless.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        let waiters = std::mem::take(&mut *self.waiters());
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Registers for the cancellation; `true` if it has happened already.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        {
            let mut waiters = self.waiters();
            if !waiters.iter().any(|known| known.will_wake(waker)) {
                waiters.push(waker.clone());
            }
        }
        self.is_cancelled()
    }

    /// Ends a registration, so that a token that lives long does not gather wakers.
    pub(crate) fn forget(&self, waker: &Waker) {
        self.waiters().retain(|known| !known.will_wake(waker));
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
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
    fn a_waker_is_kept_once_and_can_be_forgotten() {
        let token = CancelToken::new();
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        assert!(!token.register(&waker));
        assert!(!token.register(&waker));
        assert_eq!(token.waiters().len(), 1);
        token.forget(&waker);
        assert_eq!(token.waiters().len(), 0);
        assert!(!token.register(&waker));
        token.cancel();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(token.register(&waker));
    }

    struct Count(AtomicU32);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}
