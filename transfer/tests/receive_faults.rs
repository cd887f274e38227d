//! R2 and R4 for bodies that come in: every operation fails, with every errno that it can return, or
//! is short; and the transfer is dropped after every poll. What is in the file is the beginning of the
//! body, as long as the counts say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use ringway::receive::ReceiveErrorKind;
use ringway::runtime::fault::{self, Fault, Report};
use ringway::runtime::fs::{File, OpenOptions};
use ringway::runtime::net::{Half, UnixStream};
use ringway::runtime::time::timeout;
use ringway::runtime::{Config, PipeLease, Runtime, lend_pipe, stats};
use ringway::{
    Incoming, Limits, Receive, ReceiveError, Received, Route, Thresholds, transfer_file,
};
use ringway_testkit::{Census, Quarantine};
use support::tap::{in_child, quiet};
use support::{canary_bytes, folder, memory_folder, unix_pair};

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();

const BODY: u64 = 90_001;
const GIVEN: usize = 700;
/// No transfer of these takes a thousandth of it.
const HANG: Duration = Duration::from_secs(10);

const EPERM: i32 = 1;
const EINTR: i32 = 4;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EOPNOTSUPP: i32 = 95;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const EDQUOT: i32 = 122;
const ECANCELED: i32 = 125;

/// What an operation of this name can return, and how short it can be.
fn faults_of(name: &str) -> Vec<Fault> {
    let (errnos, shorts): (&[i32], &[u32]) = match name {
        // Out of the socket or into the file.
        "splice" => (
            &[
                EAGAIN, EINTR, ENOMEM, EIO, EINVAL, EBADF, ENOSPC, EDQUOT, EFBIG, EROFS,
                EOPNOTSUPP, ECONNRESET, ECANCELED, EPERM, ETIMEDOUT,
            ],
            &[1, 4095, 4097],
        ),
        "write" => (
            &[EAGAIN, EINTR, ENOMEM, EIO, EINVAL, EBADF, ENOSPC, EDQUOT, EFBIG, EROFS, ECANCELED],
            &[1, 4095, 4097],
        ),
        "recv" => (&[EAGAIN, EINTR, ENOMEM, ECONNRESET, ETIMEDOUT, EBADF], &[1, 4095, 4097]),
        "pipe-read" => (&[EIO], &[1, 4095]),
        "fallocate" => (&[ENOSPC, EDQUOT, EOPNOTSUPP, EINVAL, EINTR, EIO, EFBIG], &[]),
        "poll" => (&[EINTR, ENOMEM, ECANCELED, EINVAL, EBADF], &[]),
        other => panic!("an operation that no arm names: {other}"),
    };
    let errnos = errnos.iter().map(|errno| Fault::Errno(*errno));
    errnos.chain(shorts.iter().map(|len| Fault::Short(*len))).collect()
}

/// One way of receiving, with what is special about it.
#[derive(Clone, Copy, Debug)]
struct Scene {
    route: Option<Route>,
    quantum: u64,
    /// All pipes are lent.
    no_pipes: bool,
    /// The file is in memory.
    memory: bool,
    /// The length is not told.
    to_the_end: bool,
}

impl Scene {
    fn all() -> Vec<Self> {
        let plain = Self {
            route: None,
            quantum: 20 << 10,
            no_pipes: false,
            memory: false,
            to_the_end: false,
        };
        vec![
            plain,
            Self { to_the_end: true, quantum: 64 << 10, ..plain },
            Self { memory: true, ..plain },
            Self { no_pipes: true, ..plain },
            Self { route: Some(Route::Copy), quantum: 16 << 10, ..plain },
            Self { route: Some(Route::Splice), ..plain },
        ]
    }

    fn order<'t>(self, stream: &'t mut UnixStream, file: &'t mut File) -> Receive<'t> {
        let body = match self.to_the_end {
            true => Incoming::to_the_end(stream),
            false => Incoming::exactly(stream, BODY),
        };
        let limits = Limits::default()
            .with_quantum_bytes(self.quantum)
            .with_pipe_bytes(self.quantum)
            .with_receive_batch_bytes(self.quantum)
            .with_stall_hold(Duration::from_micros(200));
        let thresholds = Thresholds::default()
            .with_receive_batch_min_bytes(8 << 10)
            .with_receive_copy_max_bytes(0)
            .with_reserve_min_bytes(4096);
        let receive = transfer_file(body.after(canary_bytes(5, 0, GIVEN)), file)
            .limits(limits)
            .thresholds(thresholds)
            .offset(3);
        match self.route {
            Some(route) => receive.route(route),
            None => receive,
        }
    }
}

/// A peer whose thread sends one body after another, each over a connection of its own.
fn peer() -> (UnixStream, std::thread::JoinHandle<()>) {
    let (ours, mut theirs) = unix_pair();
    ours.set_receive_buffer(16 << 10).unwrap();
    let sending = std::thread::spawn(move || {
        // It fails when the transfer has failed.
        let body = canary_bytes(5, GIVEN as u64, usize::try_from(BODY).unwrap() - GIVEN);
        let _ = theirs.write_all(&body);
        let _ = theirs.shutdown(std::net::Shutdown::Write);
        let _ = theirs.read(&mut [0]);
    });
    (ours, sending)
}

fn all_pipes() -> Vec<PipeLease> {
    std::iter::from_fn(|| lend_pipe().unwrap().ok()).collect()
}

fn small_runtime() -> Runtime {
    let config = Config {
        submission_entries: 8,
        completion_entries: 256,
        pipes_max: 3,
        pipe_bytes: 64 << 10,
        ..Config::default()
    };
    Runtime::with_config(config).unwrap()
}

/// The file begins with `written` bytes of the body.
#[track_caller]
fn assert_holds(path: &std::path::Path, written: u64) {
    let stored = std::fs::read(path).unwrap();
    let written = usize::try_from(written).unwrap();
    assert!(stored.len() >= written + 3 || written == 0, "{} of {written}", stored.len());
    if written > 0 {
        assert!(stored[3..3 + written] == canary_bytes(5, 0, written), "other bytes");
    }
}

#[test]
fn every_op_may_fail_and_be_short_while_a_body_comes_in() {
    let name = "every_op_may_fail_and_be_short_while_a_body_comes_in";
    in_child(name, Duration::from_secs(120), torture);
}

fn torture() {
    let (disk, memory) = (folder(), memory_folder());
    let before = Census::take();
    let runtime = small_runtime();
    let mut tally = BTreeMap::<String, usize>::new();
    runtime.block_on(async {
        for scene in Scene::all() {
            let folder = if scene.memory { &memory } else { &disk };
            let path = folder.path().join("file");
            for kth in 0.. {
                let (report, outcome) = step(scene, &path, kth, Fault::Short(u32::MAX)).await;
                let Report { fired: Some(name), .. } = report else { break };
                outcome.unwrap_or_else(|error| panic!("{scene:?}: without a fault: {error}"));
                for fault in faults_of(name) {
                    let (report, outcome) = step(scene, &path, kth, fault).await;
                    if let (Some(name), Err(error)) = (report.fired, &outcome) {
                        let kind = format!("{:?}", error.kind());
                        let kind = kind.split([' ', '(']).next().unwrap_or_default().to_owned();
                        *tally.entry(format!("{name} {kind}")).or_default() += 1;
                    }
                }
            }
        }
    });
    let stats = runtime.stats();
    assert_eq!((stats.completions_stale, stats.completions_overflowed), (0, 0));
    drop(runtime);
    before.assert_unchanged_within(Duration::from_secs(5));
    Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    for seen in ["NoSpace", "QuotaExceeded", "FileTooLarge", "ReadOnly", "PeerClosed"] {
        assert!(tally.keys().any(|key| key.ends_with(seen)), "{seen} was never seen: {tally:?}");
    }
    println!("{tally:?}: 0 bytes lost, 0 foreign, 0 leaks, 0 hangs");
}

/// One transfer with one fault, checked to the last byte.
async fn step(
    scene: Scene,
    path: &std::path::Path,
    kth: u64,
    fault: Fault,
) -> (Report, Result<Received, ReceiveError>) {
    let base = stats().unwrap();
    let held = if scene.no_pipes { all_pipes() } else { Vec::new() };
    let options = OpenOptions::new().write(true).create(true).truncate(true);
    let mut file = options.open(path).await.unwrap();
    let (mut stream, sending) = peer();
    fault::arm(kth, fault);
    let outcome = timeout(HANG, scene.order(&mut stream, &mut file).into_future()).await;
    let report = fault::disarm();
    let outcome = outcome.unwrap_or_else(|_| panic!("{scene:?} hangs: {kth} {fault:?}"));
    check(scene, path, &stream, &outcome, &format!("{scene:?} {kth} {fault:?}"));
    end(stream, sending);
    drop((held, file));
    quiet(&base).await;
    (report, outcome)
}

/// Ends the connection for the peer now: what was dropped may hold the socket until the ring turns.
fn end(stream: UnixStream, sending: std::thread::JoinHandle<()>) {
    let _ = stream.shutdown(Half::Both);
    drop(stream);
    sending.join().unwrap();
}

/// Whichever splice is refused with `EINVAL`, out of the stream or into the file: the copy takes over.
#[test]
fn a_splice_that_is_refused_is_copied_from_there_on() {
    let folder = folder();
    let path = folder.path().join("file");
    let runtime = small_runtime();
    for kth in 0..8 {
        let scene = Scene::all()[0];
        runtime.block_on(async {
            let options = OpenOptions::new().write(true).create(true).truncate(true);
            let mut file = options.open(&path).await.unwrap();
            let (mut stream, sending) = peer();
            fault::arm_for("splice", kth, Fault::Errno(EINVAL));
            let receipt = scene.order(&mut stream, &mut file).await.unwrap();
            assert_eq!(fault::disarm().fired, Some("splice"));
            assert_eq!(receipt.route, Route::Copy, "{receipt}");
            assert_eq!(receipt.fallbacks[0].what, "copied instead of spliced");
            end(stream, sending);
        });
        assert_holds(&path, BODY);
    }
}

fn check(
    scene: Scene,
    path: &std::path::Path,
    stream: &UnixStream,
    outcome: &Result<Received, ReceiveError>,
    about: &str,
) {
    let taken = stream.received() + GIVEN as u64;
    assert!(!stream.is_torn(), "{about}");
    match outcome {
        Ok(receipt) => {
            assert_eq!((receipt.received, receipt.written), (BODY, BODY), "{about}");
            assert_eq!(taken, BODY, "{about}");
            assert_eq!(std::fs::metadata(path).unwrap().len(), BODY + 3, "{about}");
        }
        Err(error) => {
            assert!(!matches!(error.kind(), ReceiveErrorKind::Misstep(_)), "{about}: {error}");
            assert_eq!(error.received(), taken, "{about}: {error}");
            assert!(error.written() <= error.received());
            let to_end = scene.to_the_end;
            assert!(error.written() < BODY || to_end || error.received() == BODY, "{about}");
        }
    }
    let written = outcome.as_ref().map_or_else(ReceiveError::written, |receipt| receipt.written);
    assert_holds(path, written);
}

#[test]
fn a_transfer_dropped_after_any_poll_tears_its_stream_and_leaks_nothing() {
    let name = "a_transfer_dropped_after_any_poll_tears_its_stream_and_leaks_nothing";
    in_child(name, Duration::from_secs(120), || drop_everywhere(1500));
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test receive_faults -- --ignored"]
fn ten_thousand_transfers_dropped_leave_no_byte_to_the_next_one() {
    let name = "ten_thousand_transfers_dropped_leave_no_byte_to_the_next_one";
    in_child(name, Duration::from_secs(600), || drop_everywhere(10_000));
}

fn drop_everywhere(count: u64) {
    let (disk, memory) = (folder(), memory_folder());
    let before = Census::take();
    let runtime = small_runtime();
    let (mut dropped, mut torn) = (0, 0);
    while dropped < count {
        for scene in Scene::all() {
            let folder = if scene.memory { &memory } else { &disk };
            let path = folder.path().join("file");
            for polls in 0.. {
                let (completed, was_torn) = runtime.block_on(drop_after(scene, &path, polls));
                torn += u64::from(was_torn);
                if completed {
                    break;
                }
                dropped += 1;
            }
        }
    }
    drop(runtime);
    before.assert_unchanged_within(Duration::from_secs(5));
    Quarantine::verify().unwrap_or_else(|late| panic!("{late}"));
    println!("{dropped} dropped, {torn} of them torn: 0 leaks");
}

async fn drop_after(scene: Scene, path: &std::path::Path, polls: u64) -> (bool, bool) {
    let base = stats().unwrap();
    let held = if scene.no_pipes { all_pipes() } else { Vec::new() };
    let options = OpenOptions::new().write(true).create(true).truncate(true);
    let mut file = options.open(path).await.unwrap();
    let (mut stream, sending) = peer();
    let mut left = polls;
    let outcome = {
        let mut receiving = scene.order(&mut stream, &mut file).into_future();
        std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            Pin::new(&mut receiving).poll(context).map(Some)
        })
        .await
    };
    let completed = outcome.is_some();
    if let Some(outcome) = outcome {
        assert_eq!(outcome.unwrap().written, BODY);
        assert_holds(path, BODY);
    }
    let (was_torn, taken) = (stream.is_torn(), stream.received());
    assert_eq!(was_torn, !completed && taken > 0);
    if was_torn {
        assert!(stream.try_recv(&mut [0]).is_err());
        let body = Incoming::to_the_end(&mut stream);
        let error = transfer_file(body, &mut file).await.unwrap_err();
        assert_eq!(*error.kind(), ReceiveErrorKind::Torn, "{error}");
        assert_eq!(stream.settle_received(), taken);
    }
    end(stream, sending);
    drop((held, file));
    quiet(&base).await;
    (completed, was_torn)
}
