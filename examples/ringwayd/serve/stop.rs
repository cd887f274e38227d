//! The end of the daemon, as its threads hear of it.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use ringway::runtime::signal::{Kind, Signals};

/// Whether the daemon is to stop, and how many of its threads still run.
#[derive(Debug)]
pub(crate) struct Stop {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    begun: bool,
    threads_running: usize,
    waiters: Vec<Waker>,
}

impl Stop {
    pub(crate) fn new(threads: usize) -> Arc<Stop> {
        let state = State { begun: false, threads_running: threads, waiters: Vec::new() };
        Arc::new(Stop { state: Mutex::new(state) })
    }

    /// Tells all threads to finish.
    pub(crate) fn begin(&self) {
        self.change(|state| state.begun = true);
    }

    /// Resolves when [`begin`](Self::begin) was called, on any thread.
    pub(crate) async fn begun(&self) {
        self.until(|state| state.begun).await;
    }

    /// A thread has finished.
    pub(crate) fn thread_ended(&self) {
        self.change(|state| state.threads_running -= 1);
    }

    /// Resolves when all threads have finished but this many.
    pub(crate) async fn threads_left(&self, count: usize) {
        self.until(|state| state.threads_running <= count).await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiters = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        poll_fn(|context| {
            let mut state = self.lock();
            if reached(&state) {
                return Poll::Ready(());
            }
            state.waiters.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that end the daemon: the first one lets it finish, the second one does not.
pub(crate) fn ending_signals() -> io::Result<Signals> {
    Signals::new(&[Kind::Terminate, Kind::Interrupt])
}

/// Waits for the signals, as long as the daemon lives.
pub(crate) async fn obey(mut signals: Signals, stop: Arc<Stop>) {
    /// Ended on request, but not in order.
    const CUT_SHORT: i32 = 1;
    if signals.recv().await.is_ok() {
        stop.begin();
        if signals.recv().await.is_ok() {
            std::process::exit(CUT_SHORT);
        }
    }
}
