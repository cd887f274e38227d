//! What parent and sender say to each other, one JSON line each: orders down the child's stdin, answers up
//! its stdout.
//!
//! ```text
//! parent                          sender
//!                            ◀──  Listening { address }
//! connects
//!                            ◀──  Connected { congestion }
//! Run(task)                  ──▶  counts from here
//! receives, checks, counts        sends
//! Received                   ──▶  counts until here
//!                            ◀──  Measured(cost)
//! … again, or closes stdin   ──▶  ends
//! ```
//!
//! The sender's clock stops only when the parent has everything: what the kernel still does for bytes that
//! the socket has merely accepted is part of the cost.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::arms::{Counts, Span};
use crate::counters::Counted;
use crate::loopback::PATIENCE;
use crate::measure::Usage;

/// From the parent to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    Run(Task),
    Received,
}

/// One measured stretch of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    Send(Span),
    Serve { requests_each: u32 },
}

/// From the sender to the parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Listening { address: SocketAddr },
    Connected { congestion: String },
    Measured(Box<Cost>),
    Failed { message: String },
}

/// What a task cost the sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) usage: Usage,
    /// What the arm knows of its own work.
    pub(crate) counts: Counts,
    /// In a round that counts, whose times mean little.
    pub(crate) counted: Option<Counted>,
}

/// A running sender; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct SenderProcess {
    child: Child,
    orders: ChildStdin,
    answers: ChildStdout,
    pending: Vec<u8>,
}

impl SenderProcess {
    /// Starts `binary` as a sender with these arguments.
    pub(crate) fn start(binary: &Path, arguments: &[std::ffi::OsString]) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg("sender")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the sender could not be started")?;
        let orders = child.stdin.take().context("the sender has no stdin")?;
        let answers = child.stdout.take().context("the sender has no stdout")?;
        Ok(Self { child, orders, answers, pending: Vec::new() })
    }

    pub(crate) fn order(&mut self, order: Order) -> Result<()> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        self.orders.write_all(&line).context("the sender takes no orders")
    }

    /// The next answer.
    ///
    /// # Errors
    ///
    /// The sender failed, ended, or said nothing for [`PATIENCE`].
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        match serde_json::from_slice(&self.line(PATIENCE)?)? {
            Answer::Failed { message } => bail!("the sender failed: {message}"),
            answer => Ok(answer),
        }
    }

    /// Why the sender has failed, if it says so within a moment.
    pub(crate) fn failure(&mut self) -> Option<anyhow::Error> {
        let line = self.line(Duration::from_millis(200)).ok()?;
        match serde_json::from_slice(&line).ok()? {
            Answer::Failed { message } => Some(anyhow::anyhow!("the sender failed: {message}")),
            _ => None,
        }
    }

    fn line(&mut self, patience: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                return Ok(self.pending.drain(..=end).collect());
            }
            let left = deadline.saturating_duration_since(Instant::now()).try_into()?;
            match rustix::event::poll(&mut [PollFd::new(&self.answers, PollFlags::IN)], Some(&left))
            {
                Ok(0) => bail!("the sender gave no answer for {patience:?}"),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let mut bytes = [0; 4096];
            match self.answers.read(&mut bytes)? {
                0 => bail!("the sender ended: {}", self.child.wait()?),
                read => self.pending.extend_from_slice(&bytes[..read]),
            }
        }
    }
}

impl Drop for SenderProcess {
    fn drop(&mut self) {
        // Both fail only if the sender is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_line() {
        for order in [
            Order::Received,
            Order::Run(Task::Send(Span { offset: u64::MAX - 1, len: 1 })),
            Order::Run(Task::Serve { requests_each: 3 }),
        ] {
            let line = serde_json::to_string(&order).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        }
    }

    #[test]
    fn a_sender_that_ends_without_an_answer_is_an_error() {
        let mut process = SenderProcess::start(Path::new("/bin/true"), &[]).unwrap();
        assert!(process.answer().unwrap_err().to_string().contains("ended"));
    }
}
