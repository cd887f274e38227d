//! Bodies out of TLS streams into files, and a half that reads while the other one sends.

use std::future::{IntoFuture, poll_fn};
use std::io::ErrorKind;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use ringway::error::Blame;
use ringway::receive::{ReceiveErrorKind, ShortBody};
use ringway::runtime::fs::{File, OpenOptions};
use ringway::runtime::net::Half;
use ringway::runtime::spawn;
use ringway::runtime::time::timeout;
use ringway::tls::TlsStream;
use ringway::{Incoming, Route, transfer_file};
use rustls::version;

use crate::certificates::Authority;
use crate::{content, pair, pair_with, read_to_end, run};

async fn new_file(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(true).open(path).await.unwrap()
}

/// Both ends with each version: where the records are ours and where they are rustls's.
async fn pairs() -> [(TlsStream, TlsStream); 2] {
    let authority = Authority::new();
    let [new, old] = [&version::TLS13, &version::TLS12]
        .map(|version| pair_with(authority.server(), authority.client_of(&[version], &[])));
    [new.await, old.await]
}

#[test]
fn bodies_of_every_size_arrive_and_the_stream_is_used_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    run(async {
        for (mut server, mut client) in pairs().await {
            let sizes = [0usize, 1, 16_384, 16_385, 65_537, 300_001, 2_000_003];
            let sending = spawn(async move {
                for size in sizes {
                    // What follows comes in the same record, mostly.
                    let message = [content(size), b"next".to_vec()].concat();
                    client.write_all(&message).await.unwrap();
                }
                client.close().await.unwrap();
                client
            });
            for size in sizes {
                let before = server.received();
                let mut first = vec![0; size.min(7)];
                let read =
                    if first.is_empty() { 0 } else { server.read(&mut first).await.unwrap() };
                first.truncate(read);
                let mut file = new_file(&path).await;
                let body = Incoming::exactly(&mut server, size as u64).after(first);
                let receipt = transfer_file(body, &mut file).await.unwrap();
                assert_eq!((receipt.received, receipt.written), (size as u64, size as u64));
                assert_eq!(receipt.route, Route::Copy);
                assert!(std::fs::read(&path).unwrap() == content(size), "{size} bytes");
                assert_eq!(server.received() - before, size as u64);
                let (mut next, mut read) = ([0; 4], 0);
                while read < next.len() {
                    read += server.read(&mut next[read..]).await.unwrap();
                }
                assert_eq!(&next, b"next");
            }
            let mut file = new_file(&path).await;
            assert_eq!(transfer_file(&mut server, &mut file).await.unwrap().received, 0);
            server.close().await.unwrap();
            sending.await.unwrap();
        }
    });
}

#[test]
fn an_end_that_was_said_is_an_end_and_one_that_was_not_is_a_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    run(async {
        for said in [true, false] {
            for length in [None, Some(150_000u64)] {
                for (mut server, mut client) in pairs().await {
                    client.write_all(&content(100_000)).await.unwrap();
                    match said {
                        true => client.close().await.unwrap(),
                        false => client.shutdown(Half::Write).unwrap(),
                    }
                    let mut file = new_file(&path).await;
                    let body = match length {
                        Some(length) => Incoming::exactly(&mut server, length),
                        None => Incoming::to_the_end(&mut server),
                    };
                    let outcome = transfer_file(body, &mut file).await;
                    assert!(std::fs::read(&path).unwrap() == content(100_000));
                    let error = match (said, length) {
                        (true, None) => {
                            assert_eq!(outcome.unwrap().written, 100_000);
                            continue;
                        }
                        _ => outcome.unwrap_err(),
                    };
                    assert_eq!((error.received(), error.written()), (100_000, 100_000));
                    assert_eq!(error.blame(), Blame::Peer);
                    let short = ShortBody { expected: 150_000, received: 100_000 };
                    let kind = match said {
                        true => ReceiveErrorKind::ShortBody(short),
                        false => ReceiveErrorKind::CutOff,
                    };
                    assert_eq!(*error.kind(), kind, "{error}");
                }
            }
        }
    });
}

#[test]
fn a_record_that_was_changed_ends_the_body_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    run(async {
        let (mut server, mut client) = pair().await;
        client.write_all(&content(30_000)).await.unwrap();
        // It looks like a record, and no key has sealed it.
        let record = [&[23, 3, 3, 0, 100][..], &[7; 100]].concat();
        let mut below = client.tcp().share();
        below.write_all(&record).await.unwrap();
        let mut file = new_file(&path).await;
        let body = Incoming::exactly(&mut server, 60_000);
        let error = transfer_file(body, &mut file).await.unwrap_err();
        assert_eq!((error.received(), error.written()), (30_000, 30_000));
        assert_eq!(*error.kind(), ReceiveErrorKind::Tls { blame: Blame::Peer });
        assert!(error.to_string().contains("authentication"), "{error}");
        drop((below, client));
    });
}

#[test]
fn a_body_that_is_dropped_tears_its_stream_until_somebody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    run(async {
        let mut torn = 0;
        for polls in 0..8 {
            let (mut server, mut client) = pair().await;
            client.write_all(&content(200_000)).await.unwrap();
            let mut file = new_file(&path).await;
            let mut left = polls;
            let done = {
                let body = Incoming::exactly(&mut server, 300_000);
                let mut receiving = transfer_file(body, &mut file).into_future();
                let polling = poll_fn(|context| {
                    if left == 0 {
                        return Poll::Ready(false);
                    }
                    left -= 1;
                    Pin::new(&mut receiving).poll(context).map(|_| true)
                });
                // When all that was sent is written, nothing wakes it any more.
                timeout(Duration::from_millis(100), polling).await.unwrap_or(false)
            };
            assert!(!done, "100 000 bytes are still to come");
            let taken = server.received();
            assert_eq!(server.is_torn(), taken > 0);
            if server.is_torn() {
                torn += 1;
                let error = server.read(&mut [0; 10]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                let error = transfer_file(&mut server, &mut file).await.unwrap_err();
                assert_eq!(*error.kind(), ReceiveErrorKind::Torn, "{error}");
                assert_eq!(server.settle_received(), taken);
            }
            client.close().await.unwrap();
            let rest = read_to_end(&mut server).await.unwrap();
            let from = usize::try_from(taken).unwrap();
            assert!(rest == content(200_000)[from..], "behind {taken} bytes");
        }
        assert!(torn > 0);
    });
}

#[test]
fn what_came_with_an_earlier_record_makes_a_stream_readable() {
    run(async {
        for (mut server, mut client) in pairs().await {
            client.write_all(&content(100)).await.unwrap();
            client.close().await.unwrap();
            let mut all = Vec::new();
            loop {
                server.readable().await.unwrap();
                let mut one = [0; 1];
                match server.try_read(&mut one) {
                    Ok(0) => break,
                    Ok(_) => all.push(one[0]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            assert_eq!(all, content(100));
        }
    });
}

#[test]
fn an_answer_is_heard_while_a_file_is_being_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, content(8 << 20)).unwrap();
    run(async {
        for (mut server, mut client) in pairs().await {
            let file = File::open(&path).await.unwrap();
            let reader = client.reader();
            let listening = spawn(async move {
                let (mut heard, mut buffer) = (Vec::new(), [0; 1000]);
                loop {
                    match reader.read(&mut buffer).await.unwrap() {
                        0 => return heard,
                        count => heard.extend_from_slice(&buffer[..count]),
                    }
                }
            });
            let sending = spawn(async move {
                let receipt = transfer_file(&file, &mut client).await.unwrap();
                client.close().await.unwrap();
                receipt.bytes
            });
            let mut begin = vec![0; 1 << 16];
            let mut read = server.read(&mut begin).await.unwrap();
            // The peer waits for room now, and is told something: more than it keeps unread.
            server.write_all(&content(300_000)).await.unwrap();
            server.close().await.unwrap();
            assert!(listening.await.unwrap() == content(300_000), "heard before all was sent");
            read += read_to_end(&mut server).await.unwrap().len();
            assert_eq!((read as u64, sending.await.unwrap()), (8 << 20, 8 << 20));
        }
    });
}
