//! Reading, writing and closing.

use std::io::{ErrorKind, Read, Write};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ringway::runtime::net::Half;
use ringway::runtime::spawn;
use ringway::tls::{KeyUpdates, TlsAcceptor, TlsConnector, TlsErrorKind, TlsLimits};
use rustls::version;

use crate::certificates::Authority;
use crate::{content, listener, meet, name, pair, pair_with, read_to_end, run};

#[test]
fn any_length_arrives_whole_whatever_the_buffers() {
    run(async {
        for len in [0, 1, 100, 16383, 16384, 16385, 65536, 1_000_003] {
            let (mut server, mut client) = pair().await;
            let sent = content(len);
            let expected = sent.clone();
            let sending = spawn(async move {
                for piece in sent.chunks(len.max(1) / 3 + 1) {
                    server.write_all(piece).await.unwrap();
                }
                server.close().await.unwrap();
                server.accepted()
            });
            let mut read = Vec::new();
            let mut size = 1;
            loop {
                let mut buffer = vec![0; size];
                match client.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&buffer[..count]),
                }
                size = (size * 2 + 1).min(50_000);
            }
            assert!(read == expected, "{len} bytes");
            assert_eq!(sending.await.unwrap(), len as u64);
        }
    });
}

#[test]
fn a_connection_that_just_ends_is_a_truncation() {
    let authority = Authority::new();
    for version in [&version::TLS13, &version::TLS12] {
        run(async {
            let client = authority.client_of(&[version], &[]);
            let (mut server, mut client) = pair_with(authority.server(), client).await;
            server.write_all(b"the beginning").await.unwrap();
            server.shutdown(Half::Write).unwrap();
            let mut buffer = [0; 100];
            assert_eq!(client.read(&mut buffer).await.unwrap(), 13);
            for _ in 0..2 {
                let error = client.read(&mut buffer).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                assert!(error.to_string().starts_with("truncated"), "{error}");
            }
            // The other direction is as good as before.
            client.write_all(b"an answer").await.unwrap();
            client.close().await.unwrap();
            assert_eq!(read_to_end(&mut server).await.unwrap(), b"an answer");
        });
    }
}

#[test]
fn nothing_is_written_after_a_close() {
    let authority = Authority::new();
    for version in [&version::TLS13, &version::TLS12] {
        run(async {
            let client = authority.client_of(&[version], &[]);
            let (mut server, mut client) = pair_with(authority.server(), client).await;
            server.close().await.unwrap();
            let error = server.write_all(b"late").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert_eq!(read_to_end(&mut client).await.unwrap(), b"");
            assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0, "an end stays");
            client.close().await.unwrap();
            assert_eq!(read_to_end(&mut server).await.unwrap(), b"");
        });
    }
}

#[test]
fn keys_are_updated_from_both_ends_and_before_their_limit() {
    let authority = Authority::new();
    let limits = TlsLimits::default().with_key_records_max(16);
    let acceptor = TlsAcceptor::new(Arc::new(authority.server())).with_limits(limits);
    let connector = TlsConnector::new(Arc::new(authority.client()));
    run(async {
        let (server, client) = meet(&acceptor, &connector, "peer.test").await;
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        let sent = content(3_000_000);
        let expected = sent.clone();
        let sending = spawn(async move {
            for piece in sent.chunks(500_000) {
                server.write_all(piece).await.unwrap();
                server.update_keys(true).unwrap();
            }
            server.close().await.unwrap();
            let all = read_to_end(&mut server).await.unwrap();
            (server.key_updates(), all)
        });
        client.update_keys(true).unwrap();
        client.write_all(b"under new keys").await.unwrap();
        assert!(read_to_end(&mut client).await.unwrap() == expected);
        client.close().await.unwrap();
        let KeyUpdates { sent, received } = client.key_updates();
        // 31 records in each of 6 pieces, of which a key seals 13, and 6 updates that were asked for.
        assert!(received >= 6 * 2 + 6, "{received}");
        assert!(sent >= 1, "{sent}");
        let (of_server, heard) = sending.await.unwrap();
        assert_eq!(heard, b"under new keys");
        assert_eq!(of_server, KeyUpdates { sent: received, received: sent });
    });
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_read() {
    let authority = Authority::new();
    for version in [&version::TLS13, &version::TLS12] {
        let client = Arc::new(authority.client_of(&[version], &[]));
        let acceptor = TlsAcceptor::new(Arc::new(authority.server()));
        run(async {
            let (listener, address) = listener();
            let thread = std::thread::spawn(move || {
                let mut socket = crate::plain(address);
                let mut tls = rustls::ClientConnection::new(client, name("peer.test")).unwrap();
                // Written before the handshake has begun, it goes out with its last flight.
                tls.writer().write_all(&content(40_000)).unwrap();
                tls.send_close_notify_after(&mut socket);
                let mut answer = Vec::new();
                rustls::Stream::new(&mut tls, &mut socket).read_to_end(&mut answer).unwrap();
                answer
            });
            let mut server = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
            let read = read_to_end(&mut server).await.unwrap();
            assert!(read == content(40_000), "{} bytes", read.len());
            server.write_all(b"thanks").await.unwrap();
            server.close().await.unwrap();
            assert_eq!(thread.join().unwrap(), b"thanks");
        });
    }
}

#[test]
fn a_key_update_behind_the_end_of_the_handshake_is_answered() {
    let authority = Authority::new();
    let client = Arc::new(authority.client_of(&[&version::TLS13], &[]));
    let acceptor = TlsAcceptor::new(Arc::new(authority.server()));
    run(async {
        let (listener, address) = listener();
        let thread = std::thread::spawn(move || {
            let mut socket = crate::plain(address);
            let mut tls = rustls::ClientConnection::new(client, name("peer.test")).unwrap();
            while tls.is_handshaking() {
                while tls.wants_write() {
                    tls.write_tls(&mut socket).unwrap();
                }
                tls.read_tls(&mut socket).unwrap();
                tls.process_new_packets().unwrap();
            }
            // Its Finished has not gone out yet: all of this arrives at once.
            tls.refresh_traffic_keys().unwrap();
            tls.writer().write_all(b"under new keys").unwrap();
            let mut flight = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut flight).unwrap();
            }
            socket.write_all(&flight).unwrap();
            let mut answer = Vec::new();
            rustls::Stream::new(&mut tls, &mut socket).read_to_end(&mut answer).unwrap();
            answer
        });
        let mut server = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
        let mut buffer = [0; 100];
        let count = server.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"under new keys");
        server.write_all(b"an answer").await.unwrap();
        server.close().await.unwrap();
        assert_eq!(server.key_updates(), KeyUpdates { sent: 1, received: 1 });
        assert_eq!(thread.join().unwrap(), b"an answer");
    });
}

/// The rest of a handshake, what was written before it, and a close_notify.
trait SendAll {
    fn send_close_notify_after(&mut self, socket: &mut std::net::TcpStream);
}

impl SendAll for rustls::ClientConnection {
    fn send_close_notify_after(&mut self, socket: &mut std::net::TcpStream) {
        while self.is_handshaking() {
            self.complete_io(socket).unwrap();
        }
        self.send_close_notify();
        while self.wants_write() {
            self.write_tls(socket).unwrap();
        }
    }
}

#[test]
fn a_write_that_is_dropped_leaves_a_connection_that_goes_on() {
    let authority = Authority::new();
    for version in [&version::TLS13, &version::TLS12] {
        run(async {
            let client = authority.client_of(&[version], &[]);
            let (mut server, mut client) = pair_with(authority.server(), client).await;
            server.tcp().set_send_buffer(20_000).unwrap();
            let sent = content(20_000_000);
            let (mut begun, mut read) = (0, 0);
            for _ in 0..5 {
                // Nobody reads, so it must stop somewhere; then it is dropped.
                {
                    let mut writing = pin!(server.write_all(&sent[begun..]));
                    let polled =
                        std::future::poll_fn(|context| Poll::Ready(writing.as_mut().poll(context)));
                    assert!(polled.await.is_pending(), "the socket takes everything");
                }
                begun = usize::try_from(server.accepted() + server.half_sent()).unwrap();
                let mut buffer = vec![0; 300_000];
                let count = client.read(&mut buffer).await.unwrap();
                assert!(buffer[..count] == sent[read..read + count]);
                read += count;
            }
            let expected = sent[read..begun].to_vec();
            let closing = spawn(async move { server.close().await.map(|()| server) });
            assert!(read_to_end(&mut client).await.unwrap() == expected);
            let mut server = closing.await.unwrap().unwrap();
            assert_eq!((server.accepted(), server.half_sent()), (begun as u64, 0));
            assert_eq!(server.settle().await.unwrap(), 0, "no transfer was dropped");
        });
    }
}

#[test]
fn a_peer_that_breaks_the_records_is_told_and_the_error_stays() {
    type IsExpected = fn(&TlsErrorKind) -> bool;
    // Records that nobody has sealed.
    let cases: [(Vec<u8>, IsExpected, &str); 4] = [
        (
            [&[23, 3, 3, 0, 20][..], &[7; 20]].concat(),
            |kind| matches!(kind, TlsErrorKind::BadRecord),
            "BadRecordMac",
        ),
        (
            [&[23, 3, 3, 0x41, 1][..], &[7; 0x4101]].concat(),
            |kind| matches!(kind, TlsErrorKind::Broken(_)),
            "RecordOverflow",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            |kind| matches!(kind, TlsErrorKind::Broken(_)),
            "UnexpectedMessage",
        ),
        (
            vec![22, 3, 3, 0, 5, 24, 0, 0, 1, 0],
            |kind| matches!(kind, TlsErrorKind::Broken(_)),
            "UnexpectedMessage",
        ),
    ];
    let authority = Authority::new();
    let acceptor = TlsAcceptor::new(Arc::new(authority.server()));
    let client = Arc::new(authority.client_of(&[&version::TLS13], &[]));
    for (bytes, is_expected, alert) in cases {
        let client = Arc::clone(&client);
        run(async {
            let (listener, address) = listener();
            let thread = std::thread::spawn(move || {
                let mut socket = crate::plain(address);
                let mut tls = rustls::ClientConnection::new(client, name("peer.test")).unwrap();
                while tls.is_handshaking() {
                    tls.complete_io(&mut socket).unwrap();
                }
                socket.write_all(&bytes).unwrap();
                rustls::Stream::new(&mut tls, &mut socket).read_to_end(&mut Vec::new()).unwrap_err()
            });
            let mut server = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
            for _ in 0..2 {
                let error = server.read(&mut [0; 10]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                let error: Box<ringway::tls::TlsError> =
                    error.into_inner().unwrap().downcast().unwrap();
                assert!(is_expected(error.kind()), "{error}");
            }
            assert_eq!(server.write_all(b"x").await.unwrap_err().kind(), ErrorKind::InvalidData);
            server.shutdown(Half::Write).unwrap();
            let seen = thread.join().unwrap();
            assert!(seen.to_string().contains(alert), "{seen}");
        });
    }
}

#[test]
fn a_stream_can_move_to_another_thread() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (server, client) = run(pair());
    let mut server = is_send(server);
    let thread = std::thread::spawn(move || {
        run(async {
            server.write_all(b"from another ring").await.unwrap();
            server.close().await.unwrap();
        });
    });
    let mut client = client;
    run(async { assert_eq!(read_to_end(&mut client).await.unwrap(), b"from another ring") });
    thread.join().unwrap();
}
