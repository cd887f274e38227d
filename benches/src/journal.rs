//! What a long run has measured so far, on disk: whatever ends it, another run can go on from there.
//!
//! The first line is the machine; then there is a line for each pass over a point. A line that was cut off is
//! left out. The journal is removed when the results are written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::results::{self, Part};

/// One pass over one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) point: String,
    pub(crate) pass: u32,
    /// Rounds until then, those of earlier passes included.
    pub(crate) rounds: u32,
    pub(crate) took: Duration,
    /// What each arm did in this pass, by name, in the order of the arms.
    pub(crate) parts: Vec<(String, Part)>,
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// A new one in `directory`.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn begin(directory: &Path, mode: &str, machine: &Machine) -> Result<Self> {
        let (mut file, path) = results::create(directory, mode, machine, "journal")?;
        line(&mut file, machine)?;
        Ok(Self { file, path })
    }

    /// Goes on with the one at `path`: what it holds so far.
    ///
    /// # Errors
    ///
    /// It is no journal, or was written on another machine, kernel or commit: figures would not belong together.
    pub(crate) fn resume(path: &Path, machine: &Machine) -> Result<(Self, Vec<Entry>)> {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = whole.lines();
        let of: Machine = serde_json::from_str(lines.next().unwrap_or_default())
            .with_context(|| format!("{shown} is no journal of a run"))?;
        let same = |of: &Machine| {
            (of.cpu_model.clone(), of.cpus, of.kernel.clone(), of.commit.clone(), of.optimized)
        };
        ensure!(
            same(&of) == same(machine),
            "{shown} was begun on another machine, kernel or commit: {:?}, not {:?}",
            same(&of),
            same(machine)
        );
        let entries = lines.map(serde_json::from_str).collect::<Result<_, _>>();
        let entries = entries.with_context(|| format!("{shown} is no journal of a run"))?;
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(whole.len() as u64)?;
        Ok((Self { file, path: path.to_owned() }, entries))
    }

    /// Writes a pass down.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn note(&mut self, entry: &Entry) -> Result<()> {
        line(&mut self.file, entry)
    }

    /// Removes it: the results are written.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub(crate) fn end(self) -> Result<()> {
        std::fs::remove_file(&self.path)
            .with_context(|| format!("{} cannot be removed", self.path.display()))
    }
}

fn line(file: &mut File, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line).context("the journal cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_holds_what_was_noted_and_a_cut_line_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let row = results::tests::row("splice-1m", &[0.3, 0.31], None);
        let machine = row.machine.clone();
        let part = Part { samples: row.samples.clone(), counted: row.counted_per_gb };
        let entry = |pass| Entry {
            point: "hot-1g".to_owned(),
            pass,
            rounds: 2 * pass,
            took: Duration::from_millis(1500),
            parts: vec![("splice-1m".to_owned(), part.clone())],
        };
        let mut journal = Journal::begin(directory.path(), "full", &machine).unwrap();
        journal.note(&entry(1)).unwrap();
        journal.note(&entry(2)).unwrap();
        let path = journal.path.clone();
        let length = std::fs::metadata(&path).unwrap().len();
        journal.file.set_len(length - 5).unwrap();
        let (mut journal, entries) = Journal::resume(&path, &machine).unwrap();
        assert_eq!(entries, [entry(1)]);
        journal.note(&entry(3)).unwrap();
        let (journal, entries) = Journal::resume(&path, &machine).unwrap();
        assert_eq!(entries, [entry(1), entry(3)]);
        let other = Machine { kernel: "2.4".to_owned(), ..machine.clone() };
        assert!(Journal::resume(&path, &other).unwrap_err().to_string().contains("another"));
        journal.end().unwrap();
        assert!(!path.exists());
        assert!(Journal::resume(&path, &machine).is_err());
    }
}
