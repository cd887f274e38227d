//! Names to addresses by the resolver of the system, which blocks, so on a thread of its own.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use ringway::runtime::time;

use super::blocking::on_a_thread;

/// The addresses of a host, in the order in which the system wants them tried.
///
/// # Errors
///
/// Those of getaddrinfo(3), and `TimedOut`. The thread of a resolver that hangs is left behind.
///
/// # Cancel safety
///
/// Nothing is lost.
pub(crate) async fn resolve(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    let looking = on_a_thread("resolve", move || {
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
    });
    let found = time::timeout(limit, looking).await???;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}
