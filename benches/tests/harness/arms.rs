//! The harness proves itself: on arms that are wrong or slow on purpose it must say so.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{lines_of_the_only_file, text};

pub(crate) fn quick(point: &str, arms: &str, out: Option<&Path>) -> Command {
    quick_for("1", point, arms, out)
}

pub(crate) fn quick_for(seconds: &str, point: &str, arms: &str, out: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    command.args(["quick", "--seconds-budget", seconds, "--points", point]);
    if !arms.is_empty() {
        command.args(["--arms", arms]);
    }
    if let Some(out) = out {
        command.arg("--out").arg(out);
    }
    command
}

/// Runs arms that must succeed, and gives back their rows.
fn rows(point: &str, arms: &str) -> Vec<Value> {
    let out = tempfile::tempdir().unwrap();
    let output = quick(point, arms, Some(out.path())).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    lines_of_the_only_file(out.path(), "-quick.jsonl")
}

/// Runs an arm that must fail the run, and gives back what was said.
fn failure(arm: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    let arms = format!("sendfile,{arm}");
    let output: Output = quick("self-test-stream", &arms, Some(out.path())).output().unwrap();
    assert!(!output.status.success(), "{arm} went unnoticed: {}", text(&output.stdout));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a failed run wrote results");
    let said = text(&output.stderr);
    assert!(said.contains(&format!("arm {arm}")), "{said}");
    said
}

fn median(row: &Value, figure: &str) -> f64 {
    row["figures"][figure]["median"].as_f64().unwrap()
}

#[test]
fn wrong_byte_fails_the_run() {
    assert!(failure("broken-byte").contains("wrong bytes"));
}

#[test]
fn byte_that_is_wrong_only_when_timed_fails_the_run() {
    assert!(failure("broken-tail").contains("wrong bytes"));
}

#[test]
fn missing_byte_fails_the_run() {
    assert!(failure("broken-short").contains("wrong count"));
}

#[test]
fn extra_byte_fails_the_run() {
    assert!(failure("broken-long").contains("wrong count"));
}

#[test]
fn sender_that_fails_is_quoted() {
    assert!(failure("broken-dies").contains("this arm never sends"));
}

#[test]
fn sleep_is_wall_and_not_cpu() {
    let rows = rows("self-test-stream", "slow-sleeps");
    for sample in rows[0]["samples"].as_array().unwrap() {
        let usage = &sample["usage"];
        let wall_s = usage["wall_s"].as_f64().unwrap();
        let cpu_s = usage["user_s"].as_f64().unwrap() + usage["system_s"].as_f64().unwrap();
        assert!(wall_s >= 0.04, "the arm sleeps for 40 ms, not {wall_s} s");
        assert!(wall_s - cpu_s >= 0.03, "sleep was counted as CPU: {usage}");
    }
}

#[test]
fn work_of_a_second_thread_is_counted_and_split_out() {
    let rows = rows("self-test-stream", "sendfile,slow-thread");
    let of = |arm: &str| rows.iter().find(|row| row["arm"] == arm).unwrap();
    assert!(median(of("slow-thread"), "off_main_share") > 0.5);
    assert!(median(of("sendfile"), "off_main_share") < 0.1);
    assert!(median(of("slow-thread"), "cpu_s_per_gb") > median(of("sendfile"), "cpu_s_per_gb"));
}

#[test]
fn work_in_a_worker_of_the_kernel_appears_as_such() {
    let rows = rows("self-test-stream", "sendfile,slow-worker");
    let of = |arm: &str| rows.iter().find(|row| row["arm"] == arm).unwrap();
    // 256 MiB copied by the worker against 4 MiB by the arm itself.
    assert!(median(of("slow-worker"), "io_wq_share") > 0.5, "{}", of("slow-worker")["figures"]);
    assert!(median(of("slow-worker"), "off_main_share") > 0.5);
    assert!(median(of("sendfile"), "io_wq_share") < 0.01);
}

#[test]
fn arms_of_the_quick_run_move_every_byte() {
    for (point, least) in [("self-test-stream", 9), ("self-test-exchange", 8)] {
        let rows = rows(point, "");
        let measured = rows.iter().filter(|row| row["gap"].is_null()).count();
        assert!(measured >= least, "{point}: {measured} arms");
    }
}

#[test]
#[ignore = "lane: half a minute"]
fn every_arm_moves_every_byte_at_every_kind_of_point() {
    for (point, least) in [
        ("self-test-stream", 25),
        ("self-test-exchange", 19),
        ("self-test-cold", 24),
        ("self-test-cold-exchange", 18),
        ("self-test-slow", 25),
        ("self-test-veth", 19),
    ] {
        let rows = rows(point, "all");
        let measured: Vec<_> = rows.iter().filter(|row| row["gap"].is_null()).collect();
        let no_veth = rows[0]["gap"].as_str().is_some_and(|why| why.contains("no veth pair"));
        assert!(measured.len() >= least || no_veth, "{point}: {} arms", measured.len());
        for row in measured {
            assert!(row["n"].as_u64().unwrap() >= 6);
            assert_eq!(row["samples"].as_array().unwrap().len() as u64, row["n"]);
            assert!(row["machine"]["kernel"].is_string());
        }
    }
}

#[test]
fn arms_count_what_can_be_counted() {
    let rows = rows("self-test-stream", "read-send-64k,sendfile,ring-read-fixed-send-zc");
    let of = |arm: &str| rows.iter().find(|row| row["arm"] == arm).unwrap();
    assert_eq!(of("read-send-64k")["copies"]["per_byte"], 2.0);
    assert_eq!(of("read-send-64k")["copies"]["counted"], true);
    assert_eq!(of("sendfile")["copies"]["counted"], false);
    assert!(of("ring-read-fixed-send-zc")["copies"]["zero_copy_sends"].as_u64().unwrap() > 0);
    let counted = &of("read-send-64k")["counted_per_gb"];
    if !counted.is_null() {
        // Two calls for each 64 KiB, and one more for the rest of the file.
        let of_transfer = 2.0 * 65.0 / 0.004_194_381;
        let syscalls = counted["syscalls"].as_f64().unwrap();
        assert!((syscalls / of_transfer - 1.0).abs() < 0.02, "{syscalls}, not {of_transfer}");
    }
}

#[test]
fn arms_over_tls_are_opened_compared_and_counted() {
    let rows = rows("self-test-stream", "tls-registered,tls-rustls-64k,tls-kernel");
    let of = |arm: &str| rows.iter().find(|row| row["arm"] == arm).unwrap();
    assert_eq!(of("tls-registered")["copies"]["per_byte"], 2.0);
    // Once more than sealing in place, and what TLS adds.
    let copies = of("tls-rustls-64k")["copies"]["per_byte"].as_f64().unwrap();
    assert!((3.0..3.01).contains(&copies), "{copies}");
    let kernel = of("tls-kernel");
    let gap = kernel["gap"].as_str().is_some_and(|why| why.contains("CONFIG_TLS"));
    assert!(gap || kernel["n"].as_u64().unwrap() >= 6);
}

#[test]
fn peer_that_is_missing_is_a_gap_and_not_an_error() {
    let rows = rows("self-test-stream", "sendfile,peer-monoio-zero-copy");
    let gap = rows.iter().find(|row| row["arm"] == "peer-monoio-zero-copy").unwrap();
    assert!(gap["gap"].as_str().unwrap().contains("zero_copy"));
    assert!(gap["figures"].is_null());
}

#[test]
fn unknown_names_are_refused() {
    assert!(!quick("no-such-point", "", None).status().unwrap().success());
    assert!(!quick("self-test-stream", "no-such-arm", None).status().unwrap().success());
    assert!(!quick("self-test-exchange", "sendfile", None).status().unwrap().success());
}
