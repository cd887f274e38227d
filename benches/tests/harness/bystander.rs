//! The open loop beside disturbances, with a server that is right and one that is not.

use std::process::Command;

use crate::support::{lines_of_the_only_file, text};

fn bystander(server: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    command.args(["bystander", "--servers", server, "--seconds-budget", "1", "--rate", "500"]);
    command.args(["--slice-ms", "40", "--transfer-bytes", "3000000", "--stalled", "20"]);
    command
}

#[test]
fn bystanders_of_a_right_server_are_watched() {
    let (out, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = bystander("right");
    let output = command.arg("--out").arg(out.path()).arg("--data-dir").arg(data.path()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = lines_of_the_only_file(out.path(), "-bystander.jsonl");
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row["n"].as_u64().unwrap() >= 6);
        let pairs = row["pairs"].as_array().unwrap();
        assert!(pairs.iter().all(|pair| pair[0]["requests"] == 20), "{pairs:?}");
        assert!(row["p99_ratio"]["median"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn wrong_byte_for_a_bystander_fails_the_run() {
    let output = bystander("broken-byte").output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("wrong bytes"), "{}", text(&output.stderr));
}
