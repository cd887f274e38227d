//! R2: every operation of a transfer fails, with every errno that it can return, or moves less than it
//! was asked to. The transfer completes with the right bytes, or its error tells exactly how many went
//! out; the ring, its pools and the connection carry a clean transfer afterwards.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::ops::DerefMut;
use std::time::Duration;

use ringway::error::ErrorKind;
use ringway::limits::Limits;
use ringway::runtime::fault::{self, Fault, Report};
use ringway::runtime::fs::File;
use ringway::runtime::net::Stream;
use ringway::runtime::time::timeout;
use ringway::runtime::{Config, PipeLease, Runtime, lend_pipe, stats};
use ringway::{Consistency, Mode, Parts, Receipt, Route, Sink, TransferError, transfer_file};
use ringway_testkit::{Census, canary};
use support::tap::{Appetite, Tap, in_child, quiet, tap_tcp, tap_unix};
use support::through::{ALL_WAYS, through};
use support::{canary_file, folder, open};

const FILE: u64 = 41;
const BODY: u64 = (80 << 10) + 3;
const HEAD: &[u8] = &[0x48; 200];
const TAIL: &[u8] = &[0x54; 50];
/// No transfer of these takes a thousandth of it.
const HANG: Duration = Duration::from_secs(10);

const EPERM: i32 = 1;
const EINTR: i32 = 4;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EFAULT: i32 = 14;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const ENOSPC: i32 = 28;
const EPIPE: i32 = 32;
const EOVERFLOW: i32 = 75;
const EOPNOTSUPP: i32 = 95;
const ECONNRESET: i32 = 104;
const ENOBUFS: i32 = 105;
const ETIMEDOUT: i32 = 110;
const ECANCELED: i32 = 125;
const ERESTARTSYS: i32 = 512;

/// What an operation of this name can return, and how short it can be.
fn faults_of(name: &str) -> Vec<Fault> {
    let (errnos, shorts): (&[i32], &[u32]) = match name {
        "splice" => (
            &[
                EAGAIN,
                EINTR,
                ENOMEM,
                EIO,
                ECANCELED,
                EPIPE,
                ECONNRESET,
                EINVAL,
                EBADF,
                ENOSPC,
                EOPNOTSUPP,
                ERESTARTSYS,
                EPERM,
            ],
            &[1, 4095, 4096, 4097, 12_287],
        ),
        "read" | "pread" => (
            &[EAGAIN, EINTR, ENOMEM, EIO, ECANCELED, EINVAL, EBADF, EOPNOTSUPP],
            &[1, 4095, 4096, 12_287],
        ),
        "send" | "send_zc" | "sendfile" => (
            &[
                EAGAIN, EINTR, ENOMEM, ENOBUFS, EPIPE, ECONNRESET, ECANCELED, EINVAL, EBADF,
                EOPNOTSUPP, ETIMEDOUT, EIO,
            ],
            &[1, 199, 200, 201, 4096, 12_287],
        ),
        "madvise" => (
            &[EAGAIN, EINTR, ENOMEM, EIO, EFAULT, ECANCELED, EINVAL, EBADF, EPERM],
            &[1, 4096, 12_287],
        ),
        "mmap" => (&[EAGAIN, ENOMEM, EACCES, ENODEV, EPERM, ENFILE, EINVAL, EOVERFLOW], &[]),
        "poll" => (&[EINTR, ENOMEM, ECANCELED, EINVAL, EBADF], &[]),
        other => panic!("an operation that no arm names: {other}"),
    };
    let errnos = errnos.iter().map(|errno| Fault::Errno(*errno));
    errnos.chain(shorts.iter().map(|len| Fault::Short(*len))).collect()
}

#[test]
fn every_op_may_fail_and_be_short() {
    let limit = Duration::from_secs(120);
    in_child("every_op_may_fail_and_be_short", limit, || torture(5));
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test faults -- --ignored"]
fn every_op_may_fail_and_be_short_in_every_step() {
    let limit = Duration::from_secs(1500);
    in_child("every_op_may_fail_and_be_short_in_every_step", limit, || {
        torture(60);
    });
}

/// Goes over all ways `rounds` times, each time in steps of another size.
fn torture(rounds: usize) {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY + 1);
    let before = Census::take();
    let runtime = small_runtime();
    let file = open(&path);
    let mut tally = Tally::default();
    for quantum in [32, 12, 64, 20, 8, 48].into_iter().cycle().take(rounds) {
        for scene in Scene::all(quantum << 10) {
            // A reader with little room, so that the socket is full again and again.
            let (mut stream, tap) = tap_unix(Appetite::Greedy, 12 << 10);
            runtime.block_on(scene.torture(&mut stream, &tap, &file, &mut tally));
            support::end(stream);
            assert_eq!(tap.finish(), 0, "bytes that nobody had counted");
            let (mut stream, tap) = tap_tcp(Appetite::Greedy, 1 << 20);
            runtime.block_on(scene.torture(&mut stream, &tap, &file, &mut tally));
            support::end(stream);
            assert_eq!(tap.finish(), 0, "bytes that nobody had counted");
        }
    }
    let stats = runtime.stats();
    assert_eq!((stats.completions_stale, stats.completions_overflowed), (0, 0));
    drop((runtime, file));
    before.assert_unchanged_within(Duration::from_secs(5));
    println!("{tally:?}: 0 bytes lost, 0 foreign, 0 leaks, 0 hangs");
}

#[derive(Debug, Default)]
struct Tally {
    injected: usize,
    completed: usize,
    failed: usize,
    /// In transfers through a processor.
    of_mapped: usize,
    by_name: BTreeMap<&'static str, usize>,
    by_kind: BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, name: &'static str, outcome: &Result<Receipt, TransferError>) {
        self.injected += 1;
        *self.by_name.entry(name).or_default() += 1;
        let Err(error) = outcome else {
            self.completed += 1;
            return;
        };
        self.failed += 1;
        assert!(!matches!(error.kind(), ErrorKind::Misstep(_)), "{error}");
        let kind = format!("{:?}", error.kind());
        let kind = kind.split([' ', '(']).next().unwrap_or_default().to_owned();
        *self.by_kind.entry(kind).or_default() += 1;
    }
}

/// One way of sending, with what is special about it.
#[derive(Clone, Copy, Debug)]
struct Scene {
    way: (Route, Mode),
    quantum: u64,
    /// Bytes of the file.
    body: u64,
    zero_copy: bool,
    /// All pipes are lent, so that there is only sendfile(2) or the copy.
    no_pipes: bool,
    /// What a processor was shown is what goes out.
    snapshot: bool,
}

impl Scene {
    fn all(quantum: u64) -> Vec<Self> {
        let plain = |way| Self {
            way,
            quantum,
            body: BODY,
            zero_copy: false,
            no_pipes: false,
            snapshot: false,
        };
        // Head, file and tail in one send, whose rest is too short for another one without a copy.
        let zero_copy = |mode| Self {
            zero_copy: true,
            body: 40_000,
            quantum: 64 << 10,
            ..plain((Route::Copy, mode))
        };
        let no_pipes = |mode| Self { no_pipes: true, ..plain((Route::Splice, mode)) };
        let special = [
            zero_copy(Mode::Hybrid),
            zero_copy(Mode::Ring),
            no_pipes(Mode::Inline),
            no_pipes(Mode::Hybrid),
            Self { no_pipes: true, ..plain((Route::Mapped, Mode::Hybrid)) },
            Self { snapshot: true, ..plain((Route::Mapped, Mode::Hybrid)) },
            Self { snapshot: true, ..plain((Route::Mapped, Mode::Inline)) },
        ];
        [&ALL_WAYS.map(plain)[..], &special].concat()
    }

    async fn torture<S: Sink + DerefMut<Target = Stream>>(
        self,
        stream: &mut S,
        tap: &Tap,
        file: &File,
        tally: &mut Tally,
    ) {
        for kth in 0.. {
            // Which operation is it? One that is shortened to what it asks for tells its name.
            let seen = self.step(stream, tap, file, kth, Fault::Short(u32::MAX)).await;
            let (Report { fired: Some(name), .. }, outcome) = seen else { break };
            outcome.unwrap_or_else(|error| panic!("{self:?}: without a fault: {error}"));
            for fault in faults_of(name) {
                let (report, outcome) = self.step(stream, tap, file, kth, fault).await;
                // How the ops follow each other depends on the peer's pace: it may be another one.
                if let Some(name) = report.fired {
                    tally.of_mapped += usize::from(self.way.0 == Route::Mapped);
                    tally.count(name, &outcome);
                }
                if tally.injected.is_multiple_of(16) {
                    let (_, clean) = self.step(stream, tap, file, u64::MAX, fault).await;
                    clean.unwrap_or_else(|error| panic!("{self:?} after {fault:?}: {error}"));
                }
            }
        }
        let (_, clean) = self.step(stream, tap, file, u64::MAX, Fault::Short(1)).await;
        clean.unwrap_or_else(|error| panic!("{self:?}: in the end: {error}"));
    }

    /// A run over the connection, or over a fresh one: a connection on which zero-copy sends were
    /// copied has no more of them.
    async fn step<S: Sink + DerefMut<Target = Stream>>(
        self,
        stream: &mut S,
        tap: &Tap,
        file: &File,
        kth: u64,
        fault: Fault,
    ) -> (Report, Result<Receipt, TransferError>) {
        if !self.zero_copy {
            return self.run(stream, tap, file, kth, fault).await;
        }
        let (mut fresh, its_tap) = tap_tcp(Appetite::Greedy, 1 << 20);
        let outcome = self.run(&mut fresh, &its_tap, file, kth, fault).await;
        drop(fresh);
        assert_eq!(its_tap.finish(), 0, "bytes that nobody had counted");
        outcome
    }

    /// One transfer with one fault, checked to the last byte.
    async fn run<S: Sink + DerefMut<Target = Stream>>(
        self,
        stream: &mut S,
        tap: &Tap,
        file: &File,
        kth: u64,
        fault: Fault,
    ) -> (Report, Result<Receipt, TransferError>) {
        let base = stats().unwrap();
        let held: Vec<PipeLease> = if self.no_pipes { all_pipes() } else { Vec::new() };
        let began = stream.accepted();
        let whole = whole(self.body);
        let parts = Parts::new().bytes(HEAD).file(file, 1..self.body + 1).bytes(TAIL);
        let limits = Limits::default()
            .with_quantum_bytes(self.quantum)
            .with_copy_batch_bytes(self.quantum)
            .with_stall_hold(Duration::from_millis(2));
        let (route, mode) = self.way;
        let transfer = transfer_file(parts, stream).limits(limits).mode(mode);
        let transfer =
            if self.snapshot { transfer.consistency(Consistency::Snapshot) } else { transfer };
        // Not forced where it may fall back: that is part of what is tested.
        let forced = matches!(mode, Mode::Ring) || route != Route::Splice;
        let transfer = if forced { through(transfer, self.way) } else { transfer };
        fault::arm(kth, fault);
        let outcome = timeout(HANG, transfer.zero_copy(self.zero_copy).into_future()).await;
        let report = fault::disarm();
        let outcome = outcome.unwrap_or_else(|_| panic!("{self:?} hangs: {kth} {fault:?}"));
        let sent = stream.accepted() - began;
        match &outcome {
            Ok(receipt) => assert_eq!((receipt.bytes, sent), (whole.len() as u64, sent)),
            Err(error) => assert_eq!(error.sent(), sent, "{self:?} {kth} {fault:?}: {error}"),
        }
        assert!(!stream.is_poisoned());
        tap.take_prefix(&whole, sent);
        drop(held);
        quiet(&base).await;
        (report, outcome)
    }
}

fn all_pipes() -> Vec<PipeLease> {
    std::iter::from_fn(|| lend_pipe().unwrap().ok()).collect()
}

fn whole(body: u64) -> Vec<u8> {
    let file = canary::bytes(FILE, 1, usize::try_from(body).unwrap());
    [HEAD, &file, TAIL].concat()
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
