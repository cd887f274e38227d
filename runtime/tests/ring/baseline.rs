//! What every test begins and ends with.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::process::{Command, exit};
use std::task::Poll;
use std::time::{Duration, Instant};

use ringway_runtime::{BufferClass, Config, Runtime, time};
use ringway_testkit::Budget;

/// A test that takes longer than this hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn budget() -> Budget {
    Budget::new(LIMIT)
}

/// A ring with small queues and few buffers: cheap to make, and quick to run short of something.
pub(crate) fn small() -> Config {
    Config {
        submission_entries: 8,
        completion_entries: 256,
        buffers: vec![BufferClass { bytes: 4096, count: 4 }],
        pipes_max: 4,
        pipe_bytes: 64 << 10,
        ..Config::default()
    }
}

/// Runs a future on a new default runtime and insists that nothing is left.
pub(crate) fn on_a_ring<F: Future>(future: F) -> F::Output {
    on_a_ring_with(Config::default(), future)
}

/// The same with a configuration.
pub(crate) fn on_a_ring_with<F: Future>(config: Config, future: F) -> F::Output {
    let _budget = budget();
    let runtime = Runtime::with_config(config).unwrap();
    let output = runtime.block_on(future);
    assert_settled(&runtime);
    output
}

/// Waits until the kernel has let go of all ops, and asserts that every gauge is back.
#[track_caller]
pub(crate) fn assert_settled(runtime: &Runtime) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while runtime.stats().ops_in_flight > 0 && Instant::now() < deadline {
        runtime.block_on(time::sleep(Duration::from_millis(1)));
    }
    let stats = runtime.stats();
    let gauges = [
        ("ops_in_flight", stats.ops_in_flight),
        ("ops_orphaned", stats.ops_orphaned),
        ("completions_due", stats.completions_due),
        ("leases", stats.leases),
        ("pipes_lent", stats.pipes_lent),
        ("timers", stats.timers),
        ("completions_stale", stats.completions_stale),
        ("completions_overflowed", stats.completions_overflowed),
        ("unexpected_errnos", stats.unexpected_errnos),
    ];
    let left: Vec<_> = gauges.into_iter().filter(|(_, value)| *value > 0).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert_eq!(stats.ops_submitted, stats.ops_completed);
}

/// Polls a future once, which must not be ready.
pub(crate) async fn once<F: Future>(future: Pin<&mut F>) {
    let mut future = Some(future);
    poll_fn(|context| {
        let polled = future.take().map(|future| future.poll(context).is_pending());
        assert_eq!(polled, Some(true), "the future was ready at once");
        Poll::Ready(())
    })
    .await;
}

/// Polls a future once and drops it.
pub(crate) async fn start_and_drop<F: Future>(future: F) {
    once(pin!(future)).await;
}

const UNDER: &str = "RINGWAY_TEST_UNDER";

/// Whether this is the process that a wrapper has started; see [`under`].
pub(crate) fn is_wrapped() -> bool {
    std::env::var_os(UNDER).is_some()
}

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).status();
    traced.is_ok_and(|status| status.success())
}

/// Runs the body of a test in a process that a wrapper starts: strace, prlimit, setpriv. The
/// wrapper must pass the exit code on.
#[track_caller]
pub(crate) fn under(test: &str, wrapper: &[&str], body: impl FnOnce()) {
    const COMPLETED: i32 = 87;
    if std::env::var(UNDER).is_ok_and(|name| name == test) {
        body();
        exit(COMPLETED);
    }
    if wrapper[0] == "strace" && !can_trace() {
        eprintln!("{test}: strace is not here or may not trace; not run");
        return;
    }
    // A copy that an ordinary user may run, wherever the build lies.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let program = folder.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let seconds = LIMIT.as_secs().to_string();
    let output = Command::new("timeout")
        .args(["-k", "1", &seconds])
        .args(wrapper)
        .arg(&program)
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(UNDER, test)
        .env("TMPDIR", std::env::temp_dir())
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(COMPLETED),
        "{wrapper:?} {test}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
