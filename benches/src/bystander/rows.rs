//! What bystanders noticed: one row per scene and server.

use std::fmt;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::results::SCHEMA;
use crate::servers::Installed;
use crate::stats::{Estimate, estimate, estimate_ratio};
use crate::table::interval;

/// One slice of the open loop. Microseconds from the intended start to the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    pub(crate) requests: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// What the disturbance itself received, if there was one.
    pub(crate) disturbance_gb_per_s: Option<f64>,
}

/// What the bystanders of one server noticed in one scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) schema: u32,
    pub(crate) mode: String,
    pub(crate) scene: String,
    pub(crate) server: String,
    pub(crate) version: String,
    /// Pairs of slices.
    pub(crate) n: usize,
    pub(crate) rate_per_s: f64,
    /// Whether the client ran before everything else on its CPU.
    pub(crate) urgent_client: bool,
    pub(crate) quiet_p50_us: Estimate,
    pub(crate) quiet_p99_us: Estimate,
    pub(crate) disturbed_p50_us: Estimate,
    pub(crate) disturbed_p99_us: Estimate,
    pub(crate) disturbed_max_us: Estimate,
    /// Of the p99 of each disturbed slice to that of its neighbour.
    pub(crate) p99_ratio: Estimate,
    pub(crate) disturbance_gb_per_s: Estimate,
    pub(crate) machine: Machine,
    pub(crate) neighbours: Neighbours,
    /// Quiet and disturbed.
    pub(crate) pairs: Vec<(Slice, Slice)>,
}

impl Row {
    pub(crate) fn new(
        machine: &Machine,
        neighbours: Neighbours,
        scene: &str,
        server: &Installed,
        pairs: Vec<(Slice, Slice)>,
        rate_per_s: f64,
    ) -> Result<Self> {
        let quiet = |figure: fn(&Slice) -> f64| -> Vec<f64> {
            pairs.iter().map(|(quiet, _)| figure(quiet)).collect()
        };
        let disturbed = |figure: fn(&Slice) -> f64| -> Vec<f64> {
            pairs.iter().map(|(_, disturbed)| figure(disturbed)).collect()
        };
        let p99 = |slice: &Slice| slice.p99_us;
        let none = "no pair was measured";
        Ok(Self {
            schema: SCHEMA,
            mode: "bystander".to_owned(),
            scene: scene.to_owned(),
            server: server.server.name.to_owned(),
            version: server.version.clone(),
            n: pairs.len(),
            rate_per_s,
            urgent_client: false,
            quiet_p50_us: estimate(&quiet(|slice| slice.p50_us)).context(none)?,
            quiet_p99_us: estimate(&quiet(p99)).context(none)?,
            disturbed_p50_us: estimate(&disturbed(|slice| slice.p50_us)).context(none)?,
            disturbed_p99_us: estimate(&disturbed(p99)).context(none)?,
            disturbed_max_us: estimate(&disturbed(|slice| slice.max_us)).context(none)?,
            p99_ratio: estimate_ratio(&disturbed(p99), &quiet(p99)).context(none)?,
            disturbance_gb_per_s: estimate(&disturbed(|s| s.disturbance_gb_per_s.unwrap_or(0.0)))
                .context(none)?,
            machine: machine.clone(),
            neighbours,
            pairs,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_slice = self.pairs.first().map_or(0, |(quiet, _)| quiet.requests);
        writeln!(
            f,
            "{}, {}: {} pairs of slices of {per_slice} requests, {:.0} requests/s, µs from the intended start",
            self.scene, self.server, self.n, self.rate_per_s
        )?;
        let (p50, p99) = (interval(&self.quiet_p50_us, 0), interval(&self.quiet_p99_us, 0));
        writeln!(f, "  quiet      p50 {p50}, p99 {p99}")?;
        let (p50, p99) = (interval(&self.disturbed_p50_us, 0), interval(&self.disturbed_p99_us, 0));
        let most = interval(&self.disturbed_max_us, 0);
        writeln!(f, "  disturbed  p50 {p50}, p99 {p99}, most {most}")?;
        if self.disturbance_gb_per_s.median > 0.0 {
            writeln!(f, "  the transfer ran at {} GB/s", interval(&self.disturbance_gb_per_s, 2))?;
        }
        write!(f, "  p99 disturbed ÷ quiet: {}", interval(&self.p99_ratio, 2))?;
        if self.neighbours.disturb() {
            let Neighbours { foreign_cpus, stolen_cpus } = self.neighbours;
            write!(
                f,
                "\n  disturbed by others too: {foreign_cpus:.2} CPUs, the hypervisor took {stolen_cpus:.2}"
            )?;
        }
        Ok(())
    }
}
