//! The measurement of TLS proves itself: on streams that are wrong on purpose it must say so.

use std::process::{Command, Output};

use crate::support::{lines_of_the_only_file, text};

const SUITES: [&str; 3] = ["aes-256-gcm", "aes-128-gcm", "chacha20-poly1305"];

fn tls(arms: &str, out: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    command.args(["tls", "--seconds-budget", "0", "--mebibytes", "1", "--arms", arms]);
    command.arg("--out").arg(out);
    if arms.starts_with("broken") {
        command.args(["--suites", SUITES[0]]);
    }
    command.output().unwrap()
}

#[test]
fn tls_is_measured_with_each_suite() {
    let out = tempfile::tempdir().unwrap();
    let arms = "ringway-tls,sealed-loop,rustls-loop,ringway-copy,cipher-alone";
    let output = tls(arms, out.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = lines_of_the_only_file(out.path(), "-tls.jsonl");
    for suite in SUITES {
        let row = rows.iter().find(|row| row["suite"] == suite && row["arm"] == "ringway-tls");
        let row = row.unwrap();
        assert!(row["n"].as_u64().unwrap() >= 6);
        assert_eq!(row["samples"].as_array().unwrap().len() as u64, row["n"]);
        assert!(row["cpu_s_per_gb"]["median"].as_f64().unwrap() > 0.0);
        assert!(row["ratios"]["ringway-copy"]["median"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn handshakes_are_measured_beside_those_of_rustls_alone() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    command.args(["tls", "--handshakes", "--seconds-budget", "0", "--out"]).arg(out.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = lines_of_the_only_file(out.path(), "-tls-handshakes.jsonl");
    for arm in ["ringway-accept", "rustls-accept"] {
        let row = rows.iter().find(|row| row["arm"] == arm).unwrap();
        assert!(row["n"].as_u64().unwrap() >= 6);
        assert!(row["cpu_us_per_handshake"]["median"].as_f64().unwrap() > 0.0);
        assert!(row["ratio_to_rustls"]["median"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn tls_that_is_wrong_fails_the_run() {
    for (arm, what) in [
        ("broken-byte", "wrong bytes"),
        ("broken-short", "1052896 of 1052897"),
        ("broken-cut", "close_notify"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let output = tls(arm, out.path());
        assert!(!output.status.success(), "{arm} went unnoticed");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a failed run wrote results");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("arm {arm}")), "{said}");
        assert!(said.contains(what), "{arm}: {said}");
    }
}
