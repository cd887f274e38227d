//! A process of an ordinary user: root does not see the limits of locked memory and of pipe pages.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ringway_testkit::Budget;
use rustix::process::getuid;
use tempfile::TempDir;

const CHILD: &str = "RINGWAY_REACH_CHILD";

/// Runs the body of a test in a process of its own, as a user that has no privileges and no other
/// process: what is counted for each user, nobody else uses up. `number` tells the tests apart.
#[track_caller]
pub(crate) fn as_ordinary_user(test_name: &str, number: u32, limit: Duration, body: impl FnOnce()) {
    if std::env::var(CHILD).is_ok_and(|name| name == test_name) {
        assert!(!getuid().is_root());
        let _budget = Budget::new(limit);
        return body();
    }
    let output = run(test_name, number);
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{errors}");
    // The harness writes its own words before the first line and after the last one.
    let start = format!("test {test_name} ... ");
    let told = told.split_once(&start).map_or("", |(_, rest)| rest);
    print!("{}", told.rsplit_once("ok\n\ntest result").map_or(told, |(lines, _)| lines));
}

fn run(test_name: &str, number: u32) -> Output {
    // The target folder may lie where only its owner can go.
    let folder = world_folder();
    let program = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", test_name, "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, test_name).current_dir("/").stdin(Stdio::null());
    if getuid().is_root() {
        let user = 30_000 + (std::process::id() * 16 + number) % 30_000;
        command.uid(user).gid(user);
    }
    loop {
        match command.output() {
            Ok(output) => return output,
            // A neighbour has forked while the binary was copied, and holds it open until its exec.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("the test binary does not start again: {error}"),
        }
    }
}

/// A folder that everybody may enter.
fn world_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A canary file in a folder of this user.
pub(crate) fn own_file(id: u64, len: u64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canary");
    ringway_testkit::canary::write_file(&path, id, len).unwrap();
    (folder, path)
}
