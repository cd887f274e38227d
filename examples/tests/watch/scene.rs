//! A folder to watch, and daemons that watch it and that receive.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::run::{Outcome, Running, start_command, wait_until};

/// A watched folder with its state beside it.
pub(crate) struct Scene {
    base: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("in")).unwrap();
        Scene { base }
    }

    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join("in").join(name)
    }

    /// Writes a file where it is watched, and gives its content.
    pub(crate) fn write(&self, name: &str, identity: u64, len: usize) -> Vec<u8> {
        let content = content(identity, len);
        fs::write(self.path(name), &content).unwrap();
        content
    }

    pub(crate) fn arguments(&self, to: &[String], more: &[&str]) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut arguments = vec![
            text(self.base.path().join("in")),
            "--state-dir".to_owned(),
            text(self.base.path().join("state")),
            "--to".to_owned(),
        ];
        arguments.extend(to.iter().cloned());
        if !more.contains(&"--settle-milliseconds") {
            arguments.extend(["--settle-milliseconds".to_owned(), "30".to_owned()]);
        }
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        arguments
    }

    /// Starts a watch.
    pub(crate) fn watch(&self, to: &[String], more: &[&str]) -> Running {
        start_command("watch", &self.arguments(to, more))
    }

    /// Runs a watch that should not come far.
    pub(crate) fn refused(&self, to: &[String], more: &[&str]) -> Outcome {
        self.watch(to, more).ended()
    }

    /// What `status` says.
    pub(crate) fn status(&self, more: &[&str]) -> Value {
        let (success, text, errors) = self.try_status(&[&["--json"], more].concat());
        assert!(success, "{errors}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn try_status(&self, more: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwayd"));
        command.arg("status").arg("--state-dir").arg(self.base.path().join("state")).args(more);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }
}

/// Bytes that tell the file and the place they belong to.
pub(crate) fn content(identity: u64, len: usize) -> Vec<u8> {
    ringway_testkit::canary::bytes(identity, 0, len)
}

/// Waits for so many deliveries.
#[track_caller]
pub(crate) fn await_events(running: &Running, event: &str, count: usize) {
    let mut last = 0;
    let reached = |last: &mut usize| {
        *last = running.lines().iter().filter(|line| line["event"] == event).count();
        *last >= count
    };
    wait_until(&format!("{count} lines tell of {event}"), || reached(&mut last));
}

/// Ends a watch in order.
#[track_caller]
pub(crate) fn finish(running: Running) -> Outcome {
    kill_process(running.pid(), Signal::TERM).unwrap();
    let outcome = running.ended();
    assert_eq!(outcome.status, 0, "{outcome:?}");
    outcome
}

/// `ringwayd serve --writable`. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    root: TempDir,
    address: String,
}

impl Server {
    pub(crate) fn start(more: &[&str]) -> Server {
        let root = tempfile::tempdir().unwrap();
        let (child, address) = serve(root.path(), &free_address(), more);
        Server { child, root, address }
    }

    /// Starts another one in the place of one that was killed.
    pub(crate) fn restart(&mut self) {
        let (child, address) = serve(self.root.path(), &self.address, &[]);
        assert_eq!(self.address, address);
        self.child = child;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.parse().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The files that it has, by name; those that are not whole yet are not among them.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path()).unwrap().map(Result::unwrap);
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != ".ringway").collect();
        names.sort();
        names
    }
}

/// Below the ports that the kernel gives to clients: one of those could take the place of a server that
/// was killed, by connecting to itself.
pub(crate) fn free_address() -> String {
    loop {
        let address = format!("127.0.0.1:{}", fastrand::u16(20_000..30_000));
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn serve(root: &Path, address: &str, more: &[&str]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwayd"));
    command.args(["serve", "--writable", "--log-format", "none", "--listen", address, "--root"]);
    command.arg(root).args(more).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let address = lines.find_map(|line| {
        said.push(line.clone());
        Some(line.split_once(" on http://")?.1.split(',').next()?.to_owned())
    });
    let address = address.unwrap_or_else(|| panic!("it does not start: {said:?}"));
    // The pipe must be read on, or the daemon would stop at it.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
