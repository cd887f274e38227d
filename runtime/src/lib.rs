//! A single-threaded, completion-based runtime on io_uring that can be held safely.
//!
//! # The model on one page
//!
//! - **A ring belongs to one thread.** [`Runtime`] sets it up, runs its tasks and is the only one to
//!   enter the kernel for it. Use [`run_per_core`] for several; [`Handle`] reaches a ring from
//!   anywhere.
//! - **An op owns what the kernel may touch** (descriptors, buffers, pipes, addresses) until its last
//!   completion. The future that you await is only a ticket.
//! - **Dropping a future is always memory-safe.** The op is cancelled, and what it still brings is
//!   released. But bytes may have gone out: a stream whose transfer was dropped is *poisoned* until
//!   [`net::Stream::settle`] has told how many.
//! - **Memory is leased.** [`lease`] lends buffers that are registered with the ring, [`lend_pipe`]
//!   lends pipes. Both pools are bounded by [`Config`]. A pipe that is not provably empty is never
//!   lent again, and a buffer shows only what was filled.
//! - **Sockets are waited for by polling**, never inside a thread of the kernel, and never with a
//!   buffer in hand.
//! - **Completions never exceed what the queue can hold**: an op that would is held back.
//! - **Every limit is a field of [`Config`]**, and everything that happens is counted in [`Stats`].
//!
//! ```
//! use ringway_runtime::{Runtime, fs::File, lease};
//!
//! # fn main() -> std::io::Result<()> {
//! let runtime = Runtime::new()?;
//! let text = runtime.block_on(async {
//!     let file = File::open("Cargo.toml").await?;
//!     let (read, buffer) = file.read_at(lease(4096).await?, 0, 4096, 0).await;
//!     read?;
//!     std::io::Result::Ok(String::from_utf8_lossy(&buffer.expect("it comes back")).into_owned())
//! })?;
//! assert!(text.contains("[package]"));
//! # Ok(()) }
//! ```
//!
//! # What to call
//!
//! [`Runtime::new`] and [`Runtime::block_on`] first; inside, [`spawn`], [`fs::File`], [`net::TcpListener`],
//! [`net::TcpStream`], [`time::sleep`] and [`signal::Signals`]. [`Runtime::with_config`] takes other limits,
//! [`Runtime::capabilities`] tells what this host allows, and [`Runtime::embedded`] is for a loop that is there
//! already. Files are moved by the crate `ringway`, which stands on this one.
//!
//! # What it does not do
//!
//! No work stealing, no TLS, no HTTP, no name resolution, no UDP, no Windows or macOS. It does not
//! know what a transfer is: that is the crate `ringway`.

#![deny(unsafe_code)]

mod capabilities;
mod config;
mod driver;
mod error;
mod executor;
#[cfg_attr(not(feature = "fault"), doc(hidden))]
pub mod fault;
pub mod fs;
mod local;
#[expect(unsafe_code, reason = "leases are parts of a mapping: see the module")]
mod mem;
pub mod net;
#[expect(unsafe_code, reason = "ops own what the kernel may touch: see the module")]
mod op;
mod pipe;
pub mod region;
mod runtime;
pub mod signal;
mod stats;
#[expect(unsafe_code, reason = "the only code that talks to the kernel: see the module")]
mod sys;
pub mod time;
mod wake;

use std::io;

pub use capabilities::Capabilities;
pub use config::{BufferClass, Config};
pub use error::StartError;
pub use executor::{JoinError, JoinHandle, spawn, yield_now};
pub use mem::{IoBuf, IoBufMut, Lease, SLOTS_MAX, Slots};
pub use pipe::{PipeLease, PipeRefusal};
pub use runtime::{Handle, RingGone, Runtime, Turn, capabilities, run_per_core, stats};
pub use stats::Stats;
pub use sys::ring::Setup;

/// Lends a buffer of at least `bytes`, or the largest there is, and waits if all are lent.
///
/// # Errors
///
/// When the caller is not inside of a ring, or the configuration has no buffers.
///
/// # Cancel safety
///
/// Nothing is lost.
pub async fn lease(bytes: usize) -> io::Result<Lease> {
    let local = local::current()?;
    local.buffers.lease(bytes).await
}

/// Lends a buffer as [`lease`] does, or `None` if all are lent.
///
/// # Errors
///
/// When the caller is not inside of a ring.
pub fn try_lease(bytes: usize) -> io::Result<Option<Lease>> {
    Ok(local::current()?.buffers.try_lease(bytes))
}

/// Lends an empty pipe, or says why there is none. Never waits.
///
/// # Errors
///
/// The outer one when the caller is not inside of a ring; the inner one says what is exhausted.
pub fn lend_pipe() -> io::Result<Result<PipeLease, PipeRefusal>> {
    Ok(local::current()?.pipes.try_lend())
}

/// Goes through the ring once and does nothing: what a round trip costs.
///
/// # Errors
///
/// When the caller is not inside of a ring.
///
/// # Cancel safety
///
/// Nothing is lost.
pub async fn nop() -> io::Result<()> {
    let port = std::rc::Rc::clone(&local::current()?.port);
    port.submit(sys::sqe::Sqe::nop(), op::Held::default(), op::Effect::None).await.result.map(drop)
}

/// The length that an inline call may ask for, or the errno that a test has injected.
#[cfg(feature = "fault")]
fn inline_len(name: &'static str, len: u32) -> io::Result<usize> {
    match fault::next(name) {
        Some(fault::Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(fault::Fault::Short(short)) => Ok(len.min(short) as usize),
        None => Ok(len as usize),
    }
}

#[cfg(not(feature = "fault"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature `fault` it can fail")]
fn inline_len(_name: &'static str, len: u32) -> io::Result<usize> {
    Ok(len as usize)
}
