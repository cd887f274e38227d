//! Two result files side by side: what became dearer, what cheaper, and what cannot be told apart.
//!
//! By default the ratio to the baseline of the same run is compared, because it does not change when the
//! whole machine drifts. Rows whose intervals overlap are the same: see `stats` for what an interval covers.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::any_row::AnyRow;
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
        bail!("these files have no row in common that can be compared by {:?}", options.by);
    }
    println!("{}\n{}", comparison.text(), overlap(&comparison, options.by));
    let other = if options.by == By::Ratio { By::Cost } else { By::Ratio };
    let of = |path| rows(path, other);
    let also = Comparison::of(&of(&options.before)?, &of(&options.after)?);
    if !also.pairs.is_empty() {
        println!("{}", overlap(&also, other));
    }
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
        let mut text = format!("{table}\n");
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

/// How many rows cannot be told apart: of two runs of the same thing nearly all.
fn overlap(comparison: &Comparison, by: By) -> String {
    let what = match by {
        By::Ratio => "ratio to the baseline of its own run",
        By::Cost => "cost itself, which drifts with the machine",
    };
    let all = comparison.pairs.len();
    let same = comparison.judged(Judgement::Same).count();
    let share = same as f64 / all as f64 * 100.0;
    format!("{same} of {all} rows overlap: {share:.0} %, by the {what}")
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
    Ok(AnyRow::read(path)?.iter().filter_map(|of| row(of, by)).collect())
}

fn row(of: &AnyRow, by: By) -> Option<Row> {
    let cost = match by {
        By::Cost => of.cost()?.value,
        By::Ratio => of.ratio()?,
    };
    Some(Row { name: format!("{} {}", of.place()?, of.name()?), cost })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{estimate_of_passes, mix};

    /// What an arm costs with drift and noise of a few per cent, all of it `factor` times as dear.
    fn row_of(factor: f64, seed: u64) -> Row {
        let noise = |k: u64| 1.0 + (mix(seed + k) % 1000) as f64 / 1000.0 * 0.03;
        // Four samples share the drift of their pass.
        let samples = (0..32).map(|k| 0.3 * factor * noise(k) * noise(100 + k / 4));
        let passes: Vec<u32> = (0..32).map(|k| 1 + k / 4).collect();
        let cost = estimate_of_passes(&samples.collect::<Vec<_>>(), &passes).unwrap();
        Row { name: "hot-1g splice-1m".to_owned(), cost }
    }

    fn judged(factor: f64, seed: u64) -> Judgement {
        judge(&row_of(1.0, 1), &row_of(factor, seed))
    }

    #[test]
    fn regression_of_a_tenth_is_found_and_one_of_nothing_is_not() {
        for seed in (1..=20).map(|seed| seed * 1_000) {
            assert_eq!(judged(1.1, seed), Judgement::Dearer);
            assert_eq!(judged(1.0, seed), Judgement::Same);
            assert_eq!(judged(0.9, seed), Judgement::Cheaper);
        }
    }

    #[test]
    fn what_is_missing_in_one_file_is_named() {
        let cost = Estimate { median: 1.0, low: 1.0, high: 1.0 };
        let row = |name: &str| Row { name: name.to_owned(), cost };
        let comparison = Comparison::of(&[row("a"), row("b")], &[row("b"), row("c")]);
        let text = comparison.text();
        assert!(text.contains("only in the first: a"), "{text}");
        assert!(text.contains("only in the second: c"), "{text}");
        let overlap = overlap(&comparison, By::Ratio);
        assert!(overlap.contains("1 of 1 rows overlap: 100 %"), "{overlap}");
    }
}
