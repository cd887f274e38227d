//! What else ran on the machine while a point was measured: a disturbed figure should say so.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::measure::own_cpu_s;

/// Averages over the time of one point, in CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Neighbours {
    /// CPU time of processes that are not part of this run.
    pub(crate) foreign_cpus: f64,
    /// CPU time that the hypervisor gave to others.
    pub(crate) stolen_cpus: f64,
}

impl Neighbours {
    /// More than the kernel's tick-wise accounting explains.
    pub(crate) fn disturb(&self) -> bool {
        self.foreign_cpus > 0.1 || self.stolen_cpus > 0.05
    }
}

/// Watches from its creation on.
#[derive(Debug)]
pub(crate) struct Watch {
    begin: Instant,
    machine: Ticks,
    own_s: f64,
}

/// Of all CPUs since the machine was started, in clock ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    stolen: u64,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { machine: ticks(), own_s: own_cpu_s(), begin: Instant::now() }
    }

    /// To be called when all senders have ended: only then are they counted as own.
    pub(crate) fn seen(&self) -> Neighbours {
        let wall_s = self.begin.elapsed().as_secs_f64();
        let now = ticks();
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let busy_s = now.busy.saturating_sub(self.machine.busy) as f64 / per_second;
        let stolen_s = now.stolen.saturating_sub(self.machine.stolen) as f64 / per_second;
        let own_s = own_cpu_s() - self.own_s;
        Neighbours {
            foreign_cpus: ((busy_s - own_s) / wall_s).max(0.0),
            stolen_cpus: stolen_s / wall_s,
        }
    }
}

/// The first line of `/proc/stat`; zeros where there is none.
fn ticks() -> Ticks {
    parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// See `proc_stat(5)`: user nice system idle iowait irq softirq steal …
fn parse(stat: &str) -> Ticks {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = fields[..] else {
        return Ticks::default();
    };
    Ticks { busy: user + nice + system + irq + softirq, stolen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_neither_idle_nor_stolen() {
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 9 9 9\n";
        assert_eq!(parse(stat), Ticks { busy: 7_600_321, stolen: 80_000_000 });
        assert_eq!(parse(""), Ticks::default());
    }
}
