//! A server while it runs: started on its CPU, awaited, measured from outside, stopped by its id.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use super::processes;
use super::roster::Installed;
use super::site::Site;
use crate::loopback::{self, PATIENCE};
use crate::network::LOCALHOST;

/// A server that accepts connections; stopped, with its children, when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it writes to stderr.
    said: PathBuf,
}

/// How long a server that was asked to end may take before it is killed.
const FAREWELL: Duration = Duration::from_secs(3);

impl Running {
    /// Starts `server` on `cpu` and waits until it accepts; `own` is this program.
    pub(crate) fn start(own: &Path, server: &Installed, site: &Site, cpu: usize) -> Result<Self> {
        // The port was free a moment ago, and in a network of the harness's own nobody else takes it.
        let address = loopback::listen(LOCALHOST)?.local_addr()?;
        let port = address.port();
        let said = site.path().join(format!("{}.stderr", server.server.name));
        let mut command = Command::new(own);
        command.arg("launch").args(["--cpu", &cpu.to_string()]);
        command.args(["--parent", &std::process::id().to_string()]);
        if server.has_children() {
            command.arg("--gently");
        }
        command.arg("--").args(server.command_line(site, port)?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?);
        let child = command.spawn().context("the server could not be started")?;
        let mut running = Self { child, address, said };
        running.await_listening()?;
        Ok(running)
    }

    fn await_listening(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended: {status}: {}", self.last_words());
            }
            if loopback::connect(self.address).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the server does not listen: {}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The server and its descendants.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        processes::family(Pid::from_child(&self.child))
    }

    /// What the server has said on stderr, or nothing.
    pub(crate) fn last_words(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let family = self.processes();
        // What follows fails only where a process is gone already, which is what is wanted.
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Its children first: an orphan would be nobody's.
        for process in family.into_iter().rev() {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
