//! What was found, condensed: a row per suite and arm, and the split of what TLS costs.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Told;
use super::arms::{Arm, CIPHER, COPY, OURS};
use super::suite::Suite;
use crate::machine::Machine;
use crate::measure::Usage;
use crate::neighbours::Neighbours;
use crate::results::SCHEMA;
use crate::stats::{Estimate, estimate, estimate_ratio};
use crate::table;

/// What one arm did with one suite. GB is 10⁹ bytes of the file; CPU is that of the sender, all threads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    schema: u32,
    mode: String,
    suite: String,
    arm: String,
    about: String,
    n: usize,
    /// Length of the file.
    bytes: u64,
    cpu_s_per_gb: Estimate,
    user_s_per_gb: Option<Estimate>,
    wall_s_per_gb: Option<Estimate>,
    /// CPU of this arm to CPU of each other arm in the same round.
    ratios: BTreeMap<String, Estimate>,
    /// Of the CPU above [`COPY`], the part that [`CIPHER`] is: 0 to 1, round by round.
    cipher_share_above_copy: Option<Estimate>,
    machine: Machine,
    neighbours: Neighbours,
    congestion_sender: Option<String>,
    samples: Vec<Usage>,
}

/// What all rows of a suite share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) machine: &'a Machine,
    pub(super) neighbours: Neighbours,
    pub(super) suite: &'a Suite,
    pub(super) bytes: u64,
}

impl Row {
    fn new(setting: &Setting<'_>, arm: &str, about: &str, cpu_s_per_gb: Estimate) -> Self {
        Self {
            schema: SCHEMA,
            mode: "tls".to_owned(),
            suite: setting.suite.name.to_owned(),
            arm: arm.to_owned(),
            about: about.to_owned(),
            n: 0,
            bytes: setting.bytes,
            cpu_s_per_gb,
            user_s_per_gb: None,
            wall_s_per_gb: None,
            ratios: BTreeMap::new(),
            cipher_share_above_copy: None,
            machine: setting.machine.clone(),
            neighbours: setting.neighbours,
            congestion_sender: None,
            samples: Vec::new(),
        }
    }
}

/// A row for each arm; the samples of all are in the order of the rounds.
pub(super) fn condense(
    setting: &Setting<'_>,
    arms: &[&Arm],
    samples: &[Vec<Told>],
) -> Result<Vec<Row>> {
    let gb = setting.bytes as f64 / 1e9;
    let each = |samples: &[Told], figure: fn(&Usage) -> f64| -> Vec<f64> {
        samples.iter().map(|told| figure(&told.usage) / gb).collect()
    };
    let cpu: BTreeMap<&str, Vec<f64>> = arms
        .iter()
        .zip(samples)
        .map(|(arm, samples)| (arm.name, each(samples, Usage::cpu_s)))
        .collect();
    let row = |(arm, samples): (&&Arm, &Vec<Told>)| {
        let own = &cpu[arm.name];
        let others = cpu.iter().filter(|(name, _)| **name != arm.name);
        let ratios = others
            .filter_map(|(name, other)| Some(((*name).to_owned(), estimate_ratio(own, other)?)));
        Ok(Row {
            n: samples.len(),
            user_s_per_gb: estimate(&each(samples, |usage| usage.user_s)),
            wall_s_per_gb: estimate(&each(samples, |usage| usage.wall_s)),
            ratios: ratios.collect(),
            cipher_share_above_copy: cipher_share(&cpu, arm),
            congestion_sender: samples.first().map(|told| told.congestion.clone()),
            samples: samples.iter().map(|told| told.usage).collect(),
            ..Row::new(setting, arm.name, arm.about, estimate(own).context("no samples")?)
        })
    };
    arms.iter().zip(samples).map(row).collect()
}

/// `None` for an arm that seals nothing, and where a floor was not measured.
fn cipher_share(cpu: &BTreeMap<&str, Vec<f64>>, arm: &Arm) -> Option<Estimate> {
    if arm.sends != super::arms::Sends::Sealed {
        return None;
    }
    let (own, copy, cipher) = (cpu.get(arm.name)?, cpu.get(COPY)?, cpu.get(CIPHER)?);
    let above: Vec<f64> = own.iter().zip(copy).map(|(own, copy)| own - copy).collect();
    estimate_ratio(cipher, &above)
}

/// A row for what `openssl speed` said, if it said anything.
pub(super) fn openssl(setting: &Setting<'_>, cpu_s_per_gb: &[f64]) -> Option<Row> {
    let about = "openssl speed -aead -bytes 16384, by its own count of user time; another process";
    let row = Row::new(setting, "cipher-openssl", about, estimate(cpu_s_per_gb)?);
    Some(Row { n: cpu_s_per_gb.len(), ..row })
}

/// The rows of one suite, for people.
pub(super) fn table(suite: &Suite, rows: &[Row]) -> String {
    let mut text = format!("{}\n", suite.name);
    for row in rows {
        let to_ours = row.ratios.get(OURS);
        let ratio = to_ours.map_or(String::new(), |r| format!("{} ×", table::interval(r, 2)));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {:20} {:>22} CPU-s/GB   {:>20}   n={}",
            row.arm,
            table::interval(&row.cpu_s_per_gb, 3),
            ratio,
            row.n
        );
    }
    let Some(ours) = rows.iter().find(|row| row.arm == OURS) else { return text };
    for (other, ratio) in &ours.ratios {
        let _ = writeln!(text, "  {OURS} costs {} × {other}", table::interval(ratio, 2));
    }
    for row in rows {
        if let Some(share) = row.cipher_share_above_copy {
            let percent = Estimate {
                median: share.median * 100.0,
                low: share.low * 100.0,
                high: share.high * 100.0,
            };
            let percent = table::interval(&percent, 0);
            let _ =
                writeln!(text, "  {}: of the CPU above Copy, the cipher is {percent} %", row.arm);
        }
    }
    text
}
