//! Waiting many times on one stream, by one poll that stands.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use ringway_runtime::net::{Arrivals, UnixStream};
use ringway_runtime::{stats, time, yield_now};

use crate::baseline::on_a_ring;

fn pair() -> (UnixStream, StdUnixStream) {
    let (near, far) = StdUnixStream::pair().unwrap();
    (UnixStream::from_std(near).unwrap(), far)
}

/// Receives all that is there, as someone does who has no more room than this at once.
async fn take(arrivals: &mut Arrivals, stream: &UnixStream, room: usize) -> Vec<u8> {
    let mut piece = vec![0; room];
    loop {
        arrivals.next().await.unwrap();
        match stream.try_recv(&mut piece) {
            Ok(received) => return piece[..received].to_vec(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn a_hundred_arrivals_cost_two_polls() {
    on_a_ring(async {
        let (stream, mut far) = pair();
        let mut arrivals = stream.arrivals();
        let before = stats().unwrap().ops_submitted;
        for round in 0..100 {
            far.write_all(&[round]).unwrap();
            assert_eq!(take(&mut arrivals, &stream, 8).await, [round]);
        }
        let polls = stats().unwrap().ops_submitted - before;
        assert_eq!(polls, 2, "one that looks and one that stands");
    });
}

#[test]
fn what_a_receive_has_left_is_told_again() {
    on_a_ring(async {
        let (stream, mut far) = pair();
        let mut arrivals = stream.arrivals();
        for _ in 0..5 {
            far.write_all(b"abcdef").unwrap();
            assert_eq!(take(&mut arrivals, &stream, 4).await, b"abcd");
            assert_eq!(take(&mut arrivals, &stream, 4).await, b"ef");
        }
    });
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_told() {
    for before in 0..3 {
        on_a_ring(async move {
            let (stream, mut far) = pair();
            let mut arrivals = stream.arrivals();
            for _ in 0..before {
                far.write_all(b"request").unwrap();
                assert_eq!(take(&mut arrivals, &stream, 64).await, b"request");
            }
            far.write_all(b"the last").unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            assert_eq!(take(&mut arrivals, &stream, 64).await, b"the last");
            assert_eq!(take(&mut arrivals, &stream, 64).await, b"", "after {before} others");
        });
    }
}

#[test]
fn what_arrives_while_nobody_waits_is_told_once() {
    on_a_ring(async {
        let (stream, mut far) = pair();
        let mut arrivals = stream.arrivals();
        for _ in 0..3 {
            far.write_all(b"a").unwrap();
            assert_eq!(take(&mut arrivals, &stream, 8).await, b"a");
        }
        for _ in 0..100 {
            far.write_all(b"b").unwrap();
            yield_now().await;
        }
        assert_eq!(take(&mut arrivals, &stream, 200).await.len(), 100);
        far.write_all(b"c").unwrap();
        assert_eq!(take(&mut arrivals, &stream, 8).await, b"c");
    });
}

#[test]
fn a_stream_whose_arrivals_were_waited_for_is_closed_when_both_are_dropped() {
    on_a_ring(async {
        let (stream, mut far) = pair();
        let in_flight = stats().unwrap().ops_in_flight;
        let mut arrivals = stream.arrivals();
        for _ in 0..3 {
            far.write_all(b"a").unwrap();
            assert_eq!(take(&mut arrivals, &stream, 8).await, b"a");
        }
        // In the middle of a wait, too.
        assert!(pin!(arrivals.next()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop((arrivals, stream));
        far.set_nonblocking(true).unwrap();
        let mut end = [0];
        loop {
            match far.read(&mut end) {
                Ok(received) => break assert_eq!(received, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            time::sleep(Duration::from_millis(1)).await;
        }
        while stats().unwrap().ops_in_flight > in_flight {
            time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[cfg(feature = "fault")]
#[test]
fn a_poll_that_stood_and_failed_is_an_error_once() {
    use ringway_runtime::fault::{Fault, arm_for, disarm};

    on_a_ring(async {
        let (stream, mut far) = pair();
        let mut arrivals = stream.arrivals();
        for _ in 0..2 {
            far.write_all(b"a").unwrap();
            assert_eq!(take(&mut arrivals, &stream, 8).await, b"a");
        }
        drop(arrivals);
        let mut arrivals = stream.arrivals();
        arm_for("poll", 1, Fault::Errno(libc::ENOMEM));
        far.write_all(b"b").unwrap();
        assert_eq!(take(&mut arrivals, &stream, 8).await, b"b");
        let error = arrivals.next().await.unwrap_err();
        assert_eq!(disarm().fired, Some("poll"));
        // Before Linux 6.10 a no-op brings no errno of ours, and is refused.
        assert!(matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EINVAL)), "{error}");
        far.write_all(b"c").unwrap();
        assert_eq!(take(&mut arrivals, &stream, 8).await, b"c");
    });
}
