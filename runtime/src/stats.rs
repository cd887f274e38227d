//! Counters and gauges of one ring: what a test asserts and an operator watches.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// The live counters; each belongs to one thread.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            /// The values at this moment.
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.value(),)+ }
            }
        }

        /// The counters of one ring at one moment. Gauges say so; all others only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Stats {
            /// Every counter with its name, for an exporter.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Gauge: ops that the kernel may still complete.
    ops_in_flight,
    /// Gauge: of these, the ones whose future was dropped.
    ops_orphaned,
    /// Gauge: completions that the ops in flight may still post.
    completions_due,
    /// Times an op had to wait because the budget of completions was spent.
    ops_waited,
    /// Ops handed to the kernel.
    ops_submitted,
    /// Ops that had their last completion.
    ops_completed,
    /// Completions reaped.
    completions,
    /// Completions that no op claimed: always 0 unless there is a bug.
    completions_stale,
    /// Completions that had to wait inside the kernel: always 0 while the budget holds.
    completions_overflowed,
    /// Cancellations asked for.
    cancels,
    /// Calls of io_uring_enter(2).
    enters,
    /// Calls of io_uring_enter(2) that were refused with `EAGAIN` or `EBUSY` and repeated.
    enters_refused,
    /// Turns of the event loop.
    turns,
    /// Times a task was run.
    task_polls,
    /// Gauge: tasks that have not ended.
    tasks,
    /// Tasks that ended by a panic.
    tasks_panicked,
    /// Times another thread woke the ring.
    remote_wakes,
    /// Gauge: timers that wait.
    timers,
    /// Splice ops handed to the kernel.
    splices_submitted,
    /// splice(2) calls made inline.
    splices_inline,
    /// Bytes moved from files into pipes.
    splice_in_bytes,
    /// Bytes moved from pipes into sockets.
    splice_out_bytes,
    /// sendfile(2) calls made inline.
    sendfiles_inline,
    /// Bytes moved by sendfile(2).
    sendfile_bytes,
    /// Bytes that were read from files into memory of this process.
    file_read_bytes,
    /// Zero-copy sends.
    zero_copy_sends,
    /// Zero-copy sends that the kernel copied after all.
    zero_copy_copied,
    /// Gauge: pipes that exist.
    pipes,
    /// Gauge: pipes that are lent.
    pipes_lent,
    /// Gauge: capacity of all pipes in bytes.
    pipe_bytes,
    /// Pipes destroyed because they were not provably empty.
    pipes_destroyed,
    /// Times no pipe could be had.
    pipes_refused,
    /// Pipes that the kernel granted smaller than asked for.
    pipes_shrunk,
    /// Gauge: regions of files that are mapped.
    regions,
    /// Gauge: of these, the ones that nobody holds.
    regions_idle,
    /// Gauge: bytes that are mapped.
    region_bytes,
    /// Regions mapped anew, because none was there to be shared: the pool's misses.
    regions_mapped,
    /// Times a region that was mapped already was used again.
    regions_reused,
    /// Idle regions that were unmapped by the cleaner, for want of room, or forgotten.
    regions_evicted,
    /// Times a range could not be mapped for want of room or of rights.
    regions_refused,
    /// Faults in regions that would have ended the process.
    region_faults,
    /// Bytes of regions that were made present before they were touched.
    region_populated_bytes,
    /// Gauge: buffers that are lent.
    leases,
    /// Times a task had to wait for a buffer.
    lease_waits,
    /// Errnos that no arm names: always 0 unless there is something to learn.
    unexpected_errnos,
    /// Times accepting was paused because descriptors or memory had run out.
    accept_pauses,
}

/// A number that one thread changes.
#[derive(Debug, Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.set(self.0.get().wrapping_add(amount));
    }

    pub(crate) fn sub(&self, amount: u64) {
        debug_assert!(self.0.get() >= amount, "a gauge went below zero");
        self.0.set(self.0.get().saturating_sub(amount));
    }

    pub(crate) fn bump(&self) {
        self.add(1);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.set(value);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_names_every_counter_once() {
        let counters = Counters::default();
        counters.ops_submitted.add(3);
        let stats = counters.snapshot();
        assert_eq!(stats.ops_submitted, 3);
        let names: std::collections::BTreeSet<_> = stats.each().map(|(name, _)| name).collect();
        assert_eq!(names.len(), stats.each().count());
        assert!(stats.each().any(|row| row == ("ops_submitted", 3)));
    }
}
