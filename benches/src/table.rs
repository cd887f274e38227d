//! The results for the eye: one table per point, and below it what may be concluded. A table is Markdown,
//! so that it can be quoted as it is.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::machine::Machine;
use crate::neighbours::Neighbours;
use crate::point::{Point, Shape};
use crate::results::Row;
use crate::stats::{Estimate, Verdict, verdict};

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
    let exchange = matches!(point.shape, Shape::Exchange { .. });
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let mut header = vec!["arm", "n", "CPU-s/GB"];
    if exchange {
        header.push("CPU µs/request");
    }
    header.extend(["× baseline", "GB/s", "off main", "switches/GB", "faults/GB"]);
    if exchange {
        header.push("p50 / p99 µs");
    }
    table.set_header(header);
    for row in rows {
        table.add_row(cells(row, exchange));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let about: String = rows.iter().map(|row| format!("  {}: {}\n", row.arm, row.about)).collect();
    format!("{}: {}\n{about}\n{table}\n\n{}", point.name, point.about, conclusion(rows))
}

fn cells(row: &Row, exchange: bool) -> Vec<String> {
    let figures = &row.figures;
    let mut cells = vec![row.arm.clone(), row.n.to_string(), interval(&figures.cpu_s_per_gb, 3)];
    if exchange {
        cells.push(figures.cpu_us_per_request.map_or_else(String::new, |it| interval(&it, 1)));
    }
    let ratio =
        if row.arm == row.baseline { "baseline".to_owned() } else { interval(&row.ratio, 2) };
    let switches =
        figures.voluntary_switches_per_gb.median + figures.involuntary_switches_per_gb.median;
    let faults = figures.minor_faults_per_gb.median + figures.major_faults_per_gb.median;
    cells.extend([
        ratio,
        format!("{:.2}", figures.goodput_gb_per_s.median),
        format!("{:.0} %", figures.off_main_share.median * 100.0),
        format!("{switches:.0}"),
        format!("{faults:.0}"),
    ]);
    if let (Some(p50), Some(p99)) = (figures.latency_p50_us, figures.latency_p99_us) {
        cells.push(format!("{:.0} / {:.0}", p50.median, p99.median));
    }
    cells
}

/// A median and its 95 % interval.
pub(crate) fn interval(estimate: &Estimate, digits: usize) -> String {
    let Estimate { median, low, high } = estimate;
    format!("{median:.digits$} [{low:.digits$}–{high:.digits$}]")
}

/// What the intervals allow one to say about the CPU.
fn conclusion(rows: &[Row]) -> String {
    let costs: Vec<Estimate> = rows.iter().map(|row| row.figures.cpu_s_per_gb).collect();
    let Some(verdict) = verdict(&costs) else { return "nothing was measured".to_owned() };
    let mut text = match verdict {
        Verdict::Winner(_) if rows.len() == 1 => "one arm: nothing to compare".to_owned(),
        Verdict::Winner(index) => format!("least CPU: {}", rows[index].arm),
        Verdict::Tie(near) => {
            let names: Vec<&str> = near.iter().map(|&index| rows[index].arm.as_str()).collect();
            format!("no winner: the intervals of {} overlap", names.join(", "))
        }
    };
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
