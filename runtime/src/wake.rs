//! Waking a ring: cheap on its own thread, by a doorbell from any other.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use crate::local;
use crate::sys::thread;

/// Names a task of one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskId {
    pub(crate) index: usize,
    pub(crate) generation: u64,
}

impl TaskId {
    /// The future that `block_on` runs.
    pub(crate) const MAIN: Self = Self { index: usize::MAX, generation: 0 };
}

/// Work that another thread hands to the ring's thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The part of a ring that other threads can reach.
pub(crate) struct Remote {
    bell: OwnedFd,
    /// The ring's thread waits, or will not look by itself: ring the bell.
    asleep: AtomicBool,
    pending: AtomicBool,
    inbox: Mutex<Inbox>,
    wakes: AtomicU64,
}

/// What other threads have left for the ring.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) tasks: Vec<TaskId>,
    pub(crate) jobs: Vec<Job>,
    /// The ring is gone: nothing is taken any more.
    closed: bool,
}

impl Remote {
    pub(crate) fn new() -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bell: thread::doorbell()?,
            asleep: AtomicBool::new(true),
            pending: AtomicBool::new(false),
            inbox: Mutex::default(),
            wakes: AtomicU64::new(0),
        }))
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(crate) fn silence(&self) {
        thread::silence_doorbell(self.bell());
    }

    /// Leaves something for the ring. `false` if the ring is gone.
    pub(crate) fn leave(&self, put: impl FnOnce(&mut Inbox)) -> bool {
        match self.inbox.lock() {
            Ok(mut inbox) if !inbox.closed => put(&mut inbox),
            _ => return false,
        }
        self.pending.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            thread::ring_doorbell(self.bell());
        }
        true
    }

    /// Takes what was left.
    pub(crate) fn collect(&self) -> Inbox {
        if !self.pending.swap(false, Ordering::SeqCst) {
            return Inbox::default();
        }
        self.inbox.lock().map(|mut inbox| inbox.take()).unwrap_or_default()
    }

    /// The thread is about to wait. `false` if something came in the meantime.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        !self.pending.load(Ordering::SeqCst)
    }

    pub(crate) fn stay_awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// The ring ends: what is left is given back to be dropped, and nothing is taken any more.
    pub(crate) fn close(&self) -> Inbox {
        self.inbox
            .lock()
            .map(|mut inbox| {
                inbox.closed = true;
                inbox.take()
            })
            .unwrap_or_default()
    }

    /// Times the bell was rung.
    pub(crate) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }
}

impl Inbox {
    fn take(&mut self) -> Self {
        Self {
            tasks: std::mem::take(&mut self.tasks),
            jobs: std::mem::take(&mut self.jobs),
            closed: self.closed,
        }
    }
}

/// The waker of one task.
pub(crate) struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    remote: Arc<Remote>,
}

impl TaskWaker {
    pub(crate) fn new(id: TaskId, remote: Arc<Remote>) -> Arc<Self> {
        Arc::new(Self { id, queued: AtomicBool::new(false), remote })
    }

    /// The task is about to run: a wake from now on queues it again.
    ///
    /// It acquires, because a wake that found the task queued did nothing else: what was written
    /// before that wake must be seen by the run that follows.
    pub(crate) fn running(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let here = local::with(|local| {
            let ours = Arc::ptr_eq(&local.remote, &self.remote);
            if ours {
                local.tasks.make_ready(self.id);
            }
            ours
        });
        if here != Some(true) {
            self.remote.leave(|inbox| inbox.tasks.push(self.id));
        }
    }
}

/// Those who wait for something that is short. All are woken together, because one that is woken
/// and then dropped, or never polled again, would swallow the only wake.
#[derive(Default)]
pub(crate) struct Crowd {
    wakers: RefCell<Vec<Waker>>,
    round: Cell<u64>,
}

/// What a waiter remembers of having joined a [`Crowd`]: the round, and its place in it.
#[derive(Default)]
pub(crate) struct Ticket(Option<(u64, usize)>);

impl Crowd {
    /// Joins, or renews the waker if the ticket is of this round: a future that is polled again and
    /// again while it waits must not fill the memory with its wakers. Returns whether this is the
    /// first time that it waits.
    pub(crate) fn join(&self, ticket: &mut Ticket, waker: &Waker) -> bool {
        let first = ticket.0.is_none();
        let waker = waker.clone();
        let mut wakers = self.wakers.borrow_mut();
        let place = ticket.0.filter(|(round, _)| *round == self.round.get());
        // Dropped when nothing is borrowed any more: it may be the last of what it wakes.
        let _old = match place.and_then(|(_, place)| wakers.get_mut(place)) {
            Some(known) => Some(std::mem::replace(known, waker)),
            None => {
                ticket.0 = Some((self.round.get(), wakers.len()));
                wakers.push(waker);
                None
            }
        };
        drop(wakers);
        first
    }

    /// Takes everybody out, to be woken.
    pub(crate) fn leave(&self) -> Vec<Waker> {
        self.round.set(self.round.get() + 1);
        self.wakers.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_holds_one_waker_for_each_waiter() {
        let crowd = Crowd::default();
        let mut ticket = Ticket::default();
        assert!(crowd.join(&mut ticket, Waker::noop()));
        assert!(!crowd.join(&mut ticket, Waker::noop()));
        assert_eq!(crowd.leave().len(), 1);
        assert!(!crowd.join(&mut ticket, Waker::noop()));
        assert_eq!(crowd.leave().len(), 1, "it joins again after each waking");
    }
}
