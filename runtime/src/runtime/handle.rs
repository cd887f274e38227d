//! From other threads: work handed to a ring, and rings on many threads.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use futures_channel::oneshot;

use super::Runtime;
use crate::config::Config;
use crate::wake::Remote;

/// Reaches a ring from any thread and from any executor.
#[derive(Clone)]
pub struct Handle {
    pub(super) remote: Arc<Remote>,
}

impl Handle {
    /// Runs a closure's future on the ring's thread and gives the result here.
    ///
    /// The closure crosses threads; the future that it makes does not, so it may use everything
    /// that belongs to the ring. The work starts when this is called, not when it is awaited.
    ///
    /// # Errors
    ///
    /// [`RingGone`] if the runtime has ended, or ends before the work is done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the work, only the waiting for it.
    pub fn run<M, F>(
        &self,
        make: M,
    ) -> impl Future<Output = Result<F::Output, RingGone>> + Send + use<M, F>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let (give, take) = oneshot::channel();
        let job = Box::new(move || {
            // The closure runs inside of the task, where a panic of it ends with the task.
            drop(crate::executor::spawn(async move {
                let output = make().await;
                // Nobody waits any more: that is no error of the work.
                let _ = give.send(output);
            }));
        });
        self.remote.leave(|inbox| inbox.jobs.push(job));
        async move { take.await.map_err(|_| RingGone) }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The runtime behind a [`Handle`] has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingGone;

impl fmt::Display for RingGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring has ended, or the work on it panicked")
    }
}

impl std::error::Error for RingGone {}

/// Runs the same work on `threads` rings, each on a thread of its own, and waits for all of them.
///
/// The work gets its number. Let each bind its own listener with
/// [`ListenOptions::reuse_port`](crate::net::ListenOptions::reuse_port), and the kernel spreads the
/// connections over them.
///
/// # Errors
///
/// The first error of a ring that could not start, or of the work, once all have ended.
pub fn run_per_core<M, F>(threads: usize, config: &Config, work: M) -> io::Result<()>
where
    M: Fn(usize) -> F + Send + Clone + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let start = |number: usize| {
        let (work, config) = (work.clone(), config.clone());
        let name = format!("ringway-{number}");
        thread::Builder::new()
            .name(name)
            .spawn(move || Runtime::with_config(config)?.block_on(work(number)))
    };
    let started: Vec<_> = (0..threads.max(1)).map(start).collect();
    let mut outcome = Ok(());
    for thread in started {
        let ended = thread.and_then(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a ring's thread panicked")))
        });
        outcome = outcome.and(ended);
    }
    outcome
}
