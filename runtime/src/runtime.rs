//! The runtime: a ring, its tasks and its pools, bound to one thread.

mod handle;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use crate::capabilities::Capabilities;
use crate::config::Config;
use crate::driver::{Driver, Patience};
use crate::error::StartError;
use crate::executor::{JoinHandle, Tasks};
use crate::fault::{Sabotage, sabotaged};
use crate::local::{self, Local};
use crate::mem::Pool;
use crate::mem::region::Shelf;
use crate::pipe::PipePool;
use crate::stats::{Counters, Stats};
use crate::sys;
use crate::sys::ring::Setup;
use crate::time::Timers;
use crate::wake::{Inbox, Remote, TaskId, TaskWaker};

pub use handle::{Handle, RingGone, run_per_core};

/// A cancelled wait for a socket is over after two rounds; what runs in a worker can take longer.
const LET_GO_ROUNDS: u32 = 8;

/// A completion-based event loop with its tasks, buffers and pipes, for one thread.
///
/// Futures that were made inside of it belong to it and stay on its thread; files, sockets and
/// [`Handle`]s can go anywhere. Dropping the runtime drops its tasks, cancels every op and waits for
/// the kernel to let go of them (see [`Config::shutdown_timeout`]).
///
/// Making a runtime blocks `SIGPIPE` in the calling thread, because splice(2) has no other way of not
/// raising it, and `SIGXFSZ`, which a write beyond `RLIMIT_FSIZE` raises beside its error. Threads and
/// programs that are started from that thread inherit this.
///
/// ```
/// use ringway_runtime::Runtime;
///
/// let runtime = Runtime::new()?;
/// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
/// # Ok::<(), ringway_runtime::StartError>(())
/// ```
pub struct Runtime {
    /// Stands first, because it goes before the memory that is registered with its ring.
    driver: RefCell<Driver>,
    local: Rc<Local>,
    /// A second descriptor of the ring, for those who poll it.
    readiness: OwnedFd,
    config: Config,
}

impl Runtime {
    /// A runtime with the default limits.
    ///
    /// # Errors
    ///
    /// [`StartError`] says which call the kernel refused and what to change.
    pub fn new() -> Result<Self, StartError> {
        Self::with_config(Config::default())
    }

    /// A runtime with these limits.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`].
    pub fn with_config(config: Config) -> Result<Self, StartError> {
        let best = config.best_setup;
        Self::start(config, best)
    }

    /// A runtime whose descriptor wakes a poll or epoll that waits already, so that a foreign event
    /// loop can drive it: see [`Self::turn`]. An epoll_wait(2) in the ring's thread can end with
    /// `EINTR` then, because completion work runs there on the way out of the kernel: repeat it.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`].
    pub fn embedded(config: Config) -> Result<Self, StartError> {
        let best = config.best_setup.max(Setup::CoopTaskrun);
        Self::start(config, best)
    }

    fn start(config: Config, best: Setup) -> Result<Self, StartError> {
        let counters = Rc::new(Counters::default());
        let remote = Remote::new().map_err(|error| StartError::new("eventfd2", error))?;
        let mut driver = Driver::start(&config, best, Rc::clone(&counters), Arc::clone(&remote))?;
        if !sabotaged(Sabotage::SigpipeNotBlocked) {
            sys::thread::block_sigpipe();
        }
        sys::thread::block_sigxfsz();
        let buffers = Pool::new(&config.buffers, Rc::clone(&counters))
            .map_err(|error| StartError::new("mmap", error))?;
        let unregistered = register(&mut driver, &buffers, config.register_buffers);
        let capabilities = Capabilities::probe(driver.ring(), unregistered);
        tracing::debug!(?capabilities, "a ring starts");
        let local = Rc::new(Local {
            port: Rc::clone(driver.port()),
            tasks: Rc::new(Tasks::new(Arc::clone(&remote), Rc::clone(&counters))),
            timers: Rc::new(Timers::new(Rc::clone(&counters))),
            buffers: Rc::new(buffers),
            pipes: Rc::new(PipePool::new(&config, Rc::clone(&counters))),
            regions: Shelf::new(&config, Arc::clone(&remote)),
            counters,
            remote,
            capabilities: Rc::new(capabilities),
        });
        let readiness = driver.as_fd().try_clone_to_owned();
        let readiness = readiness.map_err(|error| StartError::new("fcntl(F_DUPFD)", error))?;
        Ok(Self { local, driver: RefCell::new(driver), readiness, config })
    }

    /// Runs a future to its end, and the spawned tasks beside it.
    ///
    /// When it has returned, nothing runs until it is called again: the kernel can then hold on to a
    /// socket whose last op it had not finished, and the peer sees no end of the stream before the
    /// next call or the drop of the runtime. Shut such a stream down instead of only dropping it.
    ///
    /// # Panics
    ///
    /// When this thread is inside of a ring already, and when the kernel refuses to be entered for
    /// ten seconds on end. A panic of the future goes through.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(local::with(|_| ()).is_none(), "{}", StartError::nested());
        let _entered = local::enter(&self.local);
        let waker = TaskWaker::new(TaskId::MAIN, Arc::clone(&self.local.remote));
        let wake = Waker::from(Arc::clone(&waker));
        let mut future = pin!(future);
        wake.wake_by_ref();
        loop {
            if self.local.tasks.take_main_ready() {
                waker.running();
                self.local.counters.task_polls.bump();
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&wake)) {
                    self.let_go();
                    return output;
                }
            }
            self.local.tasks.run(self.config.tasks_per_turn.max(1));
            let rest = !self.local.tasks.has_ready() && self.local.remote.fall_asleep();
            let patience = if rest { Patience::Until(self.deadline()) } else { Patience::None };
            if let Err(error) = self.round(patience) {
                panic!("the event loop cannot go on: {error}");
            }
        }
    }

    /// Hands in the cancellations of what was dropped, without waiting. After this nobody may turn
    /// the ring for long, and a wait that was given up would keep a socket open that its owner drops
    /// now: the peer would see no end.
    fn let_go(&self) {
        for _ in 0..LET_GO_ROUNDS {
            let orphans = self.local.counters.ops_orphaned.value();
            if orphans == 0 || self.round(Patience::None).is_err() {
                return;
            }
        }
    }

    /// One round of the driver, with what came from other threads and from the clock.
    fn round(&self, patience: Patience) -> io::Result<()> {
        let turned = self.driver.borrow_mut().turn(patience);
        self.local.remote.stay_awake();
        self.collect(self.local.remote.collect());
        self.local.timers.fire();
        self.local.regions.clean();
        turned
    }

    /// When there is something to do at the latest: a timer, or a region that has been idle for long.
    fn deadline(&self) -> Option<Instant> {
        let (timer, cleaning) = (self.local.timers.next(), self.local.regions.next_cleaning());
        timer.into_iter().chain(cleaning).min()
    }

    fn collect(&self, inbox: Inbox) {
        for task in inbox.tasks {
            self.local.tasks.make_ready(task);
        }
        for job in inbox.jobs {
            job();
        }
    }

    /// Starts a task. It runs whenever the runtime does; between two turns of an embedded one, its
    /// descriptor becomes readable.
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        // Not entered: then the waker of the task rings the doorbell where that is needed.
        self.local.tasks.spawn(future)
    }

    /// Runs what is ready, without waiting: for a foreign event loop.
    ///
    /// Call it once before waiting, and after futures of the ring were dropped outside of it; then
    /// when the descriptor ([`AsFd`]) becomes readable, when the deadline that the last turn told
    /// has passed, and at once if that turn said so.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to be entered for ten seconds on end, and inside of a turn of this
    /// very runtime.
    pub fn turn(&self) -> io::Result<Turn> {
        if local::with(|local| Rc::ptr_eq(local, &self.local)) == Some(true) {
            return Err(StartError::nested().into());
        }
        let _entered = local::enter(&self.local);
        self.local.remote.stay_awake();
        self.round(Patience::None)?;
        self.local.tasks.run(self.config.tasks_per_turn.max(1));
        // What the tasks have submitted goes out now; what is done inline is done now.
        self.round(Patience::None)?;
        // Asked first: a bell that was heard in this very turn must be hung up again before anybody
        // relies on it.
        let rest = !self.driver.borrow_mut().needs_turn()
            && !self.local.tasks.has_ready()
            && self.local.remote.fall_asleep();
        Ok(Turn { again: !rest, deadline: self.deadline() })
    }

    /// A handle by which other threads reach this ring.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { remote: Arc::clone(&self.local.remote) }
    }

    /// What this kernel and these limits allow.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.local.capabilities
    }

    /// The counters at this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        snapshot(&self.local)
    }
}

/// The counters of the ring of this thread.
///
/// # Errors
///
/// When the caller is not inside of a ring.
pub fn stats() -> io::Result<Stats> {
    Ok(snapshot(&*local::current()?))
}

/// What the ring of this thread can do.
///
/// # Errors
///
/// When the caller is not inside of a ring.
pub fn capabilities() -> io::Result<Rc<Capabilities>> {
    Ok(Rc::clone(&local::current()?.capabilities))
}

fn snapshot(local: &Local) -> Stats {
    local.counters.remote_wakes.set(local.remote.wakes());
    local.regions.report(&local.counters);
    local.counters.snapshot()
}

/// Registers the buffers; the reason if that was not possible.
fn register(driver: &mut Driver, buffers: &Pool, wanted: bool) -> Option<String> {
    if !wanted {
        return Some("switched off (Config::register_buffers)".to_owned());
    }
    match driver.register_buffers(&buffers.arenas()) {
        Ok(()) => {
            buffers.set_registered(true);
            None
        }
        Err(error) => {
            let reason = match error.raw_os_error() {
                Some(libc::ENOMEM) => {
                    "the limit of locked memory is too low: raise RLIMIT_MEMLOCK".to_owned()
                }
                _ => error.to_string(),
            };
            tracing::warn!(reason, "buffers are used unregistered");
            Some(reason)
        }
    }
}

impl AsFd for Runtime {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _entered = local::enter(&self.local);
        // Whatever panics in here, the kernel must have let go of the memory before that is freed.
        let left = self.local.remote.close();
        let dropping = catch_unwind(AssertUnwindSafe(|| {
            left.jobs.into_iter().for_each(drop);
        }));
        self.local.tasks.clear();
        self.local.regions.close();
        let mut driver = self.driver.borrow_mut();
        let timeout = self.config.shutdown_timeout;
        let ended = catch_unwind(AssertUnwindSafe(|| driver.shut_down(timeout)));
        if !matches!(ended, Ok(true)) {
            let ops = driver.port().in_flight();
            tracing::error!(ops, "the kernel holds on to ops: their memory is leaked");
            driver.port().leak();
            // The arenas too: a registered buffer can be among what the kernel still writes to.
            std::mem::forget(Rc::clone(&self.local.buffers));
        }
        drop(driver);
        if let Some(payload) = dropping.err().or(ended.err()).filter(|_| !thread::panicking()) {
            resume_unwind(payload);
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("capabilities", &self.local.capabilities)
            .finish_non_exhaustive()
    }
}

/// What a [`Runtime::turn`] leaves to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// There is more to run at once.
    pub again: bool,
    /// When to turn at the latest; `None` if only the descriptor matters.
    pub deadline: Option<Instant>,
}
