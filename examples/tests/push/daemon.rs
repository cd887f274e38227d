//! `ringwayd serve --writable`, in the clear or over TLS.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::authority::{Authority, Signed};
use crate::run::Files;

/// A daemon that takes files. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) url: String,
}

impl Daemon {
    pub(crate) fn start(root: &Files) -> Daemon {
        Daemon::start_with(root, &["--listen", "127.0.0.1:0"])
    }

    /// One at which files are to stay.
    pub(crate) fn keeping(root: &Files) -> Daemon {
        Daemon::start_with(root, &["--listen", "127.0.0.1:0", "--overwrite", "never"])
    }

    /// One that shows a certificate of this authority.
    pub(crate) fn secure(root: &Files, authority: &Authority, more: &[&str]) -> Daemon {
        let Signed { certificate, key } = authority.server();
        let shown = ["--tls-listen", "127.0.0.1:0", "--cert", &certificate, "--key", &key];
        Daemon::start_with(root, &[&shown[..], more].concat())
    }

    /// One whose root is a disk of one mebibyte, in a mount namespace of its own; none where there can be
    /// no such thing.
    pub(crate) fn on_a_small_disk(root: &Files) -> Option<Daemon> {
        let in_namespace = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script]).arg(root.path(""));
            command
        };
        let mount = "mount -t tmpfs -o size=1m none \"$0\"";
        let tried = in_namespace(mount).stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            println!("skipped: no disk can be mounted in a namespace");
            return None;
        }
        let mut command = in_namespace(&format!("{mount} && exec \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_ringwayd"));
        Some(Daemon::start_by(command, root, &["--listen", "127.0.0.1:0"]))
    }

    /// The names in a folder of its root, as it sees that itself.
    pub(crate) fn names(&self, root: &Files, folder: &str) -> Vec<String> {
        let seen = format!("/proc/{}/root{}", self.child.id(), root.path(folder).display());
        let entries = fs::read_dir(seen).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn start_with(root: &Files, arguments: &[&str]) -> Daemon {
        Daemon::start_by(Command::new(env!("CARGO_BIN_EXE_ringwayd")), root, arguments)
    }

    fn start_by(mut command: Command, root: &Files, arguments: &[&str]) -> Daemon {
        command.args(["serve", "--writable", "--root"]).arg(root.path("")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines.find_map(|line| {
            let line = line.unwrap();
            let at = line.find(" on http")? + " on ".len();
            Some(format!("{}/", line[at..].split(',').next()?))
        });
        // The pipe must be read on, or the daemon would stop at it.
        std::thread::spawn(move || lines.for_each(drop));
        Daemon { child, url: url.expect("the daemon says where it serves") }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let (_, rest) = self.url.split_once("://").unwrap();
        rest.trim_end_matches('/').parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
