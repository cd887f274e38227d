//! Two result files side by side: what became dearer, what cheaper, and what cannot be told apart.
//!
//! Rows are read as plain JSON, so that files of older harnesses can be compared as far as they have the
//! same figures.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;

use crate::stats::Estimate;
use crate::table::interval;

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The result file that came first.
    before: PathBuf,
    /// The result file that is judged.
    after: PathBuf,
    /// What is compared: by default what does not change when the whole machine drifts.
    #[arg(long, value_enum, default_value_t = By::Ratio)]
    by: By,
    /// End with a failure if anything became dearer.
    #[arg(long)]
    fail_on_regression: bool,
}

/// A figure of which less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// CPU per byte or per request; of bystanders the p99.
    Cost,
    /// The same to the baseline of its own run.
    Ratio,
}

/// Reads, tells, and fails if it was asked to.
///
/// # Errors
///
/// A file is no result file, the files have no row in common, or there is a regression that shall fail.
pub(crate) fn run(options: &Options) -> Result<()> {
    let before = rows(&options.before, options.by)?;
    let after = rows(&options.after, options.by)?;
    let comparison = Comparison::of(&before, &after);
    if comparison.pairs.is_empty() {
        bail!("these files have no row in common");
    }
    println!("{}", comparison.text());
    if options.fail_on_regression && comparison.judged(Judgement::Dearer).next().is_some() {
        bail!("something became dearer");
    }
    Ok(())
}

/// A row that is compared: its name, which is the same in both files, and its figure.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    cost: Estimate,
}

/// What two intervals allow one to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Dearer,
    Cheaper,
    Same,
}

#[derive(Debug, Default)]
struct Comparison {
    pairs: Vec<(Row, Row)>,
    only_before: Vec<String>,
    only_after: Vec<String>,
}

impl Comparison {
    fn of(before: &[Row], after: &[Row]) -> Self {
        let find = |rows: &[Row], name: &str| rows.iter().find(|row| row.name == name).cloned();
        let mut comparison = Self::default();
        for row in before {
            match find(after, &row.name) {
                Some(other) => comparison.pairs.push((row.clone(), other)),
                None => comparison.only_before.push(row.name.clone()),
            }
        }
        let new = after.iter().filter(|row| find(before, &row.name).is_none());
        comparison.only_after = new.map(|row| row.name.clone()).collect();
        comparison
    }

    fn judged(&self, as_: Judgement) -> impl Iterator<Item = &(Row, Row)> {
        self.pairs.iter().filter(move |(before, after)| judge(before, after) == as_)
    }

    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["row", "before", "after", "after ÷ before", ""]);
        for (before, after) in &self.pairs {
            let word = match judge(before, after) {
                Judgement::Dearer => "dearer",
                Judgement::Cheaper => "cheaper",
                Judgement::Same => "",
            };
            let ratio = after.cost.median / before.cost.median;
            table.add_row([
                before.name.clone(),
                interval(&before.cost, 3),
                interval(&after.cost, 3),
                format!("{ratio:.2}"),
                word.to_owned(),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let all = self.pairs.len();
        let same = self.judged(Judgement::Same).count();
        let share = same as f64 / all as f64 * 100.0;
        let mut text =
            format!("{table}\n\nthe intervals of {same} of {all} rows overlap: {share:.0} %");
        for (word, as_) in [("dearer", Judgement::Dearer), ("cheaper", Judgement::Cheaper)] {
            for (before, after) in self.judged(as_) {
                let change = (after.cost.median / before.cost.median - 1.0) * 100.0;
                // Writing to a String does not fail.
                let _ = write!(text, "\n{word}: {} by {change:+.0} %", before.name);
            }
        }
        for (which, names) in [("first", &self.only_before), ("second", &self.only_after)] {
            if !names.is_empty() {
                let _ = write!(text, "\nonly in the {which}: {}", names.join(", "));
            }
        }
        text
    }
}

/// Only what the intervals show is named.
fn judge(before: &Row, after: &Row) -> Judgement {
    if before.cost.overlaps(&after.cost) {
        Judgement::Same
    } else if after.cost.median > before.cost.median {
        Judgement::Dearer
    } else {
        Judgement::Cheaper
    }
}

/// The rows of a result file that have a figure; gaps have none.
fn rows(path: &Path, by: By) -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let mut rows = Vec::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line)
            .with_context(|| format!("{} is no result file", path.display()))?;
        rows.extend(row(&value, by));
    }
    Ok(rows)
}

fn row(value: &Value, by: By) -> Option<Row> {
    let name = |keys: [&str; 2]| -> Option<String> {
        Some(format!("{} {}", value[keys[0]].as_str()?, value[keys[1]].as_str()?))
    };
    let name = name(["point", "arm"])
        .or_else(|| name(["point", "server"]))
        .or_else(|| name(["scene", "server"]))?;
    let figures = &value["figures"];
    let candidates = match by {
        By::Cost => vec![
            &figures["cpu_s_per_gb"],
            &figures["cpu_us_per_request"],
            &value["disturbed_p99_us"],
        ],
        By::Ratio => vec![&value["ratio"], &value["p99_ratio"]],
    };
    let estimate = |value: &&Value| serde_json::from_value::<Estimate>((*value).clone()).ok();
    let cost = candidates.iter().find_map(estimate)?;
    Some(Row { name, cost })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results;
    use crate::stats::mix;

    /// A result file of one arm with some noise, all of it `factor` times as dear.
    fn file(directory: &Path, factor: f64, seed: u64) -> PathBuf {
        let noise = |k: u64| 1.0 + (mix(seed + k) % 1000) as f64 / 1000.0 * 0.04;
        let samples: Vec<f64> = (0..20).map(|k| 0.3 * factor * noise(k)).collect();
        let row = results::tests::row("splice-1m", &samples, None);
        results::write(directory, "quick", &row.machine.clone(), &[row]).unwrap()
    }

    fn judged(factor: f64, seed: u64) -> Vec<Judgement> {
        let directory = tempfile::tempdir().unwrap();
        let before = rows(&file(directory.path(), 1.0, 1), By::Cost).unwrap();
        let after = rows(&file(directory.path(), factor, seed), By::Cost).unwrap();
        let comparison = Comparison::of(&before, &after);
        comparison.pairs.iter().map(|(before, after)| judge(before, after)).collect()
    }

    #[test]
    fn regression_of_a_tenth_is_found_and_one_of_nothing_is_not() {
        for seed in [1, 1_000, 2_000, 3_000] {
            assert_eq!(judged(1.1, seed), [Judgement::Dearer]);
            assert_eq!(judged(1.0, seed), [Judgement::Same]);
            assert_eq!(judged(0.9, seed), [Judgement::Cheaper]);
        }
    }

    #[test]
    fn rows_of_every_mode_are_known_and_gaps_are_none() {
        let estimate = r#"{"median":2.0,"low":1.0,"high":3.0}"#;
        let read = |text: &str, by| row(&serde_json::from_str(text).unwrap(), by);
        let server = format!(
            r#"{{"point":"p","server":"s","figures":{{"cpu_us_per_request":{estimate}}}}}"#
        );
        assert_eq!(read(&server, By::Cost).unwrap().name, "p s");
        let bystander = format!(r#"{{"scene":"c","server":"s","p99_ratio":{estimate}}}"#);
        assert!((read(&bystander, By::Ratio).unwrap().cost.high - 3.0).abs() < 1e-9);
        assert_eq!(read(r#"{"point":"p","arm":"a","figures":null}"#, By::Cost), None);
    }

    #[test]
    fn what_is_missing_in_one_file_is_named() {
        let cost = Estimate { median: 1.0, low: 1.0, high: 1.0 };
        let row = |name: &str| Row { name: name.to_owned(), cost };
        let comparison = Comparison::of(&[row("a"), row("b")], &[row("b"), row("c")]);
        let text = comparison.text();
        assert!(text.contains("only in the first: a"), "{text}");
        assert!(text.contains("only in the second: c"), "{text}");
        assert!(text.contains("1 of 1 rows overlap: 100 %"), "{text}");
    }
}
