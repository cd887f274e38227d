//! What a process and its descendants have used, seen from outside.
//!
//! The CPU clock of a process counts all its threads in nanoseconds, io-wq workers and those that have
//! ended included. The split into user and system comes in clock ticks, so only its share is taken.

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;

/// CPU seconds of a stretch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) total_s: f64,
    /// The part in user mode, 0 to 1; coarse for a stretch below a second.
    pub(crate) user_share: f64,
}

/// Processes from a moment on.
#[derive(Debug)]
pub(crate) struct Meter {
    processes: Vec<Pid>,
    begin: Reading,
}

#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    cpu_s: f64,
    user_ticks: u64,
    system_ticks: u64,
}

impl Meter {
    pub(crate) fn start(processes: Vec<Pid>) -> Result<Self> {
        ensure!(!processes.is_empty(), "the server is gone");
        let begin = read_all(&processes)?;
        Ok(Self { processes, begin })
    }

    /// What was used since the start.
    ///
    /// # Errors
    ///
    /// One of the processes has ended.
    pub(crate) fn used(&self) -> Result<Cpu> {
        let now = read_all(&self.processes)?;
        let user = now.user_ticks.saturating_sub(self.begin.user_ticks) as f64;
        let system = now.system_ticks.saturating_sub(self.begin.system_ticks) as f64;
        let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        Ok(Cpu { total_s: now.cpu_s - self.begin.cpu_s, user_share })
    }

    /// Resident memory of all of them now, in bytes; pages that they share count for each.
    pub(crate) fn rss_bytes(&self) -> Result<u64> {
        let each = self.processes.iter().map(|&process| {
            let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
            Ok(rss_kib(&status).context("no VmRSS")? * 1024)
        });
        each.sum()
    }
}

fn read_all(processes: &[Pid]) -> Result<Reading> {
    let mut sum = Reading::default();
    for &process in processes {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))
            .context("the server, or a part of it, has ended")?;
        let fields = Fields::parse(&stat).context("/proc/<id>/stat is not as expected")?;
        sum.cpu_s += cpu_clock_s(process)?;
        sum.user_ticks += fields.user_ticks;
        sum.system_ticks += fields.system_ticks;
    }
    Ok(sum)
}

/// `int clock_gettime(clockid_t clockid, struct timespec *tp)` with the CPU clock of another process.
fn cpu_clock_s(process: Pid) -> Result<f64> {
    // As clock_getcpuclockid(3) computes it, which libc does not declare here; 2 is CPUCLOCK_SCHED.
    let clock = (!process.as_raw_nonzero().get() << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable timespec for the whole call, and the kernel keeps no pointer to it.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(outcome == 0, "no CPU clock: {}", std::io::Error::last_os_error());
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// `root` and its descendants, parents before their children.
pub(crate) fn family(root: Pid) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let (Some(process), Some(fields)) = (Pid::from_raw(process), Fields::parse(&stat)) {
            parents.push((process, fields.parent));
        }
    }
    let mut family: Vec<Pid> = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        let parent = parent.as_raw_nonzero().get();
        family
            .extend(parents.iter().filter(|(_, its)| *its == parent).map(|(process, _)| *process));
        next += 1;
    }
    family
}

/// From `/proc/<id>/stat`: see proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Fields {
    parent: i32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Fields {
    fn parse(stat: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything: what follows the last one is well-formed.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let mut ticks = fields.skip(9);
        let user_ticks = ticks.next()?.parse().ok()?;
        let system_ticks = ticks.next()?.parse().ok()?;
        Some(Self { parent, user_ticks, system_ticks })
    }
}

fn rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn fields_stand_behind_any_name() {
        let stat = "7 (a) b (c)) S 42 1 1 0 -1 4194304 1 2 3 4 500 600 7 8 20 0 1 0 9";
        let fields = Fields { parent: 42, user_ticks: 500, system_ticks: 600 };
        assert_eq!(Fields::parse(stat), Some(fields));
        assert_eq!(Fields::parse(""), None);
        assert_eq!(rss_kib("VmHWM:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1234));
    }

    #[test]
    fn work_of_another_thread_is_seen_and_sleep_is_not() {
        let meter = Meter::start(vec![rustix::process::getpid()]).unwrap();
        let busy = Duration::from_millis(60);
        std::thread::spawn(move || {
            let begin = Instant::now();
            while begin.elapsed() < busy {
                std::hint::spin_loop();
            }
        })
        .join()
        .unwrap();
        assert!(meter.used().unwrap().total_s > 0.005);
        assert!(meter.rss_bytes().unwrap() > 100_000);

        let mut sleeper = Command::new("sleep").arg("5").spawn().unwrap();
        let meter = Meter::start(vec![Pid::from_child(&sleeper)]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(meter.used().unwrap().total_s < 0.04);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(meter.used().is_err(), "a process that has ended was measured");
    }

    #[test]
    fn children_belong_to_the_family() {
        let mut child = Command::new("sleep").arg("5").spawn().unwrap();
        let family = family(rustix::process::getpid());
        assert_eq!(family[0], rustix::process::getpid());
        assert!(family.contains(&Pid::from_child(&child)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
