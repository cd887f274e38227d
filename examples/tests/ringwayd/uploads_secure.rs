//! Files that come in over TLS, and clients that show certificates.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::Signal;

use crate::admin;
use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, content, wait_until};
use crate::secure::{Secure, certificate};
use crate::uploads::{put, staged};

/// A daemon that takes files over TLS, and nothing else.
fn writable(root: &Root, files: &(String, String), more: &[&str]) -> Daemon {
    let always =
        ["--writable", "--tls-listen", "127.0.0.1:0", "--cert", &files.0, "--key", &files.1];
    Daemon::serve(root, &[&always[..], more].concat())
}

fn curl(trusted: &str, arguments: &[&str]) -> Option<Output> {
    let always = ["-sS", "--max-time", "30", "--cacert", trusted, "-w", "%{http_code}"];
    let output = Command::new("curl").args(always).args(arguments).output();
    output.map_err(|error| println!("skipped: curl cannot be run: {error}")).ok()
}

fn url(address: SocketAddr, name: &str) -> String {
    format!("https://localhost:{}/{name}", address.port())
}

#[test]
fn curl_uploads_over_tls_in_every_manner() {
    let (root, source) = (Root::new(), Root::new());
    let files = certificate(&source, "first");
    let daemon = writable(&root, &files, &[]);
    for (number, size) in [1, 65_536, 1_048_577, 5_000_000].into_iter().enumerate() {
        let from = source.path("file");
        fs::write(&from, content("curl", size)).unwrap();
        let from = from.to_str().unwrap();
        let manners: [&[&str]; 5] = [
            &[],
            &["-H", "Transfer-Encoding: chunked"],
            &["-H", "Expect: 100-continue"],
            &["-H", "Expect:", "-0"],
            &["--tls-max", "1.2"],
        ];
        for (manner, more) in manners.into_iter().enumerate() {
            let name = format!("file-{number}-{manner}");
            let place = url(daemon.address(), &name);
            let Some(output) = curl(&files.0, &[&["-T", from, &place][..], more].concat()) else {
                return;
            };
            assert_eq!(String::from_utf8_lossy(&output.stdout), "201", "{more:?} {output:?}");
            assert_same(&fs::read(root.path(&name)).unwrap(), &content("curl", size), &name);
        }
    }
    assert_eq!(staged(&root), 0);
    let log = daemon.finish();
    assert!(log.contains("route=copy") && log.contains("5000000 bytes stored"), "{log}");
}

/// A head for a body of this length.
fn head(name: &str, length: usize) -> Vec<u8> {
    format!("PUT /{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

#[test]
fn what_came_with_a_head_is_of_the_body_and_what_came_with_a_body_is_the_next_request() {
    let (root, source) = (Root::new(), Root::new());
    let files = certificate(&source, "first");
    let daemon = writable(&root, &files, &[]);
    let mut client = Secure::connect(&daemon, &files.0);
    // All of it is one flight, and some of it one record.
    for size in [0, 1, 3000, 4096, 10_000, 200_000] {
        let body = content("body", size);
        let next = b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n";
        client.0.write_all(&[&head("file", size)[..], &body, next].concat()).unwrap();
        let mut got = Vec::new();
        let both = |got: &[u8]| {
            let ends = got.windows(4).enumerate().filter(|(_, four)| four == b"\r\n\r\n");
            ends.map(|(at, _)| at + 4).nth(1).filter(|end| got.len() >= end + size)
        };
        let end = loop {
            if let Some(end) = both(&got) {
                break end;
            }
            let mut chunk = vec![0; 1 << 16];
            let count = client.0.read(&mut chunk).unwrap();
            assert!(count > 0, "an end after {} bytes", got.len());
            got.extend_from_slice(&chunk[..count]);
        };
        assert!(got.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&got));
        assert_same(&got[end..], &body, "what was put and read back");
    }
}

#[test]
fn a_body_that_is_cut_off_over_tls_is_no_file() {
    let (root, source) = (Root::new(), Root::new());
    let files = certificate(&source, "first");
    let daemon = writable(&root, &files, &[]);
    for says_its_end in [true, false] {
        for first in [head("file", 100_000), {
            let chunked = "PUT /file HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            [chunked.as_bytes(), b"ffff\r\n"].concat()
        }] {
            let mut client = Secure::connect(&daemon, &files.0);
            client.0.write_all(&[&first[..], &content("body", 50_000)].concat()).unwrap();
            if says_its_end {
                client.0.conn.send_close_notify();
            }
            client.0.flush().unwrap();
            client.0.sock.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.0.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
    }
    wait_until("nothing is left", || staged(&root) == 0);
    assert!(!root.path("file").exists());
}

/// An authority, and a client that it has signed; the files of both.
fn client_of(folder: &Root, name: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("authority of {name}"));
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, &issuer).unwrap();
    let write = |file: String, text: String| {
        fs::write(folder.path(&file), text).unwrap();
        folder.path(&file).to_str().unwrap().to_owned()
    };
    (
        write(format!("{name}-ca.pem"), issuer.pem()),
        write(format!("{name}.pem"), signed.pem()),
        write(format!("{name}.key"), key.serialize_pem()),
    )
}

#[test]
fn who_has_no_good_certificate_is_told_so_where_one_is_required() {
    let (root, source) = (Root::new(), Root::new());
    let files = certificate(&source, "first");
    let (authority, own, key) = client_of(&source, "friend");
    let (_, strange, strange_key) = client_of(&source, "stranger");
    let daemon = writable(&root, &files, &["--client-ca", &authority]);
    let place = url(daemon.address(), "file");
    let from = files.0.as_str();
    let friend = ["--cert", &own, "--key", &key, "-T", from, &place];
    let Some(output) = curl(&files.0, &friend) else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "201", "{output:?}");
    for (refused, says) in [
        (&["-T", from, &place][..], "the peer presented no certificate, and one is required"),
        (&["--cert", &strange, "--key", &strange_key, &place], "certificate was refused"),
    ] {
        let output = curl(&files.0, refused).unwrap();
        assert!(!output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(told.contains("alert"), "{told}");
        wait_until("it is in the log of failures", || daemon.errors().contains(says));
    }
    let log = daemon.finish();
    assert!(log.starts_with("127.0.0.1 - sha256:"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn other_authorities_of_clients_are_read_on_sighup() {
    let (root, source) = (Root::new(), Root::new());
    let files = certificate(&source, "first");
    let old = client_of(&source, "old");
    let new = client_of(&source, "new");
    let authorities = source.path("authorities.pem");
    fs::copy(&old.0, &authorities).unwrap();
    let daemon =
        writable(&root, &files, &["--client-ca", authorities.to_str().unwrap(), "--threads", "2"]);
    let place = url(daemon.address(), "file");
    let from = files.0.as_str();
    let served = |client: &(String, String, String)| {
        let shown = ["--cert", &client.1, "--key", &client.2, "-T", from, &place];
        Some(curl(&files.0, &shown)?.status.success())
    };
    let Some(first) = served(&old) else { return };
    assert_eq!((first, served(&new)), (true, Some(false)));

    fs::write(&authorities, "no certificate").unwrap();
    daemon.signal(Signal::HUP);
    wait_until("it says that it goes on", || daemon.errors().contains("going on with"));
    assert_eq!((served(&old), served(&new)), (Some(true), Some(false)), "as it was");

    fs::copy(&new.0, &authorities).unwrap();
    daemon.signal(Signal::HUP);
    wait_until("it has read them", || daemon.errors().contains("was read again"));
    assert_eq!((served(&old), served(&new)), (Some(false), Some(true)), "as it is now");
}

#[test]
fn a_certificate_or_a_token_may_write_where_certificates_are_optional() {
    let (root, source) = (Root::new(), Root::new());
    let files = certificate(&source, "first");
    let (authority, own, key) = client_of(&source, "friend");
    let tokens = source.path("tokens");
    fs::write(&tokens, "secret\n").unwrap();
    let always = ["--client-ca", &authority, "--client-auth", "optional"];
    let plain = ["--listen", "127.0.0.1:0"];
    let daemon = writable(&root, &files, &[&always[..], &plain].concat());
    let place = url(daemon.addresses[1], "file");
    let from = files.0.as_str();
    let code = |place: &str, more: &[&str]| {
        let output = curl(&files.0, &[&[place][..], more].concat())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let put_file = ["-T", from];
    let shown = ["--cert", &own, "--key", &key];
    let Some(refused) = code(&place, &put_file) else { return };
    assert!(refused.ends_with("403"), "{refused}");
    assert_eq!(code(&place, &[&put_file[..], &shown].concat()).unwrap(), "201");
    assert!(code(&place, &[]).unwrap().ends_with("200"), "everybody may read");
    let mut client = Client::connect(daemon.addresses[0]);
    assert_eq!(put(&mut client, "/plain", "", b"x").status, 403, "there are none without TLS");
    drop(daemon);
    let tokens = ["--write-tokens", tokens.to_str().unwrap()];
    let daemon = writable(&root, &files, &[&always[..], &tokens].concat());
    let place = url(daemon.address(), "file");
    assert!(code(&place, &put_file).unwrap().ends_with("401"));
    assert_eq!(code(&place, &[&put_file[..], &shown].concat()).unwrap(), "204");
    let token = ["-H", "Authorization: Bearer secret"];
    assert_eq!(code(&place, &[&put_file[..], &token].concat()).unwrap(), "204");
}

#[test]
fn uploads_are_counted_with_what_was_refused() {
    let root = Root::new();
    let more = ["--writable", "--admin-listen", "127.0.0.1:0", "--max-body", "1MB"];
    let daemon = Daemon::serve(&root, &more);
    let admin = admin::address(&daemon);
    let mut client = Client::connect(daemon.address());
    assert_eq!(put(&mut client, "/small", "", &[7; 1000]).status, 201);
    assert_eq!(put(&mut client, "/large", "", &[7; 500_000]).status, 201);
    client.ask("PUT", "/too-large", "Content-Length: 2000000\r\n");
    assert_eq!(client.response().status, 413);
    let mut text = String::new();
    wait_until("they are counted", || {
        text = admin::ask(admin, "GET", "/metrics").1;
        text.contains("ringwayd_uploads_refused_total{reason=\"too-large\"} 1\n")
    });
    for line in [
        "ringwayd_uploads_total{route=\"copy\",mode=\"hybrid\"} 1\n",
        "ringwayd_upload_bytes_total 501000\n",
        "ringwayd_requests_total{status=\"201\"} 2\n",
        "ringwayd_upload_seconds_total ",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}
