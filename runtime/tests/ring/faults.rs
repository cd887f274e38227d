//! Injected faults: every op and inline call fails once with an errno, and moves less than asked.

use std::io::{IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use ringway_runtime::fault::{Fault, arm, arm_for, disarm};
use ringway_runtime::fs::{File, OpenOptions};
use ringway_runtime::net::UnixStream;
use ringway_runtime::{Runtime, Slots, lease, lend_pipe, nop};

use crate::baseline::{assert_settled, budget, on_a_ring_with, small};

fn numbers(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    File::from_std(file)
}

/// One of everything; the first error ends it. Tells what arrived at the other end.
async fn one_of_everything() -> (std::io::Result<()>, u64) {
    let (ours, _theirs) = StdUnixStream::pair().unwrap();
    let mut stream = UnixStream::from_std(ours).unwrap();
    let outcome = async {
        nop().await?;
        let bytes = numbers(9000);
        let file = file_of(&bytes);
        let (read, lease) = file.read_at(lease(4096).await?, 0, 4096, 0).await;
        let read = read?;
        assert_eq!(lease.as_deref(), Some(&bytes[..read]));
        let mut lease = lease.unwrap();
        file.try_read(&mut lease, 0, 10)?;
        let slots = Slots { start: 0, gap: 5, room: 100, tail: 17 };
        let read = file.try_read_slots(&mut lease, &slots, 0, 300, 0)?;
        assert_eq!(lease.spare_mut()[5..5 + read.min(100)], bytes[..read.min(100)]);
        let (read, lease) = file.read_slots(lease, &slots, 50, 300, 50)?.await;
        let read = read?.min(50);
        assert_eq!(lease.unwrap().spare_mut()[55..55 + read], bytes[50..50 + read]);
        let (written, _) = file.write_at(numbers(100), 0, 0).await;
        assert!(written? <= 100);
        file.sync_data().await?;
        let (filled, pipe) = file.fill(lend_pipe()?.unwrap(), 0, 3000)?.await;
        let mut pipe = pipe.unwrap();
        assert_eq!(pipe.residue(), filled?);
        let staged = pipe.residue();
        let more = file.try_fill(&mut pipe, 3000, 500)?;
        assert_eq!(pipe.residue(), staged + more);
        let drained = stream.try_drain(&mut pipe, false)?;
        assert_eq!(u64::from(drained), stream.accepted());
        if pipe.residue() > 0 {
            let (sent, _) = stream.drain(pipe, false)?.await;
            assert_eq!(stream.accepted(), u64::from(drained) + sent? as u64);
        }
        let before = stream.accepted();
        let sent = stream.try_send(&[IoSlice::new(b"abc"), IoSlice::new(b"def")], false)?;
        assert_eq!(stream.accepted(), before + sent as u64);
        let (sent, _) = stream.send(numbers(50), 0, false)?.await;
        sent?;
        stream.try_sendfile(file.as_fd(), 0, 70)?;
        stream.writable().await?;
        stream.write_all(&numbers(200)).await?;
        drop(OpenOptions::new().open("/etc/hostname").await);
        Ok(())
    }
    .await;
    (outcome, stream.accepted())
}

/// Runs with the fault at every place in turn, until there is none left.
fn at_every_place(fault: Fault, check: impl Fn(&'static str, std::io::Result<()>)) -> u64 {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    for kth in 0..1000 {
        arm(kth, fault);
        let (outcome, accepted) = runtime.block_on(one_of_everything());
        let report = disarm();
        assert_settled(&runtime);
        let Some(name) = report.fired else {
            outcome.unwrap();
            assert_eq!(accepted, 3500 + 6 + 50 + 70 + 200);
            return kth;
        };
        check(name, outcome);
    }
    panic!("there is no end of places");
}

#[test]
fn an_errno_at_any_place_is_reported_and_leaves_nothing() {
    for errno in [libc::EIO, libc::ENOMEM, libc::ECANCELED, libc::ENOSPC] {
        let places = at_every_place(Fault::Errno(errno), |name, outcome| {
            // The last op of the run is an open whose error is not looked at.
            if name != "openat2" {
                assert_eq!(outcome.unwrap_err().raw_os_error(), Some(errno), "{name}");
            }
        });
        assert!(places >= 16, "{places} places");
    }
}

#[test]
fn a_short_count_at_any_place_is_no_error_and_is_counted() {
    for len in [1, 49] {
        at_every_place(Fault::Short(len), |name, outcome| {
            outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        });
    }
}

#[test]
pub(crate) fn an_interrupted_splice_costs_the_pipe() {
    const ERESTARTSYS: i32 = 512;
    for errno in [libc::ECANCELED, libc::EINTR, ERESTARTSYS] {
        on_a_ring_with(small(), async {
            let file = file_of(&numbers(5000));
            let pipe = lend_pipe().unwrap().unwrap();
            arm_for("splice", 0, Fault::Errno(errno));
            let (filled, pipe) = file.fill(pipe, 0, 5000).unwrap().await;
            assert_eq!(disarm().fired, Some("splice"));
            assert_eq!(filled.unwrap_err().raw_os_error(), Some(errno));
            drop(pipe);
            let stats = ringway_runtime::stats().unwrap();
            assert_eq!((stats.pipes, stats.pipes_destroyed), (0, 1), "its content is uncertain");
        });
    }
}

#[test]
fn an_accept_that_fails_for_memory_pauses() {
    on_a_ring_with(small(), async {
        let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let listener = ringway_runtime::net::TcpListener::bind(address).unwrap();
        let address = listener.local_address().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        for (errno, pauses) in [(libc::ECONNABORTED, 0), (libc::ENFILE, 1), (libc::ENOBUFS, 2)] {
            let _client = std::net::TcpStream::connect(address).unwrap();
            arm_for("accept", 0, Fault::Errno(errno));
            listener.accept().await.unwrap();
            assert_eq!(disarm().fired, Some("accept"));
            assert_eq!(ringway_runtime::stats().unwrap().accept_pauses, pauses);
        }
    });
}
