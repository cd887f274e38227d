//! The page: what may be concluded at a glance, then each file with its machine and its places.

use std::fmt::Write;

use anyhow::Result;
use serde_json::Value;

use super::chart;
use super::point::Place;
use super::{File, escaped};
use crate::any_row::AnyRow;
use crate::results::Row;
use crate::textbook;

/// Colours are from the palette of Okabe and Ito, which most eyes can tell apart.
const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn render(files: &[File]) -> Result<String> {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>What each way of moving a file costs</title>\n<style>\n{STYLE}</style></head><body>\n\
         <svg class=\"defs\" aria-hidden=\"true\"><defs>{PATTERNS}</defs></svg>\n\
         <h1>What each way of moving a file costs</h1>\n\
         <p>Less is better. A bar is the median of interleaved runs, its whisker the 95 % interval; \
         “× 1.20 [1.10–1.30]” is the ratio to the baseline in the same round. Where intervals overlap, no \
         winner is named. GB is 10⁹ bytes of the file; CPU is that of the sender or server alone, all its \
         threads and kernel workers included.</p>\n{}",
        chart::legend()
    );
    for (number, file) in files.iter().enumerate() {
        file_section(&mut page, number, file)?;
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

/// Stripes, for what hue alone would not tell apart.
const PATTERNS: &str = "<pattern id=\"stripes\" width=\"3\" height=\"20\" patternUnits=\"userSpaceOnUse\">\
<rect class=\"under\" width=\"3\" height=\"20\"/><rect class=\"stripe\" width=\"1\" height=\"20\"/></pattern>";

fn file_section(page: &mut String, number: usize, file: &File) -> Result<()> {
    writeln!(
        page,
        "<h2>{}</h2>\n<p class=\"note\">{}</p>\n{}",
        title(file.rows[0].mode()),
        escaped(&file.name),
        machine(&file.rows[0].0["machine"])
    )?;
    if file.rows[0].0["busy_client"] == true {
        page.push_str("<p class=\"note\">The client spins instead of sleeping: no server pays for waking it.</p>\n");
    }
    textbook_section(page, &file.rows)?;
    let places = Place::all(&file.rows);
    page.push_str("<div class=\"wide\"><table class=\"glance\"><tr><th>where</th><th>what is seen</th></tr>\n");
    for (index, place) in places.iter().enumerate() {
        let auto = place.auto().map_or_else(String::new, |auto| {
            let class = if auto.is_fine() { "" } else { " class=\"bad\"" };
            format!("<br><span{class}>{}</span>", escaped(&auto.to_string()))
        });
        writeln!(
            page,
            "<tr><td><a href=\"#p{number}-{index}\">{}</a></td><td>{}{auto}</td></tr>",
            escaped(place.name),
            escaped(&place.verdict())
        )?;
    }
    page.push_str("</table></div>\n");
    for (index, place) in places.iter().enumerate() {
        place.render(page, &format!("p{number}-{index}"))?;
    }
    Ok(())
}

/// What a mode asks, in a few words.
fn title(mode: &str) -> &str {
    match mode {
        "quick" => "Ways of sending, at the most telling points",
        "full" => "Ways of sending, at every point",
        "servers" => "Whole servers",
        "servers-tls" => "Whole servers over TLS",
        "servers-open" => "Whole servers at fixed rates: latency from the intended start",
        "servers-tls-open" => {
            "Whole servers over TLS at fixed rates: latency from the intended start"
        }
        "tls" => "One stream over TLS",
        "filter" => "Filtering on the way",
        "bystander" => "What others on the same loop notice",
        "textbook" => "What textbooks say, and what is",
        "calibrate" => "Where one way becomes cheaper than another",
        _ => "Results",
    }
}

/// Where, when and with what the rows were measured.
fn machine(machine: &Value) -> String {
    let text = |key: &str| escaped(machine[key].as_str().unwrap_or("unknown"));
    let kind = if machine["virtual_machine"] == true { " (virtual machine)" } else { "" };
    let congestion = machine["sysctls"]["net.ipv4.tcp_congestion_control"].as_str();
    format!(
        "<p class=\"note\">{}, {} CPUs{kind}, Linux {}, {}, commit {}, {}; the system's congestion \
         control is {}, CUBIC was asked for.</p>",
        text("cpu_model"),
        machine["cpus"],
        text("kernel"),
        text("data_filesystem"),
        text("commit"),
        text("date"),
        escaped(congestion.unwrap_or("unknown")),
    )
}

fn textbook_section(page: &mut String, rows: &[AnyRow]) -> Result<()> {
    let typed = rows.iter().filter(|row| row.mode() == "textbook");
    let typed: Vec<Row> =
        typed.filter_map(|row| serde_json::from_value(row.0.clone()).ok()).collect();
    if typed.is_empty() {
        return Ok(());
    }
    page.push_str("<h3>The classic table, executed</h3>\n<div class=\"wide\"><table><tr>");
    for head in textbook::HEADS {
        write!(page, "<th>{head}</th>")?;
    }
    page.push_str("</tr>\n");
    for line in textbook::lines(&typed) {
        let cells: String = line.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        writeln!(page, "<tr>{cells}</tr>")?;
    }
    page.push_str("</table></div>\n");
    for gap in textbook::gaps(&typed) {
        writeln!(page, "<p class=\"note\">{}</p>", escaped(&gap))?;
    }
    page.push_str("<p>Where the textbook is wrong:</p>\n<ul>\n");
    for sentence in textbook::corrections(&typed) {
        writeln!(page, "<li>{}</li>", escaped(&sentence))?;
    }
    page.push_str("</ul>\n");
    Ok(())
}
