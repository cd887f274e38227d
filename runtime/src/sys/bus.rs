//! Containment of `SIGBUS` in memory that is mapped from files.
//!
//! A load or a store in a mapping raises `SIGBUS` when there is no page behind it: the file was
//! truncated, the file system has no block left, the device has failed or become read-only. By default
//! that ends the process. Here the fault in a *watched* range is answered in three steps: the range is
//! marked as hit, anonymous zeros are mapped over all of it, and the instruction runs again. Whoever
//! works in the range asks for hits afterwards ([`Watch::hits`]).
//!
//! The mark comes first. A thread that stores into the zeros and then asks finds the mark, so no store
//! into them is ever believed. The whole range is replaced, and not the page alone, because that costs
//! one fault for each truncation, and because it needs no more mappings than there are.
//!
//! Every other `SIGBUS` goes to the handler that was there before, or does what it did without one.
//!
//! # Safety
//!
//! The handler allocates nothing, takes no lock, and leaves `errno` as it was: it reads atomics and
//! calls mmap(2), munmap(2), sigaction(2) and tgkill(2). The table that it reads only grows. A slot that
//! is being changed by another thread is skipped, which is right, because the range that faults in this
//! thread is held by it, and so its slot rests.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
use std::sync::{Arc, Mutex};

/// Ranges in one part of the table.
const SLOTS: usize = 256;
/// Mappings that are kept to be given up when the process has no more (see [`spend_reserve`]): one for
/// the mapping that exceeds, two for the splits of a range that was merged with its neighbours.
const RESERVE: usize = 4;

/// One watched range. Odd versions are being changed.
struct Slot {
    taken: AtomicBool,
    version: AtomicU64,
    start: AtomicUsize,
    end: AtomicUsize,
    writable: AtomicBool,
    hits: AtomicU32,
    tally: AtomicPtr<AtomicU64>,
}

struct Table {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Table>,
}

static TABLE: Table = Table::new();
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
/// The earlier handler has stepped back: behind this one there is the default.
static OVER: AtomicBool = AtomicBool::new(false);
static RESERVED: [AtomicUsize; RESERVE] = [const { AtomicUsize::new(0) }; RESERVE];
static INSTALLING: Mutex<()> = Mutex::new(());

thread_local! {
    static UNBLOCKED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A range in which `SIGBUS` is contained, as long as this lives.
pub(crate) struct Watch {
    slot: &'static Slot,
    /// The handler counts into it.
    _tally: Arc<AtomicU64>,
}

impl Watch {
    /// Watches a range of whole pages. Every fault that is contained counts into `tally`.
    pub(crate) fn new(start: usize, len: usize, writable: bool, tally: Arc<AtomicU64>) -> Self {
        let slot = TABLE.take();
        slot.change(|| {
            slot.start.store(start, Ordering::Relaxed);
            slot.end.store(start.saturating_add(len), Ordering::Relaxed);
            slot.writable.store(writable, Ordering::Relaxed);
            slot.hits.store(0, Ordering::Relaxed);
            slot.tally.store(Arc::as_ptr(&tally).cast_mut(), Ordering::Relaxed);
        });
        Self { slot, _tally: tally }
    }

    /// How many faults were contained in the range. What was loaded or stored by this thread before
    /// the call is covered by the answer.
    #[inline]
    pub(crate) fn hits(&self) -> u32 {
        // Stores before this must have reached their pages before the mark is looked at.
        fence(Ordering::SeqCst);
        self.slot.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.slot.change(|| {
            self.slot.start.store(0, Ordering::Relaxed);
            self.slot.end.store(0, Ordering::Relaxed);
            self.slot.tally.store(ptr::null_mut(), Ordering::Relaxed);
        });
        self.slot.taken.store(false, Ordering::Release);
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            version: AtomicU64::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            hits: AtomicU32::new(0),
            tally: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Changes the slot so that a reader notices; only for whoever has taken it.
    fn change(&self, change: impl FnOnce()) {
        self.version.fetch_add(1, Ordering::SeqCst);
        change();
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The range, if it holds `address` and rests.
    fn holding(&self, address: usize) -> Option<(usize, usize)> {
        let version = self.version.load(Ordering::SeqCst);
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        fence(Ordering::SeqCst);
        let rests = version.is_multiple_of(2) && self.version.load(Ordering::SeqCst) == version;
        (rests && start <= address && address < end).then_some((start, end))
    }
}

impl Table {
    const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], next: AtomicPtr::new(ptr::null_mut()) }
    }

    /// A free slot; the table grows where there is none, and never shrinks.
    fn take(&'static self) -> &'static Slot {
        let mut part = self;
        loop {
            let free = |slot: &&Slot| {
                let (before, after) = (Ordering::Acquire, Ordering::Relaxed);
                slot.taken.compare_exchange(false, true, before, after).is_ok()
            };
            if let Some(slot) = part.slots.iter().find(free) {
                return slot;
            }
            part = match part.following() {
                Some(next) => next,
                None => part.grow(),
            };
        }
    }

    fn following(&self) -> Option<&'static Self> {
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: a part that was linked is leaked, so it lives for ever and is only read.
        unsafe { next.as_ref() }
    }

    fn grow(&self) -> &'static Self {
        let new: &'static mut Self = Box::leak(Box::new(Self::new()));
        let (before, after) = (Ordering::AcqRel, Ordering::Acquire);
        let linked = self.next.compare_exchange(ptr::null_mut(), new, before, after);
        if linked.is_err() {
            // Another thread was faster; this part is lost, once in 256 ranges at most.
            return self.following().unwrap_or(new);
        }
        new
    }
}

/// Whether the handler of `SIGBUS` is in place; installs it the first time. `false` if somebody has
/// put a handler over it: then containment cannot be relied on.
pub(crate) fn stand_guard() -> io::Result<bool> {
    let _one_at_a_time = INSTALLING.lock();
    let before = action(None)?;
    if PREVIOUS.load(Ordering::Acquire).is_null() {
        // In place before the handler is: a foreign fault could come at once.
        PREVIOUS.store(Box::into_raw(Box::new(before)), Ordering::Release);
        action(Some(&ours(before.sa_mask)))?;
        fill_reserve();
        return Ok(true);
    }
    fill_reserve();
    Ok(before.sa_sigaction == handler_address())
}

fn handler_address() -> usize {
    on_bus as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize
}

/// Lets `SIGBUS` reach the calling thread. Where it is blocked, a fault kills the process at once. Asked
/// once for each thread: whoever blocks it later loses containment.
#[inline]
pub(crate) fn unblock() {
    if !UNBLOCKED.get() {
        unblock_now();
    }
}

#[cold]
fn unblock_now() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call initialises the set that the pointer leads to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised by the call above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGBUS) };
    // SAFETY: the set is initialised, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) };
    UNBLOCKED.set(true);
}

/// Reads the action of `SIGBUS`, and sets a new one if there is one; see sigaction(2).
fn action(new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both point to an action or to nothing, and the new handler is async-signal-safe.
    let result = unsafe { libc::sigaction(libc::SIGBUS, new, old.as_mut_ptr()) };
    super::checked(result.into())?;
    // SAFETY: the call has succeeded, and so has written the old action.
    Ok(unsafe { old.assume_init() })
}

/// The handler.
extern "C" fn on_bus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid `siginfo_t`.
    let told = unsafe { &*info };
    // SAFETY: the kernel sets the address of every fault; for a sent signal it is not used.
    let address = unsafe { told.si_addr() } as usize;
    let code = told.si_code;
    let is_fault = matches!(code, libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR);
    // SAFETY: the address of the calling thread's errno is always valid.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let errno_before = unsafe { errno.read() };
    if !(is_fault && contain(address)) {
        pass_on(signal, info, context, code);
    }
    // SAFETY: as above.
    unsafe { errno.write(errno_before) };
}

/// Replaces the watched range around an address; `false` if there is none, or no memory for it.
fn contain(address: usize) -> bool {
    let mut part = Some(&TABLE);
    while let Some(table) = part {
        for slot in &table.slots {
            if let Some((start, end)) = slot.holding(address) {
                return slot.replace(start, end);
            }
        }
        part = table.following();
    }
    false
}

impl Slot {
    fn replace(&self, start: usize, end: usize) -> bool {
        self.hits.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the range is held by the thread that faults in it, and its watch owns the tally.
        if let Some(tally) = unsafe { self.tally.load(Ordering::Relaxed).as_ref() } {
            tally.fetch_add(1, Ordering::Relaxed);
        }
        let writable = self.writable.load(Ordering::Relaxed);
        cover(start, end - start, writable)
            || spend_reserve() && cover(start, end - start, writable)
    }
}

/// Maps zeros over a range.
fn cover(start: usize, len: usize, writable: bool) -> bool {
    let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let at = ptr::without_provenance_mut(start);
    // SAFETY: the range is a mapping of ours that this thread holds, so nobody unmaps it meanwhile, and
    // its memory is only ever used by atomic loads and stores, which take whatever is there.
    let covered = unsafe { libc::mmap(at, len, protection, flags, -1, 0) };
    covered != libc::MAP_FAILED
}

/// Does what would have been done without this handler.
fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    code: libc::c_int,
) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: the action was stored before the handler was installed, and is never freed.
    let previous = unsafe { &*previous };
    let sent_by_somebody = code <= 0;
    let previous_handler =
        if OVER.load(Ordering::Acquire) { libc::SIG_DFL } else { previous.sa_sigaction };
    match previous_handler {
        libc::SIG_IGN if sent_by_somebody => {}
        // A fault repeats when the handler returns, and then ends the process; a sent signal does not.
        libc::SIG_DFL | libc::SIG_IGN => {
            fall_back();
            if sent_by_somebody {
                // SAFETY: a signal to the calling thread, pending until the handler has returned.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            type Informed = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: whoever installed it with SA_SIGINFO gave a function of this type.
            let handler: Informed = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
            stay();
        }
        handler => {
            // SAFETY: whoever installed it without SA_SIGINFO gave a function of this type.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
            stay();
        }
    }
}

/// The default action from now on.
fn fall_back() {
    // SAFETY: an action is plain data; zero is the default handler with no flags.
    let default: libc::sigaction = unsafe { zeroed() };
    let _ = action(Some(&default));
}

/// An earlier handler can restore the default and count on the fault to repeat, as the one of Rust's
/// standard library does. Then the default is what stands behind this handler, and this one stays.
fn stay() {
    let Ok(now) = action(None) else { return };
    if now.sa_sigaction == libc::SIG_DFL {
        OVER.store(true, Ordering::Release);
        let _ = action(Some(&ours(now.sa_mask)));
    }
}

/// The action that leads to this handler. What the earlier one wanted blocked stays blocked while it
/// runs behind this one.
fn ours(mask: libc::sigset_t) -> libc::sigaction {
    // SAFETY: an action is plain data, for which zero is a value.
    let mut ours: libc::sigaction = unsafe { zeroed() };
    ours.sa_sigaction = handler_address();
    ours.sa_mask = mask;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    ours
}

/// Keeps a few mappings for the moment in which the process may make no more: a mapping over an
/// existing one is refused too when `vm.max_map_count` is reached.
fn fill_reserve() {
    for place in &RESERVED {
        if place.load(Ordering::Relaxed) != 0 {
            continue;
        }
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let page = rustix::param::page_size();
        // SAFETY: a new mapping at an address of the kernel's choice concerns nobody. It is shared, so
        // that the kernel cannot merge it with a neighbour.
        let spare = unsafe { libc::mmap(ptr::null_mut(), page, libc::PROT_NONE, flags, -1, 0) };
        if spare == libc::MAP_FAILED {
            return;
        }
        if place.compare_exchange(0, spare.addr(), Ordering::SeqCst, Ordering::Relaxed).is_err() {
            give_up(spare.addr());
        }
    }
}

/// Gives the kept mappings up; `false` if there were none. Async-signal-safe.
pub(crate) fn spend_reserve() -> bool {
    let mut any = false;
    for place in &RESERVED {
        let spare = place.swap(0, Ordering::SeqCst);
        if spare != 0 {
            give_up(spare);
            any = true;
        }
    }
    any
}

fn give_up(spare: usize) {
    let page = rustix::param::page_size();
    // SAFETY: the page is a mapping of the reserve, taken out of it by this thread alone, and unused.
    unsafe { libc::munmap(ptr::without_provenance_mut(spare), page) };
}
