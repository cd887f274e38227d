//! What was found at a rate: one row per server, and which nginx the others are held against.

use std::fmt::Write;

use anyhow::Result;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::trial::Sample;
use super::{Point, Rate};
use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::results::SCHEMA;
use crate::servers::roster::{Program, Server};
use crate::stats::{Estimate, estimate, estimate_ratio, verdict_in_words};
use crate::table::interval;

/// What one server did at one rate, or why it did nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    schema: u32,
    mode: String,
    point: String,
    point_about: String,
    server: String,
    about: String,
    version: Option<String>,
    gap: Option<String>,
    /// Rounds that count.
    n: usize,
    /// Rounds in which the client itself was late: they are among the samples, and in no figure.
    void_rounds: usize,
    offered_per_s: f64,
    /// Of all rounds.
    errors: u64,
    unsent: u64,
    unanswered: u64,
    figures: Option<Figures>,
    /// The server that `ratio` is taken against: at each rate the nginx whose p99 is lower.
    baseline: Option<String>,
    /// p99 of this server to that of the baseline in the same round.
    ratio: Option<Estimate>,
    own_network: bool,
    /// Whether the client ran before everything else on its CPU.
    urgent_client: bool,
    machine: Machine,
    neighbours: Neighbours,
    samples: Vec<Sample>,
}

/// Microseconds from the intended start to the last byte: percentiles of a round, their median over rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Figures {
    due_p50_us: Estimate,
    due_p99_us: Estimate,
    due_p999_us: Estimate,
    due_max_us: Estimate,
    late_p99_us: Estimate,
    /// All processes and threads of the server.
    cpu_us_per_request: Estimate,
}

/// What all rows of a point share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) mode: &'static str,
    pub(super) machine: &'a Machine,
    pub(super) neighbours: Neighbours,
    pub(super) own_network: bool,
    pub(super) urgent_client: bool,
    pub(super) point: &'a Point,
}

/// A server's version and samples, or why there are none.
pub(super) type Part = Result<(String, Vec<Sample>), String>;

/// A row for each server at one rate.
pub(super) fn condense(
    setting: &Setting<'_>,
    rate: &Rate,
    slowest: &str,
    parts: &[(&'static Server, Part)],
) -> Result<Vec<Row>> {
    let base = baseline(parts);
    let point_about = format!(
        "{} keep-alive connections, GETs of a hot file of {} bytes, {:.0} requests per second{}{slowest}",
        setting.point.connections,
        setting.point.file_len,
        rate.per_second,
        if slowest.is_empty() { "" } else { "; the slowest is " },
    );
    let row = |(server, part): &(&'static Server, Part)| {
        let (samples, version, gap) = match part {
            Ok((version, samples)) => (samples.clone(), Some(version.clone()), None),
            Err(why) => (Vec::new(), None, Some(why.clone())),
        };
        let sum = |count: fn(&Sample) -> u64| samples.iter().map(count).sum();
        let good = counting(&samples);
        let figures = Figures::of(&good);
        let late = || {
            let least = samples.iter().map(|sample| sample.late_p99_us).fold(f64::MAX, f64::min);
            format!(
                "the client was late in all of {} rounds: p99 of {least:.0} µs at least",
                samples.len()
            )
        };
        Row {
            schema: SCHEMA,
            mode: setting.mode.to_owned(),
            point: rate.name.clone(),
            point_about: point_about.clone(),
            server: server.name.to_owned(),
            about: server.about.to_owned(),
            version,
            gap: gap.or_else(|| figures.is_none().then(late)),
            n: good.len(),
            void_rounds: samples.len() - good.len(),
            offered_per_s: rate.per_second,
            errors: sum(|sample| sample.errors),
            unsent: sum(|sample| sample.unsent),
            unanswered: sum(|sample| sample.unanswered),
            figures,
            baseline: base.map(|(server, _)| server.name.to_owned()),
            ratio: base.and_then(|(_, base)| ratio(&samples, base)),
            own_network: setting.own_network,
            urgent_client: setting.urgent_client,
            machine: setting.machine.clone(),
            neighbours: setting.neighbours,
            samples,
        }
    };
    Ok(parts.iter().map(row).collect())
}

fn counting(samples: &[Sample]) -> Vec<&Sample> {
    samples.iter().filter(|sample| sample.counts).collect()
}

/// Of p99, over the rounds that count for both.
fn ratio(own: &[Sample], base: &[Sample]) -> Option<Estimate> {
    let both = own.iter().zip(base).filter(|(own, base)| own.counts && base.counts);
    let (own, base): (Vec<f64>, Vec<f64>) =
        both.map(|(own, base)| (own.p99_us, base.p99_us)).unzip();
    estimate_ratio(&own, &base)
}

/// The nginx whose p99 is lower; the first server that was measured if there is none.
fn baseline<'a>(parts: &'a [(&'static Server, Part)]) -> Option<(&'static Server, &'a [Sample])> {
    let measured = parts.iter().filter_map(|(server, part)| {
        let (_, samples) = part.as_ref().ok()?;
        let p99: Vec<f64> = counting(samples).iter().map(|sample| sample.p99_us).collect();
        Some((*server, samples.as_slice(), estimate(&p99)?.median))
    });
    let is_nginx = |server: &Server| matches!(server.program, Program::Nginx { .. });
    let nginx = measured.clone().filter(|(server, ..)| is_nginx(server));
    let best = nginx.min_by(|(.., a), (.., b)| a.total_cmp(b));
    best.or_else(|| measured.clone().next()).map(|(server, samples, _)| (server, samples))
}

impl Figures {
    fn of(samples: &[&Sample]) -> Option<Self> {
        let each = |figure: &dyn Fn(&Sample) -> f64| {
            estimate(&samples.iter().map(|sample| figure(sample)).collect::<Vec<_>>())
        };
        Some(Self {
            due_p50_us: each(&|s| s.p50_us)?,
            due_p99_us: each(&|s| s.p99_us)?,
            due_p999_us: each(&|s| s.p999_us)?,
            due_max_us: each(&|s| s.max_us)?,
            late_p99_us: each(&|s| s.late_p99_us)?,
            cpu_us_per_request: each(&|s| s.cpu_s * 1e6 / s.answered.max(1) as f64)?,
        })
    }
}

/// The rows of one rate, for people.
pub(super) fn table(rate: &Rate, setting: &Setting<'_>, rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "server",
        "n",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "p99 × baseline",
        "CPU µs/request",
        "client late p99",
        "errors, unsent, unanswered",
    ]);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let about = rows.first().map_or("", |row| &row.point_about);
    let mut text = format!("{}: {about}; µs from the intended start\n{table}\n\n", rate.name);
    let costs =
        rows.iter().filter_map(|row| Some((row.server.as_str(), row.figures.as_ref()?.due_p99_us)));
    let verdict = verdict_in_words("p99", &costs.collect::<Vec<_>>());
    text.push_str(verdict.as_deref().unwrap_or("nothing was measured"));
    let void: usize = rows.iter().map(|row| row.void_rounds).sum();
    if void > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, "\nnot counted, because the client itself was late: {void} samples");
    }
    if !setting.urgent_client {
        text.push_str("\nthe client may not run before others on its CPU: it may be late");
    }
    if setting.neighbours.disturb() {
        let Neighbours { foreign_cpus, stolen_cpus } = setting.neighbours;
        let _ = write!(
            text,
            "\ndisturbed: other processes used {foreign_cpus:.2} CPUs meanwhile, the hypervisor took \
             {stolen_cpus:.2}"
        );
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let Some(figures) = &row.figures else {
        let why = row.gap.as_deref().unwrap_or("not measured");
        return vec![row.server.clone(), "0".to_owned(), format!("gap: {why}")];
    };
    vec![
        row.server.clone(),
        row.n.to_string(),
        interval(&figures.due_p50_us, 0),
        interval(&figures.due_p99_us, 0),
        interval(&figures.due_p999_us, 0),
        match row.ratio {
            _ if row.baseline.as_ref() == Some(&row.server) => "baseline".to_owned(),
            Some(ratio) => interval(&ratio, 2),
            None => String::new(),
        },
        interval(&figures.cpu_us_per_request, 1),
        format!("{:.1}", figures.late_p99_us.median),
        format!("{}, {}, {}", row.errors, row.unsent, row.unanswered),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::open::POINTS;
    use crate::servers::roster::named;

    fn part(p99_us: &[f64], late: &[u32]) -> Part {
        let sample = |(round, &p99_us): (u32, &f64)| Sample {
            round,
            counts: !late.contains(&round),
            late_p99_us: if late.contains(&round) { 900.0 } else { 5.0 },
            answered: 1000,
            errors: 1,
            unsent: 2,
            unanswered: 3,
            wall_s: 0.8,
            p50_us: p99_us / 10.0,
            p90_us: p99_us / 2.0,
            p99_us,
            p999_us: p99_us * 2.0,
            max_us: p99_us * 3.0,
            cpu_s: 0.02,
            neighbours: Neighbours { foreign_cpus: 0.0, stolen_cpus: 0.0 },
        };
        Ok(("1.0".to_owned(), (1..).zip(p99_us).map(sample).collect()))
    }

    fn found(parts: Vec<(&str, Part)>) -> (Vec<Row>, String) {
        let machine = Machine::look(&std::env::temp_dir()).unwrap();
        let setting = Setting {
            mode: "servers-open",
            machine: &machine,
            neighbours: Neighbours { foreign_cpus: 0.0, stolen_cpus: 0.0 },
            own_network: true,
            urgent_client: true,
            point: &POINTS[0],
        };
        let parts: Vec<_> =
            parts.into_iter().map(|(name, part)| (named(name).unwrap(), part)).collect();
        let rate = Rate { name: "open-4k-at-25".to_owned(), per_second: 3500.0 };
        let rows = condense(&setting, &rate, "servedir: 14000 requests/s", &parts).unwrap();
        let text = table(&rate, &setting, &rows);
        (rows, text)
    }

    #[test]
    fn rounds_in_which_the_client_was_late_are_told_and_in_no_figure() {
        let (rows, text) = found(vec![
            ("nginx-nopush-off", part(&[100.0, 100.0, 100.0, 100.0], &[])),
            ("nginx-nopush-on", part(&[200.0, 200.0, 200.0, 200.0], &[])),
            ("ringwayd", part(&[50.0, 5000.0, 50.0, 50.0], &[2])),
            ("servedir", part(&[1.0, 1.0], &[1, 2])),
        ]);
        assert!(rows.iter().all(|row| row.baseline.as_deref() == Some("nginx-nopush-off")));
        let figures = rows[2].figures.as_ref().unwrap();
        assert_eq!((rows[2].n, rows[2].void_rounds), (3, 1));
        assert!((figures.due_p99_us.median - 50.0).abs() < 1e-9);
        assert!((rows[2].ratio.unwrap().high - 0.5).abs() < 1e-9);
        assert_eq!((rows[2].errors, rows[2].unsent, rows[2].unanswered), (4, 8, 12));
        assert!(rows[3].gap.as_deref().unwrap().contains("late in all of 2 rounds"));
        assert!(text.contains("the client itself was late: 3 samples"), "{text}");
        assert!(text.contains("4, 8, 12"), "{text}");
        assert!(text.contains("least p99: ringwayd"), "{text}");
    }

    #[test]
    fn missing_server_is_a_row_that_says_why_and_rows_come_back_from_json() {
        let missing = Err("not here".to_owned());
        let (rows, text) =
            found(vec![("servedir", missing), ("ringwayd", part(&[1.0 / 3.0], &[]))]);
        assert_eq!(rows[0].gap.as_deref(), Some("not here"));
        assert!(text.contains("gap: not here"), "{text}");
        assert_eq!(rows[1].baseline.as_deref(), Some("ringwayd"));
        for row in rows {
            let line = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
        }
    }
}
