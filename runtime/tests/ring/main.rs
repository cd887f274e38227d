//! The runtime, as those see it who use it.
//!
//! One binary, so that all rooms share the quarantine: it sees what the kernel writes into memory
//! that was freed. A test that counts what a whole process has takes a process of its own.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod accepting;
mod arrivals;
mod baseline;
mod drops;
mod embedded;
#[cfg(feature = "fault")]
mod faults;
#[cfg(feature = "fault")]
mod guards;
mod handles;
mod limits;
mod loops;
mod ops;
mod receiving;
mod slots;
mod sockets;
mod teardown;
mod timers;

use ringway_testkit::Quarantine;

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();
