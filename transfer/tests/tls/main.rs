//! TLS streams over real sockets: against themselves, against rustls, and against the programs that
//! people use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificates;
mod handshake;
mod openssl;
mod peers;
mod programs;
mod receiving;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use ringway::runtime::net::{TcpListener, TcpStream};
use ringway::runtime::time::timeout;
use ringway::runtime::{Config, Runtime, spawn};
use ringway::tls::{TlsAcceptor, TlsConnector, TlsError, TlsStream};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a future on a ring of its own; a hang is a failure.
fn run<T>(future: impl Future<Output = T>) -> T {
    let config = Config { completion_entries: 1024, ..Config::default() };
    let runtime = Runtime::with_config(config).unwrap();
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("it hangs") })
}

fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (TcpListener::from_std(listener).unwrap(), address)
}

/// A socket without a ring, with an end to its patience.
fn plain(address: std::net::SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn name(name: &'static str) -> ServerName<'static> {
    ServerName::try_from(name).unwrap()
}

/// Both ends of a handshake, however it goes: server first.
async fn meet(
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    server: &'static str,
) -> (Result<TlsStream, TlsError>, Result<TlsStream, TlsError>) {
    let (listener, address) = listener();
    let acceptor = acceptor.clone();
    let accepting = spawn(async move { acceptor.accept(listener.accept().await.unwrap()).await });
    let stream = TcpStream::connect(address).await.unwrap();
    let connected = connector.connect(stream, name(server)).await;
    (accepting.await.unwrap(), connected)
}

/// The same when it goes well.
async fn pair_with(server: ServerConfig, client: ClientConfig) -> (TlsStream, TlsStream) {
    let acceptor = TlsAcceptor::new(Arc::new(server));
    let connector = TlsConnector::new(Arc::new(client));
    let (server, client) = meet(&acceptor, &connector, "peer.test").await;
    (server.unwrap(), client.unwrap())
}

async fn pair() -> (TlsStream, TlsStream) {
    let authority = certificates::Authority::new();
    pair_with(authority.server(), authority.client()).await
}

/// Reads until the peer has said that nothing follows.
async fn read_to_end(stream: &mut TlsStream) -> std::io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 20_000]);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Bytes that say where they stand.
fn content(len: usize) -> Vec<u8> {
    (0..len as u64).flat_map(|at| (at * 0x9e37_79b9).to_le_bytes()).take(len).collect()
}
