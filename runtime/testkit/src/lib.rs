//! The detectors that every test of Ringway shares.
//!
//! A test of moved bytes that only compares what arrived with what was sent misses most of what can
//! go wrong: a descriptor that stays open, a worker thread that never leaves, a page that the kernel
//! fills after its owner freed it, a byte that belongs to another file. Each module here watches for
//! one of these, and each is itself tested to bite:
//!
//! | module | notices |
//! |---|---|
//! | [`census`] | descriptors and threads left behind, by name |
//! | [`quarantine`] | writes into freed memory, the kernel's among them; and counts allocations |
//! | [`canary`] | a foreign, lost or repeated byte, and whose it is |
//! | [`budget`] | a test that hangs |
//! | [`bus`] | nothing by itself: it faults where the library does not contain it |
//! | [`chaos`] | nothing by itself: it is the network in between, slow, cutting or lying |
//! | [`peer`] | nothing by itself: it is the other end of the socket, slow, stalled or hostile |
//!
//! [`run_in_child`] gives a test a process of its own, which the first two need: they look at a whole
//! process, and the tests of one binary share theirs.
//!
//! ```
//! use ringway_testkit::{Census, canary::Checker};
//! use std::time::Duration;
//!
//! let before = Census::take();
//! let mut received = vec![0; 4096];
//! ringway_testkit::canary::fill(7, 100, &mut received); // here the transfer would stand
//! Checker::new(7, 100).feed(&received).expect("every byte is its own");
//! before.assert_unchanged_within(Duration::from_secs(1));
//! ```

pub mod budget;
pub mod bus;
pub mod canary;
pub mod census;
pub mod chaos;
pub mod child;
pub mod peer;
pub mod quarantine;

pub use budget::Budget;
pub use canary::Checker;
pub use census::Census;
pub use child::{Bite, assert_bites, observe_child, run_in_child, run_in_child_within};
pub use peer::{Behaviour, Received, Receiver};
pub use quarantine::Quarantine;
