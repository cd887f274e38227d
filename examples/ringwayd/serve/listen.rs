//! Binding the listeners of all threads before any of them serves.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use ringway::runtime::net::{ListenOptions, TcpListener};

/// How long an address that is in use is tried again: the kernel takes the ring of a daemon that was killed
/// apart after its process has ended, and the listener with it.
const IN_USE_MAX: Duration = Duration::from_secs(2);
/// How long between two tries.
const TRIED_EVERY: Duration = Duration::from_millis(20);

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
        let (listeners, address) =
            bind_patiently(address, threads).map_err(|error| explain(address, &error))?;
        bound.addresses.push(address);
        for (of_thread, listener) in bound.by_thread.iter_mut().zip(listeners) {
            of_thread.push(listener);
        }
    }
    Ok(bound)
}

/// Binds an address, and waits a moment for whoever has it to be gone.
fn bind_patiently(
    wanted: SocketAddr,
    threads: usize,
) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let mut deadline = None;
    loop {
        match bind_one(wanted, threads) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let deadline = deadline.get_or_insert_with(|| {
                    eprintln!(
                        "ringwayd: {wanted} is in use; trying for {IN_USE_MAX:?}, should it be a \
                         daemon that was killed and is not gone yet"
                    );
                    Instant::now() + IN_USE_MAX
                });
                if Instant::now() >= *deadline {
                    return Err(error);
                }
                thread::sleep(TRIED_EVERY);
            }
            outcome => return outcome,
        }
    }
}

/// One listener for each thread, and the address with its real port.
fn bind_one(wanted: SocketAddr, threads: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let shared = threads > 1;
    if shared && wanted.port() != 0 {
        // Listeners that share a port would share it with another daemon of this user as well, and
        // nobody would notice: so it is asked for alone first.
        drop(TcpListener::bind(wanted)?);
    }
    let options = ListenOptions::new().reuse_port(shared);
    let mut address = wanted;
    let mut listeners = Vec::with_capacity(threads);
    for _ in 0..threads {
        let listener = TcpListener::bind_with(address, options)?;
        address = listener.local_address()?;
        listeners.push(listener);
    }
    Ok((listeners, address))
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
