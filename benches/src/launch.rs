//! The moment before a child does its work: it moves to its CPU and ties its life to the parent's.
//!
//! A server is not told to do either, so the harness starts itself and then becomes the server: CPU and
//! death signal survive `execve(2)`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::machine::pin_to;

/// What is to be launched.
#[derive(Debug, clap::Args)]
pub(crate) struct Job {
    /// The CPU to run on.
    #[arg(long)]
    cpu: usize,
    /// The process that started this one.
    #[arg(long)]
    parent: i32,
    /// Die by SIGTERM instead of SIGKILL: for a program that has children of its own to end.
    #[arg(long)]
    gently: bool,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    program: Vec<OsString>,
}

/// Becomes the program.
///
/// # Errors
///
/// The program cannot be executed; there is no return otherwise.
pub(crate) fn run(job: &Job) -> Result<()> {
    pin_to(job.cpu)?;
    die_with_the_parent(job.parent, if job.gently { Signal::TERM } else { Signal::KILL })?;
    let (program, arguments) = job.program.split_first().context("no program to launch")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).context(format!("{} cannot be executed", program.display()))
}

/// Lets the kernel send `signal` to this process when `parent` ends, however it ends.
///
/// # Errors
///
/// The parent is gone already.
pub(crate) fn die_with_the_parent(parent: i32, signal: Signal) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    // The parent may have died before the line above.
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    ensure!(now.is_some_and(|now| now.get() == parent), "the parent is gone");
    Ok(())
}
