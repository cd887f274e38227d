//! R3 for encrypted streams: the K-th system call of a kind fails, made to by strace(1). What rustls opens
//! is the beginning of the file, as long as the sender says; nothing hangs, aborts or panics.

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

/// What a transfer with an injected failure came to.
#[derive(Debug, Clone, Copy)]
enum End {
    Complete,
    Failed,
    /// It did not come to a transfer: the failure met the ring, the file or the handshake.
    NotBegun,
}

#[test]
fn a_sample_of_failing_system_calls_under_tls_ends_well() {
    let _budget = Budget::new(Duration::from_secs(100));
    let mut number = 0;
    let fired = inject_all(BODY, 6, |_| {
        number += 1;
        number % 13 == 0
    });
    assert!(fired >= 15, "only {fired} were injected");
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test sealed_syscalls -- --ignored"]
fn three_thousand_failing_system_calls_under_tls_end_well() {
    let _budget = Budget::new(Duration::from_secs(1800));
    let mut fired = 0;
    // Each time a longer body, which makes more calls.
    for round in 1.. {
        fired += inject_all(BODY + round * 1_700_000, 400, |_| true);
        println!("{fired} in all");
        if fired >= 3000 {
            break;
        }
    }
}

/// Injects those of all failures that are chosen: by system call, mode, place and errno, as long as there
/// are calls that can fail, and at the first `places` ones at most.
fn inject_all(body: u64, places: u32, mut choose: impl FnMut(&str) -> bool) -> u32 {
    let folder = folder();
    let path = canary_file(&folder, FILE, body);
    let trusted = certify(&path);
    let mut counts = BTreeMap::<&str, [u32; 3]>::new();
    for (call, errnos) in CALLS {
        for mode in MODES {
            'places: for place in 1..=places {
                for errno in errnos {
                    let options = format!("inject={call}:error={errno}:when={place}");
                    if choose(&options) {
                        let Some(end) = inject((&path, body), &trusted, call, &options, mode)
                        else {
                            break 'places;
                        };
                        counts.entry(call).or_default()[end as usize] += 1;
                    }
                }
            }
        }
    }
    let fired: u32 = counts.values().flatten().sum();
    println!("{fired} system calls failed; transfers complete, failed, not begun: {counts:?}");
    fired
}

/// `None`: there is no such call to fail.
fn inject(
    (path, body): (&Path, u64),
    trusted: &Arc<ClientConfig>,
    call: &str,
    options: &str,
    mode: Mode,
) -> Option<End> {
    let (log, trace_only) = (path.with_extension("strace"), format!("trace={call}"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reading = open_all(listener, Arc::clone(trusted));
    let asked = ["-e", &trace_only, "-e", options, "-o", log.to_str().unwrap()];
    let order = format!("{mode} {address} {}", path.display());
    let (told, clean) = tell(&asked, &order, &path.with_extension("told"));
    // If it never came, this ends the reader's wait.
    drop(StdStream::connect(address));
    let (came, announced) = reading.join().unwrap();
    assert!(clean && !told.is_empty(), "{mode} {options}: {told}");
    if !std::fs::read_to_string(&log).unwrap().contains("(INJECTED)") {
        return None;
    }
    let number = |name: &str| -> Option<u64> {
        told.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok())
    };
    let Some(sent) = number("sent=") else {
        assert_eq!(came, 0, "{mode} {options}: {told}");
        return Some(End::NotBegun);
    };
    assert_eq!((came, number("accepted=")), (sent, Some(sent)), "{mode} {options}: {told}");
    assert_eq!(number("leases="), Some(0), "{mode} {options}: {told}");
    if told.starts_with("complete") {
        assert_eq!((sent, announced), (body, true), "{mode} {options}: {told}");
        return Some(End::Complete);
    }
    // What breaks off must not look like an end.
    assert!(!announced, "{mode} {options}: {told}");
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
    let words: Vec<&str> = order.splitn(3, ' ').collect();
    let mode = MODES.into_iter().find(|mode| mode.to_string() == words[0]).unwrap();
    println!("told: {}", send(mode, words[1].parse().unwrap(), &PathBuf::from(words[2])));
}

fn send(mode: Mode, address: SocketAddr, path: &Path) -> String {
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
    let limits = TlsLimits::default().with_kernel_tls(false);
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
        let outcome = transfer.route(Route::Registered).mode(mode).await;
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
                    let bytes = receipt.bytes;
                    format!("complete sent={bytes} accepted={accepted} leases={leases} ; {receipt}")
                }
                Err(error) => {
                    format!(
                        "no close sent={accepted} accepted={accepted} leases={leases} ; {error}"
                    )
                }
            },
            Err(error) => {
                let sent = error.sent();
                format!("failed sent={sent} accepted={accepted} leases={leases} ; {error}")
            }
        }
    })
}
