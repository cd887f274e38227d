//! Sessions that are broken while a file is under way: the transfer ends, the client hears why behind what
//! it was sent, and both logs have a line.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ringway::tls::crypto_provider;
use ringway::tls::rustls::pki_types::CertificateDer;
use ringway::tls::rustls::pki_types::pem::PemObject;
use ringway::tls::rustls::{
    self, AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned, version,
};
use rustix::net::sockopt::set_socket_linger;

use crate::client::assert_same;
use crate::daemon::{Daemon, Root, content, wait_until};
use crate::secure::{Secure, certificate, client_config};

/// More than the buffers of a connection take, so that a transfer waits for who does not read.
const LEN: usize = 40_000_000;
/// Four times what a session takes of records that bring nothing.
const FLOOD: usize = 256;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// How a session is broken, in the middle of a download.
struct Breach {
    name: &'static str,
    act: fn(&mut Client),
    alert: Option<AlertDescription>,
    says: &'static str,
}

const BREACHES: [Breach; 5] = [
    Breach {
        name: "a record with a bad tag",
        act: |client| client.sock.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).unwrap(),
        alert: Some(AlertDescription::BadRecordMac),
        says: "fails its authentication",
    },
    Breach {
        name: "a record that is too long",
        act: |client| client.sock.write_all(&[23, 3, 3, 0x41, 1]).unwrap(),
        alert: Some(AlertDescription::RecordOverflow),
        says: "a record of 16641 bytes, longer than TLS allows",
    },
    Breach {
        name: "plain HTTP in the middle",
        act: |client| client.sock.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap(),
        alert: Some(AlertDescription::UnexpectedMessage),
        says: "the peer sent what is no record of TLS",
    },
    Breach {
        name: "a fatal alert",
        act: |client| {
            // It is given what cannot be opened, behind whatever it has of a record, and says so.
            let garbage = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
            while client.conn.process_new_packets().is_ok() {
                client.conn.read_tls(&mut &garbage[..]).unwrap();
            }
            client.conn.write_tls(&mut client.sock).unwrap();
        },
        alert: None,
        says: "the peer ended TLS with the alert BadRecordMac",
    },
    Breach {
        name: "a flood of key updates",
        act: |client| {
            let mut flood = Vec::new();
            for _ in 0..FLOOD {
                client.conn.refresh_traffic_keys().unwrap();
                client.conn.write_tls(&mut flood).unwrap();
            }
            client.sock.write_all(&flood).unwrap();
        },
        alert: Some(AlertDescription::UnexpectedMessage),
        says: "too many records that bring nothing",
    },
];

fn serve(root: &Root, files: &(String, String), more: &[&str]) -> Daemon {
    let arguments =
        [&["--tls-listen", "127.0.0.1:0", "--cert", &files.0, "--key", &files.1][..], more];
    Daemon::serve(root, &arguments.concat())
}

/// The lines about this client.
fn lines_of(daemon: &Daemon, who: SocketAddr) -> Vec<String> {
    let errors = daemon.errors();
    errors.lines().filter(|line| line.contains(&who.to_string())).map(str::to_owned).collect()
}

/// Waits for the line about this client, and checks that it is the only one.
fn assert_told(daemon: &Daemon, who: SocketAddr, says: &str) {
    wait_until(&format!("it says: {says}"), || !lines_of(daemon, who).is_empty());
    let lines = lines_of(daemon, who);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let start = format!("ringwayd: TLS was ended with {who}: ");
    assert!(lines[0].starts_with(&start) && lines[0].contains(says), "{says}: {lines:?}");
    assert!(lines[0].contains("likely to blame: the "), "{lines:?}");
}

/// Asks for a file and reads the head of the answer; what came of the body with it.
fn ask(client: &mut Client, name: &str) -> Vec<u8> {
    let request = format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    client.flush().unwrap();
    let mut got = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = client.read(&mut chunk).unwrap();
        got.extend_from_slice(&chunk[..count]);
        if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            assert!(got.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&got));
            return got.split_off(end + 4);
        }
        assert!(count > 0, "an end in the head");
    }
}

/// Reads to whatever end.
fn read_all(client: &mut Client, got: &mut Vec<u8>) -> std::io::Error {
    let mut chunk = vec![0; 1 << 16];
    let error = loop {
        match client.read(&mut chunk) {
            Ok(0) => panic!("an end that looks like one after {} bytes", got.len()),
            Ok(count) => got.extend_from_slice(&chunk[..count]),
            Err(error) => break error,
        }
    };
    // rustls tells of an alert before it gives what came with it.
    while let Ok(count @ 1..) = client.conn.reader().read(&mut chunk) {
        got.extend_from_slice(&chunk[..count]);
    }
    error
}

fn alert_in(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[test]
fn a_breach_ends_a_download_with_its_alert_and_a_line_in_both_logs() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", LEN);
    let daemon = serve(&root, &files, &[]);
    let idle = daemon.sockets();
    for Breach { name, act, alert, says } in BREACHES {
        let mut client = Secure::connect(&daemon, &files.0).0;
        let who = client.sock.local_addr().unwrap();
        let mut got = ask(&mut client, "file");
        act(&mut client);
        if alert.is_some() {
            let error = read_all(&mut client, &mut got);
            assert_eq!(alert_in(&error), alert, "{name}: {error}");
            assert!(got.len() < LEN, "{name}: all of it has come");
            assert_same(&got, &content[..got.len()], name);
        }
        assert_told(&daemon, who, says);
        drop(client);
        wait_until("no connection is left", || daemon.sockets() == idle);
    }
    let mut good = Secure::connect(&daemon, &files.0);
    assert_same(&good.get("file", LEN), &content, "the next one");
    drop(good);
    let log = daemon.finish();
    let (broken, whole): (Vec<_>, Vec<_>) =
        log.lines().partition(|line| line.contains("outcome=tls-broken"));
    assert_eq!((broken.len(), whole.len()), (BREACHES.len(), 1), "{log}");
}

#[test]
fn a_breach_ends_a_download_by_tls_1_2_as_well() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", LEN);
    let daemon = serve(&root, &files, &[]);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.0).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = Secure::connect_with(&daemon, Arc::new(config)).0;
    let who = client.sock.local_addr().unwrap();
    let mut got = ask(&mut client, "file");
    client.sock.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).unwrap();
    read_all(&mut client, &mut got);
    assert_same(&got, &content[..got.len()], "the beginning");
    assert_told(&daemon, who, "fails its authentication");
    drop(client);
    let log = daemon.finish();
    assert!(log.contains("outcome=tls-broken"), "{log}");
}

#[test]
fn who_leaves_in_the_middle_of_a_download_ends_it_with_a_line() {
    let root = Root::new();
    let files = certificate(&root, "first");
    root.file("file", LEN);
    let daemon = serve(&root, &files, &[]);
    let idle = daemon.sockets();
    for is_reset in [true, false] {
        let mut client = Secure::connect(&daemon, &files.0).0;
        drop(ask(&mut client, "file"));
        if is_reset {
            set_socket_linger(&client.sock, Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        wait_until("no connection is left", || daemon.sockets() == idle);
    }
    assert!(!daemon.errors().contains("TLS was ended"), "leaving breaks nothing");
    let log = daemon.finish();
    let broken = log.lines().filter(|line| line.contains("outcome=peer-closed")).count();
    assert_eq!(broken, 2, "{log}");
}

#[test]
fn a_breach_ends_an_upload_and_is_told_once() {
    let (root, source) = (Root::new(), Root::new());
    let files = certificate(&source, "first");
    let daemon = serve(&root, &files, &["--writable"]);
    let idle = daemon.sockets();
    let mut client = Secure::connect_with(&daemon, client_config(&files.0)).0;
    let who = client.sock.local_addr().unwrap();
    let head = "PUT /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&content("file", 200_000)).unwrap();
    client.flush().unwrap();
    client.sock.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let error = read_all(&mut client, &mut answer);
    assert_eq!(alert_in(&error), Some(AlertDescription::BadRecordMac), "{error}");
    assert_told(&daemon, who, "fails its authentication");
    drop(client);
    wait_until("no connection is left", || daemon.sockets() == idle);
    assert!(!root.path("file").exists(), "half a file has no name");
    let log = daemon.finish();
    assert_eq!(log.lines().count(), 1, "{log}");
}
