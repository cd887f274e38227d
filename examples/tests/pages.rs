//! Each example that is a page long, run as a user would, with a real peer at its other end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const LEN: usize = 5_000_000;

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Starts an example. They lie beside the daemon, whose place cargo tells.
fn start(name: &str, arguments: &[&str]) -> Running {
    let bin = Path::new(env!("CARGO_BIN_EXE_ringwayd"));
    let example = bin.parent().expect("a folder").join("examples").join(name);
    assert!(example.exists(), "{} is missing: run `cargo build --examples`", example.display());
    let mut command = Command::new(example);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(command.spawn().expect("the example starts"))
}

fn file(folder: &tempfile::TempDir) -> (PathBuf, Vec<u8>) {
    let content = ringway_testkit::canary::bytes(5, 0, LEN);
    let path = folder.path().join("file");
    std::fs::write(&path, &content).unwrap();
    (path, content)
}

fn read_all(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::with_capacity(LEN);
    stream.read_to_end(&mut bytes).expect("the stream ends in order");
    bytes
}

/// Runs an example that sends one file, and gives what it printed.
fn send_with(name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (path, content) = file(&folder);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (said, received) = run(name, &[path.to_str().unwrap(), &address], listener);
    assert!(received == content, "{name} sent other bytes");
    said
}

/// Runs an example that sends to a listener: what it printed, and what came.
fn run(name: &str, arguments: &[&str], listener: TcpListener) -> (String, Vec<u8>) {
    let mut running = start(name, arguments);
    let receiving = thread::spawn(move || read_all(listener.accept().unwrap().0));
    let mut said = String::new();
    running.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let mut wrong = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut wrong).unwrap();
    assert!(running.0.wait().unwrap().success(), "{wrong}");
    (said, receiving.join().unwrap())
}

#[test]
fn filter_sends_the_lines_that_hold_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let line =
        |index: u32| format!("{index} {}\n", if index.is_multiple_of(7) { "disk" } else { "net" });
    std::fs::write(&path, (0..100_000).map(line).collect::<String>()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (said, received) = run("filter", &[path.to_str().unwrap(), &address, "disk"], listener);
    let expected: String = (0..100_000).step_by(7).map(line).collect();
    assert!(received == expected.as_bytes(), "{said}");
    assert!(said.contains(" by map (inline)") && said.contains("scanned"), "{said}");
}

#[test]
fn digest_sends_a_file_and_what_sha256sum_says_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, content) = file(&folder);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (said, received) = run("digest", &[path.to_str().unwrap(), &address], listener);
    let (body, trailer) = received.split_at(received.len() - 32);
    assert!(body == content, "{said}");
    let told = Command::new("sha256sum").arg(&path).output().unwrap();
    let hex: String = trailer.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(String::from_utf8(told.stdout).unwrap().starts_with(&hex), "{hex}");
    assert!(said.contains(&format!("sha-256 {hex}\n")), "{said}");
}

#[test]
fn copy_sends_a_file_and_prints_the_receipt() {
    let said = send_with("copy");
    assert!(said.starts_with("4.77 MiB by "), "{said}");
}

#[test]
fn region_reads_back_what_it_has_put() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut running = start("region", &[path.to_str().unwrap()]);
    let mut said = String::new();
    running.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(running.0.wait().unwrap().success(), "{said}");
    let message = "a length, and a message of that length";
    assert_eq!(said, format!("{message}\n1 region unmapped, 0 left\n"));
    let content = std::fs::read(&path).unwrap();
    assert_eq!(content.len(), 1 << 20);
    assert_eq!(&content[4..4 + message.len()], message.as_bytes());
    // Somebody's file is nothing to try things out on.
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "precious").unwrap();
    assert!(!start("region", &[precious.to_str().unwrap()]).0.wait().unwrap().success());
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
}

#[test]
fn a_transfer_runs_inside_of_tokio_uring() {
    let said = send_with("inside_tokio_uring");
    assert!(said.contains("tokio-uring has read "), "{said}");
    assert!(said.contains("4.77 MiB by "), "{said}");
}

#[test]
fn serve_sends_a_file_to_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let (path, content) = file(&folder);
    let mut running = start("serve", &[path.to_str().unwrap(), "127.0.0.1:0"]);
    let mut said = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let first = said.next().expect("a line").unwrap();
    let address: SocketAddr = first.rsplit(' ').next().unwrap().parse().expect("an address");
    // One that never reads holds up nobody.
    let _stalled = TcpStream::connect(address).unwrap();
    let receiving: Vec<_> = (0..3)
        .map(|_| thread::spawn(move || read_all(TcpStream::connect(address).unwrap())))
        .collect();
    for receiving in receiving {
        assert!(receiving.join().unwrap() == content, "serve sent other bytes");
    }
    for line in said.by_ref().take(3) {
        assert!(line.as_ref().unwrap().starts_with("4.77 MiB by "), "{line:?}");
    }
}
