//! A daemon to test, and the folder that it serves.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Past this a test fails: generous for a loaded machine with two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A folder that goes away with the test.
pub(crate) struct Root {
    folder: TempDir,
}

impl Root {
    pub(crate) fn new() -> Root {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The daemon may run as somebody else.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Root { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file of which every byte tells its place, and gives its content.
    pub(crate) fn file(&self, name: &str, len: usize) -> Vec<u8> {
        let content = content(name, len);
        fs::write(self.path(name), &content).unwrap();
        content
    }
}

/// Bytes that tell the file and the place they belong to.
pub(crate) fn content(name: &str, len: usize) -> Vec<u8> {
    let identity = name.bytes().fold(17u64, |sum, byte| sum * 31 % 65_521 + u64::from(byte));
    ringway_testkit::canary::bytes(identity, 0, len)
}

/// A running `ringwayd`. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) addresses: Vec<SocketAddr>,
    output: Arc<Mutex<Vec<u8>>>,
    errors: Arc<Mutex<String>>,
    reading: Vec<thread::JoinHandle<()>>,
}

/// What becomes of its standard output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Read,
    /// Nobody reads the pipe, so that it fills.
    Stalled,
    /// The other end of the pipe is closed.
    Closed,
}

/// How a daemon is started.
pub(crate) struct Start<'a> {
    pub(crate) root: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) user: Option<u32>,
    pub(crate) output: Output,
    pub(crate) program: &'a Path,
}

impl Daemon {
    /// Serves a folder on a free port, unless the arguments say where.
    pub(crate) fn serve(root: &Root, arguments: &[&str]) -> Daemon {
        Daemon::start(&Start::new(root, arguments))
    }

    pub(crate) fn start(start: &Start<'_>) -> Daemon {
        let mut child = start.spawn();
        let (said, saying) = channel();
        let errors = Arc::new(Mutex::new(String::new()));
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut reading = Vec::new();
        let (stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&errors));
        reading.push(thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
                // After the start nobody listens any more.
                _ = said.send(line);
            }
        }));
        if start.output == Output::Closed {
            drop(child.stdout.take());
        }
        if start.output == Output::Read {
            let (mut stdout, kept) = (child.stdout.take().unwrap(), Arc::clone(&output));
            reading.push(thread::spawn(move || {
                let mut chunk = [0; 8192];
                while let Ok(read @ 1..) = stdout.read(&mut chunk) {
                    kept.lock().unwrap().extend_from_slice(&chunk[..read]);
                }
            }));
        }
        let mut daemon = Daemon { child, addresses: Vec::new(), output, errors, reading };
        daemon.addresses = daemon.await_addresses(&saying, start.addresses());
        daemon
    }

    fn await_addresses(&mut self, saying: &Receiver<String>, count: usize) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        while addresses.len() < count {
            let line = saying.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let status = self.child.try_wait();
                panic!("the daemon did not say where it serves ({status:?}): {}", self.errors())
            });
            let plain = line.split_once(" on http://");
            if let Some((_, rest)) = plain.or_else(|| line.split_once(" on https://")) {
                let address = rest.split(',').next().unwrap_or(rest);
                addresses.push(address.parse().expect("an address"));
            }
        }
        addresses
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address())
    }

    /// What it wrote to standard output so far: the access log.
    pub(crate) fn output(&self) -> String {
        String::from_utf8(self.output.lock().unwrap().clone()).expect("the log is ASCII or JSON")
    }

    /// What it wrote to standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the daemon can be signalled");
    }

    /// Its open descriptors by what they lead to, without those of the files it keeps open.
    pub(crate) fn sockets(&self) -> usize {
        self.descriptors().values().filter(|target| target.starts_with("socket:")).count()
    }

    /// Its open descriptors.
    pub(crate) fn descriptors(&self) -> BTreeMap<u64, String> {
        let folder = format!("/proc/{}/fd", self.child.id());
        let entries = fs::read_dir(folder).expect("the daemon lives");
        let descriptor = |entry: fs::DirEntry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        };
        entries.filter_map(|entry| descriptor(entry.ok()?)).collect()
    }

    /// Memory of its own that it uses, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits for its end, which somebody must have asked for.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the daemon ended", || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        for reading in self.reading.drain(..) {
            reading.join().unwrap();
        }
        status.unwrap()
    }

    /// Asks it to end, and checks that it does so in order. Gives the whole log.
    pub(crate) fn finish(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.errors());
        self.output()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl<'a> Start<'a> {
    pub(crate) fn new(root: &'a Root, arguments: &'a [&'a str]) -> Start<'a> {
        Start {
            root: root.folder.path(),
            arguments,
            user: None,
            output: Output::Read,
            program: Path::new(env!("CARGO_BIN_EXE_ringwayd")),
        }
    }

    fn addresses(&self) -> usize {
        let asked = self.arguments.iter().filter(|argument| listens(argument)).count();
        asked.max(1)
    }

    fn spawn(&self) -> Child {
        let mut child = None;
        wait_until("the daemon starts", || match self.command().spawn() {
            Ok(started) => child.insert(started).id() > 0,
            // A neighbour has forked while the binary was copied, and holds it open until its exec.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => false,
            Err(error) => panic!("the daemon does not start: {error}"),
        });
        child.expect("it has started")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.arg("serve").arg("--root").arg(self.root).args(self.arguments);
        if !self.arguments.iter().any(|argument| listens(argument)) {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Whether this option names an address to serve on.
fn listens(argument: &str) -> bool {
    matches!(argument, "--listen" | "--tls-listen")
}
