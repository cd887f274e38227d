//! R2 where the kernel seals: every call fails with every errno that it can return, and is short. Keys that
//! are refused are a fallback with its reason; a transfer completes, or its error tells how many bytes
//! rustls opens at the other end; and the connection goes on.
//!
//! The errno of a ring's op is injected through the ring, which needs Linux 6.10: before that, ops are only
//! short, and calls fail.

use std::io::Read;
use std::time::Duration;

use ringway::error::ErrorKind;
use ringway::limits::Limits;
use ringway::runtime::fault::{self, Fault, Report};
use ringway::runtime::fs::File;
use ringway::runtime::time::timeout;
use ringway::runtime::{nop, stats};
use ringway::tls::{Backend, TlsStream};
use ringway::{Mode, Parts, Receipt, Route, TransferError, transfer_file};
use ringway_testkit::{Checker, canary};

use crate::support::sealed::*;
use crate::support::tap::{Appetite, Tap, quiet};
use crate::support::*;
use crate::{MODES, swallow, where_the_kernel_seals};

const FILE: u64 = 43;
/// One body that goes by copies, and one that is spliced.
const BODIES: [u64; 2] = [20_003, (80 << 10) + 3];
const HEAD: &[u8] = &[0x48; 200];
const TAIL: &[u8] = &[0x54; 50];
/// No transfer of these takes a thousandth of it.
const HANG: Duration = Duration::from_secs(20);

/// EINTR, EIO, EAGAIN, ENOMEM, EINVAL, EPIPE, ECONNRESET, ENOBUFS.
const ERRNOS: [i32; 8] = [4, 5, 11, 12, 22, 32, 104, 105];
const SHORTS: [u32; 4] = [1, 200, 4097, 16_385];

#[test]
fn a_key_that_is_refused_with_any_errno_is_a_fallback_that_says_so() {
    // EPERM, ENOENT, ENOMEM, EBUSY, EEXIST, EINVAL, ENOPROTOOPT, EOPNOTSUPP.
    const REFUSALS: [i32; 8] = [1, 2, 12, 16, 17, 22, 92, 95];
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, 200_000));
        for (call, why) in [(0, "refused it for this socket"), (1, "refused the key")] {
            for errno in REFUSALS {
                fault::arm_for("setsockopt", call, Fault::Errno(errno));
                let (mut stream, client) = connected(&by_kernel()).await;
                assert_eq!(fault::disarm().fired, Some("setsockopt"));
                let Backend::Registered { kernel_tls } = stream.backend() else {
                    panic!("{errno}: {:?}", stream.backend())
                };
                assert!(kernel_tls.contains(why), "{errno}: {kernel_tls}");
                let reading = swallow(client, Checker::new(FILE, 0));
                let receipt = transfer_file(&file, &mut stream).await.unwrap();
                assert_eq!(receipt.route, Route::Registered, "{receipt}");
                assert!(receipt.reason.to_string().contains(kernel_tls), "{}", receipt.reason);
                stream.close().await.unwrap();
                assert_eq!(reading.join().unwrap(), 200_000);
            }
        }
        println!("{} refused keys: all sealed here, with the reason", 2 * REFUSALS.len());
    });
}

#[test]
fn every_call_may_fail_and_be_short() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let ops_can_fail = ops_can_fail().await;
        let mut counts = Counts::default();
        for body in BODIES {
            let file = open(&canary_file(&folder, FILE, body + 1));
            for mode in MODES {
                let mut line = None;
                for kth in 0.. {
                    let (report, outcome) =
                        run(&mut line, &file, body, mode, kth, Fault::Short(u32::MAX)).await;
                    let Some(name) = report.fired else { break };
                    outcome.unwrap_or_else(|error| panic!("{mode}: without a fault: {error}"));
                    let may_fail = ops_can_fail || is_a_call(name, mode);
                    for fault in faults_of(name, may_fail) {
                        let (report, outcome) = run(&mut line, &file, body, mode, kth, fault).await;
                        counts.note(report, outcome.is_ok());
                    }
                }
            }
        }
        println!("{counts:?}, ops fail: {ops_can_fail}: 0 bytes lost, 0 foreign, 0 leaks");
        assert!(counts.fired > 300 && counts.failed > 50, "{counts:?}");
    });
}

#[derive(Debug, Default)]
struct Counts {
    fired: u64,
    complete: u64,
    failed: u64,
}

impl Counts {
    fn note(&mut self, report: Report, is_complete: bool) {
        self.fired += u64::from(report.fired.is_some());
        self.complete += u64::from(report.fired.is_some() && is_complete);
        self.failed += u64::from(!is_complete);
    }
}

/// Whether this kernel lets a ring's op fail as it is told to.
async fn ops_can_fail() -> bool {
    const EIO: i32 = 5;
    fault::arm_for("nop", 0, Fault::Errno(EIO));
    let error = nop().await.err();
    assert!(fault::disarm().fired.is_some());
    // Older kernels find fault with the order itself, or with nothing.
    error.and_then(|error| error.raw_os_error()) == Some(EIO)
}

/// Whether all that has this name in this mode is a system call and no op of the ring's.
fn is_a_call(name: &str, mode: Mode) -> bool {
    match name {
        "setsockopt" | "sendmsg" | "recv" | "pread" | "preadv" | "sendfile" | "pipe-read" => true,
        "splice" | "send" => mode == Mode::Inline,
        _ => false,
    }
}

fn faults_of(name: &str, may_fail: bool) -> Vec<Fault> {
    let errnos = ERRNOS.into_iter().filter(|_| may_fail).map(Fault::Errno);
    // These move nothing, or all.
    let moves_nothing = matches!(name, "poll" | "recv" | "setsockopt" | "sendmsg");
    let shorts = SHORTS.into_iter().filter(|_| !moves_nothing).map(Fault::Short);
    errnos.chain(shorts).collect()
}

/// One transfer with one fault, checked to the last byte, and a clean one behind it.
async fn run(
    line: &mut Option<(TlsStream, Tap)>,
    file: &File,
    body: u64,
    mode: Mode,
    kth: u64,
    fault: Fault,
) -> (Report, Result<Receipt, TransferError>) {
    let (mut stream, tap) = match line.take() {
        Some(ends) => ends,
        None => tap_tls(Appetite::Greedy, &by_kernel()).await,
    };
    assert_eq!(stream.backend(), Backend::KernelTls);
    let whole = whole(body);
    let base = stats().unwrap();
    let began = stream.accepted();
    fault::arm(kth, fault);
    let outcome = timeout(HANG, send(&mut stream, file, body, mode)).await;
    let report = fault::disarm();
    let what = format!("{body} {mode} {kth} {fault:?} {report:?}");
    let outcome = outcome.unwrap_or_else(|_| panic!("it hangs: {what}"));
    let sent = stream.accepted() - began;
    match &outcome {
        Ok(receipt) => {
            assert_eq!((receipt.bytes, sent), (whole.len() as u64, sent), "{what}");
            assert_eq!(receipt.route, Route::KernelTls, "{what}: {receipt}");
        }
        Err(error) => {
            assert!(!matches!(error.kind(), ErrorKind::Misstep(_)), "{what}: {error}");
            assert_eq!(error.sent(), sent, "{what}: {error}");
        }
    }
    // What was accepted leaves the kernel's open record, though nothing follows.
    tap.take_prefix(&whole, sent);
    quiet(&base).await;
    // The connection goes on: the fault was not the socket's.
    send(&mut stream, file, body, mode).await.unwrap_or_else(|e| panic!("{what}, then {e}"));
    tap.take_prefix(&whole, whole.len() as u64);
    quiet(&base).await;
    *line = Some((stream, tap));
    (report, outcome)
}

async fn send(
    stream: &mut TlsStream,
    file: &File,
    body: u64,
    mode: Mode,
) -> Result<Receipt, TransferError> {
    let parts = Parts::new().bytes(HEAD).file(file, 1..body + 1).bytes(TAIL);
    let limits =
        Limits::default().with_quantum_bytes(32 << 10).with_stall_hold(Duration::from_millis(2));
    transfer_file(parts, stream).limits(limits).route(Route::KernelTls).mode(mode).await
}

fn whole(body: u64) -> Vec<u8> {
    let mut file = vec![0; usize::try_from(body).unwrap()];
    canary::fill(FILE, 1, &mut file);
    [HEAD, &file, TAIL].concat()
}

/// The last word goes by sendmsg(2). When it cannot be said, the peer must not see an end.
#[test]
fn a_close_that_fails_is_no_end_for_the_peer_and_can_be_repeated() {
    where_the_kernel_seals(async || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, 100_000));
        for errno in ERRNOS {
            for again in [true, false] {
                let (mut stream, mut client) = connected(&by_kernel()).await;
                let reading = std::thread::spawn(move || {
                    let (mut checker, mut buffer) = (Checker::new(FILE, 0), vec![0; 1 << 15]);
                    loop {
                        match client.read(&mut buffer) {
                            Ok(0) => return (checker.position(), true),
                            Ok(count) => checker.feed(&buffer[..count]).unwrap(),
                            Err(_) => return (checker.position(), false),
                        }
                    }
                });
                transfer_file(&file, &mut stream).await.unwrap();
                fault::arm_for("sendmsg", 0, Fault::Errno(errno));
                let closed = timeout(HANG, stream.close()).await.unwrap();
                assert_eq!(fault::disarm().fired, Some("sendmsg"));
                let closed = match closed {
                    Err(_) if again => timeout(HANG, stream.close()).await.unwrap(),
                    closed => closed,
                };
                drop(stream);
                let (bytes, announced) = reading.join().unwrap();
                assert_eq!((bytes, announced), (100_000, closed.is_ok()), "{errno}: {closed:?}");
                assert!(closed.is_ok() || !again, "{errno}: {closed:?}");
            }
        }
    });
}
