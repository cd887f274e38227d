//! System calls and context switches of this process, counted by the kernel.
//!
//! A tracepoint on every system call makes each of them slower, so counting happens in a round of its own,
//! whose times are dropped. The number of the tracepoint is in tracefs, which the parent looks into; the
//! sender opens the event on itself, threads that it will have included.

use anyhow::{Context, Result};
use perf_event::events::{Software, Tracepoint};
use perf_event::{Builder, Counter};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

/// Counts of a stretch of work, all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// System calls entered. Workers of the kernel make none.
    pub(crate) syscalls: u64,
    /// Times a thread left its CPU, workers of the kernel included.
    pub(crate) context_switches: u64,
    pub(crate) page_faults: u64,
}

/// Events that count from their opening on.
pub(crate) struct Counters {
    syscalls: Counter,
    context_switches: Counter,
    page_faults: Counter,
}

impl Counters {
    /// Counts for this process and the threads that it starts from now on; `syscall_event` is the number
    /// that [`syscall_event`] found.
    pub(crate) fn open(syscall_event: u64) -> Result<Self> {
        let mut tracepoint = Builder::new(Tracepoint::with_id(syscall_event));
        // A tracepoint lies in the kernel: without this it would never be counted.
        let syscalls = tracepoint.include_kernel().inherit(true).build();
        let software = |event| {
            let mut builder = Builder::new(event);
            builder.include_kernel().inherit(true).build()
        };
        let mut counters = Self {
            syscalls: syscalls.context("system calls cannot be counted")?,
            context_switches: software(Software::CONTEXT_SWITCHES)?,
            page_faults: software(Software::PAGE_FAULTS)?,
        };
        counters.syscalls.enable()?;
        counters.context_switches.enable()?;
        counters.page_faults.enable()?;
        Ok(counters)
    }

    /// What was counted so far, at the beginning of a stretch: system calls last, so that reading the others
    /// does not count.
    pub(crate) fn begin(&mut self) -> Result<Counted> {
        let (context_switches, page_faults) =
            (self.context_switches.read()?, self.page_faults.read()?);
        Ok(Counted { syscalls: self.syscalls.read()?, context_switches, page_faults })
    }

    /// What was added since `begin`.
    pub(crate) fn end(&mut self, begin: Counted) -> Result<Counted> {
        // The call that reads is counted too.
        let syscalls = self.syscalls.read()? - 1;
        Ok(Counted {
            syscalls: syscalls - begin.syscalls,
            context_switches: self.context_switches.read()? - begin.context_switches,
            page_faults: self.page_faults.read()? - begin.page_faults,
        })
    }
}

/// The number of the tracepoint that every system call passes.
///
/// If tracefs is mounted nowhere, root mounts it in a mount namespace of this thread's own, which vanishes
/// with the harness. Called while this is the only thread.
///
/// # Errors
///
/// Why system calls cannot be counted here: then the tables have a gap.
pub(crate) fn syscall_event() -> Result<u64> {
    let number = || {
        let usual = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let read =
            |root| std::fs::read_to_string(format!("{root}/events/raw_syscalls/sys_enter/id"));
        usual.into_iter().find_map(|root| read(root).ok()?.trim().parse().ok())
    };
    if let Some(number) = number() {
        return Ok(number);
    }
    // SAFETY: the file descriptor table stays shared: NEWNS changes only what this thread sees mounted.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .context("no mount namespace of its own, which root could have")?;
    let recursive = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", recursive).context("no private mounts")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("nodev", "/sys/kernel/tracing", "tracefs", flags, None)
        .context("tracefs cannot be mounted")?;
    number().context("the kernel has no tracepoint for system calls")
}
