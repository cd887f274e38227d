//! Each guard of the runtime is shown to bite: it is taken away, the bug that it stands against is
//! back, and a test of this binary that otherwise passes fails, and says what it saw.
//!
//! | guard taken away | whose bug that is | what sees it |
//! |---|---|---|
//! | `UncertainPipeKept` | liburing#412 | the pool's count: the pipe is not destroyed |
//! | `BufferFreedOnDrop` | foyer#1286, liburing#733 | the quarantine: the kernel writes into freed memory |
//! | `BufferFreedOnDrop` | the same, of a lease | canaries: a foreign byte in the next one's buffer |
//! | `OrphanLeaseLost` | compio#746 | the budget: the pool runs dry and the next lease never comes |
//! | `OrphanDescriptorLeaked` | tokio#7979, tokio-uring#129, compio#315 | the census of descriptors |
//! | `CancelLostOnFullQueue` | compio `cancel` | the budget: orphans stay in flight |
//! | `CancelOvertakesOp` | our own | the budget: an orphan stays in flight |
//! | `CompletionBudgetIgnored` | io-uring#302, liburing#705 | the counter of overflows moves |
//! | `PlaceHeldUntilPolled` | neon tokio-epoll-uring#60 | the budget: nobody is admitted |
//! | `DoorbellNotRearmed` | our own | the budget: a wake from another thread is lost |
//! | `WorkersNotCapped` | liburing#420, #293 | the census of threads |
//! | `PipesNotCounted` | enghitalo/vanilla#77 | a pipe beyond the bound is lent |
//! | `SigpipeNotBlocked` | lalinsky/zio#630 | a handler of the signal |
//! | `AcceptWithoutPause` | bun#32705, ioxide#222 | the budget: the loop spins |
//!
//! The guards that only a transfer shows stand in the tests of the package above.

use std::time::Duration;

use ringway_runtime::fault::{Sabotage, sabotage};
use ringway_testkit::{Bite, assert_bites, run_in_child};

use crate::{accepting, drops, faults, limits, loops};

/// Far longer than any of these takes when it does not hang.
const HANG: Bite = Bite::Hangs(Duration::from_secs(6));

/// Two tests for a guard: the scene passes, and with the guard taken away it does not.
macro_rules! guard {
    ($name:ident, $sabotage:ident, $bite:expr, $scene:path) => {
        mod $name {
            use super::*;

            #[test]
            fn passes() {
                run_in_child(concat!("guards::", stringify!($name), "::passes"), $scene);
            }

            #[test]
            fn bites() {
                let name = concat!("guards::", stringify!($name), "::bites");
                assert_bites(name, $bite, || {
                    let _armed = sabotage(Sabotage::$sabotage);
                    $scene();
                });
            }
        }
    };
}

guard!(
    an_uncertain_pipe,
    UncertainPipeKept,
    Bite::Says("its content is uncertain"),
    faults::an_interrupted_splice_costs_the_pipe
);
guard!(a_buffer_in_the_future, BufferFreedOnDrop, Bite::Says("LateWrite"), drops::drop_reads);
guard!(
    a_buffer_lent_twice,
    BufferFreedOnDrop,
    Bite::Says("a foreign byte"),
    drops::a_dropped_read_writes_into_nobodys_buffer
);
guard!(a_lost_lease, OrphanLeaseLost, HANG, drops::a_dropped_op_returns_its_lease);
guard!(
    a_leaked_descriptor,
    OrphanDescriptorLeaked,
    Bite::Says("descriptors are left open"),
    drops::drop_opens
);
guard!(a_lost_cancel, CancelLostOnFullQueue, HANG, drops::no_cancel_is_lost_on_a_full_queue);
guard!(an_early_cancel, CancelOvertakesOp, HANG, drops::a_cancel_does_not_overtake_its_op);
guard!(
    an_overflow,
    CompletionBudgetIgnored,
    Bite::Says("the completion queue overflowed"),
    drops::completions_that_come_together_never_overflow
);
guard!(
    a_place_held,
    PlaceHeldUntilPolled,
    HANG,
    drops::a_completed_op_that_is_never_polled_blocks_nobody
);
guard!(a_lost_wake, DoorbellNotRearmed, HANG, loops::no_wake_is_lost_in_a_storm_from_four_threads);
guard!(
    a_crowd_of_workers,
    WorkersNotCapped,
    Bite::Says("threads of the kernel"),
    limits::wait_in_threads
);
guard!(
    a_pipe_too_many,
    PipesNotCounted,
    Bite::Says("called `Result::unwrap_err()` on an `Ok` value: PipeLease"),
    limits::pipes_are_bounded_by_count_and_by_bytes
);
guard!(a_signal, SigpipeNotBlocked, Bite::Says("SIGPIPE was raised"), drops::send_to_closed_peers);
guard!(a_spinning_accept, AcceptWithoutPause, HANG, accepting::run_out_of_descriptors);
