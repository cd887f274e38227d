//! What the tests of transfers do, in any measure: in full in the rooms of their subject, and in small
//! where each guard is shown to bite.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod aborted;
pub mod borders;
pub mod dropped;
pub mod mutated;
pub mod processed;
pub mod received;
pub mod sealed;
pub mod stalled;
