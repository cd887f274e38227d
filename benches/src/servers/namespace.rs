//! A network of the harness's own, where the sockets of every server use CUBIC whatever it asks for.
//!
//! The congestion control of a socket that chooses none comes from its route, then from the sysctl. A
//! namespace may not set the sysctl to an algorithm that the host restricts, but its routes may name it
//! (`congctl` in ip-route(8)), and an accepted socket takes that of the route back to its peer.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::thread::UnshareFlags;

use crate::loopback;

/// Moves this thread, and what it will start, into a network of its own with CUBIC on its loopback.
/// It vanishes with the last process in it. Called while this is the only thread.
///
/// # Errors
///
/// This is not root, or there is no ip(8): the run goes on in the host's network, with its settings.
pub(crate) fn enter() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root can make one");
    ip("-Version").context("iproute2 is needed to set one up")?;
    // SAFETY: the file descriptor table stays shared: NEWNET changes only the network of this thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .context("the kernel refused one")?;
    ip("link set lo up")?;
    for destination in ["127.0.0.0/8", "127.0.0.1"] {
        ip(&format!(
            "route replace local {destination} dev lo table local proto kernel scope host \
             src 127.0.0.1 congctl cubic"
        ))?;
    }
    Ok(())
}

/// The congestion control of an accepted socket that did not choose: what a server gets here.
pub(crate) fn congestion_in_force() -> Result<String> {
    let (listener, port) = loopback::listen()?;
    let _client = loopback::connect(port)?;
    let accepted = loopback::accept(&listener)?;
    Ok(rustix::net::sockopt::tcp_congestion(accepted)?)
}

fn ip(arguments: &str) -> Result<()> {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("ip(8) cannot be started")?;
    ensure!(status.success(), "ip {arguments}: {status}");
    Ok(())
}
