//! Who does not get as far as a session: the alert on the wire, one line that says who and why, and a
//! daemon that serves the next client.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use ringway::tls::crypto_provider;
use ringway::tls::rustls::client::Resumption;
use ringway::tls::rustls::pki_types::pem::PemObject;
use ringway::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use ringway::tls::rustls::{
    self, AlertDescription, ClientConfig, ClientConnection, RootCertStore, version,
};
use rustix::net::sockopt::set_socket_linger;

use crate::client::assert_same;
use crate::daemon::{Daemon, PATIENCE, Root, wait_until};
use crate::secure::{Secure, certificate};

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

fn serve(root: &Root, files: &(String, String), more: &[&str]) -> Daemon {
    let arguments =
        [&["--tls-listen", "127.0.0.1:0", "--cert", &files.0, "--key", &files.1][..], more];
    Daemon::serve(root, &arguments.concat())
}

fn connect(daemon: &Daemon) -> (TcpStream, SocketAddr) {
    let stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let who = stream.local_addr().unwrap();
    (stream, who)
}

/// Waits for the line about this client, and checks that it is the only one, names whose fault it is, and
/// says this.
fn assert_told(daemon: &Daemon, who: SocketAddr, what: &str) {
    let start = format!("ringwayd: no TLS with {who}: ");
    let lines = || {
        let errors = daemon.errors();
        errors.lines().filter(|line| line.contains(&who.to_string())).map(str::to_owned).collect()
    };
    wait_until(&format!("it says that {what}"), || !Vec::is_empty(&lines()));
    let lines: Vec<String> = lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&start) && lines[0].contains(what), "{what}: {lines:?}");
    assert!(lines[0].contains("likely to blame: the "), "{lines:?}");
}

/// No connection is left, and the next client is served.
fn assert_well(daemon: Daemon, idle: usize, trusted: &str, content: &[u8]) {
    wait_until("no connection is left", || daemon.sockets() == idle);
    assert_same(&Secure::connect(&daemon, trusted).get("file", content.len()), content, "the next");
    let log = daemon.finish();
    assert_eq!(log.lines().count(), 1, "no request but the last: {log}");
}

/// Sends this as the first bytes, and gives the alert that comes for it, and who has sent them.
fn refused(daemon: &Daemon, bytes: &[u8]) -> (u8, SocketAddr) {
    let (mut stream, who) = connect(daemon);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let [ALERT, 3, _, 0, 2, 2, alert] = answer[..] else { panic!("no fatal alert: {answer:?}") };
    (alert, who)
}

/// A `ClientHello` of TLS 1.2 and before (RFC 5246, 7.4.1.2) in a record.
fn hello(version: u16, suites: &[u16], extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let two = |len: usize| u16::try_from(len).unwrap().to_be_bytes();
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(two(2 * suites.len()));
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    let parts = extensions.iter().flat_map(|(kind, content)| {
        [&kind.to_be_bytes()[..], &two(content.len()), content].concat()
    });
    let extensions: Vec<u8> = parts.collect();
    body.extend(two(extensions.len()));
    body.extend(extensions);
    let message = [&[1, 0][..], &two(body.len()), &body].concat();
    [&[HANDSHAKE, 3, 1][..], &two(message.len()), &message].concat()
}

/// What every hello has that could lead to a session: groups, schemes of signatures.
const GROUPS: (u16, &[u8]) = (10, &[0, 4, 0, 29, 0, 23]);
const SCHEMES: (u16, &[u8]) = (13, &[0, 4, 4, 3, 8, 4]);
const GOOD_SUITE: u16 = 0xc02b;
const RC4: u16 = 0x0005;

#[test]
fn what_is_no_hello_that_can_be_answered_gets_its_alert_and_a_line() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 1000);
    let daemon = serve(&root, &files, &[]);
    let idle = daemon.sockets();
    let older = hello(0x0302, &[GOOD_SUITE], &[GROUPS, SCHEMES]);
    let unshared = hello(0x0303, &[RC4], &[GROUPS, SCHEMES]);
    let http2 = (16, &b"\0\x03\x02h2"[..]);
    let unspoken = hello(0x0303, &[GOOD_SUITE], &[GROUPS, SCHEMES, http2]);
    // Its length in two bytes, CLIENT-HELLO, version, and the lengths of suites, session and challenge.
    let ancient = [&[0x80, 46, 1, 0, 2, 0, 3, 0, 0, 0, 16, 7, 0, 192][..], &[9; 32]].concat();
    let too_long = [HANDSHAKE, 3, 1, 0x48, 1];
    let broken = [HANDSHAKE, 3, 1, 0, 4, 1, 0, 0, 0];
    let out_of_turn = [HANDSHAKE, 3, 3, 0, 4, 20, 0, 0, 0];
    let cases: [(&[u8], AlertDescription, &str); 8] = [
        (b"GET / HTTP/1.1\r\n\r\n", AlertDescription::DecodeError, "the peer speaks plain HTTP"),
        (&ancient, AlertDescription::DecodeError, "the peer does not speak TLS"),
        (&too_long, AlertDescription::DecodeError, "the peer broke the protocol"),
        (&broken, AlertDescription::DecodeError, "the peer broke the protocol"),
        (&out_of_turn, AlertDescription::UnexpectedMessage, "the peer broke the protocol"),
        (&older, AlertDescription::ProtocolVersion, "TLS 1.2 and 1.3 are served, and it is older"),
        (&unshared, AlertDescription::HandshakeFailure, "too little in common"),
        (&unspoken, AlertDescription::NoApplicationProtocol, "something else than HTTP/1.1"),
    ];
    for (bytes, expected, what) in cases {
        let (alert, who) = refused(&daemon, bytes);
        assert_eq!(AlertDescription::from(alert), expected, "{what}");
        assert_told(&daemon, who, what);
    }
    assert_well(daemon, idle, &files.0, &content);
}

#[test]
fn who_leaves_in_the_middle_of_a_handshake_is_told_of() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 1000);
    let daemon = serve(&root, &files, &[]);
    let idle = daemon.sockets();
    let hello = hello(0x0303, &[GOOD_SUITE], &[GROUPS, SCHEMES]);
    let unfinished = "the peer closed the connection in the middle of the TLS handshake";
    for part in [0, 3, hello.len() / 2, hello.len()] {
        let (mut stream, who) = connect(&daemon);
        stream.write_all(&hello[..part]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_told(&daemon, who, unfinished);
        drop(stream);

        let (mut stream, who) = connect(&daemon);
        stream.write_all(&hello[..part]).unwrap();
        // Gone without a word: the connection is reset, and no longer tells whose it was.
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        assert_told(&daemon, who, "the connection failed: Connection reset by peer");
    }
    assert_well(daemon, idle, &files.0, &content);
}

/// A client of rustls that knows the daemon's certificate, in this version, with what it shows.
fn config(
    trusted: &str,
    version: &'static rustls::SupportedProtocolVersion,
    shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The alert by which the daemon ends it.
fn alert_of(client: &mut Secure) -> AlertDescription {
    // What is written after a handshake that the other end has refused may be written into nothing.
    _ = client.0.write_all(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let error = match client.0.read(&mut [0; 100]) {
        Err(error) => error,
        Ok(count) => panic!("{count} bytes of an answer"),
    };
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert: {error}"),
    }
}

#[test]
fn a_handshake_that_is_broken_behind_its_keys_gets_its_alert_and_a_line() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 1000);
    let daemon = serve(&root, &files, &[]);
    let idle = daemon.sockets();
    let record_of_garbage = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
    let (mut stream, who) = connect(&daemon);
    let config = config(&files.0, &version::TLS13, None);
    let mut client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    client.write_tls(&mut stream).unwrap();
    while client.is_handshaking() {
        client.read_tls(&mut stream).unwrap();
        client.process_new_packets().unwrap();
    }
    // In place of the end of the handshake, which it has ready.
    stream.write_all(&record_of_garbage).unwrap();
    let error = loop {
        assert!(client.read_tls(&mut stream).unwrap() > 0, "an end without an alert");
        if let Err(error) = client.process_new_packets() {
            break error;
        }
    };
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
    assert_told(&daemon, who, "a record fails its authentication");
    assert_well(daemon, idle, &files.0, &content);
}

/// An authority until 2050, and a client's certificate until the year that is given.
fn client_certificate(
    issuer: &CertifiedIssuer<'_, KeyPair>,
    last_year: i32,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(vec!["a client".to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (date_time_ymd(2010, 1, 1), date_time_ymd(last_year, 1, 1));
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, issuer).unwrap();
    (signed.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn a_client_without_a_good_certificate_gets_its_alert_and_a_line() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 1000);
    let (ours, strange) = (authority("ours"), authority("strange"));
    let known = root.path(".authority.pem");
    fs::write(&known, ours.pem()).unwrap();
    let daemon = serve(&root, &files, &["--client-ca", known.to_str().unwrap()]);
    let idle = daemon.sockets();
    for version in [&version::TLS13, &version::TLS12] {
        for (shown, expected, what) in [
            (None, AlertDescription::CertificateRequired, "presented no certificate"),
            (Some((&ours, 2020)), AlertDescription::CertificateExpired, "was refused"),
            (Some((&strange, 2050)), AlertDescription::UnknownCA, "was refused"),
        ] {
            let shown = shown.map(|(issuer, year)| client_certificate(issuer, year));
            let config = config(&files.0, version, shown);
            let mut client = Secure::connect_with(&daemon, config);
            let who = client.0.sock.local_addr().unwrap();
            assert_eq!(alert_of(&mut client), expected, "{version:?}");
            assert_told(&daemon, who, what);
        }
    }
    wait_until("no connection is left", || daemon.sockets() == idle);
    for version in [&version::TLS13, &version::TLS12] {
        let config = config(&files.0, version, Some(client_certificate(&ours, 2050)));
        let mut client = Secure::connect_with(&daemon, config);
        assert_same(&client.get("file", 1000), &content, "who has a good one");
    }
    drop(daemon.finish());
}

#[test]
fn a_client_that_does_not_trust_the_daemon_is_told_of_with_what_it_lacks() {
    let root = Root::new();
    // Another certificate of the same name, and another name.
    let (files, other) = (certificate(&root, "first"), certificate(&root, "other"));
    let stranger = root.path(".stranger.pem");
    fs::write(&stranger, authority("stranger").pem()).unwrap();
    let daemon = serve(&root, &files, &[]);
    for trusted in [other.0.as_str(), stranger.to_str().unwrap()] {
        let mut client = Secure::connect(&daemon, trusted);
        let who = client.0.sock.local_addr().unwrap();
        let refused = client.0.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
        assert!(refused.to_string().contains("certificate"), "{refused}");
        assert_told(&daemon, who, "the client does not trust the certificate of this server");
    }
    drop(daemon.finish());
}

#[test]
fn a_silent_client_is_told_of_with_its_address() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let daemon = serve(&root, &files, &["--header-timeout-seconds", "1"]);
    let hello = hello(0x0303, &[GOOD_SUITE], &[GROUPS, SCHEMES]);
    for begin in [&[][..], &hello[..3], &hello] {
        let (mut stream, who) = connect(&daemon);
        stream.write_all(begin).unwrap();
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        assert_told(&daemon, who, "the TLS handshake had not ended after 1s");
    }
    drop(daemon.finish());
}
