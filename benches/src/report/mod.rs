//! Result files as one HTML page that needs nothing else: no script, no font, no picture from outside.

mod chart;
mod page;
mod point;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::any_row::AnyRow;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Result files: JSON lines of any mode.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    html: PathBuf,
}

/// Reads, draws and writes.
///
/// # Errors
///
/// A file is no result file, or the page cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut files = Vec::new();
    for path in &options.results {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        files.push(File { name, rows: AnyRow::read(path)? });
    }
    eprintln!("{} files, {} rows", files.len(), files.iter().map(|f| f.rows.len()).sum::<usize>());
    std::fs::write(&options.html, page::render(&files)?)
        .with_context(|| format!("no writing to {}", options.html.display()))?;
    println!("written to {}", options.html.display());
    Ok(())
}

/// The rows of one result file.
#[derive(Debug)]
struct File {
    name: String,
    rows: Vec<AnyRow>,
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results;

    #[test]
    fn page_holds_every_row_and_refers_to_nothing_outside() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [
            results::tests::row("splice-1m", &[0.3, 0.31], None),
            results::tests::row("sendfile", &[0.4, 0.41], None),
        ];
        let path = results::write(directory.path(), "quick", &rows[0].machine, &rows).unwrap();
        let html = directory.path().join("report.html");
        run(&Options { results: vec![path.clone()], html: html.clone() }).unwrap();
        let page = std::fs::read_to_string(html).unwrap();
        for expected in ["<svg", "splice-1m", "sendfile", "hot-1g", "CPU seconds per GB", "</html>"]
        {
            assert!(page.contains(expected), "{expected}");
        }
        let within = page.replace("url(#", "").replace("href=\"#", "");
        for outside in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!within.contains(outside), "{outside}");
        }
        std::fs::write(&path, "no JSON\n").unwrap();
        assert!(AnyRow::read(&path).is_err());
    }

    #[test]
    fn rows_of_every_mode_have_a_chart() {
        let estimate = r#"{"median":2.0,"low":1.0,"high":3.0}"#;
        let rows = [
            r#"{"mode":"filter","pattern":"p1","arm":"a1","n":3,"cpu_s_per_gb_scanned":@}"#,
            r#"{"mode":"tls","suite":"p2","arm":"a2","n":3,"cpu_s_per_gb":@}"#,
            r#"{"mode":"servers-tls","point":"p3","server":"a3","n":3,"cpu_us_per_request":@}"#,
            r#"{"mode":"bystander","scene":"p4","server":"a4","n":3,"disturbed_p99_us":@}"#,
            r#"{"mode":"quick","point":"p5","arm":"a5","gap":"not <built>","n":0}"#,
        ];
        let row = |text: &&str| AnyRow(serde_json::from_str(&text.replace('@', estimate)).unwrap());
        let file = File { name: "all".to_owned(), rows: rows.iter().map(row).collect() };
        let page = page::render(&[file]).unwrap();
        for number in 1..=5 {
            assert!(page.contains(&format!(">p{number}<")), "p{number}: {page}");
            assert!(page.contains(&format!(">a{number}")), "a{number}: {page}");
        }
        assert_eq!(page.matches("class=\"axis\"").count(), 4, "a gap has no chart");
        assert!(page.contains("gap: not &lt;built&gt;"));
    }
}
