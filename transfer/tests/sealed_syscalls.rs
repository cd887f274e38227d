//! R3 for encrypted streams: the K-th system call of a kind fails, made to by strace(1). What rustls opens
//! is the beginning of the file, as long as the sender says; nothing hangs, aborts or panics. Where the kernel
//! seals, a refused key is a fallback that says so; `.ci/uml` runs that part, on a kernel that has TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::limits::Limits;
use ringway::runtime::net::TcpStream;
use ringway::runtime::time::sleep;
use ringway::runtime::{Config, Runtime};
use ringway::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use ringway::tls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
};
use ringway::tls::{TlsAcceptor, TlsLimits, crypto_provider};
use ringway::{Mode, Route, transfer_file};
use ringway_testkit::{Budget, Checker};
use support::traced::tell;
use support::{canary_file, folder};

const FILE: u64 = 83;
const BODY: u64 = (3 << 20) + 5;
const MODES: [Mode; 3] = [Mode::Ring, Mode::Hybrid, Mode::Inline];
const ORDER: &str = "RINGWAY_TRACED";
/// Nothing takes longer on a healthy connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// System calls of an encrypted transfer, and what each can fail with.
const CALLS: [(&str, &[&str]); 9] = [
    ("io_uring_enter", &["EINTR", "EAGAIN", "EBUSY"]),
    ("sendto", &["EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "EPIPE", "ECONNRESET"]),
    ("sendmsg", &["EINTR", "EAGAIN", "ENOBUFS", "EPIPE"]),
    ("recvfrom", &["EINTR", "EAGAIN", "ENOMEM", "ECONNRESET"]),
    ("preadv2", &["EINTR", "EAGAIN", "EIO", "EOPNOTSUPP", "EINVAL"]),
    ("ioctl", &["EINTR", "ENOMEM", "EINVAL"]),
    ("fstat", &["EIO", "ENOMEM"]),
    ("fstatfs", &["EIO", "ENOSYS", "EINTR"]),
    ("io_uring_register", &["ENOMEM", "EINVAL", "EOPNOTSUPP"]),
];

/// The same where the kernel seals.
const CALLS_OF_THE_KERNELS: [(&str, &[&str]); 12] = [
    ("setsockopt", &["ENOENT", "ENOMEM", "EBUSY", "EINVAL"]),
    ("getsockopt", &["ENOMEM", "EINVAL"]),
    ("splice", &["EINTR", "EAGAIN", "ENOMEM", "EIO", "EPIPE", "EINVAL", "ECONNRESET"]),
    ("sendmsg", &["EINTR", "EAGAIN", "ENOBUFS", "EPIPE"]),
    ("sendto", &["EINTR", "EAGAIN", "ENOMEM", "EPIPE", "ECONNRESET"]),
    ("recvfrom", &["EINTR", "EAGAIN", "ENOMEM", "ECONNRESET"]),
    ("pipe2", &["EMFILE", "ENOMEM"]),
    ("fcntl", &["EPERM", "EBUSY", "EINTR"]),
    ("preadv2", &["EINTR", "EAGAIN", "EIO"]),
    ("ioctl", &["EINTR", "ENOMEM", "EINVAL"]),
    ("io_uring_enter", &["EINTR", "EAGAIN", "EBUSY"]),
    ("io_uring_register", &["ENOMEM", "EINVAL"]),
];

/// Set by the lane whose kernel has TLS: there it must not be missing.
const REQUIRED: &str = "RINGWAY_KERNEL_TLS_REQUIRED";

/// What is called to be made to fail, and who seals.
#[derive(Clone, Copy)]
struct Scope<'c> {
    calls: &'c [(&'static str, &'static [&'static str])],
    by_kernel: bool,
}

const SEALED_HERE: Scope<'_> = Scope { calls: &CALLS, by_kernel: false };
const SEALED_BY_THE_KERNEL: Scope<'_> = Scope { calls: &CALLS_OF_THE_KERNELS, by_kernel: true };

/// What a transfer with an injected failure came to.
#[derive(Debug, Clone, Copy)]
enum End {
    Complete,
    /// All of it, sealed here because the kernel did not take the key.
    Fallback,
    Failed,
    /// It did not come to a transfer: the failure met the ring, the file or the handshake.
    NotBegun,
}

#[test]
fn a_sample_of_failing_system_calls_under_tls_ends_well() {
    let _budget = Budget::new(Duration::from_secs(100));
    let mut number = 0;
    let fired = inject_all(SEALED_HERE, BODY, 6, |_| {
        number += 1;
        number % 13 == 0
    });
    assert!(fired >= 15, "only {fired} were injected");
}

#[test]
fn a_sample_of_failing_system_calls_where_the_kernel_seals_ends_well() {
    let _budget = Budget::new(Duration::from_secs(200));
    if !kernel_seals() {
        return;
    }
    let mut number = 0;
    let fired = inject_all(SEALED_BY_THE_KERNEL, BODY, 8, |_| {
        number += 1;
        number % 8 == 0
    });
    assert!(fired >= 40, "only {fired} were injected");
}

#[test]
#[ignore = "lane: torture; run with: UML_SECONDS_MAX=900 .ci/uml sealed_syscalls --ignored by_the_kernel"]
fn all_failing_system_calls_of_what_is_sealed_by_the_kernel_end_well() {
    let _budget = Budget::new(Duration::from_secs(1800));
    if kernel_seals() {
        let fired = inject_all(SEALED_BY_THE_KERNEL, BODY, 12, |_| true);
        assert!(fired >= 300, "only {fired} were injected");
    }
}

/// Whether the kernel seals here; says so if it does not.
fn kernel_seals() -> bool {
    let folder = folder();
    let path = canary_file(&folder, FILE, BODY);
    let none = "trace=none";
    let trusted = certify(&path);
    let tried = attempt(&path, &trusted, &["-e", none], (true, Mode::Inline));
    let seals = tried.told.contains("route=kernel-tls");
    if !seals {
        assert!(std::env::var_os(REQUIRED).is_none(), "{}", tried.told);
        eprintln!("not run: {}", tried.told);
    }
    seals
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test sealed_syscalls -- --ignored"]
fn three_thousand_failing_system_calls_under_tls_end_well() {
    let _budget = Budget::new(Duration::from_secs(1800));
    let mut fired = 0;
    // Each time a longer body, which makes more calls.
    for round in 1.. {
        fired += inject_all(SEALED_HERE, BODY + round * 1_700_000, 400, |_| true);
        println!("{fired} in all");
        if fired >= 3000 {
            break;
        }
    }
}

/// Injects those of all failures that are chosen: by system call, mode, place and errno, as long as there
/// are calls that can fail, and at the first `places` ones at most.
fn inject_all(
    scope: Scope<'_>,
    body: u64,
    places: u32,
    mut choose: impl FnMut(&str) -> bool,
) -> u32 {
    let folder = folder();
    let path = canary_file(&folder, FILE, body);
    let trusted = certify(&path);
    let mut counts = BTreeMap::<&str, [u32; 4]>::new();
    for (call, errnos) in scope.calls {
        for mode in MODES {
            'places: for place in 1..=places {
                for errno in *errnos {
                    let options = format!("inject={call}:error={errno}:when={place}");
                    if choose(&options) {
                        let way = (scope.by_kernel, mode);
                        let Some(end) = inject((&path, body), &trusted, call, &options, way) else {
                            break 'places;
                        };
                        counts.entry(call).or_default()[end as usize] += 1;
                    }
                }
            }
        }
    }
    let fired: u32 = counts.values().flatten().sum();
    let ends = "complete, complete by a fallback, failed, not begun";
    println!("{fired} system calls failed; transfers {ends}: {counts:?}");
    fired
}

/// What came of a child that was traced.
struct Attempt {
    told: String,
    /// It ended by itself, in time, and not by a panic.
    clean: bool,
    /// Bytes that were opened, and whether their end was announced.
    came: u64,
    announced: bool,
}

impl Attempt {
    fn number(&self, name: &str) -> Option<u64> {
        self.told.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok())
    }
}

/// Lets a child send the file under strace, sealed by the kernel if it can and is to.
fn attempt(
    path: &Path,
    trusted: &Arc<ClientConfig>,
    options: &[&str],
    (by_kernel, mode): (bool, Mode),
) -> Attempt {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reading = open_all(listener, Arc::clone(trusted));
    let order = format!("{mode} {by_kernel} {address} {}", path.display());
    let (told, clean) = tell(options, &order, &path.with_extension("told"));
    // If it never came, this ends the reader's wait.
    drop(StdStream::connect(address));
    let (came, announced) = reading.join().unwrap();
    Attempt { told, clean, came, announced }
}

/// `None`: there is no such call to fail.
fn inject(
    (path, body): (&Path, u64),
    trusted: &Arc<ClientConfig>,
    call: &str,
    options: &str,
    way: (bool, Mode),
) -> Option<End> {
    let (log, trace_only) = (path.with_extension("strace"), format!("trace={call}"));
    let asked = ["-e", &trace_only, "-e", options, "-o", log.to_str().unwrap()];
    let child = attempt(path, trusted, &asked, way);
    let Attempt { told, came, announced, .. } = &child;
    assert!(child.clean && !told.is_empty(), "{way:?} {options}: {told}");
    if !std::fs::read_to_string(&log).unwrap().contains("(INJECTED)") {
        return None;
    }
    let Some(sent) = child.number("sent=") else {
        assert_eq!(*came, 0, "{way:?} {options}: {told}");
        return Some(End::NotBegun);
    };
    assert_eq!((*came, child.number("accepted=")), (sent, Some(sent)), "{way:?} {options}: {told}");
    assert_eq!(child.number("leases="), Some(0), "{way:?} {options}: {told}");
    if told.starts_with("complete") {
        assert_eq!((sent, *announced), (body, true), "{way:?} {options}: {told}");
        if way.0 && told.contains("route=registered") {
            // It is the key that could not be handed over, and the receipt says so.
            assert!(told.contains("; no kernel TLS here: "), "{way:?} {options}: {told}");
            return Some(End::Fallback);
        }
        return Some(End::Complete);
    }
    // What breaks off must not look like an end; a close may fail when all is out and said.
    assert!(
        !announced || told.starts_with("no close") && sent == body,
        "{way:?} {options}: {told}"
    );
    Some(End::Failed)
}

/// Opens what the first connection brings, and compares it: how many bytes, and whether the end was
/// announced.
fn open_all(listener: TcpListener, config: Arc<ClientConfig>) -> JoinHandle<(u64, bool)> {
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = ClientConnection::new(config, "peer.test".try_into().unwrap()).unwrap();
        let mut client = StreamOwned::new(connection, socket);
        let (mut checker, mut buffer) = (Checker::new(FILE, 0), vec![0; 1 << 15]);
        let announced = loop {
            match client.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => checker.feed(&buffer[..count]).unwrap(),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => panic!("{error}"),
                Err(_) => break false,
            }
        };
        (checker.position(), announced)
    })
}

/// Makes a certificate for the child and leaves it beside the file; who trusts it.
fn certify(path: &Path) -> Arc<ClientConfig> {
    let certified = rcgen::generate_simple_self_signed(["peer.test".to_owned()]).unwrap();
    std::fs::write(path.with_extension("cert"), certified.cert.der()).unwrap();
    std::fs::write(path.with_extension("key"), certified.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[test]
fn the_child_that_is_traced() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let words: Vec<&str> = order.splitn(4, ' ').collect();
    let mode = MODES.into_iter().find(|mode| mode.to_string() == words[0]).unwrap();
    let way = (words[1].parse().unwrap(), mode);
    println!("told: {}", send(way, words[2].parse().unwrap(), &PathBuf::from(words[3])));
}

fn send((by_kernel, mode): (bool, Mode), address: SocketAddr, path: &Path) -> String {
    let config = Config { completion_entries: 512, ..Config::default() };
    let runtime = match Runtime::with_config(config) {
        Ok(runtime) => runtime,
        Err(error) => return format!("no runtime: {error}"),
    };
    let certificate = CertificateDer::from(std::fs::read(path.with_extension("cert")).unwrap());
    let key = PrivatePkcs8KeyDer::from(std::fs::read(path.with_extension("key")).unwrap());
    let server = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from(key))
        .unwrap();
    let limits = TlsLimits::default().with_kernel_tls(by_kernel);
    let acceptor = TlsAcceptor::new(Arc::new(server)).with_limits(limits);
    runtime.block_on(async {
        let file = match std::fs::File::open(path) {
            Ok(file) => file.into(),
            Err(error) => return format!("no file: {error}"),
        };
        let stream = std::net::TcpStream::connect(address).and_then(TcpStream::from_std);
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return format!("no stream: {error}"),
        };
        let mut stream = match acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return format!("no handshake: {error}"),
        };
        // On a busy machine the reader may pause: nothing is read twice for that.
        let limits = Limits::default().with_stall_hold(Duration::from_secs(10));
        let transfer = transfer_file(&file, &mut stream).limits(limits);
        let transfer = if by_kernel { transfer } else { transfer.route(Route::Registered) };
        let outcome = transfer.mode(mode).await;
        // A read that ran ahead gives its buffer back when it is over.
        let leases = || ringway::runtime::stats().unwrap().leases;
        for _ in 0..1000 {
            if leases() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let leases = leases();
        let accepted = stream.accepted();
        match outcome {
            Ok(receipt) => match stream.close().await {
                Ok(()) => {
                    let (bytes, route) = (receipt.bytes, receipt.route);
                    let why = &receipt.reason;
                    format!(
                        "complete sent={bytes} accepted={accepted} leases={leases} \
                         route={route} ; {receipt}; {why}"
                    )
                }
                Err(error) => {
                    format!(
                        "no close sent={accepted} accepted={accepted} leases={leases} ; {error}"
                    )
                }
            },
            Err(error) => {
                let sent = error.sent();
                // What the kernel has sealed for a full socket goes out by itself; a drop would overtake it.
                sleep(Duration::from_millis(if by_kernel { 30 } else { 0 })).await;
                format!("failed sent={sent} accepted={accepted} leases={leases} ; {error}")
            }
        }
    })
}
