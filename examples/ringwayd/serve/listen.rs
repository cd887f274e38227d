//! Binding the listeners of all threads before any of them serves.

use std::io;
use std::net::SocketAddr;

use anyhow::anyhow;
use ringway::runtime::net::{ListenOptions, TcpListener};

/// One listener per address for each thread, and the addresses with their real ports.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) by_thread: Vec<Vec<TcpListener>>,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Binds every address for every thread.
///
/// # Errors
///
/// The first address that cannot be had, with what to do about it.
pub(crate) fn bind(wanted: &[SocketAddr], threads: usize) -> anyhow::Result<Bound> {
    let mut bound = Bound {
        by_thread: (0..threads).map(|_| Vec::with_capacity(wanted.len())).collect(),
        addresses: Vec::with_capacity(wanted.len()),
    };
    for &address in wanted {
        bind_one(address, &mut bound).map_err(|error| explain(address, &error))?;
    }
    Ok(bound)
}

fn bind_one(wanted: SocketAddr, bound: &mut Bound) -> io::Result<()> {
    let shared = bound.by_thread.len() > 1;
    if shared && wanted.port() != 0 {
        // Listeners that share a port would share it with another daemon of this user as well, and
        // nobody would notice: so it is asked for alone first.
        drop(TcpListener::bind(wanted)?);
    }
    let options = ListenOptions::new().reuse_port(shared);
    let mut address = wanted;
    for listeners in &mut bound.by_thread {
        let listener = TcpListener::bind_with(address, options)?;
        address = listener.local_address()?;
        listeners.push(listener);
    }
    bound.addresses.push(address);
    Ok(())
}

fn explain(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: find it with `ss -ltnp`, or choose another port with \
             --listen"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root, CAP_NET_BIND_SERVICE, or a lower \
             net.ipv4.ip_unprivileged_port_start"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: `ip address` lists what it has"
        }
        _ => "choose another address with --listen",
    };
    anyhow!("cannot listen on {address}: {error}: {remedy}")
}
