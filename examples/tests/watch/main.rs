//! `ringwayd watch` from outside: the binary, real folders, real sockets; receivers that behave and that
//! do not; kills at any point.
//!
//! Nothing here asserts how long something took; what is waited for has a generous limit, past which
//! the test fails instead of hanging.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arriving;
#[allow(dead_code, reason = "it is shared with the tests of push")]
#[path = "../push/authority.rs"]
mod authority;
mod chaos;
#[allow(dead_code, reason = "it is shared with the tests of push")]
#[path = "../push/daemon.rs"]
mod daemon;
mod encrypted;
mod failing;
mod folders;
mod killed;
mod memory;
mod metrics;
#[allow(dead_code, reason = "it is shared with the tests of push")]
#[path = "../push/receiver.rs"]
mod receiver;
mod restarting;
#[allow(dead_code, reason = "it is shared with the tests of push")]
#[path = "../push/run.rs"]
mod run;
mod scene;
mod settings;
