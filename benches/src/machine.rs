//! The facts without which a number means nothing: machine, kernel, settings, commit, time.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

/// Where and with what a run was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Start of the run, UTC, RFC 3339.
    pub(crate) date: String,
    /// Release of the kernel, as `uname -r`.
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    pub(crate) cpu_model: String,
    pub(crate) cpus: usize,
    /// A hypervisor is below: figures drift with the neighbours.
    pub(crate) virtual_machine: bool,
    pub(crate) memory_bytes: u64,
    /// Run by root, who does not meet the limits on pipes and locked memory.
    pub(crate) root: bool,
    pub(crate) sender_cpu: usize,
    pub(crate) receiver_cpu: usize,
    /// Runnable tasks, averaged over the minute before the run.
    pub(crate) load_average: f64,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) data_filesystem: String,
    /// `None` outside a repository that has a commit.
    pub(crate) commit: Option<String>,
    pub(crate) harness_version: String,
    /// Whether the harness itself was optimized.
    pub(crate) optimized: bool,
}

const SYSCTLS: &[&str] = &[
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_limit_output_bytes",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.core.default_qdisc",
    "fs.pipe-max-size",
    "fs.pipe-user-pages-soft",
    "kernel.io_uring_disabled",
];

impl Machine {
    /// Looks at this machine; the data files will lie in `data_directory`.
    pub(crate) fn look(data_directory: &Path) -> Result<Self> {
        let (sender_cpu, receiver_cpu) = two_cpus()?;
        let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
        let load = read_to_string("/proc/loadavg").unwrap_or_default();
        let kib: u64 = field(&meminfo, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
        Ok(Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            kernel: read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu_model: field(&cpuinfo, "model name"),
            cpus: std::thread::available_parallelism()?.get(),
            virtual_machine: field(&cpuinfo, "flags").split(' ').any(|flag| flag == "hypervisor"),
            memory_bytes: kib * 1024,
            root: rustix::process::geteuid().is_root(),
            sender_cpu,
            receiver_cpu,
            load_average: load.split(' ').next().and_then(|now| now.parse().ok()).unwrap_or(0.0),
            sysctls: SYSCTLS.iter().filter_map(|name| sysctl(name)).collect(),
            data_filesystem: crate::data::filesystem(data_directory)?,
            commit: commit(),
            harness_version: env!("CARGO_PKG_VERSION").to_owned(),
            optimized: !cfg!(debug_assertions),
        })
    }
}

/// The first two CPUs that this process may use; the same one twice if there is only one.
pub(crate) fn two_cpus() -> Result<(usize, usize)> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let sender = cpus.next().context("no CPU is allowed")?;
    Ok((sender, cpus.next().unwrap_or(sender)))
}

/// Keeps this thread, and those it will start, on one CPU.
pub(crate) fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .with_context(|| format!("no pinning to CPU {cpu}"))
}

fn sysctl(name: &str) -> Option<(String, String)> {
    let value = read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some((name.to_owned(), value.trim().replace('\t', " ")))
}

/// The value of the first line `name : value`; empty if there is none.
fn field(text: &str, name: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

/// `RINGWAY_COMMIT`, or what git says about the directory this harness was built from.
fn commit() -> Option<String> {
    if let Ok(commit) = std::env::var("RINGWAY_COMMIT") {
        return Some(commit);
    }
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files() {
        let text = "processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), "A CPU: fast");
        assert_eq!(field(text, "flags"), "");
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let machine = Machine::look(&std::env::temp_dir()).unwrap();
        assert!(!machine.kernel.is_empty());
        assert!(machine.cpus >= 1);
        assert!(machine.sysctls.contains_key("net.ipv4.tcp_rmem"));
    }
}
