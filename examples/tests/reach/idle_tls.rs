//! Keep-alive connections over TLS on which nothing happens, and what rustls alone would hold for them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use ringway::tls::crypto_provider;
use ringway::tls::rustls::crypto::aws_lc_rs::Ticketer;
use ringway::tls::rustls::pki_types::pem::PemObject;
use ringway::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use ringway::tls::rustls::{
    ClientConfig, ClientConnection, DEFAULT_VERSIONS, ServerConfig, ServerConnection,
};
use ringway_testkit::child::{ChildEnd, observe_child};

use crate::daemon::{Daemon, Root};
use crate::meter;
use crate::secure::{Secure, certificate, client_config};

/// The promise: user memory of the daemon for each of them, beyond what a buffered connection of rustls
/// holds, which is more than the part of rustls that the daemon keeps.
const BYTES_BEYOND_MAX: u64 = 8 << 10;
/// Connections before anything is measured: what they make stays.
const WARM: usize = 200;

#[test]
fn idle_connections_over_tls_cost_little_beyond_rustls() {
    alone("idle_tls::idle_connections_over_tls_cost_little_beyond_rustls", 1000);
}

#[test]
#[ignore = "lane: reach; run with: cargo test --release -p ringway-examples --test reach -- --ignored"]
fn ten_thousand_idle_connections_over_tls_cost_little_beyond_rustls() {
    let name = "idle_tls::ten_thousand_idle_connections_over_tls_cost_little_beyond_rustls";
    alone(name, 10_000);
}

/// In a process whose memory no other test uses.
fn alone(name: &str, wanted: usize) {
    let report = observe_child(name, Duration::from_secs(300), || compare(wanted));
    assert!(matches!(report.end, ChildEnd::Completed), "{report}");
    print!("{}", report.output);
}

fn compare(wanted: usize) {
    let count = meter::affordable(wanted);
    let root = Root::new();
    let files = certificate(&root, "own");
    let by_rustls = of_rustls(&files, count);
    let by_daemon = of_daemon(&root, &files, count);
    let beyond = by_daemon.saturating_sub(by_rustls);
    println!(
        "{count} idle connections over TLS: {by_daemon} bytes each in the daemon, {by_rustls} in a \
         buffered connection of rustls alone, {beyond} beyond it"
    );
    assert!(beyond <= BYTES_BEYOND_MAX, "{beyond} bytes beyond what rustls holds");
}

/// Bytes that the daemon holds for each, after a request.
fn of_daemon(root: &Root, files: &(String, String), count: usize) -> u64 {
    root.file("file", 100);
    let quiet = ["--log-format", "none", "--idle-timeout-seconds", "600"];
    let tls = ["--tls-listen", "127.0.0.1:0", "--cert", &files.0, "--key", &files.1];
    let daemon = Daemon::serve(root, &[&tls[..], &quiet].concat());
    let config = client_config(&files.0);
    let asked = |_| {
        let mut client = Secure::connect_with(&daemon, Arc::clone(&config));
        client.get("file", 100);
        client
    };
    let mut clients: Vec<_> = (0..WARM).map(asked).collect();
    let before = daemon.memory();
    clients.extend((0..count).map(asked));
    let each = daemon.memory().saturating_sub(before) / count as u64;
    for client in clients.iter_mut().rev().take(20) {
        client.get("file", 100);
    }
    each
}

/// Bytes that a buffered connection of rustls holds, after a request.
fn of_rustls(files: &(String, String), count: usize) -> u64 {
    let chain = vec![CertificateDer::from_pem_file(&files.0).unwrap()];
    let mut server = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_protocol_versions(DEFAULT_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&files.1).unwrap())
        .unwrap();
    server.ticketer = Ticketer::new().unwrap();
    let (server, client) = (Arc::new(server), client_config(&files.0));
    let mut held = Vec::with_capacity(WARM + count);
    held.extend((0..WARM).map(|_| asked(&server, &client)));
    let before = meter::own_memory();
    held.extend((0..count).map(|_| asked(&server, &client)));
    let each = meter::own_memory().saturating_sub(before) / count as u64;
    assert!(held.iter().all(|connection| !connection.wants_write()));
    each
}

/// The server's end of a connection in memory, over which a request and its answer went.
fn asked(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> ServerConnection {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    client.writer().write_all(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut request, mut answer, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    while answer.len() < 300 {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        if let Ok(read) = server.reader().read(&mut buffer) {
            request.extend_from_slice(&buffer[..read]);
            server.writer().write_all(&[b'a'; 300]).unwrap();
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
        if let Ok(read) = client.reader().read(&mut buffer) {
            answer.extend_from_slice(&buffer[..read]);
        }
    }
    assert!(request.starts_with(b"GET /file "));
    server
}
