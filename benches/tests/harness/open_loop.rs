//! Servers at fixed rates: what a stall, an end and a wrong byte look like from the intended start.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{lines_of_the_only_file, text};

/// At 1000 requests per second; the client may be late, because this machine may have other things to do.
fn asked(servers: &str, further: &[&str]) -> (Output, tempfile::TempDir) {
    let (out, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    command.args(["servers", "--open-loop", "--seconds-budget", "0", "--rates", "1000"]);
    command.args(["--points", "self-test-open", "--servers", servers]);
    command.arg("--out").arg(out.path()).arg("--data-dir").arg(data.path()).args(further);
    let output = command.output().unwrap();
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "something was left behind");
    (output, out)
}

fn rows(servers: &str, further: &[&str]) -> Vec<Value> {
    let (output, out) = asked(servers, further);
    assert!(output.status.success(), "{}", text(&output.stderr));
    lines_of_the_only_file(out.path(), "-open.jsonl")
}

#[test]
fn stall_of_50_ms_shows_in_the_p99_from_the_intended_start() {
    let rows = rows("broken-stall", &["--late-us", "1e9", "--stretch-ms", "450"]);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(row["point"], "self-test-open-at-1000-per-s");
    assert_eq!((row["errors"].as_u64(), row["unsent"].as_u64()), (Some(0), Some(0)));
    let samples = row["samples"].as_array().unwrap();
    assert_eq!(row["n"].as_u64().unwrap(), samples.len() as u64);
    assert!(samples.iter().all(|sample| sample["answered"] == 450));
    // Of 450 requests fifty were due while nobody was answered; the worst hundredth waited for most of it.
    let p99 = row["figures"]["due_p99_us"]["median"].as_f64().unwrap();
    assert!(p99 >= 30_000.0, "{p99}");
}

#[test]
fn connections_that_end_are_counted_and_asked_for_anew() {
    let rows = rows("broken-leaves", &["--late-us", "1e9", "--stretch-ms", "100"]);
    assert!(rows[0]["errors"].as_u64().unwrap() > 0, "{rows:?}");
    assert!(rows[0]["figures"]["due_p50_us"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn wrong_byte_fails_the_run_and_a_missing_server_is_a_gap() {
    let (output, out) = asked("broken-byte", &[]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("wrong bytes"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a failed run wrote results");
    let rows = rows("ringwayd", &["--ringwayd", "/no/such/daemon"]);
    assert!(rows[0]["gap"].as_str().unwrap().contains("/no/such/daemon"));
}

#[test]
fn nginx_is_asked_over_tls_where_it_is_installed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    let out = tempfile::tempdir().unwrap();
    command.args(["servers", "--open-loop", "--tls", "--seconds-budget", "0", "--rates", "500"]);
    command.args(["--stretch-ms", "100", "--points", "self-test-tls-open", "--late-us", "1e9"]);
    command.args(["--servers", "nginx-tls"]).arg("--out").arg(out.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for row in lines_of_the_only_file(out.path(), "-open.jsonl") {
        let gap = row["gap"] == "nginx is not installed";
        assert!(gap || row["samples"].as_array().unwrap().iter().all(|it| it["answered"] == 50));
    }
}
