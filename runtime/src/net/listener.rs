//! Accepting connections, and what to do when descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::fault::{Sabotage, sabotaged};
use crate::local;
use crate::op::{Effect, Held};
use crate::sys::sqe::{READABLE, Sqe};
use crate::sys::{self, socket};
use crate::time;

/// The pause after an accept that failed for want of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Connections that may fail one after the other before accepting pauses as well: the errno of a
/// connection can also be that of a filter that refuses every call.
const FAILURES_IN_A_ROW_MAX: u32 = 64;

/// How to listen.
///
/// ```
/// let options = ringway_runtime::net::ListenOptions::new().reuse_port(true).backlog(1024);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    pub(super) backlog: u32,
    pub(super) reuse_port: bool,
    pub(super) v6_only: bool,
}

impl ListenOptions {
    /// A backlog of 4096 connections, one listener for each port, IPv6 sockets that take IPv6 only.
    #[must_use]
    pub fn new() -> Self {
        Self { backlog: 4096, reuse_port: false, v6_only: true }
    }

    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    #[must_use]
    pub fn backlog(self, connections: u32) -> Self {
        Self { backlog: connections, ..self }
    }

    /// Lets several listeners share a port (`SO_REUSEPORT`, socket(7)).
    #[must_use]
    pub fn reuse_port(self, on: bool) -> Self {
        Self { reuse_port: on, ..self }
    }

    /// Whether an IPv6 listener refuses IPv4 (`IPV6_V6ONLY`, ipv6(7)).
    #[must_use]
    pub fn v6_only(self, on: bool) -> Self {
        Self { v6_only: on, ..self }
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Accepts one connection, waiting for it.
///
/// A connection that went away while it waited is skipped. When descriptors or memory have run out,
/// accepting pauses and goes on by itself: the connection waits in the backlog, and there is neither
/// a spinning loop nor a flood of log lines.
pub(super) async fn accept(listener: &Arc<OwnedFd>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let local = local::current()?;
    let mut warned = false;
    let mut failures = 0;
    loop {
        let error =
            match crate::inline_len("accept", 0).and_then(|_| socket::accept(listener.as_fd())) {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
        match error.raw_os_error() {
            Some(libc::EAGAIN) => {
                let held = Held { file: Some(Arc::clone(listener)), ..Held::default() };
                let sqe = Sqe::poll(listener.as_raw_fd(), READABLE);
                local.port.submit(sqe, held, Effect::None).await.result?;
                failures = 0;
            }
            Some(errno) if of_the_connection(errno) && failures < FAILURES_IN_A_ROW_MAX => {
                failures += 1;
            }
            Some(errno) if of_the_connection(errno) || is_exhaustion(errno) => {
                failures = 0;
                local.counters.accept_pauses.bump();
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%error, "accepting pauses: raise RLIMIT_NOFILE or fs.file-max");
                }
                let none = sabotaged(Sabotage::AcceptWithoutPause);
                time::sleep(if none { Duration::ZERO } else { EXHAUSTED_PAUSE }).await;
            }
            _ => {
                if !sys::would_block(&error) {
                    local.counters.unexpected_errnos.bump();
                }
                return Err(error);
            }
        }
    }
}

/// The connection failed before it was accepted; accept(2) lists these.
fn of_the_connection(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EPROTO
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::ENONET
    )
}

/// Descriptors or memory have run out.
fn is_exhaustion(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}
