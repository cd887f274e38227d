//! What is asked of the kernel, and what is tried.

use std::fs;
use std::path::Path;

use ringway::runtime::{Config, Runtime, Setup, lend_pipe};
use rustix::process::{Resource, getrlimit};

use super::secure::{self, TlsFacts};
use super::trial::{self, Trial};

/// Everything that the verdict rests on.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) kernel: String,
    pub(crate) ring: Result<RingFacts, String>,
    /// Open descriptors: allowed now, and as far as it can be raised. None is unlimited.
    pub(crate) descriptors: (Option<u64>, Option<u64>),
    /// Bytes of locked memory that are allowed; none is unlimited.
    pub(crate) locked_bytes: Option<u64>,
    /// Whether the process may pass the limits on pipes and locked memory.
    pub(crate) privileged: bool,
    /// Pages of pipes that a user may have, `fs.pipe-user-pages-soft`; 0 is unlimited.
    pub(crate) pipe_pages: Option<u64>,
    /// `net.core.somaxconn`.
    pub(crate) backlog_max: Option<u64>,
    /// `net.ipv4.tcp_congestion_control`.
    pub(crate) congestion_control: Option<String>,
    /// A seccomp filter is in force.
    pub(crate) filtered: bool,
    /// Bytes of memory that the control group allows.
    pub(crate) memory_bytes_max: Option<u64>,
    /// None if there is no ring to try it on.
    pub(crate) tls: Option<Result<TlsFacts, String>>,
    pub(crate) trials: Vec<Trial>,
}

/// What a ring can do here.
#[derive(Clone, Debug)]
pub(crate) struct RingFacts {
    pub(crate) setup: Setup,
    pub(crate) splice: bool,
    pub(crate) splice_op: bool,
    pub(crate) residency: bool,
    pub(crate) unregistered_buffers: Option<String>,
    /// Capacity of a pipe in bytes as it is granted, or why there is none.
    pub(crate) pipe: Result<u64, String>,
    /// Capacity that is asked for.
    pub(crate) pipe_bytes_asked: u64,
}

impl Facts {
    /// Asks and tries everything; the transfers use files in this folder.
    pub(crate) fn gather(folder: &Path) -> Facts {
        let limit = getrlimit(Resource::Nofile);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let (ring, tls, trials) = ring(folder);
        Facts {
            kernel: word("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            ring,
            descriptors: (limit.current, limit.maximum),
            locked_bytes: getrlimit(Resource::Memlock).current,
            privileged: capabilities(&status).is_some_and(|set| {
                let (lock, resource) = (1 << 14, 1 << 24);
                set & lock != 0 && set & resource != 0
            }),
            pipe_pages: number("/proc/sys/fs/pipe-user-pages-soft"),
            backlog_max: number("/proc/sys/net/core/somaxconn"),
            congestion_control: word("/proc/sys/net/ipv4/tcp_congestion_control"),
            filtered: field(&status, "Seccomp:") == Some("2"),
            memory_bytes_max: memory_limit(),
            tls,
            trials,
        }
    }
}

/// What a ring, TLS and transfers over them came to.
type Tried = (Result<RingFacts, String>, Option<Result<TlsFacts, String>>, Vec<Trial>);

/// Starts a ring, as the daemon would, and transfers over it.
fn ring(folder: &Path) -> Tried {
    let config = Config::default();
    let pipe_bytes_asked = config.pipe_bytes as u64;
    let runtime = match Runtime::with_config(config) {
        Ok(runtime) => runtime,
        Err(error) => return (Err(error.to_string()), None, Vec::new()),
    };
    let known = runtime.capabilities().clone();
    let (pipe, tls, trials) = runtime.block_on(async {
        let pipe = match lend_pipe() {
            Ok(Ok(pipe)) => Ok(pipe.capacity() as u64),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(error) => Err(error.to_string()),
        };
        (pipe, secure::look().await, trial::all(folder).await)
    });
    let facts = RingFacts {
        setup: known.setup,
        splice: known.splice,
        splice_op: known.splice_op,
        residency: known.residency,
        unregistered_buffers: known.unregistered_buffers,
        pipe,
        pipe_bytes_asked,
    };
    (Ok(facts), Some(tls), trials)
}

fn word(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn number(path: &str) -> Option<u64> {
    word(path)?.parse().ok()
}

fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The effective set of capabilities(7).
fn capabilities(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff:")?, 16).ok()
}

/// `memory.max` of the control group (version 2), if it has one.
fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    number(&format!("/sys/fs/cgroup{group}/memory.max"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tx\nCapEff:\t000001ffffffffff\nSeccomp:\t2\n";
        assert_eq!(field(status, "Seccomp:"), Some("2"));
        assert_eq!(capabilities(status), Some(0x1ff_ffff_ffff));
        assert_eq!(capabilities(""), None);
    }
}
