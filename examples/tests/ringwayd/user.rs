//! Started as root, run as somebody else. Tests that need root say so where there is none.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use crate::daemon::{Daemon, Root, Start, wait_until};
use crate::uploads::writable;

const NOBODY: u32 = 65534;

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("{test}: needs root; not run");
    }
    root
}

/// The words of a line of the status of every thread, which must be the same.
fn status(daemon: &Daemon, name: &str) -> Vec<String> {
    let folder = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    let mut all: Vec<Vec<String>> = fs::read_dir(folder)
        .unwrap()
        .map(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect()
        })
        .collect();
    all.dedup();
    assert_eq!(all.len(), 1, "{name} {all:?}");
    all.remove(0)
}

#[test]
fn a_daemon_that_was_started_by_root_serves_as_an_ordinary_user() {
    if !is_root("serving as an ordinary user") {
        return;
    }
    let root = Root::new();
    root.file("file", 3_000_000);
    fs::write(root.path("secret"), "x").unwrap();
    fs::set_permissions(root.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    // Only root may bind this, as hosts usually are.
    let daemon = Daemon::serve(
        &root,
        &["--user", "65534:65534", "--threads", "2", "--listen", "127.7.7.7:88"],
    );
    let fetch = |name: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).arg(daemon.url(name));
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    assert_eq!((fetch("file"), fetch("secret")), ("200".to_owned(), "403".to_owned()));
    let four = vec!["65534".to_owned(); 4];
    assert_eq!((status(&daemon, "Uid:"), status(&daemon, "Gid:")), (four.clone(), four));
    assert_eq!(status(&daemon, "Groups:"), ["65534"]);
    assert_eq!(status(&daemon, "NoNewPrivs:"), ["1"]);
    for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(status(&daemon, set), ["0000000000000000"]);
    }
    daemon.finish();
}

#[test]
fn files_that_come_in_belong_to_the_user_and_only_where_it_may_write() {
    if !is_root("receiving as an ordinary user") {
        return;
    }
    let root = Root::new();
    let start = Start::new(&root, &["--writable", "--user", "65534:65534"]);
    let output = start.command().output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && errors.contains("let this user write to the root"),
        "{errors}"
    );
    chown(root.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    let daemon = writable(&root, &["--user", "65534:65534"]);
    let mut curl = Command::new("curl");
    curl.args(["-s", "-T", "/proc/self/exe"]).arg(daemon.url("file"));
    assert!(curl.status().unwrap().success());
    wait_until("it is there", || root.path("file").exists());
    let metadata = fs::metadata(root.path("file")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY));
    daemon.finish();
}

#[test]
fn who_cannot_become_another_is_told_so() {
    if !is_root("an ordinary user who asks to be another") {
        return;
    }
    let root = Root::new();
    for (arguments, user, says) in [
        (["--user", "root"], None, "is root"),
        (["--user", "no-such-user"], None, "there is no user no-such-user"),
        (["--user", "1:1"], Some(NOBODY), "only root can"),
    ] {
        let mut start = Start::new(&root, &arguments);
        start.user = user;
        // Where an ordinary user can start it.
        let program = root.path("ringwayd");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_ringwayd"), &program).unwrap();
        }
        start.program = &program;
        let output = start.command().output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains(says), "{errors}");
    }
}
