//! What was measured in one place: what may be concluded, a chart, and a table of all figures.

use std::fmt::Write;

use anyhow::Result;
use serde_json::Value;

use super::chart::{self, Bar, Kind};
use super::escaped;
use crate::any_row::AnyRow;
use crate::auto::Auto;
use crate::results::Row;
use crate::stats::{Estimate, verdict_in_words};

/// Where rows stand side by side.
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) rows: Vec<&'a AnyRow>,
}

impl<'a> Place<'a> {
    /// Those of a file, in its order.
    pub(super) fn all(rows: &'a [AnyRow]) -> Vec<Self> {
        let mut places: Vec<Self> = Vec::new();
        for row in rows {
            let name = row.place().unwrap_or("other");
            match places.iter_mut().find(|place| place.name == name) {
                Some(place) => place.rows.push(row),
                None => places.push(Self { name, rows: vec![row] }),
            }
        }
        places
    }

    /// Which needs the least, or that none does.
    pub(super) fn verdict(&self) -> String {
        let costs = self.rows.iter().filter_map(|row| {
            let name = row.name()?;
            // What does not do all of the work is no competitor.
            let competes = Kind::of(row.mode(), name, false) != Kind::Floor;
            competes.then_some((name, row.cost()?.value))
        });
        let open = self.rows.iter().any(|row| row.estimate(&["figures", "due_p99_us"]).is_some());
        let what = if open { "p99" } else { "CPU" };
        let verdict = verdict_in_words(what, &costs.collect::<Vec<_>>());
        let bystander = self.rows.iter().any(|row| row.mode() == "bystander");
        match verdict {
            Some(_) if bystander => self.of_bystanders(),
            Some(verdict) => verdict,
            None => "nothing was measured".to_owned(),
        }
    }

    fn of_bystanders(&self) -> String {
        let said = self.rows.iter().filter_map(|row| {
            let (name, ratio) = (row.name()?, row.ratio()?);
            let word = match ratio {
                Estimate { low, .. } if low > 1.0 => "is disturbed",
                Estimate { high, .. } if high < 1.0 => "is even faster",
                _ => "shows no difference",
            };
            Some(format!("{name} {word} (p99 × {})", crate::table::interval(&ratio, 2)))
        });
        said.collect::<Vec<_>>().join("; ")
    }

    /// Which ways `Auto` went, how often.
    fn chosen(&self) -> String {
        let is_auto = |row: &&&AnyRow| row.name().is_some_and(|it| it.ends_with("ringway-auto"));
        let ways = self.rows.iter().filter(is_auto).filter_map(|row| row.0["ways"].as_object());
        let line = |(way, times): (&String, &Value)| {
            format!("<br><span class=\"note\">{times} × {}</span>", escaped(way))
        };
        ways.flatten().map(line).collect()
    }

    /// What `Auto` cost beside the best forced route, where both were measured.
    pub(super) fn auto(&self) -> Option<Auto> {
        let typed = self.rows.iter().filter_map(|row| serde_json::from_value(row.0.clone()).ok());
        Auto::of(&typed.collect::<Vec<Row>>())
    }

    pub(super) fn render(&self, page: &mut String, id: &str) -> Result<()> {
        let first = self.rows[0];
        writeln!(page, "<section id=\"{id}\"><h3>{}</h3>", escaped(self.name))?;
        let about = first.text("point_about");
        if !about.is_empty() {
            writeln!(page, "<p>{}</p>", escaped(about))?;
        }
        writeln!(page, "<p class=\"verdict\">{}</p>", escaped(&self.verdict()))?;
        if let Some(auto) = self.auto() {
            writeln!(page, "<p>{}{}</p>", escaped(&auto.to_string()), self.chosen())?;
        }
        self.charts(page);
        for row in &self.rows {
            if let (Some(name), Some(gap)) = (row.name(), row.0["gap"].as_str()) {
                let name = escaped(name);
                writeln!(page, "<p class=\"note\"><b>{name}</b> — gap: {}</p>", escaped(gap))?;
            }
        }
        if let Some(foreign) = first.0["neighbours"]["foreign_cpus"].as_f64().filter(|it| *it > 0.1)
        {
            writeln!(
                page,
                "<p class=\"note\">Disturbed: other processes used {foreign:.2} CPUs meanwhile.</p>"
            )?;
        }
        self.table(page)?;
        page.push_str("</section>\n");
        Ok(())
    }

    /// One chart for each unit that the rows have.
    fn charts(&self, page: &mut String) {
        let mut units: Vec<&str> = Vec::new();
        for cost in self.rows.iter().filter_map(|row| row.cost()) {
            if !units.contains(&cost.unit) {
                units.push(cost.unit);
            }
        }
        for unit in units {
            let of_unit = |row: &&&AnyRow| row.cost().is_some_and(|cost| cost.unit == unit);
            let bars: Vec<Bar> =
                self.rows.iter().filter(of_unit).filter_map(|row| bar(row)).collect();
            page.push_str(&chart::bars(unit, &bars));
        }
    }

    fn table(&self, page: &mut String) -> Result<()> {
        let shown = |(_, pick): &&(&str, Pick)| self.rows.iter().any(|row| pick(row).is_some());
        let columns: Vec<_> = COLUMNS.iter().filter(shown).collect();
        page.push_str("<details><summary>all figures</summary><div class=\"wide\"><table><tr><th></th><th>n</th>");
        for (head, _) in &columns {
            write!(page, "<th>{head}</th>")?;
        }
        page.push_str("</tr>\n");
        for row in self.rows.iter().filter(|row| row.0["gap"].is_null()) {
            let name = escaped(row.name().unwrap_or("?"));
            write!(page, "<tr><td>{name}</td><td>{}</td>", row.0["n"])?;
            for (_, pick) in &columns {
                write!(page, "<td>{}</td>", pick(row).unwrap_or_default())?;
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</table>\n<dl>");
        for row in &self.rows {
            let (name, about) = (row.name().unwrap_or("?"), row.text("about"));
            if !about.is_empty() {
                write!(page, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(about))?;
            }
        }
        page.push_str("</dl></div></details>\n");
        Ok(())
    }
}

fn bar(row: &AnyRow) -> Option<Bar> {
    let name = row.name()?.to_owned();
    let baseline = row.text("baseline") == name;
    Some(Bar {
        about: row.text("about").to_owned(),
        value: row.cost()?.value,
        ratio: row.ratio(),
        kind: Kind::of(row.mode(), &name, baseline),
        name,
    })
}

type Pick = fn(&AnyRow) -> Option<String>;

/// What is tabled, where a row has it.
const COLUMNS: &[(&str, Pick)] = &[
    ("CPU-s/GB", |row| figure(row, "cpu_s_per_gb", 3)),
    ("CPU-s/GB scanned", |row| figure(row, "cpu_s_per_gb_scanned", 3)),
    ("CPU µs/request", |row| figure(row, "cpu_us_per_request", 1)),
    ("× baseline", |row| shown(row.estimate(&["ratio"]), 2)),
    ("GB/s", |row| figure(row, "goodput_gb_per_s", 2)),
    ("wall s/GB", |row| figure(row, "wall_s_per_gb", 3)),
    ("requests/s", |row| figure(row, "requests_per_s", 0)),
    ("user share", |row| figure(row, "user_share", 2)),
    ("io-wq share", |row| figure(row, "io_wq_share", 2)),
    ("syscalls/GB", |row| number(&row.0["counted_per_gb"]["syscalls"])),
    ("switches/GB", |row| number(&row.0["counted_per_gb"]["context_switches"])),
    ("minor faults/GB", |row| figure(row, "minor_faults_per_gb", 0)),
    ("major faults/GB", |row| figure(row, "major_faults_per_gb", 0)),
    ("copies", |row| {
        let copies = row.0["copies"]["per_byte"].as_f64()?;
        let counted = row.0["copies"]["counted"] == true;
        Some(format!("{copies:.2} {}", if counted { "counted" } else { "derived" }))
    }),
    ("ZC sends copied", |row| {
        let copies = &row.0["copies"];
        let sends = copies["zero_copy_sends"].as_u64().filter(|sends| *sends > 0)?;
        Some(format!("{} of {sends}", copies["zero_copy_copied"]))
    }),
    ("peak MiB", |row| {
        let peak = row.estimate(&["figures", "resident_peak_bytes"])?;
        Some(format!("{:.1}", peak.median / 1_048_576.0))
    }),
    ("first byte p50 µs", |row| figure(row, "first_byte_p50_us", 0)),
    ("first byte p99 µs", |row| figure(row, "first_byte_p99_us", 0)),
    ("p50 µs", |row| figure(row, "latency_p50_us", 0)),
    ("p90 µs", |row| figure(row, "latency_p90_us", 0)),
    ("p99 µs", |row| figure(row, "latency_p99_us", 0)),
    ("p99.9 µs", |row| figure(row, "latency_p999_us", 0)),
    ("offered/s", |row| number(&row.0["offered_per_s"])),
    ("p50 µs from due", |row| figure(row, "due_p50_us", 0)),
    ("p99 µs from due", |row| figure(row, "due_p99_us", 0)),
    ("p99.9 µs from due", |row| figure(row, "due_p999_us", 0)),
    ("client late p99 µs", |row| figure(row, "late_p99_us", 1)),
    ("errors", |row| number(&row.0["errors"])),
    ("unsent", |row| number(&row.0["unsent"])),
    ("unanswered", |row| number(&row.0["unanswered"])),
    ("rounds not counted", |row| number(&row.0["void_rounds"])),
    ("quiet p50 µs", |row| figure(row, "quiet_p50_us", 0)),
    ("quiet p99 µs", |row| figure(row, "quiet_p99_us", 0)),
    ("disturbed p50 µs", |row| figure(row, "disturbed_p50_us", 0)),
    ("disturbed p99 µs", |row| figure(row, "disturbed_p99_us", 0)),
    ("p99 disturbed ÷ quiet", |row| figure(row, "p99_ratio", 2)),
];

/// Among the figures, or in the row itself.
fn figure(row: &AnyRow, key: &str, digits: usize) -> Option<String> {
    shown(row.estimate(&["figures", key]).or_else(|| row.estimate(&[key])), digits)
}

fn shown(estimate: Option<Estimate>, digits: usize) -> Option<String> {
    estimate.map(|it| crate::table::interval(&it, digits))
}

fn number(value: &Value) -> Option<String> {
    value.as_f64().map(|it| format!("{it:.0}"))
}
