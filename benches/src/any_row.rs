//! What the rows of all modes have in common, read from plain JSON: so files of every mode, and of older
//! harnesses, can be compared and drawn as far as they have the same figures.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::stats::Estimate;

/// A row of a result file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AnyRow(pub(crate) Value);

/// A figure of which less is better, and its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    pub(crate) unit: &'static str,
    pub(crate) value: Estimate,
}

/// Where modes keep what a row costs, the most telling figure first.
const COSTS: &[(&[&str], &str)] = &[
    (&["figures", "due_p99_us"], "p99 µs from the intended start"),
    (&["figures", "cpu_us_per_request"], "CPU µs per request"),
    (&["figures", "cpu_s_per_gb"], "CPU seconds per GB"),
    (&["cpu_us_per_request"], "CPU µs per request"),
    (&["cpu_s_per_gb"], "CPU seconds per GB"),
    (&["cpu_s_per_gb_scanned"], "CPU seconds per GB scanned"),
    (&["disturbed_p99_us"], "p99 µs while disturbed"),
];

const PER_REQUEST: &str = "cpu_us_per_request";
/// From so much CPU for a request on, it is told per GB.
const DOWNLOAD_US: f64 = 1e5;

impl AnyRow {
    /// The rows of a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, has a line that is no JSON, or is empty.
    pub(crate) fn read(path: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let rows: Vec<Self> = text
            .lines()
            .map(|line| serde_json::from_str(line).map(Self))
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is no result file", path.display()))?;
        ensure!(!rows.is_empty(), "{} is empty", path.display());
        Ok(rows)
    }

    /// In what situation it was measured.
    pub(crate) fn place(&self) -> Option<&str> {
        ["point", "scene", "pattern", "suite"].iter().find_map(|key| self.0[*key].as_str())
    }

    /// Who was measured.
    pub(crate) fn name(&self) -> Option<&str> {
        ["arm", "server"].iter().find_map(|key| self.0[*key].as_str())
    }

    pub(crate) fn mode(&self) -> &str {
        self.0["mode"].as_str().unwrap_or("unknown")
    }

    /// Text of a field; empty if there is none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    pub(crate) fn cost(&self) -> Option<Cost> {
        let costs =
            COSTS.iter().filter(|(path, _)| !(self.is_download() && path.contains(&PER_REQUEST)));
        costs.clone().find_map(|(path, unit)| Some(Cost { unit, value: self.estimate(path)? }))
    }

    /// Whether a request is a file of a gigabyte, of which microseconds per request say little.
    fn is_download(&self) -> bool {
        let per_request = self.estimate(&[PER_REQUEST]);
        per_request.is_some_and(|it| it.median >= DOWNLOAD_US)
            && self.estimate(&["cpu_s_per_gb"]).is_some()
    }

    /// The cost to that of the baseline in the same run; the baseline's own says nothing.
    pub(crate) fn ratio(&self) -> Option<Estimate> {
        let is_baseline = self.0["baseline"].as_str().is_some_and(|it| Some(it) == self.name());
        if is_baseline {
            return None;
        }
        self.estimate(&["ratio"]).or_else(|| self.estimate(&["p99_ratio"]))
    }

    pub(crate) fn estimate(&self, path: &[&str]) -> Option<Estimate> {
        let value = path.iter().fold(&self.0, |value, key| &value[*key]);
        serde_json::from_value(value.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_mode_are_known_and_gaps_cost_nothing() {
        let row = |text: &str| {
            let estimate = r#"{"median":2.0,"low":1.0,"high":3.0}"#;
            AnyRow(serde_json::from_str(&text.replace('@', estimate)).unwrap())
        };
        for text in [
            r#"{"point":"p","arm":"n","figures":{"cpu_s_per_gb":@,"cpu_us_per_request":null}}"#,
            r#"{"point":"p","server":"n","figures":{"cpu_us_per_request":@}}"#,
            r#"{"point":"p","server":"n","figures":{"cpu_us_per_request":{},"due_p99_us":@}}"#,
            r#"{"scene":"p","server":"n","disturbed_p99_us":@}"#,
            r#"{"pattern":"p","arm":"n","cpu_s_per_gb_scanned":@}"#,
            r#"{"suite":"p","arm":"n","cpu_s_per_gb":@}"#,
            r#"{"point":"p","suite":"s","server":"n","cpu_us_per_request":@}"#,
        ] {
            let row = row(text);
            assert_eq!((row.place(), row.name()), (Some("p"), Some("n")), "{text}");
            assert!((row.cost().unwrap().value.high - 3.0).abs() < 1e-9, "{text}");
            assert_eq!(row.ratio(), None);
        }
        let mut download =
            row(r#"{"point":"p","server":"n","cpu_us_per_request":@,"cpu_s_per_gb":@}"#);
        assert_eq!(download.cost().unwrap().unit, "CPU µs per request");
        download.0["cpu_us_per_request"]["median"] = 300_000.0.into();
        assert_eq!(download.cost().unwrap().unit, "CPU seconds per GB");
        let bystander = row(r#"{"scene":"c","server":"s","p99_ratio":@}"#);
        assert!((bystander.ratio().unwrap().low - 1.0).abs() < 1e-9);
        assert_eq!(row(r#"{"point":"p","arm":"a","figures":null}"#).cost(), None);
        assert_eq!(row(r#"{"point":"p","arm":"a","baseline":"a","ratio":@}"#).ratio(), None);
    }
}
