//! `ringwayd push` and `ringwayd get` from outside: the binary, real sockets, real files; servers that
//! behave, that do not, nginx and openssl.
//!
//! Nothing here asserts how long something took; what is waited for has a generous limit, past which
//! the test fails instead of hanging.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arriving;
mod authority;
mod changing;
mod daemon;
mod encrypted;
mod expecting;
mod fan;
mod getting;
mod misbehaving;
mod nginx;
mod ours;
mod receiver;
mod resuming;
mod run;
mod secrets;
mod settings;
