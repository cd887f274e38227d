//! Runs `ringwayd push` and reads what it says.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
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

/// Files to push.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Files {
        Files { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file of which every byte tells its place, and gives its content.
    pub(crate) fn file(&self, name: &str, len: usize) -> Vec<u8> {
        let identity = name.bytes().fold(17u64, |sum, byte| sum * 31 % 65_521 + u64::from(byte));
        let content = ringway_testkit::canary::bytes(identity, 0, len);
        fs::write(self.path(name), &content).unwrap();
        content
    }

    pub(crate) fn names(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.path(name).to_str().unwrap().to_owned()).collect()
    }
}

/// A push under way. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    errors: thread::JoinHandle<String>,
    reading: thread::JoinHandle<()>,
}

/// What a push has said, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) lines: Vec<Value>,
    pub(crate) errors: String,
}

/// Starts a push with short waits, unless the arguments say otherwise.
pub(crate) fn start(arguments: &[impl AsRef<str>]) -> Running {
    start_command("push", arguments)
}

/// The same for another command.
pub(crate) fn start_command(name: &str, arguments: &[impl AsRef<str>]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwayd"));
    command.arg(name).args(arguments.iter().map(AsRef::as_ref)).args(["--progress", "json"]);
    if !arguments.iter().any(|argument| argument.as_ref() == "--retry-wait-milliseconds") {
        command.args(["--retry-wait-milliseconds", "10"]);
    }
    command.env("RINGWAYD_TEST_TOKEN", "t0ken-of-the-test");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the push starts");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (stdout, kept) = (child.stdout.take().unwrap(), Arc::clone(&lines));
    let reading = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            kept.lock().unwrap().push(line);
        }
    });
    let mut stderr = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    Running { child, lines, errors, reading }
}

/// Runs a push to its end.
pub(crate) fn run(arguments: &[impl AsRef<str>]) -> Outcome {
    start(arguments).ended()
}

/// Runs a get to its end.
pub(crate) fn get(arguments: &[impl AsRef<str>]) -> Outcome {
    start_command("get", arguments).ended()
}

impl Running {
    /// Ends it without asking.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it has said so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Outcome {
        let mut status = None;
        wait_until("the push ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.reading.join().unwrap();
        let errors = self.errors.join().unwrap();
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        Outcome { status: status.unwrap().code().expect("an exit status"), lines, errors }
    }
}

impl Outcome {
    /// The lines about one kind of event.
    pub(crate) fn events(&self, event: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["event"] == event).collect()
    }

    /// Everything arrived, at so many places.
    #[track_caller]
    pub(crate) fn assert_delivered(&self, count: usize) {
        assert_eq!((self.status, self.events("delivered").len()), (0, count), "{self:?}");
    }

    /// Nothing arrived, for one reason.
    #[track_caller]
    pub(crate) fn assert_failed(&self, status: i32, kind: &str, says: &str) {
        let failed = self.events("failed");
        assert_eq!((self.status, failed.len()), (status, 1), "{self:?}");
        assert_eq!(failed[0]["kind"], kind, "{self:?}");
        assert!(failed[0]["error"].as_str().unwrap().contains(says), "{self:?}");
    }
}
