//! The daemon at its bars: stalled, idle and hostile peers, a cold file beside small requests, and
//! what happens when descriptors run out.
//!
//! The default tests are small. The full sizes are the lane `reach`, which prints what it measures:
//! `cargo test --release -p ringway-examples --test reach -- --ignored --nocapture --test-threads=1`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the other tests of the daemon")]
#[path = "../ringwayd/client.rs"]
mod client;
mod cold;
#[allow(dead_code, reason = "shared with the other tests of the daemon")]
#[path = "../ringwayd/daemon.rs"]
mod daemon;
mod descriptors;
mod hostile;
mod idle;
mod idle_tls;
mod load;
mod meter;
#[allow(dead_code, reason = "shared with the other tests of the daemon")]
#[path = "../ringwayd/secure.rs"]
mod secure;
mod stalled;
