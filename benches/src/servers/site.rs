//! The directory that is served, with names, unlike the data of other points: servers open by name.
//!
//! It belongs to a keeper, a child in a process group of its own: Ctrl-C does not reach it, and when its
//! stdin ends, because the harness has ended in whatever way, it removes what it made.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::point::Point;
use crate::data::DataFile;

/// What the keeper is told.
#[derive(Debug, clap::Args)]
pub(crate) struct SiteJob {
    /// Where the directory is to be made.
    directory: PathBuf,
}

/// Makes the directory, says its path, and removes it when stdin ends.
pub(crate) fn keep_site(job: &SiteJob) -> Result<()> {
    let made = tempfile::Builder::new().prefix("ringway-bench-").tempdir_in(&job.directory);
    let made = made.with_context(|| format!("no directory in {}", job.directory.display()))?;
    std::fs::create_dir(made.path().join("root"))?;
    let path = made.path().to_str().context("the path is not UTF-8")?;
    // If nobody hears it, stdin has ended as well.
    let _ = writeln!(std::io::stdout(), "{path}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    made.close().context("the directory could not be removed")
}

/// The directory while it exists: `root/` is served, what servers write stands beside it.
#[derive(Debug)]
pub(crate) struct Site {
    path: PathBuf,
    keeper: Child,
    /// `None` only while it is dropped.
    keeper_stdin: Option<ChildStdin>,
}

impl Site {
    /// Makes one below `directory`; `binary` is this program.
    pub(crate) fn make(binary: &Path, directory: &Path) -> Result<Self> {
        let mut keeper = Command::new(binary)
            .arg("keep-site")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("the keeper of the site could not be started")?;
        let keeper_stdin = keeper.stdin.take();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("the keeper has no stdout")?)
            .read_line(&mut line)?;
        let path = PathBuf::from(line.trim_end());
        let site = Self { path, keeper, keeper_stdin };
        ensure!(!line.is_empty(), "the keeper of the site failed");
        Ok(site)
    }

    /// Where servers may write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Puts the file of `point` there.
    pub(crate) fn put(&self, point: &Point, seed: u64) -> Result<DataFile> {
        DataFile::create_named(&self.root().join(point.file_name()), point.file_len, seed)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.keeper_stdin.take());
        // It fails only if the keeper is gone already.
        let _ = self.keeper.wait();
    }
}
