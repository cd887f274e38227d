//! What the comparison found: one row per point and server, and which nginx the others are held against.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::point::Point;
use super::roster::{Program, Server};
use super::trial::Sample;
use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::results::SCHEMA;
use crate::stats::{Estimate, estimate, estimate_ratio};

/// What one server did at one point, or why it did nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) schema: u32,
    pub(crate) mode: String,
    pub(crate) point: String,
    /// What the point is, in a sentence.
    #[serde(default)]
    pub(crate) point_about: String,
    pub(crate) server: String,
    /// What it is, in a sentence.
    pub(crate) about: String,
    /// What it says its version is; `None` for a gap.
    pub(crate) version: Option<String>,
    /// Why this server is missing.
    pub(crate) gap: Option<String>,
    /// Measured rounds; the warm-up is not among them.
    pub(crate) n: usize,
    /// `None` for a gap.
    pub(crate) figures: Option<Figures>,
    /// The server that `ratio` is taken against: at each point the nginx that needs less CPU.
    pub(crate) baseline: Option<String>,
    /// CPU of this server to CPU of the baseline in the same round.
    pub(crate) ratio: Option<Estimate>,
    /// Whether the server ran in a network of the harness's own.
    pub(crate) own_network: bool,
    /// Whether the client spun instead of sleeping.
    pub(crate) busy_client: bool,
    pub(crate) machine: Machine,
    /// What else ran while this point was measured.
    pub(crate) neighbours: Neighbours,
    pub(crate) samples: Vec<Sample>,
}

/// The figures of a server at a point. CPU is that of all its processes and threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) cpu_us_per_request: Estimate,
    pub(crate) user_us_per_request: Estimate,
    pub(crate) system_us_per_request: Estimate,
    /// CPU of the client, which does a part of the sending: see [`Sample::client_cpu_s`].
    #[serde(default)]
    pub(crate) client_us_per_request: Option<Estimate>,
    /// Both directions.
    #[serde(default)]
    pub(crate) packets_per_request: Option<Estimate>,
    pub(crate) requests_per_s: Estimate,
    /// Closed loop.
    pub(crate) latency_p50_us: Estimate,
    pub(crate) latency_p99_us: Estimate,
    pub(crate) rss_bytes: Estimate,
}

/// A server's part in a point: its version and samples, or why there are none.
pub(crate) type Part = Result<(String, Vec<Sample>), String>;

/// What all rows of a point share.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) neighbours: Neighbours,
    pub(crate) own_network: bool,
    pub(crate) busy_client: bool,
}

/// Condenses the samples of a point.
pub(crate) fn condense(
    setting: &Setting<'_>,
    point: &Point,
    parts: &[(&'static Server, Part)],
) -> Result<Vec<Row>> {
    let base = baseline(parts);
    let rows = parts.iter().map(|(server, part)| {
        let mut row = Row {
            schema: SCHEMA,
            mode: "servers".to_owned(),
            point: point.name.to_owned(),
            point_about: point.about(),
            server: server.name.to_owned(),
            about: server.about.to_owned(),
            version: None,
            gap: None,
            n: 0,
            figures: None,
            baseline: base.map(|(server, _)| server.name.to_owned()),
            ratio: None,
            own_network: setting.own_network,
            busy_client: setting.busy_client,
            machine: setting.machine.clone(),
            neighbours: setting.neighbours,
            samples: Vec::new(),
        };
        match part {
            Ok((version, samples)) => {
                let base = base.map(|(_, samples)| cpu_us(samples)).unwrap_or_default();
                row.version = Some(version.clone());
                row.n = samples.len();
                row.figures = Some(Figures::of(samples).context("no samples")?);
                row.ratio = estimate_ratio(&cpu_us(samples), &base);
                row.samples.clone_from(samples);
            }
            Err(why) => row.gap = Some(why.clone()),
        }
        Ok(row)
    });
    rows.collect()
}

/// The nginx that needs less CPU here; the first server that was measured if there is no nginx.
fn baseline<'a>(parts: &'a [(&'static Server, Part)]) -> Option<(&'static Server, &'a [Sample])> {
    let measured = parts.iter().filter_map(|(server, part)| {
        let (_, samples) = part.as_ref().ok()?;
        Some((*server, samples.as_slice(), estimate(&cpu_us(samples))?.median))
    });
    let is_nginx = |server: &Server| matches!(server.program, Program::Nginx { .. });
    let nginx = measured.clone().filter(|(server, ..)| is_nginx(server));
    let best = nginx.min_by(|(.., a), (.., b)| a.total_cmp(b));
    best.or_else(|| measured.clone().next()).map(|(server, samples, _)| (server, samples))
}

fn cpu_us(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(cpu_us_per_request).collect()
}

fn cpu_us_per_request(sample: &Sample) -> f64 {
    sample.cpu_s * 1e6 / sample.requests as f64
}

impl Figures {
    fn of(samples: &[Sample]) -> Option<Self> {
        let each = |figure: &dyn Fn(&Sample) -> f64| {
            estimate(&samples.iter().map(figure).collect::<Vec<_>>())
        };
        let known = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            let per_request = |s: &Sample| Some(figure(s)? / s.requests as f64);
            estimate(&samples.iter().map(per_request).collect::<Option<Vec<_>>>()?)
        };
        Some(Self {
            cpu_us_per_request: each(&cpu_us_per_request)?,
            user_us_per_request: each(&|s| cpu_us_per_request(s) * s.user_share)?,
            system_us_per_request: each(&|s| cpu_us_per_request(s) * (1.0 - s.user_share))?,
            client_us_per_request: known(&|s| Some(s.client_cpu_s? * 1e6)),
            packets_per_request: known(&|s| Some(s.packets? as f64)),
            requests_per_s: each(&|s| s.requests as f64 / s.wall_s)?,
            latency_p50_us: each(&|s| s.latency.p50_us)?,
            latency_p99_us: each(&|s| s.latency.p99_us)?,
            rss_bytes: each(&|s| s.rss_bytes as f64)?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::Latency;
    use crate::servers::point::POINTS;
    use crate::servers::roster::named;

    fn part(cpu_s: &[f64]) -> Part {
        let sample = |(round, &cpu_s)| Sample {
            round,
            requests: 1000,
            wall_s: 0.5,
            cpu_s,
            user_share: 0.25,
            client_cpu_s: Some(0.004),
            packets: Some(6000),
            rss_bytes: 1 << 20,
            latency: Latency::of(&mut [5.0], &mut [10.0]),
            congestion_server: "cubic".to_owned(),
            congestion_client: "cubic".to_owned(),
            neighbours: Neighbours { foreign_cpus: 0.0, stolen_cpus: 0.0 },
        };
        Ok(("1.0".to_owned(), (1..).zip(cpu_s).map(sample).collect()))
    }

    /// Rows of the first point, from the CPU seconds of each server's samples.
    pub(in crate::servers) fn rows(parts: &[(&str, Option<&[f64]>)]) -> Vec<Row> {
        let machine = Machine::look(&std::env::temp_dir()).unwrap();
        let neighbours = Neighbours { foreign_cpus: 0.0, stolen_cpus: 0.0 };
        let parts: Vec<_> = parts
            .iter()
            .map(|(name, cpu_s)| {
                let missing = || Err("not here".to_owned());
                (named(name).unwrap(), cpu_s.map_or_else(missing, part))
            })
            .collect();
        let setting =
            Setting { machine: &machine, neighbours, own_network: true, busy_client: false };
        condense(&setting, &POINTS[0], &parts).unwrap()
    }

    #[test]
    fn the_better_nginx_is_the_baseline() {
        let rows = rows(&[
            ("nginx-nopush-off", Some(&[0.02, 0.02])),
            ("nginx-nopush-on", Some(&[0.01, 0.02])),
            ("ringwayd", Some(&[0.005, 0.01])),
            ("servedir", None),
        ]);
        assert!(rows.iter().all(|row| row.baseline.as_deref() == Some("nginx-nopush-on")));
        let ratio = rows[2].ratio.unwrap();
        assert!((ratio.median - 0.5).abs() < 1e-9, "{ratio:?}");
        let figures = rows[1].figures.as_ref().unwrap();
        assert!((figures.cpu_us_per_request.median - 15.0).abs() < 1e-9);
        assert!((figures.user_us_per_request.median - 15.0 / 4.0).abs() < 1e-9);
        assert!((figures.client_us_per_request.unwrap().median - 4.0).abs() < 1e-9);
        assert!((figures.packets_per_request.unwrap().median - 6.0).abs() < 1e-9);
        assert!((figures.requests_per_s.median - 2000.0).abs() < 1e-9);
    }

    #[test]
    fn missing_server_is_a_row_that_says_why() {
        let rows = rows(&[("nginx-nopush-off", None), ("ringwayd", Some(&[0.01]))]);
        assert_eq!(rows[0].gap.as_deref(), Some("not here"));
        assert_eq!(rows[0].figures, None);
        assert_eq!(rows[1].baseline.as_deref(), Some("ringwayd"));
    }

    #[test]
    fn rows_come_back_from_json_as_they_were() {
        for row in rows(&[("nginx-nopush-off", Some(&[1.0 / 3.0])), ("ringwayd", None)]) {
            let line = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
        }
    }
}
