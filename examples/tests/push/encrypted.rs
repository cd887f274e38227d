//! Over https: nginx and openssl as the servers, and everything that can be wrong with a certificate.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rcgen::{CertificateParams, date_time_ymd};
use ringway::tls::crypto_provider;
use ringway::tls::rustls::pki_types::pem::PemObject;
use ringway::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ringway::tls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::authority::{Authority, Signed};
use crate::nginx::Nginx;
use crate::receiver::{Receiver, assert_same};
use crate::run::{Files, Outcome, PATIENCE, get, run};

/// An nginx that speaks TLS, and what its clients trust.
fn nginx(more: &str) -> Option<(Authority, Nginx)> {
    let authority = Authority::new("authority of the test");
    let Signed { certificate, key } = authority.server();
    let more = format!("ssl_certificate {certificate}; ssl_certificate_key {key}; {more}");
    let nginx = Nginx::start_on(" ssl", &more)?;
    Some((authority, nginx))
}

/// `openssl s_server` with these arguments. Dropping it kills it.
struct OpenSsl {
    child: Child,
    address: SocketAddr,
}

impl OpenSsl {
    fn start(signed: &Signed, more: &[&str]) -> Option<OpenSsl> {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-www"]);
        command.args(["-cert", &signed.certificate, "-key", &signed.key]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("skipped: openssl cannot be run: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            Some(line.ok()?.strip_prefix("ACCEPT ")?.trim().parse().expect("an address"))
        });
        // The pipe must be read on, or it would stop at it.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(OpenSsl { child, address: address.expect("openssl says where it listens") })
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Pushes a small file there.
fn push_to(url: &str, more: &[&str]) -> Outcome {
    let files = Files::new();
    files.file("file", 50_000);
    let path = files.names(&["file"]).remove(0);
    run(&[&[&path, "--to", url][..], more].concat())
}

#[track_caller]
fn assert_no_tls(outcome: &Outcome, says: &str) {
    outcome.assert_failed(12, "tls", says);
    assert!(outcome.events("retrying").is_empty(), "it was tried again: {outcome:?}");
}

#[test]
fn nginx_stores_what_was_pushed_over_tls_and_gives_it_back() {
    let Some((authority, nginx)) = nginx("ssl_protocols TLSv1.3;") else { return };
    let files = Files::new();
    let sizes = [0, 1, 16_384, 1_048_577, 9_000_000];
    let names: Vec<String> = sizes.iter().map(|size| format!("file-{size}")).collect();
    let contents: Vec<_> =
        names.iter().zip(sizes).map(|(name, size)| files.file(name, size)).collect();
    let mut arguments = files.names(&names.iter().map(String::as_str).collect::<Vec<_>>());
    arguments.extend(["--to".to_owned(), nginx.secure_url("in/"), nginx.secure_url("in/deep/")]);
    arguments.extend(["--cacert".to_owned(), authority.file()]);
    run(&arguments).assert_delivered(2 * sizes.len());
    for (name, content) in names.iter().zip(&contents) {
        assert_same(&nginx.stored(name), content, name);
        assert_same(&nginx.stored(&format!("deep/{name}")), content, name);
        let (url, got) = (nginx.secure_url(&format!("in/{name}")), files.path("got"));
        let got_text = got.to_str().unwrap();
        get(&[&url, "--output", got_text, "--cacert", &authority.file()]).assert_delivered(1);
        assert_same(&fs::read(&got).unwrap(), content, name);
    }
}

#[test]
fn the_older_tls_works_as_well() {
    let Some((authority, nginx)) = nginx("ssl_protocols TLSv1.2;") else { return };
    let files = Files::new();
    let content = files.file("file", 3_000_000);
    let path = files.names(&["file"]).remove(0);
    let url = nginx.secure_url("in/file");
    run(&[&path, "--to", &url, "--cacert", &authority.file()]).assert_delivered(1);
    assert_same(&nginx.stored("file"), &content, "what nginx has");
    let got = files.names(&["got"]).remove(0);
    get(&[&url, "--output", &got, "--cacert", &authority.file()]).assert_delivered(1);
    assert_same(&fs::read(got).unwrap(), &content, "what came back");
}

#[test]
fn an_answer_in_the_middle_of_the_body_is_heard_over_tls() {
    let Some((authority, nginx)) = nginx("location /limited/ { client_max_body_size 1m; }") else {
        return;
    };
    let files = Files::new();
    files.file("file", 9_000_000);
    let path = files.names(&["file"]).remove(0);
    let to = nginx.secure_url("limited/");
    let always = [&path, "--to", &to, "--cacert", &authority.file()].map(str::to_owned);
    run(&always).assert_failed(6, "refused", "it answered 413");
    let unasked = ["--expect-min-bytes", "99999999"].map(str::to_owned);
    run(&[&always[..], &unasked].concat()).assert_failed(6, "refused", "it answered 413");
}

#[test]
fn a_client_shows_its_certificate_where_one_is_wanted() {
    let clients = Authority::new("authority of the clients");
    let own = clients.sign("pusher", |_| {});
    let verified = format!("ssl_client_certificate {}; ssl_verify_client on;", clients.file());
    let Some((authority, nginx)) = nginx(&verified) else { return };
    let (url, trusted) = (nginx.secure_url("in/file"), authority.file());
    let shown = ["--cacert", &trusted, "--cert", &own.certificate, "--key", &own.key];
    push_to(&url, &shown).assert_delivered(1);
    push_to(&url, &["--cacert", &trusted]).assert_failed(6, "refused", "certificate was sent");
    // openssl says so by an alert, which comes after the client is done with its handshake.
    let server = authority.server();
    let wants = ["-Verify", "1", "-verify_return_error", "-CAfile", &clients.file()];
    let Some(openssl) = OpenSsl::start(&server, &wants) else { return };
    let url = format!("https://{}/", openssl.address);
    assert_no_tls(&push_to(&url, &["--cacert", &trusted]), "--cert FILE and --key FILE");
    let stranger = authority.sign("stranger", |_| {});
    let Some(openssl) = OpenSsl::start(&server, &wants) else { return };
    let url = format!("https://{}/", openssl.address);
    let shown = ["--cacert", &trusted, "--cert", &stranger.certificate, "--key", &stranger.key];
    assert_no_tls(&push_to(&url, &shown), "it refuses the certificate of --cert");
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
    let authority = Authority::new("authority of the test");
    let other_authority = Authority::new("a stranger");
    let (trusted, stranger) = (authority.file(), other_authority.file());
    let old = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let other = |params: &mut CertificateParams| {
        *params = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    };
    for (signed, trusts, says) in [
        (authority.sign("old", old), &["--cacert", &trusted][..], "has expired"),
        (authority.sign("other", other), &["--cacert", &trusted], "for another name"),
        (authority.server(), &["--cacert", &stranger], "by --cacert FILE"),
    ] {
        let Some(openssl) = OpenSsl::start(&signed, &[]) else { return };
        let url = format!("https://localhost:{}/", openssl.address.port());
        assert_no_tls(&push_to(&url, trusts), says);
        let Some(openssl) = OpenSsl::start(&signed, &[]) else { return };
        let url = format!("https://localhost:{}/file", openssl.address.port());
        let files = Files::new();
        let output = files.names(&["got"]).remove(0);
        assert_no_tls(&get(&[&[&url, "--output", &output][..], trusts].concat()), says);
    }
}

#[test]
fn a_port_that_speaks_something_else_is_told() {
    let authority = Authority::new("authority of the test");
    // They answer to a handshake, which is no request.
    let http = Receiver::start(|mut connection| connection.say("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let other = Receiver::start(|mut connection| connection.say("SSH-2.0-Something_1.0\r\n"));
    for (receiver, says) in [(&http, "write http://"), (&other, "does not speak TLS")] {
        let url = format!("https://{}/", receiver.address);
        assert_no_tls(&push_to(&url, &["--cacert", &authority.file()]), says);
    }
    let Some(openssl) = OpenSsl::start(&authority.server(), &[]) else { return };
    let url = format!("http://{}/", openssl.address);
    let outcome = push_to(&url, &["--retries", "0"]);
    assert_eq!((outcome.status, outcome.events("delivered").len()), (5, 0), "{outcome:?}");
}

#[test]
fn nobody_is_checked_only_where_that_was_said_in_full() {
    let Some((_, nginx)) = nginx("") else { return };
    let url = nginx.secure_url("in/file");
    let outcome = push_to(&url, &["--insecure-accept-any-certificate"]);
    outcome.assert_delivered(1);
    assert!(outcome.errors.contains("anybody on the way"), "{outcome:?}");
    let stranger = Authority::new("a stranger");
    assert_no_tls(&push_to(&url, &["--cacert", &stranger.file()]), "by --cacert FILE");
}

#[test]
fn files_of_certificates_are_checked_before_anything_is_begun() {
    let files = Files::new();
    files.file("junk", 100);
    let junk = files.names(&["junk"]).remove(0);
    for (more, says) in [
        (&["--cacert", "/nowhere"][..], "there is no /nowhere"),
        (&["--cacert", &junk], "--cacert takes a PEM file"),
        (&["--cert", &junk, "--key", &junk], "--cert takes a PEM file"),
    ] {
        let outcome = push_to("https://localhost:1/", more);
        assert!(outcome.status == 1 && outcome.errors.contains(says), "{outcome:?}");
    }
}

/// A server of one answer whose end is the end of the connection.
fn one_answer(authority: &Authority, says_its_end: bool) -> SocketAddr {
    let Signed { certificate, key } = authority.server();
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        let mut line = String::new();
        let mut head = BufReader::new(&mut stream);
        while line != "\r\n" {
            line.clear();
            head.read_line(&mut line).unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        stream.write_all(&vec![7; 100_000]).unwrap();
        if says_its_end {
            stream.conn.send_close_notify();
        }
        stream.flush().unwrap();
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        // Who closes with unread bytes resets the connection.
        let mut rest = Vec::new();
        _ = std::io::Read::read_to_end(&mut stream.sock, &mut rest);
    });
    address
}

#[test]
fn a_body_that_ends_with_the_connection_is_whole_only_if_that_was_said() {
    let authority = Authority::new("authority of the test");
    for says_its_end in [true, false] {
        let address = one_answer(&authority, says_its_end);
        let (files, url) = (Files::new(), format!("https://{address}/file"));
        let output = files.names(&["got"]).remove(0);
        let more = ["--cacert", &authority.file(), "--retries", "0", "--output", &output];
        let outcome = get(&[&[&url[..]][..], &more].concat());
        if says_its_end {
            outcome.assert_delivered(1);
            assert_same(&fs::read(&output).unwrap(), &vec![7; 100_000], "the file");
        } else {
            outcome.assert_failed(5, "broken", "cut off");
            assert!(!files.path("got").exists(), "a torn file has its name");
        }
    }
}
