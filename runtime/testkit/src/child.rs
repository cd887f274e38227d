//! A process of its own for one test.
//!
//! The tests of a binary run side by side in one process, so that a count of its descriptors, threads
//! or freed blocks sees what the neighbours do. Here the test binary starts itself again for exactly
//! one test; a variable in the environment tells the child that it is the child.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus, Stdio, exit};
use std::thread;
use std::time::{Duration, Instant};

/// What [`run_in_child`] allows: 120 s, generous for a loaded machine with two cores.
pub const BUDGET_DEFAULT: Duration = Duration::from_secs(120);

const CHILD_VARIABLE: &str = "RINGWAY_TESTKIT_CHILD";

/// The exit code of a body that ran to its end. Not zero, for a harness that found no test of the
/// given name exits with zero too.
const COMPLETED: i32 = 86;

/// The exit code of a body that panicked; it is the one that Rust's own runtime uses.
const PANICKED: i32 = 101;

/// Runs `body` in a child process that runs this test only, and fails with the child's output if it
/// did not run to its end within [`BUDGET_DEFAULT`].
///
/// `test_name` is the test's path inside the binary, `module::tests::name`; a name that the binary
/// does not know fails. Make it the whole of the test: in the child nothing runs after it.
///
/// # Panics
///
/// When the child fails, dies of a signal, exceeds its budget, or never ran the body.
#[track_caller]
pub fn run_in_child(test_name: &str, body: impl FnOnce()) {
    run_in_child_within(test_name, BUDGET_DEFAULT, body);
}

/// [`run_in_child`] with a time budget of its own.
///
/// # Panics
///
/// As [`run_in_child`] does.
#[track_caller]
pub fn run_in_child_within(test_name: &str, budget: Duration, body: impl FnOnce()) {
    let report = observe_child(test_name, budget, body);
    assert!(matches!(report.end, ChildEnd::Completed), "{report}");
}

/// Runs `body` in a child process and tells how it ended, for tests that expect an end: a signal,
/// an abort, a failed assertion.
///
/// # Panics
///
/// When the child cannot be started or its output cannot be read.
pub fn observe_child(test_name: &str, budget: Duration, body: impl FnOnce()) -> ChildReport {
    if std::env::var(CHILD_VARIABLE).is_ok_and(|name| name == test_name) {
        run_body(body);
    }
    let output = tempfile::tempfile().expect("a temporary file for the child's output");
    let mut child = start(test_name, &output).expect("the test binary starts again");
    let end = wait(&mut child, budget).expect("the child can be waited for");
    ChildReport {
        test_name: test_name.to_owned(),
        end,
        output: read_back(output).expect("the child's output can be read"),
    }
}

/// What a detector does when the bug is there that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bite {
    /// The body panics or aborts, and these words are in what it prints.
    Says(&'static str),
    /// The body does not end within this time, and would not in any.
    Hangs(Duration),
}

/// Runs `body` in a child process and insists that its detector bites: that it fails in this way and
/// in no other.
///
/// # Panics
///
/// When the body runs to its end, or fails in another way.
#[track_caller]
pub fn assert_bites(test_name: &str, bite: Bite, body: impl FnOnce()) {
    let budget = if let Bite::Hangs(limit) = bite { limit } else { BUDGET_DEFAULT };
    let report = observe_child(test_name, budget, body);
    let bitten = match (bite, report.end) {
        (Bite::Says(words), ChildEnd::Failed(_)) => report.output.contains(words),
        (Bite::Hangs(_), ChildEnd::TimedOut(_)) => true,
        _ => false,
    };
    assert!(bitten, "no bite of the kind {bite:?}: {report}");
}

/// How a child ended, and what it printed.
#[derive(Debug)]
pub struct ChildReport {
    /// The test that the child was started for.
    pub test_name: String,
    /// How the child ended.
    pub end: ChildEnd,
    /// Standard output and standard error, in the order in which they were written.
    pub output: String,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// The body ran to its end.
    Completed,
    /// The body panicked or the process died; the status says which.
    Failed(ExitStatus),
    /// The budget was spent, and the child was killed.
    TimedOut(Duration),
    /// The child exited without having run the body: the binary has no test of that name.
    NeverRan,
}

impl fmt::Display for ChildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the child process for {} ", self.test_name)?;
        match self.end {
            ChildEnd::Completed => write!(f, "ran to its end")?,
            ChildEnd::Failed(status) => write!(f, "failed ({status})")?,
            ChildEnd::TimedOut(budget) => write!(f, "was killed after its budget of {budget:?}")?,
            ChildEnd::NeverRan => write!(f, "found no test of exactly this name")?,
        }
        write!(f, "; it printed:\n{}", self.output)
    }
}

fn run_body(body: impl FnOnce()) -> ! {
    // The panic hook has already printed the message by the time the unwinding ends here.
    let code = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => COMPLETED,
        Err(_) => PANICKED,
    };
    exit(code);
}

fn start(test_name: &str, output: &File) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", test_name, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_VARIABLE, test_name)
        .stdin(Stdio::null())
        // One open file for both streams: they share its offset and come out in order. A file, not
        // pipes: a grandchild that outlives the child could hold a pipe open for ever.
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    let die_with_the_parent = || {
        let signal = Some(rustix::process::Signal::KILL);
        Ok(rustix::process::set_parent_process_death_signal(signal)?)
    };
    // SAFETY: between fork and exec the closure makes one system call, allocates nothing and takes no
    // lock, which is what `pre_exec` asks of it.
    unsafe { command.pre_exec(die_with_the_parent) };
    command.spawn()
}

fn wait(child: &mut Child, budget: Duration) -> io::Result<ChildEnd> {
    let deadline = Instant::now() + budget;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.code() {
                Some(COMPLETED) => ChildEnd::Completed,
                Some(0) => ChildEnd::NeverRan,
                _ => ChildEnd::Failed(status),
            });
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(ChildEnd::TimedOut(budget));
        }
        thread::sleep(Duration::from_millis(3));
    }
}

fn read_back(mut output: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn the_body_runs_in_another_process() {
        let name = "child::tests::the_body_runs_in_another_process";
        let report = observe_child(name, LIMIT, || println!("pid {}", std::process::id()));
        assert_eq!(report.end, ChildEnd::Completed, "{report}");
        assert!(report.output.contains("pid "), "{report}");
        assert!(!report.output.contains(&format!("pid {}\n", std::process::id())), "{report}");
    }

    #[test]
    fn a_panic_fails_with_the_childs_output() {
        let name = "child::tests::a_panic_fails_with_the_childs_output";
        let outcome = catch_unwind(|| run_in_child(name, || panic!("broken in the child")));
        let payload = outcome.expect_err("the parent fails as well");
        let message = payload.downcast_ref::<String>().expect("a formatted message");
        assert!(message.contains("broken in the child"), "{message}");
    }

    #[test]
    fn a_hang_is_killed_when_the_budget_is_spent() {
        let name = "child::tests::a_hang_is_killed_when_the_budget_is_spent";
        let start = Instant::now();
        let report = observe_child(name, Duration::from_millis(300), || thread::sleep(10 * LIMIT));
        assert!(matches!(report.end, ChildEnd::TimedOut(_)), "{report}");
        assert!(start.elapsed() < LIMIT);
    }

    #[test]
    fn a_wrong_name_is_a_failure_not_an_empty_success() {
        let report = observe_child("child::tests::no_such_test", LIMIT, || ());
        assert_eq!(report.end, ChildEnd::NeverRan, "{report}");
    }

    #[test]
    fn a_bite_is_known_by_its_words_or_by_a_hang() {
        let name = "child::tests::a_bite_is_known_by_its_words_or_by_a_hang";
        assert_bites(name, Bite::Says("teeth"), || panic!("teeth"));
        let another = catch_unwind(|| assert_bites(name, Bite::Says("claws"), || ()));
        assert!(another.is_err());
    }

    #[test]
    fn a_death_by_signal_is_told() {
        let name = "child::tests::a_death_by_signal_is_told";
        let report = observe_child(name, LIMIT, || std::process::abort());
        assert!(report.to_string().contains("SIGABRT"), "{report}");
    }
}
