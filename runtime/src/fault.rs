//! Fault injection: the k-th operation of this thread fails with an errno, or is shortened.
//!
//! Ring ops and inline calls are counted together, in the order in which they are made. A ring op
//! that is to fail is replaced by a no-op that completes with the errno (`IORING_NOP_INJECT_RESULT`,
//! Linux 6.10), so the fault travels through the real ring; an op that is to be short asks the
//! kernel for less. An inline call that is to fail is not made at all.
//!
//! And sabotage: a guard is taken away, and the bug is back that it stands against. A test then
//! shows that the detectors see that bug.
//!
//! Without the feature `fault`, which is in no default set, nothing can be armed, and the question
//! whether a guard is sabotaged is the constant `false`. An armed fault is no security boundary, it
//! is a test's tool.

#[cfg(feature = "fault")]
mod plan;
mod sabotage;

#[cfg(feature = "fault")]
pub(crate) use plan::next;
#[cfg(feature = "fault")]
pub use plan::{Fault, Report, arm, arm_for, disarm};
#[doc(hidden)]
pub use sabotage::sabotaged;
pub use sabotage::{Sabotage, Sabotaging, sabotage};
