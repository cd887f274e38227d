//! The daemon from outside: its binary, real sockets, real files, and curl.
//!
//! Every test starts a daemon of its own on a free port and ends it, so that they can run in any
//! order and side by side. Nothing here asserts how long something took; what is waited for has a
//! generous limit, past which the test fails instead of hanging.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod bodies;
mod changes;
mod client;
mod conditions;
mod confinement;
mod curl;
mod daemon;
mod downloaders;
mod limits;
mod listening;
mod log;
mod ranges;
mod redirect;
mod refusals;
mod secure;
mod stopping;
mod thresholds;
mod tls;
mod tls_broken;
mod tls_refused;
mod uploads;
mod uploads_curl;
mod uploads_killed;
mod uploads_known;
mod uploads_resumable;
mod uploads_secure;
mod user;
