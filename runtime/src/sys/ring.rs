//! One ring: set up by a ladder, pushed to, entered, reaped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::{IoUring, types};

use super::sqe::Sqe;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// How the kernel runs completion work for a ring, best first.
///
/// See `IORING_SETUP_*` in io_uring_setup(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    /// `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1): work runs only when this thread asks for it.
    DeferTaskrun,
    /// `COOP_TASKRUN` (Linux 5.19): work runs when this thread enters the kernel for any reason.
    CoopTaskrun,
    /// No flags: the kernel interrupts the thread.
    Plain,
}

/// One completion, as the kernel posted it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cqe {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    /// More completions of the same op will follow.
    pub(crate) more: bool,
    /// The kernel is done with the buffer of a zero-copy send.
    pub(crate) notification: bool,
}

/// The argument of `IORING_REGISTER_RING_FDS`: `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// An io_uring instance, bound to the thread that made it.
pub(crate) struct Ring {
    inner: IoUring,
    setup: Setup,
    /// Where the thread's table of rings holds this one; saves a descriptor look-up per enter.
    registered: Option<u32>,
}

impl Ring {
    /// Builds a ring with the best setup that the kernel grants, from `best` downwards.
    pub(crate) fn build(best: Setup, sq_entries: u32, cq_entries: u32) -> io::Result<Self> {
        let ladder = [Setup::DeferTaskrun, Setup::CoopTaskrun, Setup::Plain];
        let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
        for setup in ladder.into_iter().filter(|setup| *setup >= best) {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(cq_entries).setup_clamp().dontfork();
            match setup {
                Setup::DeferTaskrun => {
                    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
                }
                Setup::CoopTaskrun => {
                    builder.setup_coop_taskrun().setup_submit_all();
                }
                Setup::Plain => {}
            }
            match builder.build(sq_entries) {
                Ok(inner) => {
                    let registered = register_ring_fd(inner.as_raw_fd());
                    return Ok(Self { inner, setup, registered });
                }
                // The kernel does not know a flag: the next rung asks for less.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    pub(crate) fn setup(&self) -> Setup {
        self.setup
    }

    pub(crate) fn cq_entries(&self) -> u32 {
        self.inner.params().cq_entries()
    }

    pub(crate) fn sq_entries(&self) -> u32 {
        self.inner.params().sq_entries()
    }

    pub(crate) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.inner.submitter()
    }

    /// Puts one entry into the submission queue; `false` when the queue is full.
    ///
    /// From here on the entry belongs to the ring, whatever a later `enter` returns: the caller
    /// keeps what it points at alive until its last completion.
    pub(crate) fn push(&mut self, sqe: &Sqe) -> bool {
        let mut queue = self.inner.submission();
        // SAFETY: what the entry points at is owned by its op slot until the last completion.
        unsafe { queue.push(sqe.entry()) }.is_ok()
    }

    /// How many entries the kernel has not consumed yet.
    pub(crate) fn unsubmitted(&mut self) -> u32 {
        u32::try_from(self.inner.submission().len()).unwrap_or(u32::MAX)
    }

    /// Whether completions that did not fit are waiting inside the kernel.
    pub(crate) fn overflown(&mut self) -> bool {
        self.inner.submission().cq_overflow()
    }

    /// Submits everything queued, runs completion work, and waits until `want` completions are
    /// there or `timeout` has passed. Returns how many entries the kernel consumed.
    ///
    /// See io_uring_enter(2). `GETEVENTS` is always given: under `DEFER_TASKRUN` nothing completes
    /// without it.
    pub(crate) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<u32> {
        let queued = self.unsubmitted();
        let (fd, flags) = match self.registered {
            Some(index) => (i64::from(index), ENTER_GETEVENTS | ENTER_REGISTERED_RING),
            None => (i64::from(self.inner.as_raw_fd()), ENTER_GETEVENTS),
        };
        let done = match timeout {
            Some(limit) => {
                let timespec = types::Timespec::from(limit);
                let argument = types::SubmitArgs::new().timespec(&timespec);
                // SAFETY: the argument and its timespec live on this stack frame until the call
                // returns, and the size given is that of the argument.
                unsafe {
                    libc::syscall(
                        libc::SYS_io_uring_enter,
                        fd,
                        queued,
                        want,
                        flags | ENTER_EXT_ARG,
                        &raw const argument,
                        size_of::<types::SubmitArgs<'_, '_>>(),
                    )
                }
            }
            // SAFETY: without an extended argument the call takes no pointers.
            None => unsafe {
                libc::syscall(
                    libc::SYS_io_uring_enter,
                    fd,
                    queued,
                    want,
                    flags,
                    ptr::null::<libc::sigset_t>(),
                    0usize,
                )
            },
        };
        super::checked(done).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Takes every completion that is there. `each` must only record: no user code runs here.
    pub(crate) fn reap(&mut self, mut each: impl FnMut(Cqe)) {
        for cqe in self.inner.completion() {
            each(Cqe {
                user_data: cqe.user_data(),
                result: cqe.result(),
                more: io_uring::cqueue::more(cqe.flags()),
                notification: io_uring::cqueue::notif(cqe.flags()),
            });
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's own and lives as long as the ring is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The thread's table holds a reference of its own: left in it, the ring would live on.
        if let Some(index) = self.registered.take() {
            let mut update = RingFdUpdate { offset: index, reserved: 0, data: 0 };
            register(self.inner.as_raw_fd(), UNREGISTER_RING_FDS, &mut update);
        }
    }
}

/// Registers the ring's descriptor with the thread (Linux 5.18); `None` where that is not possible.
fn register_ring_fd(fd: RawFd) -> Option<u32> {
    let data = u64::try_from(fd).ok()?;
    let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, data };
    (register(fd, REGISTER_RING_FDS, &mut update) == 1).then_some(update.offset)
}

fn register(fd: RawFd, opcode: u32, update: &mut RingFdUpdate) -> libc::c_long {
    // SAFETY: the kernel reads and writes one update entry, which outlives the call.
    unsafe { libc::syscall(libc::SYS_io_uring_register, fd, opcode, ptr::from_mut(update), 1) }
}
