//! Result files as one HTML page that needs nothing else: pictures are inline SVG.

mod page;
mod picture;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

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
    let files: Vec<File> = options.results.iter().map(|path| read(path)).collect::<Result<_>>()?;
    eprintln!("{} files, {} rows", files.len(), files.iter().map(|f| f.rows.len()).sum::<usize>());
    let page = page::render(&files)?;
    std::fs::write(&options.html, page)
        .with_context(|| format!("no writing to {}", options.html.display()))?;
    println!("written to {}", options.html.display());
    Ok(())
}

/// The rows of one result file.
#[derive(Debug)]
struct File {
    name: String,
    rows: Vec<Value>,
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let rows: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is no result file", path.display()))?;
    ensure!(!rows.is_empty(), "{} is empty", path.display());
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(File { name, rows })
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
        for expected in ["<svg", "splice-1m", "sendfile", "hot-1g", "</html>"] {
            assert!(page.contains(expected), "{expected}");
        }
        for outside in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        std::fs::write(&path, "no JSON\n").unwrap();
        assert!(read(&path).is_err());
    }
}
