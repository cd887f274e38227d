//! The results for the eye: one table per point, and below it what may be concluded. A table is Markdown,
//! so that it can be quoted as it is.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::auto::Auto;
use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::point::{Kind, MIB, Point};
use crate::results::{Copies, Row};
use crate::stats::{Estimate, verdict_in_words};

/// The facts above all tables.
pub(crate) fn heading(machine: &Machine) -> String {
    let commit = machine.commit.as_deref().unwrap_or("unknown");
    let kind = if machine.virtual_machine { "virtual machine, " } else { "" };
    format!(
        "{}, {}{} CPUs, Linux {}, {}, commit {commit}\nsender on CPU {}, receiver on CPU {}, load {:.2} before the run, {}",
        machine.cpu_model,
        kind,
        machine.cpus,
        machine.kernel,
        machine.data_filesystem,
        machine.sender_cpu,
        machine.receiver_cpu,
        machine.load_average,
        machine.date,
    )
}

/// The table of one point and the sentence below it.
pub(crate) fn point(point: &Point, rows: &[Row]) -> String {
    let exchange = point.kind() == Kind::Exchange;
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let mut header = vec!["arm", "n", "CPU-s/GB"];
    if exchange {
        header.push("CPU µs/request");
    }
    header.extend(["× baseline", "GB/s", "io-wq", "syscalls/GB", "switches/GB", "faults/GB"]);
    header.extend(["copies", "peak MiB", "first byte µs"]);
    header.push(if exchange { "p50 / p99 / p99.9 µs" } else { "whole ms" });
    table.set_header(header);
    for row in rows {
        table.add_row(cells(row, exchange));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let about: String = rows.iter().map(|row| format!("  {}: {}\n", row.arm, row.about)).collect();
    format!("{}: {}\n{about}\n{table}\n\n{}", point.name, point.about(), conclusion(rows))
}

fn cells(row: &Row, exchange: bool) -> Vec<String> {
    let Some(figures) = &row.figures else {
        let why = row.gap.as_deref().unwrap_or("not measured");
        return vec![row.arm.clone(), "0".to_owned(), format!("gap: {why}")];
    };
    let mut cells = vec![row.arm.clone(), row.n.to_string(), interval(&figures.cpu_s_per_gb, 3)];
    if exchange {
        cells.push(figures.cpu_us_per_request.map_or_else(String::new, |it| interval(&it, 1)));
    }
    let ratio = match row.ratio {
        _ if row.arm == row.baseline => "baseline".to_owned(),
        ratio => ratio.map_or_else(String::new, |ratio| interval(&ratio, 2)),
    };
    let switches =
        figures.voluntary_switches_per_gb.median + figures.involuntary_switches_per_gb.median;
    let faults = figures.minor_faults_per_gb.median + figures.major_faults_per_gb.median;
    let syscalls = row.counted_per_gb.map(|counted| format!("{:.0}", counted.syscalls));
    cells.extend([
        ratio,
        format!("{:.2}", figures.goodput_gb_per_s.median),
        format!("{:.0} %", figures.io_wq_share.median * 100.0),
        syscalls.unwrap_or_else(|| "not counted".to_owned()),
        format!("{switches:.0}"),
        format!("{faults:.0}"),
        row.copies.map_or_else(String::new, copies),
        format!("{:.1}", figures.resident_peak_bytes.median / MIB as f64),
        format!("{:.0}", figures.first_byte_p50_us.median),
    ]);
    let [p50, p99, p999] =
        [figures.latency_p50_us, figures.latency_p99_us, figures.latency_p999_us]
            .map(|it| it.median);
    cells.push(match exchange {
        true => format!("{p50:.0} / {p99:.0} / {p999:.0}"),
        false => format!("{:.1}", p50 / 1000.0),
    });
    cells
}

/// How often each byte was copied: counted, or derived and marked so.
fn copies(copies: Copies) -> String {
    let mark = if copies.counted { "" } else { " (derived)" };
    let zero_copy = match copies.zero_copy_sends {
        0 => String::new(),
        sends => format!(", ZC {} of {sends} copied", copies.zero_copy_copied),
    };
    format!("{:.2}{mark}{zero_copy}", copies.per_byte)
}

/// A median and its 95 % interval.
pub(crate) fn interval(estimate: &Estimate, digits: usize) -> String {
    let Estimate { median, low, high } = estimate;
    format!("{median:.digits$} [{low:.digits$}–{high:.digits$}]")
}

/// What the intervals allow one to say about the CPU.
fn conclusion(rows: &[Row]) -> String {
    // The floor moves no file: it is no competitor.
    let measured: Vec<(&str, Estimate)> = rows
        .iter()
        .filter(|row| !row.arm.ends_with("floor"))
        .filter_map(|row| Some((row.arm.as_str(), row.figures.as_ref()?.cpu_s_per_gb)))
        .collect();
    let Some(mut text) = verdict_in_words("CPU", &measured) else {
        return "nothing was measured".to_owned();
    };
    if let Some(auto) = Auto::of(rows) {
        text.push_str(&format!("\n{auto}"));
    }
    // A forced route goes one way; what was chosen is worth a line.
    for row in rows.iter().filter(|row| row.arm.ends_with("ringway-auto")) {
        for (way, times) in &row.ways {
            text.push_str(&format!("\n  {times} × {way}"));
        }
    }
    if let Some(seen) = rows.first().map(|row| row.neighbours).filter(Neighbours::disturb) {
        let Neighbours { foreign_cpus, stolen_cpus } = seen;
        text.push_str(&format!(
            "\ndisturbed: other processes used {foreign_cpus:.2} CPUs meanwhile, the hypervisor took {stolen_cpus:.2}"
        ));
    }
    if let Some(other) = not_cubic(rows) {
        text.push_str(&format!(
            "\ncongestion control was {other}, not CUBIC: pacing may add noise"
        ));
    }
    text
}

fn not_cubic(rows: &[Row]) -> Option<&str> {
    let samples = rows.iter().flat_map(|row| &row.samples);
    let mut names = samples.flat_map(|s| [&s.congestion_sender, &s.congestion_receiver]);
    names.find(|name| *name != "cubic").map(String::as_str)
}
