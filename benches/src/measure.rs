//! What a stretch of work cost this process: wall time, CPU time, switches and faults.
//!
//! `getrusage(RUSAGE_SELF)` counts every thread of the process, io-wq workers and those that have already
//! ended included; `RUSAGE_THREAD` counts the calling thread alone. The difference is what was done off it.
//! What workers of the kernel (io-wq) have used stands in the schedstat of the threads that bear their name.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The cost of a stretch of work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Seconds on the clock.
    pub(crate) wall_s: f64,
    /// CPU seconds in user mode, all threads.
    pub(crate) user_s: f64,
    /// CPU seconds in the kernel, all threads.
    pub(crate) system_s: f64,
    /// CPU seconds, both modes, of the measuring thread alone.
    pub(crate) main_thread_s: f64,
    /// CPU seconds of io-wq workers, which are a part of the system's.
    pub(crate) io_wq_s: f64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    /// The most that was resident meanwhile, in bytes: memory, mapped files and shared pages.
    pub(crate) resident_peak_bytes: u64,
}

impl Usage {
    /// CPU seconds of all threads.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// The part of the CPU time that was spent off the measuring thread (io-wq workers, helpers): 0 to 1.
    pub(crate) fn off_main_share(&self) -> f64 {
        let cpu_s = self.cpu_s();
        if cpu_s > 0.0 { ((cpu_s - self.main_thread_s) / cpu_s).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A moment from which usage is counted.
#[derive(Debug)]
pub(crate) struct Start {
    wall: Instant,
    process: libc::rusage,
    thread: libc::rusage,
    io_wq_s: f64,
}

impl Start {
    pub(crate) fn now() -> Self {
        // The peak of resident memory begins anew; a kernel that refuses tells the peak since the start.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self {
            io_wq_s: io_wq_s(),
            process: read(libc::RUSAGE_SELF),
            thread: read(libc::RUSAGE_THREAD),
            wall: Instant::now(),
        }
    }

    /// What was used since; to be called on the thread that called [`Start::now`].
    pub(crate) fn used(&self) -> Usage {
        let wall = self.wall.elapsed();
        let process = read(libc::RUSAGE_SELF);
        let thread = read(libc::RUSAGE_THREAD);
        let main_thread_s = seconds(thread.ru_utime) - seconds(self.thread.ru_utime)
            + seconds(thread.ru_stime)
            - seconds(self.thread.ru_stime);
        Usage {
            wall_s: wall.as_secs_f64(),
            user_s: seconds(process.ru_utime) - seconds(self.process.ru_utime),
            system_s: seconds(process.ru_stime) - seconds(self.process.ru_stime),
            main_thread_s,
            io_wq_s: (io_wq_s() - self.io_wq_s).max(0.0),
            voluntary_switches: grown(process.ru_nvcsw, self.process.ru_nvcsw),
            involuntary_switches: grown(process.ru_nivcsw, self.process.ru_nivcsw),
            minor_faults: grown(process.ru_minflt, self.process.ru_minflt),
            major_faults: grown(process.ru_majflt, self.process.ru_majflt),
            resident_peak_bytes: resident_peak_bytes(),
        }
    }
}

/// CPU seconds of the io-wq workers of this process that are there now; one leaves after seconds of rest.
fn io_wq_s() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm")).ok()?;
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        name.starts_with("iou-wrk").then(|| stat.split(' ').next()?.parse::<f64>().ok())?
    });
    nanoseconds.sum::<f64>() / 1e9
}

fn resident_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU seconds of this process and of all children that were waited for, since its start.
pub(crate) fn own_cpu_s() -> f64 {
    let cpu_s = |usage: libc::rusage| seconds(usage.ru_utime) + seconds(usage.ru_stime);
    cpu_s(read(libc::RUSAGE_SELF)) + cpu_s(read(libc::RUSAGE_CHILDREN))
}

/// `int getrusage(int who, struct rusage *usage)`
fn read(who: libc::c_int) -> libc::rusage {
    // SAFETY: rusage is plain integers, for which all-zero bytes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a live, writable rusage for the whole call, and the kernel keeps no pointer to it.
    let outcome = unsafe { libc::getrusage(who, &raw mut usage) };
    assert_eq!(outcome, 0, "getrusage fails only for an unknown `who`");
    usage
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

fn grown(now: libc::c_long, before: libc::c_long) -> u64 {
    u64::try_from(now - before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sleep_is_wall_and_not_cpu_of_this_thread() {
        let start = Start::now();
        std::thread::sleep(Duration::from_millis(50));
        let used = start.used();
        assert!(used.wall_s >= 0.05);
        assert!(used.main_thread_s < used.wall_s / 2.0, "{used:?}");
        assert!(used.voluntary_switches >= 1);
        assert!(used.resident_peak_bytes > 100_000, "{used:?}");
        assert!(used.io_wq_s.abs() < 1e-9, "{used:?}");
    }

    #[test]
    fn share_off_the_main_thread() {
        let usage = Usage {
            wall_s: 1.0,
            user_s: 0.25,
            system_s: 0.75,
            main_thread_s: 0.6,
            io_wq_s: 0.0,
            voluntary_switches: 0,
            involuntary_switches: 0,
            minor_faults: 0,
            major_faults: 0,
            resident_peak_bytes: 0,
        };
        assert!((usage.off_main_share() - 0.4).abs() < 1e-9);
        let idle = Usage { user_s: 0.0, system_s: 0.0, main_thread_s: 0.0, ..usage };
        assert!(idle.off_main_share().abs() < 1e-9);
    }
}
