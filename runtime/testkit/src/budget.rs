//! A time budget: a test that hangs says so and dies, instead of holding the whole run.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Aborts the process if it is not dropped in time.
///
/// An abort, not a panic: a test that waits inside the kernel cannot be unwound from outside. The
/// watchdog is a thread named `budget`; it has left when the drop returns. Where a census is taken
/// too, start the budget first.
#[derive(Debug)]
#[must_use = "a budget that is dropped at once watches nothing"]
pub struct Budget {
    done: Option<Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
}

impl Budget {
    /// Starts the watch; the name of the calling thread, which is the test's, goes into the message.
    pub fn new(limit: Duration) -> Self {
        let watched = thread::current().name().unwrap_or("a thread without a name").to_owned();
        let (done, dropped) = channel::<()>();
        let (started, running) = channel::<()>();
        let watchdog = thread::Builder::new()
            .name("budget".to_owned())
            .spawn(move || {
                drop(started);
                if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    give_up(&watched, limit);
                }
            })
            .expect("the watchdog thread starts");
        // Until it runs it bears its parent's name, which would confuse a census.
        let _ = running.recv();
        Budget { done: Some(done), watchdog: Some(watchdog) }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(watchdog) = self.watchdog.take() {
            // The watchdog has nothing to panic over; if it did, the test's own verdict counts.
            let _ = watchdog.join();
        }
    }
}

fn give_up(watched: &str, limit: Duration) -> ! {
    // Written to the stream itself: the test harness would keep what goes through `eprintln!`, and
    // an abort would take it along.
    let message = format!("\n{watched}: the time budget of {limit:?} is spent, aborting\n");
    let _ = std::io::stderr().write_all(message.as_bytes());
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::{ChildEnd, observe_child};
    use std::time::Instant;

    #[test]
    fn a_budget_dropped_in_time_is_silent_and_quick() {
        let start = Instant::now();
        drop(Budget::new(Duration::from_secs(600)));
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_spent_budget_aborts_with_a_message() {
        let name = "budget::tests::a_spent_budget_aborts_with_a_message";
        let report = observe_child(name, Duration::from_secs(60), || {
            let _budget = Budget::new(Duration::from_millis(20));
            thread::sleep(Duration::from_secs(50));
        });
        assert!(matches!(report.end, ChildEnd::Failed(_)), "{report}");
        assert!(report.output.contains("the time budget of 20ms is spent"), "{report}");
    }
}
