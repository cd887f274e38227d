//! The comparison for the eye: a table per point, and one for all of them.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use super::point::Point;
use super::rows::Row;
use crate::neighbours::Neighbours;
use crate::point::MIB;
use crate::stats::{Estimate, Verdict, verdict};
use crate::table::interval;

/// The table of one point and the sentences below it.
pub(crate) fn point(point: &Point, rows: &[Row]) -> String {
    let header = [
        "server",
        "n",
        "CPU µs/request",
        "× baseline",
        "user + system",
        "client's",
        "packets",
        "requests/s",
        "p50 / p99 µs",
        "RSS MiB",
    ];
    let mut table = empty(&header.map(str::to_owned));
    for row in rows {
        table.add_row(cells(row));
    }
    align(&mut table);
    let about = |row: &Row| {
        let version = row.version.as_deref().unwrap_or("not here");
        format!("  {}: {} ({version})\n", row.server, row.about)
    };
    let about: String = rows.iter().map(about).collect();
    format!("{}: {}\n{about}\n{table}\n\n{}", point.name, point.about(), conclusion(rows))
}

fn cells(row: &Row) -> Vec<String> {
    let Some(figures) = &row.figures else {
        let why = row.gap.as_deref().unwrap_or("not measured");
        return vec![row.server.clone(), "0".to_owned(), format!("gap: {why}")];
    };
    vec![
        row.server.clone(),
        row.n.to_string(),
        interval(&figures.cpu_us_per_request, 1),
        match row.ratio {
            _ if row.baseline.as_ref() == Some(&row.server) => "baseline".to_owned(),
            Some(ratio) => interval(&ratio, 2),
            None => String::new(),
        },
        format!(
            "{:.1} + {:.1}",
            figures.user_us_per_request.median, figures.system_us_per_request.median
        ),
        figures.client_us_per_request.map_or_else(String::new, |it| format!("{:.1}", it.median)),
        figures.packets_per_request.map_or_else(String::new, |it| format!("{:.1}", it.median)),
        format!("{:.0}", figures.requests_per_s.median),
        format!("{:.0} / {:.0}", figures.latency_p50_us.median, figures.latency_p99_us.median),
        format!("{:.1}", figures.rss_bytes.median / MIB as f64),
    ]
}

/// What the intervals allow one to say about the CPU.
fn conclusion(rows: &[Row]) -> String {
    let measured: Vec<(&str, Estimate)> = rows
        .iter()
        .filter_map(|row| Some((row.server.as_str(), row.figures.as_ref()?.cpu_us_per_request)))
        .collect();
    let costs: Vec<Estimate> = measured.iter().map(|(_, cost)| *cost).collect();
    let mut text = match verdict(&costs) {
        None => "nothing was measured".to_owned(),
        Some(Verdict::Winner(_)) if measured.len() == 1 => {
            "one server: nothing to compare".to_owned()
        }
        Some(Verdict::Winner(index)) => format!("least CPU: {}", measured[index].0),
        Some(Verdict::Tie(near)) => {
            let names: Vec<&str> = near.iter().map(|&index| measured[index].0).collect();
            format!("no winner: the intervals of {} overlap", names.join(", "))
        }
    };
    if let Some(seen) = rows.first().map(|row| row.neighbours).filter(Neighbours::disturb) {
        let Neighbours { foreign_cpus, stolen_cpus } = seen;
        let samples: Vec<_> = rows.iter().flat_map(|row| &row.samples).collect();
        let disturbed = samples.iter().filter(|sample| sample.neighbours.disturb()).count();
        text.push_str(&format!(
            "\ndisturbed: other processes used {foreign_cpus:.2} CPUs meanwhile, the hypervisor took \
             {stolen_cpus:.2}; {disturbed} of {} samples",
            samples.len()
        ));
    }
    let samples = rows.iter().flat_map(|row| &row.samples);
    let mut names = samples.flat_map(|s| [&s.congestion_server, &s.congestion_client]);
    if let Some(other) = names.find(|name| *name != "cubic") {
        text.push_str(&format!(
            "\ncongestion control was {other}, not CUBIC on both sides: pacing may add noise"
        ));
    }
    text
}

/// CPU per request of every server at every point, with the ratio to the better nginx.
pub(crate) fn summary(rows: &[Row]) -> String {
    let mut points: Vec<&str> = rows.iter().map(|row| row.point.as_str()).collect();
    points.dedup();
    let of = |point: &str| rows.iter().filter(|row| row.point == point).collect::<Vec<_>>();
    let Some(first) = points.first() else { return String::new() };
    let names = of(first).into_iter().map(|row| row.server.clone());
    let header: Vec<String> =
        [String::from("CPU µs/request (× better nginx)")].into_iter().chain(names).collect();
    let mut table = empty(&header);
    for point in points {
        let cells = of(point).into_iter().map(|row| match (&row.figures, row.ratio) {
            (Some(figures), _) if row.baseline.as_ref() == Some(&row.server) => {
                format!("{:.1} (1)", figures.cpu_us_per_request.median)
            }
            (Some(figures), Some(ratio)) => {
                format!("{:.1} ({:.2})", figures.cpu_us_per_request.median, ratio.median)
            }
            _ => "gap".to_owned(),
        });
        table.add_row([point.to_owned()].into_iter().chain(cells).collect::<Vec<_>>());
    }
    align(&mut table);
    table.to_string()
}

fn empty(header: &[String]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    table
}

fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::point::POINTS;
    use crate::servers::rows::tests::rows;

    #[test]
    fn gaps_are_named_and_overlaps_have_no_winner() {
        let rows = rows(&[
            ("nginx-nopush-off", Some(&[0.010, 0.014])),
            ("ringwayd", Some(&[0.009, 0.013])),
            ("servedir", None),
        ]);
        let text = point(&POINTS[0], &rows);
        assert!(text.contains("gap: not here"), "{text}");
        assert!(text.contains("no winner: the intervals of nginx-nopush-off, ringwayd"), "{text}");
        let text = summary(&rows);
        assert!(text.contains("12.0 (1)") && text.contains("gap"), "{text}");
    }

    #[test]
    fn clear_difference_has_a_winner() {
        let rows = rows(&[
            ("nginx-nopush-off", Some(&[0.0100, 0.0101, 0.0100, 0.0101])),
            ("ringwayd", Some(&[0.0060, 0.0061, 0.0060, 0.0061])),
        ]);
        assert!(point(&POINTS[0], &rows).ends_with("least CPU: ringwayd"));
    }
}
