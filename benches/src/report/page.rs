//! The page: the machine, then each file's points with a picture and a table.

use std::fmt::Write;

use anyhow::Result;
use serde_json::Value;

use super::File;
use super::picture::{self, Bar};
use crate::results::Row;
use crate::stats::Estimate;
use crate::textbook;

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;\
color:#222}h1,h2,h3{line-height:1.2}table{border-collapse:collapse;font-size:13px;margin:1em 0}\
td,th{border:1px solid #ccc;padding:2px 7px;text-align:right}td:first-child,th:first-child\
{text-align:left}.note{color:#555}svg{max-width:100%;height:auto}";

/// The whole page.
pub(super) fn render(files: &[File]) -> Result<String> {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>What each way of \
         moving a file costs</title><style>{STYLE}</style></head><body>\n<h1>What each way of moving a \
         file costs</h1>\n<p class=\"note\">Medians with 95 % bootstrap intervals of interleaved runs; \
         less is better. Where intervals overlap nothing may be said. GB is 10⁹ bytes of the file, CPU \
         is that of the sender or server alone.</p>\n"
    );
    for file in files {
        file_section(&mut page, file)?;
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

fn file_section(page: &mut String, file: &File) -> Result<()> {
    writeln!(page, "<h2>{}</h2>\n{}", escaped(&file.name), machine(&file.rows[0]["machine"]))?;
    textbook_section(page, &file.rows)?;
    let mut points: Vec<&str> = Vec::new();
    for row in &file.rows {
        let point = row["point"].as_str().or(row["scene"].as_str()).unwrap_or("other");
        if !points.contains(&point) {
            points.push(point);
        }
    }
    for point in points {
        let of_point = |row: &&Value| row["point"] == point || row["scene"] == point;
        let rows: Vec<&Value> = file.rows.iter().filter(of_point).collect();
        point_section(page, point, &rows)?;
    }
    Ok(())
}

/// Where, when and with what the rows were measured.
fn machine(machine: &Value) -> String {
    let text = |key: &str| escaped(machine[key].as_str().unwrap_or("unknown"));
    let kind = if machine["virtual_machine"] == true { " (virtual machine)" } else { "" };
    format!(
        "<p>{}, {} CPUs{kind}, Linux {}, {}, commit {}, {}; the system's congestion control is {}, \
         CUBIC was asked for.</p>",
        text("cpu_model"),
        machine["cpus"],
        text("kernel"),
        text("data_filesystem"),
        text("commit"),
        text("date"),
        escaped(
            machine["sysctls"]["net.ipv4.tcp_congestion_control"].as_str().unwrap_or("unknown")
        ),
    )
}

fn point_section(page: &mut String, point: &str, rows: &[&Value]) -> Result<()> {
    let about = rows[0]["point_about"].as_str().unwrap_or_default();
    writeln!(page, "<h3>{}</h3>\n<p>{}</p>", escaped(point), escaped(about))?;
    for (unit, pick) in PICTURES {
        let bars: Vec<Bar> = rows.iter().filter_map(|row| bar(row, pick(row))).collect();
        if !bars.is_empty() {
            writeln!(page, "{}", picture::bars(unit, &bars)?)?;
        }
    }
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(_, pick)| rows.iter().any(|row| pick(row).is_some())).collect();
    page.push_str("<table><tr><th></th><th>n</th>");
    for (head, _) in &columns {
        write!(page, "<th>{head}</th>")?;
    }
    page.push_str("</tr>\n");
    for row in rows {
        write!(
            page,
            "<tr><td title=\"{}\">{}</td>",
            escaped(about_of(row)),
            escaped(name_of(row))
        )?;
        if let Some(gap) = row["gap"].as_str() {
            write!(page, "<td>0</td><td colspan=\"{}\">gap: {}</td>", columns.len(), escaped(gap))?;
        } else {
            write!(page, "<td>{}</td>", row["n"])?;
            for (_, pick) in &columns {
                write!(page, "<td>{}</td>", pick(row).unwrap_or_default())?;
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
    if let Some(foreign) = rows[0]["neighbours"]["foreign_cpus"].as_f64().filter(|&cpus| cpus > 0.1)
    {
        writeln!(page, "<p class=\"note\">Other processes used {foreign:.2} CPUs meanwhile.</p>")?;
    }
    Ok(())
}

type Pick<T> = fn(&Value) -> Option<T>;

/// What is drawn, where a row has it.
const PICTURES: &[(&str, Pick<Estimate>)] = &[
    ("CPU-s/GB", |row| match row["figures"]["cpu_us_per_request"].is_null() {
        true => estimate(&row["figures"]["cpu_s_per_gb"]),
        false => None,
    }),
    ("CPU µs per request", |row| estimate(&row["figures"]["cpu_us_per_request"])),
    ("p99 disturbed ÷ quiet", |row| estimate(&row["p99_ratio"])),
];

/// What is tabled, where a row has it.
const COLUMNS: &[(&str, Pick<String>)] = &[
    ("CPU-s/GB", |row| shown(&row["figures"]["cpu_s_per_gb"], 3)),
    ("CPU µs/request", |row| shown(&row["figures"]["cpu_us_per_request"], 1)),
    ("× baseline", |row| shown(&row["ratio"], 2)),
    ("GB/s", |row| shown(&row["figures"]["goodput_gb_per_s"], 2)),
    ("requests/s", |row| shown(&row["figures"]["requests_per_s"], 0)),
    ("io-wq share", |row| shown(&row["figures"]["io_wq_share"], 2)),
    ("syscalls/GB", |row| number(&row["counted_per_gb"]["syscalls"])),
    ("switches/GB", |row| number(&row["counted_per_gb"]["context_switches"])),
    ("faults/GB", |row| shown(&row["figures"]["minor_faults_per_gb"], 0)),
    ("copies", |row| {
        let copies = row["copies"]["per_byte"].as_f64()?;
        let derived = if row["copies"]["counted"] == true { "" } else { " (derived)" };
        Some(format!("{copies:.2}{derived}"))
    }),
    ("peak MiB", |row| {
        let peak = estimate(&row["figures"]["resident_peak_bytes"])?;
        Some(format!("{:.1}", peak.median / 1_048_576.0))
    }),
    ("first byte p50 µs", |row| shown(&row["figures"]["first_byte_p50_us"], 0)),
    ("p50 µs", |row| shown(&row["figures"]["latency_p50_us"], 0)),
    ("p99 µs", |row| shown(&row["figures"]["latency_p99_us"], 0)),
    ("p99.9 µs", |row| shown(&row["figures"]["latency_p999_us"], 0)),
    ("quiet p50 µs", |row| shown(&row["quiet_p50_us"], 0)),
    ("quiet p99 µs", |row| shown(&row["quiet_p99_us"], 0)),
    ("disturbed p50 µs", |row| shown(&row["disturbed_p50_us"], 0)),
    ("disturbed p99 µs", |row| shown(&row["disturbed_p99_us"], 0)),
    ("p99 disturbed ÷ quiet", |row| shown(&row["p99_ratio"], 2)),
];

fn textbook_section(page: &mut String, rows: &[Value]) -> Result<()> {
    let typed = rows.iter().filter(|row| row["mode"] == "textbook");
    let typed: Vec<Row> =
        typed.filter_map(|row| serde_json::from_value(row.clone()).ok()).collect();
    if typed.is_empty() {
        return Ok(());
    }
    page.push_str("<h3>The classic table, executed</h3>\n<table><tr>");
    for head in textbook::HEADS {
        write!(page, "<th>{head}</th>")?;
    }
    page.push_str("</tr>\n");
    for line in textbook::lines(&typed) {
        let cells: String = line.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        writeln!(page, "<tr>{cells}</tr>")?;
    }
    page.push_str("</table>\n<p>Where the textbook is wrong:</p>\n<ul>\n");
    for sentence in textbook::corrections(&typed) {
        writeln!(page, "<li>{}</li>", escaped(&sentence))?;
    }
    page.push_str("</ul>\n");
    Ok(())
}

fn name_of(row: &Value) -> &str {
    row["arm"].as_str().or(row["server"].as_str()).unwrap_or("?")
}

fn about_of(row: &Value) -> &str {
    row["about"].as_str().unwrap_or_default()
}

fn bar(row: &Value, value: Option<Estimate>) -> Option<Bar> {
    let name = name_of(row).to_owned();
    let baseline = row["baseline"].as_str() == Some(&name);
    Some(Bar { name, value: value?, baseline })
}

fn estimate(value: &Value) -> Option<Estimate> {
    serde_json::from_value(value.clone()).ok()
}

fn shown(value: &Value, digits: usize) -> Option<String> {
    estimate(value).map(|it| crate::table::interval(&it, digits))
}

fn number(value: &Value) -> Option<String> {
    value.as_f64().map(|it| format!("{it:.0}"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
