//! The sending side of a stream socket: how many bytes it has accepted, and whether that is known.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Waker;

/// A transfer out of this stream was dropped in the middle. Nothing more is received until
/// [`Stream::settle_received`](crate::net::Stream::settle_received) has told how much it had taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn;

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a transfer out of this stream was dropped in the middle: call settle_received(), which \
             tells how many bytes it had taken, before receiving anything else",
        )
    }
}

impl std::error::Error for Torn {}

/// A stream socket with an exact count of the bytes that it has taken.
///
/// A stream is *poisoned* when a transfer was dropped in the middle: the peer has seen part of a
/// body, and ops may still add to it. Nothing more may be sent until somebody has asked how much
/// that was.
pub(crate) struct Flow {
    socket: OwnedFd,
    accepted: AtomicU64,
    in_flight: AtomicU32,
    poisoned: AtomicBool,
    /// Where the transfer that was dropped began, on the scale of `accepted`.
    began: AtomicU64,
    /// Zero-copy sends that the kernel copied after all.
    copied: AtomicU64,
    /// The kernel copies zero-copy sends on this connection: not tried again.
    copies_anyway: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
    /// Whether the peer is known to be on this host; asked for once.
    same_host: OnceLock<bool>,
    /// Whether its congestion control paces; asked for once, and after every change.
    paced: Mutex<Option<bool>>,
    /// The last receive took all there was: wait before the next one.
    dry: AtomicBool,
    /// Bytes that were taken out of the socket.
    received: AtomicU64,
    /// Where the receiving transfer that was dropped began on that scale, and that there is one.
    torn: Mutex<Option<u64>>,
}

impl Flow {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            accepted: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            poisoned: AtomicBool::new(false),
            began: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            copies_anyway: AtomicBool::new(false),
            waiters: Mutex::default(),
            same_host: OnceLock::new(),
            paced: Mutex::new(None),
            dry: AtomicBool::new(false),
            received: AtomicU64::new(0),
            torn: Mutex::new(None),
        }
    }

    /// Bytes that were taken out of the socket since it was made.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Counts what a receive has brought.
    pub(crate) fn counted(&self, received: io::Result<usize>) -> io::Result<usize> {
        if let Ok(bytes) = received {
            self.received.fetch_add(bytes as u64, Ordering::AcqRel);
        }
        received
    }

    /// A transfer out of this stream, which began at `began`, was dropped: what follows in the
    /// socket is the middle of something.
    pub(crate) fn tear(&self, began: u64) {
        if let Ok(mut torn) = self.torn.lock() {
            torn.get_or_insert(began);
        }
    }

    /// Refuses a receive from the middle of something.
    pub(crate) fn may_receive(&self) -> io::Result<()> {
        match self.torn.lock().map(|torn| *torn) {
            Ok(None) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::ConnectionAborted, Torn)),
        }
    }

    /// Ends that state, and tells how many bytes the transfer had taken.
    pub(crate) fn mend(&self) -> u64 {
        let began = self.torn.lock().ok().and_then(|mut torn| torn.take());
        began.map_or(0, |began| self.received().saturating_sub(began))
    }

    /// Bytes that the socket has accepted since it was made.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    pub(crate) fn accept(&self, bytes: u64) {
        self.accepted.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn departed(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn arrived(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether no send is in flight, so that the count is exact.
    pub(crate) fn is_exact(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    pub(crate) fn poison(&self, began: u64) {
        self.began.store(began, Ordering::Release);
        self.poisoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Ends the poisoning and tells how many bytes went out since the transfer began; 0 if it was
    /// dropped before anything could, which poisons nothing.
    pub(crate) fn forgive(&self) -> u64 {
        if !self.poisoned.swap(false, Ordering::AcqRel) {
            return 0;
        }
        self.accepted() - self.began.load(Ordering::Acquire).min(self.accepted())
    }

    pub(crate) fn copies_anyway(&self) -> bool {
        self.copies_anyway.load(Ordering::Relaxed)
    }

    pub(crate) fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// A zero-copy send was copied after all: not worth trying again.
    pub(crate) fn count_copied(&self) {
        self.copied.fetch_add(1, Ordering::Relaxed);
        self.set_copies_anyway();
    }

    pub(crate) fn set_copies_anyway(&self) {
        self.copies_anyway.store(true, Ordering::Relaxed);
    }

    pub(crate) fn same_host(&self, ask: impl FnOnce() -> bool) -> bool {
        *self.same_host.get_or_init(ask)
    }

    pub(crate) fn paced(&self, ask: impl FnOnce() -> bool) -> bool {
        *self.paced.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(ask)
    }

    /// The congestion control is another one from now on.
    pub(crate) fn forget_paced(&self) {
        *self.paced.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn is_dry(&self) -> bool {
        self.dry.load(Ordering::Relaxed)
    }

    pub(crate) fn set_dry(&self, dry: bool) {
        self.dry.store(dry, Ordering::Relaxed);
    }

    /// Registers for the moment when no send is in flight any more. Who is polled again while it
    /// waits is registered already.
    pub(crate) fn wake_when_exact(&self, waker: &Waker) {
        if let Ok(mut waiters) = self.waiters.lock()
            && !waiters.iter().any(|known| known.will_wake(waker))
        {
            waiters.push(waker.clone());
        }
    }

    /// Moves those who wait into `wakers`, if their moment has come.
    pub(super) fn collect_waiters(&self, wakers: &mut Vec<Waker>) {
        if self.is_exact()
            && let Ok(mut waiters) = self.waiters.lock()
        {
            wakers.append(&mut waiters);
        }
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_an_exact_count_is_registered_once() {
        let flow = Flow::new(std::fs::File::open("/dev/null").unwrap().into());
        flow.departed();
        // A clone, as what is stored is: the table of the original can be another copy of the same one.
        let waker = Waker::noop().clone();
        (0..1000).for_each(|_| flow.wake_when_exact(&waker));
        flow.arrived();
        let mut wakers = Vec::new();
        flow.collect_waiters(&mut wakers);
        assert_eq!(wakers.len(), 1);
    }

    #[test]
    fn forgiving_tells_what_went_out_since_the_transfer_began() {
        let flow = Flow::new(std::fs::File::open("/dev/null").unwrap().into());
        flow.accept(100);
        flow.departed();
        flow.poison(flow.accepted());
        assert!(flow.is_poisoned() && !flow.is_exact());
        flow.accept(7);
        flow.arrived();
        assert!(flow.is_exact());
        assert_eq!(flow.forgive(), 7);
        assert!(!flow.is_poisoned());
        flow.accept(3);
        assert_eq!(flow.forgive(), 0, "what another transfer sent is not counted again");
    }
}
