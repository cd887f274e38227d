//! TCP and Unix streams: both directions, their ends, and ten thousand that only wait.

use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::time::Duration;

use ringway_runtime::net::{
    Half, Poisoned, Stream, TcpListener, TcpStream, UnixListener, UnixStream,
};
use ringway_runtime::{Config, spawn, stats, time, yield_now};
use ringway_testkit::{Checker, canary};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::baseline::on_a_ring;

const BYTES: usize = 3_000_000;

/// Sends canary bytes, ends the stream, and reads the answer to its end.
async fn talk(mut client: impl std::ops::DerefMut<Target = Stream>) {
    let bytes = canary::bytes(4, 0, BYTES);
    client.write_all(&bytes).await.unwrap();
    assert_eq!(client.accepted(), BYTES as u64);
    client.shutdown(Half::Write).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 100];
    loop {
        match client.read(&mut piece).await.unwrap() {
            0 => break,
            len => answer.extend_from_slice(&piece[..len]),
        }
    }
    assert_eq!(answer, b"thank you");
}

/// Reads to the end of the stream, checks, and answers on the half that is still open.
async fn listen(server: impl std::ops::DerefMut<Target = Stream>) {
    let mut checker = Checker::new(4, 0);
    let mut piece = vec![0; 64 << 10];
    let mut len = 0;
    loop {
        match server.read(&mut piece).await.unwrap() {
            0 => break,
            count => {
                checker.feed(&piece[..count]).unwrap();
                len += count;
            }
        }
    }
    assert_eq!(len, BYTES);
    let sent = server.try_send(&[IoSlice::new(b"thank "), IoSlice::new(b"you")], false).unwrap();
    assert_eq!(sent, 9);
}

async fn over_tcp(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_address().unwrap();
    let server = spawn(async move { listen(listener.accept().await.unwrap()).await });
    let client = TcpStream::connect(address).await.unwrap();
    assert_eq!(client.peer_address().unwrap(), address);
    assert!(client.is_same_host());
    client.set_nodelay(true).unwrap();
    talk(client).await;
    server.await.unwrap();
}

#[test]
fn tcp_over_ipv4() {
    on_a_ring(over_tcp((Ipv4Addr::LOCALHOST, 0).into()));
}

#[test]
fn tcp_over_ipv6() {
    on_a_ring(over_tcp((Ipv6Addr::LOCALHOST, 0).into()));
}

#[test]
fn a_connection_knows_whether_its_congestion_control_paces() {
    on_a_ring(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let client = TcpStream::connect(listener.local_address().unwrap()).await.unwrap();
        // What a kernel has differs, but not this one.
        client.set_congestion_control("reno").unwrap();
        assert!(!client.is_paced());
        if client.set_congestion_control("bbr").is_ok() {
            assert!(client.is_paced(), "it is asked again after a change");
        }
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!UnixStream::from_std(one).unwrap().is_paced());
    });
}

/// The error of connecting to a listener that was closed. Another test's child has a copy of its descriptor
/// between fork and exec, so it may go on for a moment.
async fn nobody_listens(connect: impl AsyncFn() -> std::io::Result<()>) -> std::io::Error {
    loop {
        match connect().await {
            Err(error) => return error,
            Ok(()) => time::sleep(Duration::from_millis(1)).await,
        }
    }
}

#[test]
fn unix_streams() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    on_a_ring(async {
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_path().unwrap().unwrap(), path);
        let server = spawn(async move { listen(listener.accept().await.unwrap()).await });
        talk(UnixStream::connect(&path).await.unwrap()).await;
        server.await.unwrap();
        nobody_listens(async || UnixStream::connect(&path).await.map(drop)).await;
    });
}

#[test]
fn a_refused_connection_and_a_reset_one_are_errors() {
    on_a_ring(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_address().unwrap();
        let (client, server) = (TcpStream::connect(address).await, listener.accept().await);
        let (mut client, server) = (client.unwrap(), server.unwrap());
        server.set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        let error = client.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = client.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(client.accepted(), 0);
        drop(listener);
        let refused = nobody_listens(async || TcpStream::connect(address).await.map(drop)).await;
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_full_socket_is_waited_for_and_every_byte_counted() {
    on_a_ring(async {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let theirs = UnixStream::from_std(theirs).unwrap();
        let mut vec = vec![7u8; 100_000];
        let mut sent = 0;
        let full = loop {
            let (outcome, back) = ours.send(vec, 0, false).unwrap().await;
            vec = back.unwrap();
            match outcome {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert_eq!(ours.accepted(), sent as u64);
        assert!(time::timeout(Duration::from_millis(20), ours.writable()).await.is_err());
        let reader = spawn(async move {
            let mut piece = vec![0; 64 << 10];
            let mut len = 0;
            loop {
                match theirs.read(&mut piece).await.unwrap() {
                    0 => return len,
                    count => len += count,
                }
            }
        });
        ours.writable().await.unwrap();
        let (again, _) = ours.send(vec, 0, false).unwrap().await;
        sent += again.unwrap();
        drop(ours);
        assert_eq!(reader.await.unwrap(), sent);
    });
}

#[test]
fn a_poisoned_stream_refuses_until_it_is_settled() {
    on_a_ring(async {
        let (ours, _theirs) = StdUnixStream::pair().unwrap();
        let mut stream = UnixStream::from_std(ours).unwrap();
        stream.write_all(b"before").await.unwrap();
        let began = stream.accepted();
        drop(stream.send(vec![1u8; 1000], 0, false).unwrap());
        stream.poison(began);
        let refused = stream.write_all(b"more").await.unwrap_err();
        assert!(refused.get_ref().is_some_and(|inner| inner.is::<Poisoned>()));
        assert!(stream.send(vec![1u8], 0, false).is_err());
        let sent = stream.settle().await;
        assert!(sent == 0 || sent == 1000, "{sent}");
        assert_eq!(stream.accepted(), 6 + sent);
        stream.write_all(b"after").await.unwrap();
    });
}

#[test]
fn two_thousand_idle_connections_hold_no_buffers() {
    const CONNECTIONS: usize = 2000;
    // Descriptors enough for both ends; more than there were harms no other test.
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|soft| soft < 5000) {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    }
    on_a_ring(async {
        let mut far = Vec::new();
        let waiting: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (ours, theirs) = StdUnixStream::pair().unwrap();
                far.push(theirs);
                let stream = Rc::new(UnixStream::from_std(ours).unwrap());
                spawn(async move { stream.readable().await })
            })
            .collect();
        yield_now().await;
        yield_now().await;
        while stats().unwrap().ops_in_flight < CONNECTIONS as u64 {
            yield_now().await;
        }
        assert_eq!(stats().unwrap().leases, 0);
        // Some get something to read, the others are dropped while they wait.
        for stream in &mut far[..10] {
            std::io::Write::write_all(stream, b"!").unwrap();
        }
        for (number, task) in waiting.into_iter().enumerate() {
            if number < 10 { task.await.unwrap().unwrap() } else { task.abort() }
        }
        while stats().unwrap().ops_in_flight > 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
        assert!(stats().unwrap().cancels >= 1990);
    });
    let default = Config::default();
    assert!(default.completion_entries as usize > CONNECTIONS);
}
