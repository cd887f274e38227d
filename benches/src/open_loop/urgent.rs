//! A client whose own delays are as small as can be: they are not the server's.

/// Lets this thread, and not those that it will start, run before all others on its CPU, and wake exactly
/// when it wants to: delays of the client are not delays of the server. Tells whether that is allowed.
pub(crate) fn become_urgent() -> bool {
    let parameter = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameter` is a live sched_param for the whole call, and the kernel keeps no pointer to it.
    let scheduled = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } == 0;
    // SAFETY: PR_SET_TIMERSLACK takes a number of nanoseconds and touches no memory.
    let exact = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) } == 0;
    scheduled && exact
}
