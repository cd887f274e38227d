//! The server comparison proves itself: on servers that are wrong on purpose it must say so.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{descendants, is_gone, lines_of_the_only_file, text, wait_for};

fn servers(names: &str) -> Command {
    servers_for("1", names)
}

fn servers_for(seconds: &str, names: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    command.args(["servers", "--seconds-budget", seconds, "--points", "self-test-get"]);
    command.args(["--servers", names]);
    command
}

/// Runs servers that must succeed or be gaps, and gives back their rows and the tables.
fn rows(names: &str, further: &[&str]) -> (Vec<Value>, String) {
    let out = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut command = servers(names);
    command.arg("--out").arg(out.path()).arg("--data-dir").arg(data.path()).args(further);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "something was left behind");
    (lines_of_the_only_file(out.path(), "-servers.jsonl"), text(&output.stdout))
}

/// Runs a server that must fail the run, and gives back what was said.
fn failure(server: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut command = servers(&format!("right,{server}"));
    command.arg("--out").arg(out.path()).arg("--data-dir").arg(data.path());
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{server} went unnoticed");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a failed run wrote results");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "something was left behind");
    let said = text(&output.stderr);
    assert!(said.contains(&format!("server {server}")), "{said}");
    said
}

#[test]
fn right_server_is_measured() {
    let (rows, tables) = rows("right", &[]);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert!(row["n"].as_u64().unwrap() >= 6);
    assert_eq!(row["samples"].as_array().unwrap().len() as u64, row["n"]);
    assert_eq!(row["samples"][0]["requests"], 15);
    assert!(row["figures"]["cpu_us_per_request"]["median"].as_f64().unwrap() > 0.0);
    assert!(row["figures"]["rss_bytes"]["median"].as_f64().unwrap() > 1e5);
    if row["own_network"] == true {
        for side in ["congestion_server", "congestion_client"] {
            assert_eq!(row["samples"][0][side], "cubic");
        }
    }
    assert!(tables.contains("one server: nothing to compare"), "{tables}");
}

#[test]
fn wrong_byte_fails_the_run() {
    assert!(failure("broken-byte").contains("wrong bytes"));
}

#[test]
fn byte_that_is_wrong_only_later_fails_the_run() {
    assert!(failure("broken-late").contains("wrong bytes"));
}

#[test]
fn short_body_fails_the_run() {
    assert!(failure("broken-short").contains("wrong count"));
}

#[test]
fn extra_byte_fails_the_run() {
    // Seen behind the body, or as the head of the next answer.
    let said = failure("broken-long");
    assert!(said.contains("wrong count") || said.contains("wrong answer"), "{said}");
}

#[test]
fn other_length_fails_the_run() {
    assert!(failure("broken-length").contains("wrong count"));
}

#[test]
fn error_page_fails_the_run() {
    assert!(failure("broken-status").contains("status is 500"));
}

#[test]
fn server_that_ends_is_quoted() {
    assert!(failure("broken-start").contains("this server never listens"));
}

#[test]
fn missing_server_is_a_gap_and_not_an_error() {
    let (rows, tables) = rows("ringwayd,right", &["--ringwayd", "/no/such/daemon"]);
    let daemon = rows.iter().find(|row| row["server"] == "ringwayd").unwrap();
    assert!(daemon["gap"].as_str().unwrap().contains("/no/such/daemon"));
    assert!(daemon["figures"].is_null());
    assert!(tables.contains("gap: /no/such/daemon"), "{tables}");
    assert_eq!(rows.len(), 2);
}

#[test]
fn nginx_is_measured_where_it_is_installed() {
    for row in rows("nginx-nopush-off,nginx-nopush-on", &[]).0 {
        assert!(row["gap"] == "nginx is not installed" || row["n"].as_u64().unwrap() >= 6);
    }
}

#[test]
fn unknown_names_are_refused() {
    assert!(!servers("no-such-server").status().unwrap().success());
}

#[test]
fn killed_harness_leaves_no_server_and_no_file() {
    for signal in ["-KILL", "-INT"] {
        let data = tempfile::tempdir().unwrap();
        let mut harness = servers_for("60", "right,nginx-nopush-off")
            .arg("--data-dir")
            .arg(data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let served = || {
            let family = descendants(harness.id());
            (family.len() >= 2).then_some(family)
        };
        let family = wait_for(served).expect("keeper and server were started");
        let id = harness.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        harness.wait().unwrap();
        let all_gone = || family.iter().all(|&id| is_gone(id)).then_some(());
        assert!(wait_for(all_gone).is_some(), "something outlived the harness: {family:?}");
        let empty = || (std::fs::read_dir(data.path()).unwrap().count() == 0).then_some(());
        assert!(wait_for(empty).is_some(), "files were left behind");
    }
}
