//! What was found, condensed: a row per point and server.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{BASELINE, Client, Point};
use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::results::SCHEMA;
use crate::servers::roster::Installed;
use crate::stats::{Estimate, estimate, estimate_ratio};
use crate::table;

/// What one timed stretch cost a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) requests: u64,
    /// Of the client, from its start to its end.
    pub(super) wall_s: f64,
    /// CPU of all processes and threads of the server, both modes, handshakes included.
    pub(super) cpu_s: f64,
    pub(super) user_share: f64,
    pub(super) rss_bytes: u64,
}

/// What one server did at one point. GB is 10⁹ bytes of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    schema: u32,
    mode: String,
    point: String,
    /// What the point is, in a sentence.
    #[serde(default)]
    point_about: String,
    suite: String,
    server: String,
    about: String,
    version: String,
    baseline: String,
    n: usize,
    cpu_us_per_request: Estimate,
    cpu_s_per_gb: Estimate,
    requests_per_s: Estimate,
    /// CPU per request of this server to that of the baseline in the same round.
    ratio: Option<Estimate>,
    own_network: bool,
    congestion_server: String,
    machine: Machine,
    neighbours: Neighbours,
    samples: Vec<Sample>,
}

/// What all rows of a point share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) machine: &'a Machine,
    pub(super) neighbours: Neighbours,
    pub(super) own_network: bool,
    pub(super) congestion: &'a str,
    pub(super) point: &'a Point,
}

/// A row for each server; the samples of all are in the order of the rounds.
pub(super) fn condense(
    setting: &Setting<'_>,
    servers: &[&Installed],
    samples: &[Vec<Sample>],
) -> Result<Vec<Row>> {
    let gb = setting.point.file_len as f64 / 1e9;
    let cpu = |samples: &[Sample]| -> Vec<f64> {
        samples.iter().map(|sample| sample.cpu_s / sample.requests as f64).collect()
    };
    let base = servers.iter().position(|server| server.server.name == BASELINE);
    let base = base.map(|base| cpu(&samples[base]));
    let row = |(server, samples): (&&Installed, &Vec<Sample>)| {
        let own = cpu(samples);
        let each = |figure: &dyn Fn(&Sample) -> f64| {
            estimate(&samples.iter().map(figure).collect::<Vec<_>>()).context("no samples")
        };
        Ok(Row {
            schema: SCHEMA,
            mode: "servers-tls".to_owned(),
            point: setting.point.name.to_owned(),
            point_about: setting.point.sentence(),
            suite: "aes-256-gcm".to_owned(),
            server: server.server.name.to_owned(),
            about: setting.point.about(server.server),
            version: server.version.clone(),
            baseline: BASELINE.to_owned(),
            n: samples.len(),
            cpu_us_per_request: each(&|s| s.cpu_s * 1e6 / s.requests as f64)?,
            cpu_s_per_gb: each(&|s| s.cpu_s / s.requests as f64 / gb)?,
            requests_per_s: each(&|s| s.requests as f64 / s.wall_s)?,
            ratio: base.as_ref().and_then(|base| estimate_ratio(&own, base)),
            own_network: setting.own_network,
            congestion_server: setting.congestion.to_owned(),
            machine: setting.machine.clone(),
            neighbours: setting.neighbours,
            samples: samples.clone(),
        })
    };
    servers.iter().zip(samples).map(row).collect()
}

/// The rows of one point, for people.
pub(super) fn table(point: &Point, rows: &[Row]) -> String {
    let mut text = format!("{}\n", point.name);
    for row in rows {
        let (figure, unit) = match point.client {
            Client::Wrk { .. } => (table::interval(&row.cpu_us_per_request, 1), "CPU-µs/request"),
            Client::Curl | Client::Discard => (table::interval(&row.cpu_s_per_gb, 3), "CPU-s/GB"),
        };
        let ratio = row.ratio.map_or(String::new(), |ratio| table::interval(&ratio, 2));
        let (name, n) = (&row.server, row.n);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:14} {figure:>24} {unit}   {ratio:>20} × nginx   n={n}");
    }
    text
}
