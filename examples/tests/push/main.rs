//! `ringwayd push` from outside: its binary, real sockets, real files; receivers that behave, that do
//! not, and nginx.
//!
//! Nothing here asserts how long something took; what is waited for has a generous limit, past which
//! the test fails instead of hanging.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arriving;
mod changing;
mod expecting;
mod fan;
mod misbehaving;
mod nginx;
mod receiver;
mod run;
mod secrets;
mod settings;
