//! `ringwayd serve --writable`, in the clear or over TLS.

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

    /// One that shows a certificate of this authority.
    pub(crate) fn secure(root: &Files, authority: &Authority, more: &[&str]) -> Daemon {
        let Signed { certificate, key } = authority.server();
        let shown = ["--tls-listen", "127.0.0.1:0", "--cert", &certificate, "--key", &key];
        Daemon::start_with(root, &[&shown[..], more].concat())
    }

    fn start_with(root: &Files, arguments: &[&str]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwayd"));
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
