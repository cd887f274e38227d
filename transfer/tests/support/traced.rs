//! One transfer in a process under strace(1), over a connection to this process: what it calls is
//! seen, or made to fail, from outside.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringway::limits::Limits;
use ringway::runtime::net::TcpStream;
use ringway::runtime::{Config, Runtime, lend_pipe};
use ringway::{Mode, Route, transfer_file};
use ringway_testkit::{Received, Receiver};

use super::expecting;

/// Ways that differ in what they call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    SpliceRing,
    SpliceHybrid,
    SpliceInline,
    Sendfile,
    CopyRing,
    CopyInline,
}

impl Way {
    pub const ALL: [Self; 6] = [
        Self::SpliceRing,
        Self::SpliceHybrid,
        Self::SpliceInline,
        Self::Sendfile,
        Self::CopyRing,
        Self::CopyInline,
    ];

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|way| format!("{way:?}") == name).unwrap()
    }

    fn route(self) -> (Route, Mode) {
        match self {
            Self::SpliceRing => (Route::Splice, Mode::Ring),
            Self::SpliceHybrid => (Route::Splice, Mode::Hybrid),
            Self::SpliceInline | Self::Sendfile => (Route::Splice, Mode::Inline),
            Self::CopyRing => (Route::Copy, Mode::Ring),
            Self::CopyInline => (Route::Copy, Mode::Inline),
        }
    }
}

/// How a traced child ended.
#[derive(Debug)]
pub struct Traced {
    /// What the receiver got; `None` if the child never connected.
    pub received: Option<Received>,
    /// The child's last words: its counts, or its error.
    pub told: String,
    /// It ended by itself, in time, and not by a panic.
    pub clean: bool,
}

impl Traced {
    /// A number that the child told as `name=number`.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let mut words = self.told.split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value
            .and_then(|value| value.trim_end_matches(';').parse().ok())
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }
}

/// Sends the canary file `id` at `path` to this process, from a child under strace with `options`.
///
/// The binary must have the test [`CHILD`], which calls [`child`].
pub fn trace(options: &[&str], way: Way, path: &Path, id: u64) -> Traced {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let patience = expecting(id, 0).patience(Duration::from_secs(30));
    let receiver = Receiver::spawn(listener, patience);
    let order = format!("{way:?} {address} {}", path.display());
    let (told, ended) = tell(options, &order, &path.with_extension("told"));
    // If it never came, nobody else does: this ends the receiver's wait.
    let connected = told.contains("connected");
    if !connected {
        drop(std::net::TcpStream::connect(address));
    }
    let received = receiver.join().unwrap();
    Traced { received: connected.then_some(received), clean: ended && !told.is_empty(), told }
}

/// Runs the test [`CHILD`] of this binary under strace, with an order for it. What it told at last, and
/// whether it ended by itself, in time, and not by a panic.
pub fn tell(options: &[&str], order: &str, output: &Path) -> (String, bool) {
    let child = Command::new("strace")
        .args(["-f", "-qq"])
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env("RINGWAY_TRACED", order)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(output).unwrap())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("strace is installed: it is what these tests see with");
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let told = std::fs::read_to_string(output).unwrap();
    let mut lines = told.lines().rev();
    let told = lines.find_map(|line| line.split_once("told: ")).map_or("", |(_, told)| told);
    (told.to_owned(), status.is_some_and(|status| status.success()))
}

/// The name of the test that is the child.
pub const CHILD: &str = "the_child_that_is_traced";

/// What the child does; nothing if this is not the child.
pub fn child() {
    let Ok(order) = std::env::var("RINGWAY_TRACED") else { return };
    let mut order = order.splitn(3, ' ');
    let way = Way::named(order.next().unwrap());
    let address: SocketAddr = order.next().unwrap().parse().unwrap();
    let path = PathBuf::from(order.next().unwrap());
    println!("told: {}", send(way, address, &path));
}

fn send(way: Way, address: SocketAddr, path: &Path) -> String {
    let config = Config { completion_entries: 512, pipes_max: 1, ..Config::default() };
    let runtime = match Runtime::with_config(config) {
        Ok(runtime) => runtime,
        Err(error) => return format!("no runtime: {error}"),
    };
    runtime.block_on(async {
        let file = match std::fs::File::open(path) {
            Ok(file) => file.into(),
            Err(error) => return format!("no file: {error}"),
        };
        let stream = std::net::TcpStream::connect(address).and_then(TcpStream::from_std);
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return format!("no stream: {error}"),
        };
        let pipe = (way == Way::Sendfile).then(lend_pipe);
        let (route, mode) = way.route();
        // On a busy machine the receiver may pause: nothing is read twice for that.
        let limits = Limits::default().with_stall_hold(Duration::from_secs(10));
        let transfer = transfer_file(&file, &mut stream).limits(limits);
        let outcome = transfer.route(route).mode(mode).await;
        drop(pipe);
        let stats = ringway::runtime::stats().unwrap();
        let counts = format!(
            "accepted={} splice_in={} splice_out={} sendfile={} file_read={} lent={} leases={}",
            stream.accepted(),
            stats.splice_in_bytes,
            stats.splice_out_bytes,
            stats.sendfile_bytes,
            stats.file_read_bytes,
            stats.pipes_lent,
            stats.leases
        );
        match outcome {
            Ok(receipt) => format!(
                "connected ok sent={} splice_sqes={} read_sqes={} {counts}; {receipt}",
                receipt.bytes, receipt.splice_sqes, receipt.read_sqes
            ),
            Err(error) => format!("connected error sent={} {counts}; {error}", error.sent()),
        }
    })
}
