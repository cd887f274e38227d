//! Clients that fetch a file in many parts over many connections: aria2c and wget2.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::client::assert_same;
use crate::daemon::{Daemon, Root};
use crate::secure::certificate;

/// A tool and how it puts what it gets into a folder.
struct Tool {
    name: &'static str,
    always: &'static [&'static str],
    folder: &'static str,
    /// Several connections for one file.
    parts: &'static [&'static str],
    resume: &'static str,
    trust: &'static str,
}

const ARIA2C: Tool = Tool {
    name: "aria2c",
    always: &["--no-conf", "--quiet", "--timeout=20", "--max-tries=2", "--file-allocation=none"],
    folder: "--dir",
    parts: &["--split=4", "--max-connection-per-server=4", "--min-split-size=1M"],
    resume: "--continue",
    trust: "--ca-certificate",
};

const WGET2: Tool = Tool {
    name: "wget2",
    always: &["--no-config", "--quiet", "--timeout=20", "--tries=2", "--no-hsts"],
    folder: "--directory-prefix",
    parts: &["--chunk-size=1M", "--max-threads=4"],
    resume: "--continue",
    trust: "--ca-certificate",
};

impl Tool {
    /// Runs it; none if this host has none, which `.ci/run` sees to.
    fn get(&self, into: &Path, arguments: &[&str]) -> Option<Output> {
        let mut command = Command::new(self.name);
        command.args(self.always).arg(format!("{}={}", self.folder, into.display()));
        let output = command.args(arguments).env("HOME", into).output();
        output.map_err(|error| println!("skipped: {} cannot be run: {error}", self.name)).ok()
    }
}

/// Whether the log tells of so many parts at least.
#[track_caller]
fn assert_parts(log: &str, least: usize, tool: &Tool) {
    let parts = log.lines().filter(|line| line.contains(" HTTP/1.1\" 206 ")).count();
    assert!(parts >= least, "{}: {parts} parts in {log}", tool.name);
}

#[test]
fn files_are_fetched_in_parts_over_many_connections() {
    for tool in [ARIA2C, WGET2] {
        let (root, got) = (Root::new(), Root::new());
        let content = root.file("file", 9_000_001);
        let daemon = Daemon::serve(&root, &["--threads", "2"]);
        let url = daemon.url("file");
        let Some(output) = tool.get(&got.path(""), &[tool.parts, &[&url]].concat()) else {
            continue;
        };
        assert!(output.status.success(), "{output:?}");
        assert_same(&fs::read(got.path("file")).unwrap(), &content, tool.name);
        assert_parts(&daemon.finish(), 3, &tool);
    }
}

#[test]
fn files_are_fetched_in_parts_over_tls() {
    for tool in [ARIA2C, WGET2] {
        let (root, got) = (Root::new(), Root::new());
        let files = certificate(&root, "first");
        let content = root.file("file", 9_000_001);
        let listening = ["--tls-listen", "127.0.0.1:0", "--cert", &files.0, "--key", &files.1];
        let daemon = Daemon::serve(&root, &listening);
        let url = format!("https://localhost:{}/file", daemon.address().port());
        let trust = format!("{}={}", tool.trust, files.0);
        let arguments = [tool.parts, &[&trust, &url]].concat();
        let Some(output) = tool.get(&got.path(""), &arguments) else { continue };
        assert!(output.status.success(), "{output:?}");
        assert_same(&fs::read(got.path("file")).unwrap(), &content, tool.name);
        assert_parts(&daemon.finish(), 3, &tool);
    }
}

#[test]
fn a_part_that_is_there_is_gone_on_with() {
    for tool in [ARIA2C, WGET2] {
        let (root, got) = (Root::new(), Root::new());
        let content = root.file("file", 3_000_000);
        let daemon = Daemon::serve(&root, &[]);
        fs::write(got.path("file"), &content[..1_234_567]).unwrap();
        let url = daemon.url("file");
        let Some(output) = tool.get(&got.path(""), &[tool.resume, &url]) else { continue };
        assert!(output.status.success(), "{output:?}");
        assert_same(&fs::read(got.path("file")).unwrap(), &content, tool.name);
        // aria2c begins at a border of its own pieces, so it says where by the range alone.
        assert_parts(&daemon.finish(), 1, &tool);
    }
}
