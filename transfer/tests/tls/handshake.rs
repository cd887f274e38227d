//! Handshakes that succeed, and those that must fail: the right alert, and an error that says what
//! happened and whose fault it is.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use ringway::error::Blame;
use ringway::runtime::net::TcpStream;
use ringway::tls::{
    Backend, TlsAcceptor, TlsConnector, TlsError, TlsErrorKind, TlsLimits, TlsStream,
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, HandshakeKind, ProtocolVersion,
    ServerConfig, version,
};

use crate::certificates::Authority;
use crate::{listener, meet, pair_with, read_to_end, run};

#[test]
fn every_suite_of_both_versions_carries_bytes_both_ways() {
    let authority = Authority::new();
    let ways = [
        (&version::TLS13, "TLS13_AES_128"),
        (&version::TLS13, "TLS13_AES_256"),
        (&version::TLS13, "TLS13_CHACHA20"),
        (&version::TLS12, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM"),
        (&version::TLS12, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM"),
        (&version::TLS12, "TLS_ECDHE_ECDSA_WITH_CHACHA20"),
    ];
    for (version, suite) in ways {
        run(async {
            let client = authority.client_of(&[version], &[suite]);
            let (mut server, mut client) = pair_with(authority.server(), client).await;
            for end in [&server, &client] {
                assert_eq!(end.protocol(), version.version);
                assert!(format!("{:?}", end.suite()).starts_with(suite), "{:?}", end.suite());
                assert_eq!(end.handshake_kind(), HandshakeKind::Full);
                let is_ours = !matches!(end.backend(), Backend::Rustls { .. });
                assert_eq!(is_ours, version.version == ProtocolVersion::TLSv1_3);
            }
            assert_eq!(server.server_name(), Some("peer.test"));
            client.write_all(b"a question").await.unwrap();
            client.close().await.unwrap();
            assert_eq!(read_to_end(&mut server).await.unwrap(), b"a question");
            server.write_all(b"an answer").await.unwrap();
            server.close().await.unwrap();
            assert_eq!(read_to_end(&mut client).await.unwrap(), b"an answer");
        });
    }
}

#[test]
fn aes_128_comes_first_unless_the_client_has_no_aes() {
    let authority = Authority::new();
    let suite_for = |order: &[&str]| {
        let client = authority.client_of(&[&version::TLS13], order);
        run(async { pair_with(authority.server(), client).await.0.suite() })
    };
    let (aes_128, aes_256, chacha) = ("TLS13_AES_128", "TLS13_AES_256", "TLS13_CHACHA20");
    assert_eq!(
        suite_for(&[aes_256, chacha, aes_128]),
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    );
    let chosen = suite_for(&[chacha, aes_256, aes_128]);
    assert_eq!(chosen, rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    assert_eq!(suite_for(&[aes_256, chacha]), rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
}

#[test]
fn a_protocol_is_agreed_on_or_the_handshake_fails() {
    let authority = Authority::new();
    let with = |protocols: &[&[u8]]| {
        let mut server = authority.server();
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut client = authority.client();
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        (server, client)
    };
    run(async {
        let (server, client) = with(&[b"h2", b"http/1.1"]);
        let (server, client) = pair_with(server, client).await;
        assert_eq!(
            (server.alpn(), client.alpn()),
            (Some(&b"http/1.1"[..]), Some(&b"http/1.1"[..]))
        );
        let (server, client) = with(&[]);
        assert_eq!(pair_with(server, client).await.0.alpn(), None);
    });
    let (server, client) = with(&[b"h2"]);
    let (ours, theirs) = refusal(server, client, "peer.test");
    assert!(matches!(ours.kind(), TlsErrorKind::Incompatible(Error::NoApplicationProtocol)));
    assert_alert(&theirs, AlertDescription::NoApplicationProtocol);
}

#[test]
fn a_second_handshake_resumes_the_first() {
    let authority = Authority::new();
    let ticketer = || rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    for (version, stateless) in
        [(&version::TLS13, false), (&version::TLS13, true), (&version::TLS12, true)]
    {
        let mut server = authority.server();
        if stateless {
            server.ticketer = ticketer();
        }
        let acceptor = TlsAcceptor::new(Arc::new(server));
        let client = authority.client_of(&[version], &[]);
        let connector = TlsConnector::new(Arc::new(client));
        let kinds = run(async {
            let mut kinds = Vec::new();
            for _ in 0..3 {
                let (server, client) = meet(&acceptor, &connector, "peer.test").await;
                let (mut server, mut client) = (server.unwrap(), client.unwrap());
                // The client reads its tickets when it reads.
                server.write_all(b"x").await.unwrap();
                server.close().await.unwrap();
                assert_eq!(read_to_end(&mut client).await.unwrap(), b"x");
                client.close().await.unwrap();
                assert_eq!(client.handshake_kind(), server.handshake_kind());
                kinds.push(server.handshake_kind());
            }
            kinds
        });
        let resumed = HandshakeKind::Resumed;
        assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed], "{version:?} {stateless}");
    }
}

#[test]
fn early_data_is_refused_and_what_follows_it_is_read() {
    let authority = Authority::new();
    let mut config = authority.server();
    config.max_early_data_size = 1 << 14;
    let config = Arc::new(config);
    // Of the same configuration, so with the same tickets.
    let acceptor = TlsAcceptor::new(Arc::clone(&config));
    let mut client = authority.client();
    client.enable_early_data = true;
    let client = Arc::new(client);
    run(async {
        let (listener, address) = listener();
        // rustls alone gives out a ticket that allows early data.
        let granting = std::thread::spawn(move || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut socket = crate::plain(listener.local_addr().unwrap());
            let connection = rustls::ServerConnection::new(config).unwrap();
            let serving = std::thread::spawn(move || {
                let (mut socket, mut connection) = (listener.accept().unwrap().0, connection);
                while connection.is_handshaking() {
                    connection.complete_io(&mut socket).unwrap();
                }
                connection.send_close_notify();
                while connection.wants_write() {
                    connection.write_tls(&mut socket).unwrap();
                }
            });
            let ours = Arc::clone(&client);
            let mut first = rustls::ClientConnection::new(ours, crate::name("peer.test")).unwrap();
            rustls::Stream::new(&mut first, &mut socket).read_to_end(&mut Vec::new()).unwrap();
            serving.join().unwrap();
            let mut socket = crate::plain(address);
            let mut second =
                rustls::ClientConnection::new(client, crate::name("peer.test")).unwrap();
            second.early_data().expect("a ticket").write_all(b"too early").unwrap();
            let mut stream = rustls::Stream::new(&mut second, &mut socket);
            stream.write_all(b"late").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"answer");
            assert!(!second.is_early_data_accepted());
            second.handshake_kind()
        });
        let mut stream = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
        let mut buffer = [0; 20];
        let count = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"late", "what came early was taken");
        stream.write_all(b"answer").await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(granting.join().unwrap(), Some(HandshakeKind::Resumed));
    });
}

#[test]
fn a_client_certificate_is_asked_for_and_shown() {
    let authority = Authority::new();
    let pair = authority.sign(|_| {});
    for version in [&version::TLS13, &version::TLS12] {
        run(async {
            let client = authority.known_client(&pair, version);
            let server = authority.server_for_known_clients();
            let (server, client) = pair_with(server, client).await;
            assert_eq!(server.peer_certificates(), Some(&pair.chain()[..]));
            assert!(client.peer_certificates().is_some());
        });
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let server = authority.server_for_known_clients();
    let (error, client) = refusal(server, authority.client(), "peer.test");
    assert!(matches!(error.kind(), TlsErrorKind::NoCertificate), "{error}");
    assert_eq!(error.blame(), Blame::Peer);
    assert_alert(&client, AlertDescription::CertificateRequired);
    assert_eq!(client.blame(), Blame::Caller);
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let stranger = authority.known_client(&other.sign(|_| {}), &version::TLS13);
    let server = authority.server_for_known_clients();
    let (error, client) = refusal(server, stranger, "peer.test");
    let is_unknown =
        |error: &Error| matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer));
    assert!(
        matches!(error.kind(), TlsErrorKind::Certificate(error) if is_unknown(error)),
        "{error}"
    );
    assert_alert(&client, AlertDescription::UnknownCA);
}

#[test]
fn a_server_whose_certificate_is_wrong_is_left_with_an_alert() {
    let (authority, other) = (Authority::new(), Authority::new());
    let cases = [
        (
            authority.server_with(&authority.expired()),
            "peer.test",
            AlertDescription::CertificateExpired,
        ),
        (authority.server(), "another.test", AlertDescription::BadCertificate),
        (other.server(), "peer.test", AlertDescription::UnknownCA),
    ];
    for (server, name, alert) in cases {
        let (server, client) = refusal(server, authority.client(), name);
        assert!(matches!(client.kind(), TlsErrorKind::Certificate(_)), "{client}");
        assert_eq!(client.blame(), Blame::Peer);
        assert_alert(&server, alert);
        assert_eq!(server.blame(), Blame::Caller, "the certificate is ours: {server}");
    }
}

#[test]
fn a_client_whose_certificate_has_expired_is_refused() {
    let authority = Authority::new();
    let client = authority.known_client(&authority.expired(), &version::TLS13);
    let (error, client) = refusal(authority.server_for_known_clients(), client, "peer.test");
    assert!(matches!(error.kind(), TlsErrorKind::Certificate(_)), "{error}");
    assert_alert(&client, AlertDescription::CertificateExpired);
}

#[test]
fn who_shows_a_certificate_without_its_key_is_refused() {
    let authority = Authority::new();
    let is_forged = |error: &TlsError| {
        matches!(
            error.kind(),
            TlsErrorKind::Certificate(Error::InvalidCertificate(CertificateError::BadSignature))
        )
    };
    let mut server = authority.server();
    server.cert_resolver = authority.stolen();
    let (server, client) = refusal(server, authority.client(), "peer.test");
    assert!(is_forged(&client), "{client}");
    assert_alert(&server, AlertDescription::DecryptError);
    let mut stranger = authority.client_of(&[&version::TLS13], &[]);
    stranger.client_auth_cert_resolver = authority.stolen();
    let (server, client) = refusal(authority.server_for_known_clients(), stranger, "peer.test");
    assert!(is_forged(&server), "{server}");
    assert_alert(&client, AlertDescription::DecryptError);
}

#[test]
fn a_downgrade_by_somebody_on_the_way_is_seen() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::new(Arc::new(authority.server()));
    let connector = TlsConnector::new(Arc::new(authority.client()));
    let (server, client) = run(async {
        let (listener, address) = listener();
        let between = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let door = between.local_addr().unwrap();
        let meddling = std::thread::spawn(move || {
            let (mut client, _) = between.accept().unwrap();
            client.set_read_timeout(Some(crate::PATIENCE)).unwrap();
            let mut server = crate::plain(address);
            let mut header = [0; 5];
            client.read_exact(&mut header).unwrap();
            let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            client.read_exact(&mut hello).unwrap();
            // supported_versions with 1.3 and 1.2 in it becomes an extension that nobody knows.
            let offer = [0, 43, 0, 5, 4, 3, 4, 3, 3];
            let at = hello.windows(offer.len()).position(|bytes| bytes == offer).unwrap();
            hello[at..at + 2].copy_from_slice(&[0x7f, 0x7f]);
            server.write_all(&[&header[..], &hello].concat()).unwrap();
            let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let answering = std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
            // Either side may end it first.
            let _ = std::io::copy(&mut client, &mut server);
            let _ = server.shutdown(std::net::Shutdown::Write);
            let _ = answering.join().unwrap();
        });
        let accepting = ringway::runtime::spawn(async move {
            acceptor.accept(listener.accept().await.unwrap()).await
        });
        let stream = TcpStream::connect(door).await.unwrap();
        let client = connector.connect(stream, crate::name("peer.test")).await.unwrap_err();
        let server = accepting.await.unwrap().unwrap_err();
        meddling.join().unwrap();
        (server, client)
    });
    let kept = rustls::PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported;
    assert!(
        matches!(client.kind(), TlsErrorKind::Misbehaved(Error::PeerMisbehaved(how)) if *how == kept),
        "{client}"
    );
    assert_alert(&server, AlertDescription::IllegalParameter);
}

#[test]
fn a_client_of_the_wrong_version_is_told() {
    let authority = Authority::new();
    let only_13 = {
        let pair = authority.sign(|_| {});
        let provider = Arc::new(ringway::tls::crypto_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pair.chain(), pair.key())
            .unwrap()
    };
    let old = authority.client_of(&[&version::TLS12], &[]);
    let (server, client) = refusal(only_13, old, "peer.test");
    assert!(matches!(server.kind(), TlsErrorKind::Incompatible(_)), "{server}");
    assert_alert(&client, AlertDescription::ProtocolVersion);
}

#[test]
fn plain_http_and_garbage_get_an_alert_and_not_a_hang() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::new(Arc::new(authority.server()));
    let too_long = [&[22, 3, 1, 0xff, 0xff][..], &[0; 100]].concat();
    type IsExpected = fn(&TlsErrorKind) -> bool;
    let decode = AlertDescription::DecodeError;
    let cases: [(&[u8], IsExpected, AlertDescription); 4] = [
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            |kind| matches!(kind, TlsErrorKind::NotTls { looks_like_http: true }),
            decode,
        ),
        (
            b"SSH-2.0-OpenSSH_9.9\r\n",
            |kind| matches!(kind, TlsErrorKind::NotTls { looks_like_http: false }),
            decode,
        ),
        (&too_long, |kind| matches!(kind, TlsErrorKind::Misbehaved(_)), decode),
        (
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            |kind| matches!(kind, TlsErrorKind::Misbehaved(_)),
            AlertDescription::DecodeError,
        ),
    ];
    for (bytes, is_expected, alert) in cases {
        let (error, answer) = run(async {
            let (listener, address) = listener();
            let mut plain = crate::plain(address);
            plain.write_all(bytes).unwrap();
            let error = acceptor.accept(listener.accept().await.unwrap()).await.unwrap_err();
            let mut answer = Vec::new();
            plain.read_to_end(&mut answer).unwrap();
            (error, answer)
        });
        assert!(is_expected(error.kind()), "{error}");
        assert_eq!(error.blame(), Blame::Peer);
        // The alert and not a byte more.
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, u8::from(alert)], "{error}");
    }
}

#[test]
fn a_peer_that_says_nothing_or_leaves_ends_the_handshake() {
    let authority = Authority::new();
    let limits = TlsLimits::default().with_handshake_timeout(Duration::from_millis(30));
    let acceptor = TlsAcceptor::new(Arc::new(authority.server())).with_limits(limits);
    run(async {
        let (listener, address) = listener();
        let silent = crate::plain(address);
        let error = acceptor.accept(listener.accept().await.unwrap()).await.unwrap_err();
        assert!(matches!(error.kind(), TlsErrorKind::TimedOut { .. }), "{error}");
        drop(silent);
        let mut leaver = crate::plain(address);
        leaver.write_all(&[22, 3, 1]).unwrap();
        drop(leaver);
        let error = acceptor.accept(listener.accept().await.unwrap()).await.unwrap_err();
        assert!(matches!(error.kind(), TlsErrorKind::Unfinished), "{error}");
    });
}

#[test]
fn a_hello_that_never_ends_is_bounded() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::new(Arc::new(authority.server()));
    let error = run(async {
        let (listener, address) = listener();
        let thread = std::thread::spawn(move || {
            let mut stream = crate::plain(address);
            let first = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; (1 << 14) - 4]].concat();
            let more = [&[22, 3, 1, 0, 1][..], &[0]].concat().repeat(20_000);
            // It may be refused before all is written.
            let _ = stream.write_all(&first).and_then(|()| stream.write_all(&more));
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
        });
        let stream: TcpStream = listener.accept().await.unwrap();
        let error = acceptor.accept(stream).await.unwrap_err();
        thread.join().unwrap();
        error
    });
    assert_eq!(error.blame(), Blame::Peer, "{error}");
}

/// A handshake that fails for the one end, and the alert that the other sees; server first.
fn refusal(server: ServerConfig, client: ClientConfig, name: &'static str) -> (TlsError, TlsError) {
    let acceptor = TlsAcceptor::new(Arc::new(server));
    let connector = TlsConnector::new(Arc::new(client));
    run(async {
        let (server, client) = meet(&acceptor, &connector, name).await;
        (failure(server).await, failure(client).await)
    })
}

/// The error of the handshake, or of the first read: a client of TLS 1.3 is done before the server has
/// seen its certificate.
async fn failure(end: Result<TlsStream, TlsError>) -> TlsError {
    match end {
        Err(error) => error,
        Ok(mut stream) => {
            let error = read_to_end(&mut stream).await.unwrap_err();
            *error.into_inner().expect("an error of TLS").downcast().expect("an error of TLS")
        }
    }
}

fn assert_alert(error: &TlsError, alert: AlertDescription) {
    assert!(matches!(error.kind(), TlsErrorKind::AlertReceived(got) if *got == alert), "{error}");
}
