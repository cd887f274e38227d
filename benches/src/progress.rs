//! What the reader sees while a point is measured.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, a line per round elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    name: &'static str,
}

impl Progress {
    /// For a point that may take `time`.
    pub(crate) fn new(name: &'static str, time: Duration, arms: usize) -> Self {
        Self::titled(name, time, &format!("{name}, {arms} arms"))
    }

    /// For one pass of `passes` over a point.
    pub(crate) fn of_pass(name: &'static str, (pass, passes): (u32, u32), time: Duration) -> Self {
        Self::titled(name, time, &format!("pass {pass} of {passes}, {name}"))
    }

    fn titled(name: &'static str, time: Duration, title: &str) -> Self {
        let bar = ProgressBar::new(time.as_secs());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} s, {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        if bar.is_hidden() {
            eprintln!("{title}: at most {} s, or what is needed at least", time.as_secs());
        }
        Self { bar, name }
    }

    pub(crate) fn arm(&self, round: u32, arm: &str) {
        self.bar.set_message(format!("round {round}, {arm}"));
    }

    pub(crate) fn round_done(&self, round: u32, spent: Duration) {
        self.bar.set_position(spent.as_secs());
        if self.bar.is_hidden() {
            eprintln!("{}: round {round} done", self.name);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
