//! The ring that the current thread is inside of.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::capabilities::Capabilities;
use crate::executor::Tasks;
use crate::mem::Pool;
use crate::mem::region::Shelf;
use crate::op::Port;
use crate::pipe::PipePool;
use crate::stats::Counters;
use crate::time::Timers;
use crate::wake::Remote;

/// Everything that a future needs of its ring.
pub(crate) struct Local {
    pub(crate) port: Rc<Port>,
    pub(crate) tasks: Rc<Tasks>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Rc<Pool>,
    pub(crate) pipes: Rc<PipePool>,
    /// Shared with windows, which other threads can hold.
    pub(crate) regions: Arc<Shelf>,
    pub(crate) counters: Rc<Counters>,
    pub(crate) remote: Arc<Remote>,
    pub(crate) capabilities: Rc<Capabilities>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// Runs something with the current ring; `None` where there is none.
pub(crate) fn with<T>(run: impl FnOnce(&Rc<Local>) -> T) -> Option<T> {
    // A thread that is being torn down has no ring either.
    CURRENT.try_with(|current| current.borrow().as_ref().map(run)).ok().flatten()
}

/// The current ring.
///
/// # Errors
///
/// When the caller is not inside of one.
pub(crate) fn current() -> io::Result<Rc<Local>> {
    with(Rc::clone).ok_or_else(|| {
        io::Error::other(
            "there is no ring on this thread: call this inside Runtime::block_on, a spawned task, \
             or Handle::run",
        )
    })
}

/// Makes a ring the current one for as long as the guard lives.
pub(crate) fn enter(local: &Rc<Local>) -> Entered {
    // A runtime that lives in a thread-local of its own can outlive this one.
    let entering = CURRENT.try_with(|current| current.replace(Some(Rc::clone(local))));
    Entered { before: entering.ok().flatten() }
}

/// See [`enter`].
pub(crate) struct Entered {
    before: Option<Rc<Local>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}
