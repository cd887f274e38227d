//! What is done with result files: compared, and made into a page.

use std::path::Path;
use std::process::{Command, Output};

use crate::arms::quick;
use crate::support::text;

fn harness(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway-bench")).args(arguments).output().unwrap()
}

/// A result file whose costs lie around `median`.
fn result(directory: &Path, name: &str, median: f64) -> String {
    let (low, high) = (median * 0.98, median * 1.02);
    let line = format!(
        r#"{{"point":"hot-1g","arm":"splice-1m","ratio":{{"median":{median},"low":{low},"high":{high}}}}}"#
    );
    let path = directory.join(name);
    std::fs::write(&path, line + "\n").unwrap();
    path.display().to_string()
}

#[test]
fn regression_of_a_tenth_fails_and_one_of_nothing_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let before = result(directory.path(), "before", 0.100);
    let same = result(directory.path(), "same", 0.101);
    let worse = result(directory.path(), "worse", 0.110);
    let output = harness(&["compare", &before, &same, "--fail-on-regression"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("1 of 1 rows overlap: 100 %"));
    let output = harness(&["compare", &before, &worse, "--fail-on-regression"]);
    assert!(!output.status.success());
    let said = text(&output.stdout);
    assert!(said.contains("dearer: hot-1g splice-1m by +10 %"), "{said}");
    assert!(harness(&["compare", &before, &worse]).status.success());
    assert!(text(&harness(&["compare", &worse, &before]).stdout).contains("cheaper: hot-1g"));
}

#[test]
fn page_is_made_of_what_a_run_has_written() {
    let directory = tempfile::tempdir().unwrap();
    let run = quick("self-test-stream", "sendfile,splice-1m", Some(directory.path())).output();
    assert!(run.unwrap().status.success());
    let results = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let html = directory.path().join("report.html");
    let paths = [results.to_str().unwrap(), html.to_str().unwrap()];
    let output = harness(&["report", paths[0], "--html", paths[1]]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("self-test-stream"), "{page}");
    let output = harness(&["compare", paths[0], paths[0]]);
    assert!(text(&output.stdout).contains("1 of 1 rows overlap"), "{}", text(&output.stdout));
    assert!(!harness(&["report", "/no/such/file"]).status.success());
}

#[test]
#[ignore = "lane: a minute"]
fn calibrated_thresholds_are_loaded_by_the_library() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("thresholds.json");
    let fields = [
        "--fields",
        "pipe_min_bytes,reference_min_bytes,reserve_min_bytes",
        "--seconds-budget",
        "10",
    ];
    let mut arguments = vec!["calibrate", "--thresholds", file.to_str().unwrap()];
    arguments.extend(fields);
    let output = harness(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("the defaults"), "{said}");
    let loaded: ringway::Thresholds =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    // Pipes are never smaller, and 64 KiB of runs are never gathered.
    assert!(loaded.pipe_min_bytes >= 64 << 10 && loaded.reference_min_bytes <= 64 << 10);
    let unknown = harness(&["calibrate", "--fields", "copy_max"]);
    assert!(text(&unknown.stderr).contains("no threshold copy_max"));
}

#[test]
fn bodies_are_received_into_a_file_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    for thresholds in [r#"{"receive_copy_max_bytes":0}"#, r#"{"receive_copy_max_bytes":9999999}"#] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
        command.args(["receiving", "--thresholds", thresholds, "--len", "50000", "--bodies", "3"]);
        command.args(["--cpu", "0", "--parent", &std::process::id().to_string(), "--path"]);
        command.arg(&path).args(["--port", &listener.local_addr().unwrap().port().to_string()]);
        let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut socket = listener.accept().unwrap().0;
        for number in 1..=3 {
            std::io::Read::read_exact(&mut socket, &mut [0]).unwrap();
            std::io::Write::write_all(&mut socket, &[number; 50_000]).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(std::fs::read(&path).unwrap(), [3; 50_000]);
        let usage: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(usage["wall_s"].as_f64().unwrap() > 0.0);
    }
}
