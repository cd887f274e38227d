//! Tasks of one ring: storage, readiness, joining. Single-threaded; see [`crate::Runtime`].

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::local;
use crate::stats::Counters;
use crate::wake::{Remote, TaskId, TaskWaker};

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Seat {
    generation: u64,
    /// Absent while it runs.
    task: Option<Task>,
    waker: Arc<TaskWaker>,
}

/// The tasks of one ring.
pub(crate) struct Tasks {
    seats: RefCell<Slab<Seat>>,
    ready: RefCell<VecDeque<TaskId>>,
    /// Those who gave way: they are woken when the ring has had its turn.
    yielded: RefCell<Vec<Waker>>,
    main_ready: Cell<bool>,
    generation: Cell<u64>,
    remote: Arc<Remote>,
    counters: Rc<Counters>,
}

impl Tasks {
    pub(crate) fn new(remote: Arc<Remote>, counters: Rc<Counters>) -> Self {
        Self {
            seats: RefCell::default(),
            ready: RefCell::default(),
            yielded: RefCell::default(),
            main_ready: Cell::new(false),
            generation: Cell::new(0),
            remote,
            counters,
        }
    }

    pub(crate) fn make_ready(&self, id: TaskId) {
        if id == TaskId::MAIN {
            self.main_ready.set(true);
        } else {
            self.ready.borrow_mut().push_back(id);
        }
    }

    /// Whether the main future was woken; asking clears it.
    pub(crate) fn take_main_ready(&self) -> bool {
        self.main_ready.replace(false)
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.main_ready.get()
            || !self.ready.borrow().is_empty()
            || !self.yielded.borrow().is_empty()
    }

    /// Wakes in the next turn, behind whoever is ready then.
    fn wake_next_turn(&self, waker: Waker) {
        self.yielded.borrow_mut().push(waker);
    }

    fn wake_yielded(&self) {
        let mut yielded = self.yielded.take();
        yielded.drain(..).for_each(Waker::wake);
        // The memory is kept for the next ones, unless waking has brought some already.
        let mut kept = self.yielded.borrow_mut();
        if kept.is_empty() {
            *kept = yielded;
        }
    }

    /// Starts a task; it runs in this turn or the next.
    pub(crate) fn spawn<F: Future + 'static>(self: &Rc<Self>, future: F) -> JoinHandle<F::Output> {
        let shared = Rc::new(RefCell::new(Joint { outcome: None, ended: false, waker: None }));
        let verdict = Verdict { shared: Rc::clone(&shared) };
        let counters = Rc::clone(&self.counters);
        self.counters.tasks.bump();
        let future = CatchPanic { future: Some(Box::pin(future)) };
        let task: Task = Box::pin(async move {
            let outcome = future.await;
            if outcome.is_err() {
                counters.tasks_panicked.bump();
            }
            verdict.give(outcome);
        });
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let mut seats = self.seats.borrow_mut();
        let entry = seats.vacant_entry();
        let id = TaskId { index: entry.key(), generation };
        let waker = TaskWaker::new(id, Arc::clone(&self.remote));
        let wake = Waker::from(Arc::clone(&waker));
        entry.insert(Seat { generation, task: Some(task), waker });
        drop(seats);
        wake.wake();
        JoinHandle { id, tasks: Rc::downgrade(self), shared }
    }

    /// Runs up to `limit` ready tasks.
    pub(crate) fn run(&self, limit: u32) {
        self.wake_yielded();
        for _ in 0..limit {
            let Some(id) = self.ready.borrow_mut().pop_front() else { return };
            self.run_one(id);
        }
    }

    fn run_one(&self, id: TaskId) {
        let taken = {
            let mut seats = self.seats.borrow_mut();
            let seat = seats.get_mut(id.index).filter(|seat| seat.generation == id.generation);
            seat.and_then(|seat| Some((seat.task.take()?, Arc::clone(&seat.waker))))
        };
        let Some((mut task, waker)) = taken else { return };
        waker.running();
        self.counters.task_polls.bump();
        let wake = Waker::from(waker);
        let done = task.as_mut().poll(&mut Context::from_waker(&wake)).is_ready();
        let mut seats = self.seats.borrow_mut();
        // The seat is gone if the task was aborted while it ran.
        let seat = seats.get_mut(id.index).filter(|seat| seat.generation == id.generation);
        if let (false, Some(seat)) = (done, seat) {
            seat.task = Some(task);
            return;
        }
        if done && seats.get(id.index).is_some_and(|seat| seat.generation == id.generation) {
            seats.remove(id.index);
            self.counters.tasks.sub(1);
        }
        drop(seats);
        self.discard(task);
    }

    /// Drops a task. A panic of what it drops ends here, as one of its own does: the ring goes on.
    fn discard(&self, task: Task) {
        if catch_unwind(AssertUnwindSafe(|| drop(task))).is_err() {
            self.counters.tasks_panicked.bump();
        }
    }

    fn abort(&self, id: TaskId) {
        let seat = {
            let mut seats = self.seats.borrow_mut();
            let present = seats.get(id.index).is_some_and(|seat| seat.generation == id.generation);
            present.then(|| seats.remove(id.index))
        };
        if let Some(seat) = seat {
            self.counters.tasks.sub(1);
            seat.task.into_iter().for_each(|task| self.discard(task));
        }
    }

    /// Drops every task, and the ones that they start while being dropped.
    pub(crate) fn clear(&self) {
        loop {
            let seats = self.seats.take();
            if seats.is_empty() {
                break;
            }
            self.counters.tasks.sub(seats.len() as u64);
            let tasks = seats.into_iter().filter_map(|(_, seat)| seat.task);
            tasks.for_each(|task| self.discard(task));
        }
        self.ready.borrow_mut().clear();
        drop(self.yielded.take());
    }
}

/// Starts a task on the ring of this thread.
///
/// The task is dropped with the runtime if it has not ended by then.
///
/// # Panics
///
/// When the caller is not inside of a ring.
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    let handle = local::with(|local| local.tasks.spawn(future));
    handle.expect("spawn must be called inside of a ring: see Runtime::spawn")
}

/// Lets the other tasks of this ring run first, those too for which the kernel has news by now.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        // Woken at once it would run again in this very turn, and again, and the ring would wait.
        let waker = context.waker().clone();
        let deferred = local::with(|local| local.tasks.wake_next_turn(waker));
        if deferred.is_none() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

struct Joint<T> {
    outcome: Option<Result<T, JoinError>>,
    /// The outcome was given, whether or not it was taken since.
    ended: bool,
    waker: Option<Waker>,
}

/// The duty of a task to tell how it ended. A task that is dropped tells that it was aborted.
struct Verdict<T> {
    shared: Rc<RefCell<Joint<T>>>,
}

impl<T> Verdict<T> {
    fn give(&self, outcome: Result<T, JoinError>) {
        let waker = {
            let mut joint = self.shared.borrow_mut();
            if joint.ended {
                return;
            }
            joint.ended = true;
            joint.outcome = Some(outcome);
            joint.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Verdict<T> {
    fn drop(&mut self) {
        self.give(Err(JoinError::Aborted));
    }
}

/// Waits for a task. Dropping it lets the task run on.
pub struct JoinHandle<T> {
    id: TaskId,
    tasks: Weak<Tasks>,
    shared: Rc<RefCell<Joint<T>>>,
}

impl<T> JoinHandle<T> {
    /// Whether the task has ended and its result was not taken yet.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shared.borrow().outcome.is_some()
    }

    /// Drops the task where it stands, or, if it aborts itself, when it next waits. Awaiting the
    /// handle then gives [`JoinError::Aborted`], unless the task had ended before.
    pub fn abort(&self) {
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.abort(self.id);
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut joint = self.shared.borrow_mut();
        match joint.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                joint.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked, with this message.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("the task was aborted"),
            Self::Panicked(message) => write!(f, "the task panicked: {message}"),
        }
    }
}

impl std::error::Error for JoinError {}

impl JoinError {
    fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("(no message)").to_owned())
    }
}

/// Turns a panic of a future into an error.
struct CatchPanic<F> {
    /// Absent once it has ended: it is dropped where a panic of that is caught too.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(JoinError::panicked(&*payload)),
        };
        // After a panic the future is never polled again, only dropped.
        let future = self.future.take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        Poll::Ready(dropped.map_err(|payload| JoinError::panicked(&*payload)).and(outcome))
    }
}
