//! Whatever ends the harness leaves no process, no network and no file behind.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::arms::quick_for;
use crate::support::{descendants, is_gone, lines_of_the_only_file, wait_for};

/// The networks that processes are in.
fn networks() -> BTreeSet<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let network = |process: std::fs::DirEntry| std::fs::read_link(process.path().join("ns/net"));
    processes.filter_map(|process| Some(network(process).ok()?.display().to_string())).collect()
}

fn ended_by(signal: &str, point: &str, arms: &str) {
    let data = tempfile::tempdir().unwrap();
    let mut harness = quick_for("60", point, arms, None)
        .arg("--data-dir")
        .arg(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let id = harness.id();
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    // A sender at least; for root the keeper of the far network too.
    let at_work = || Some(descendants(id)).filter(|family| family.len() > usize::from(root));
    let family = wait_for(at_work).expect("nobody was started");
    let own = std::fs::read_link(format!("/proc/{id}/ns/net")).unwrap().display().to_string();
    let mut made: BTreeSet<String> = family
        .iter()
        .filter_map(|id| std::fs::read_link(format!("/proc/{id}/ns/net")).ok())
        .map(|network| network.display().to_string())
        .collect();
    made.insert(own);
    let here = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    made.remove(&here);
    assert!(!root || !made.is_empty(), "root has networks of its own");
    assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
    harness.wait().unwrap();
    let gone = || family.iter().all(|&id| is_gone(id)).then_some(());
    assert!(wait_for(gone).is_some(), "something outlived the harness: {family:?}");
    let unused = || networks().is_disjoint(&made).then_some(());
    assert!(wait_for(unused).is_some(), "somebody is still in a network of the harness");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn killed_harness_leaves_nothing() {
    ended_by("-KILL", "self-test-stream", "slow-sleeps");
}

#[test]
fn ctrl_c_over_a_veth_pair_leaves_nothing() {
    ended_by("-INT", "self-test-veth", "");
}

#[test]
fn ctrl_c_at_a_cold_point_leaves_nothing() {
    ended_by("-INT", "self-test-cold-exchange", "");
}

#[test]
fn full_run_that_was_interrupted_is_gone_on_with() {
    let results = tempfile::tempdir().unwrap();
    let full = |time: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
        command.args(["full", "--points", "self-test-stream", "--arms", "sendfile,splice-1m"]);
        command.args(["--for", time, "--out"]).arg(results.path()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        command
    };
    let mut harness = full("60s").spawn().unwrap();
    let journal = || {
        let entry = std::fs::read_dir(results.path()).ok()?.flatten().next()?.path();
        // The machine, and one pass at least.
        (std::fs::read_to_string(&entry).ok()?.lines().count() > 1).then_some(entry)
    };
    let path = wait_for(journal).expect("nothing was written down");
    let family = descendants(harness.id());
    let id = harness.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    harness.wait().unwrap();
    assert!(wait_for(|| family.iter().all(|&id| is_gone(id)).then_some(())).is_some());
    assert!(path.to_string_lossy().ends_with("-full.journal"), "{}", path.display());
    let before = std::fs::read_to_string(&path).unwrap();
    let noted: Value = serde_json::from_str(before.lines().nth(1).unwrap()).unwrap();
    let status = full("1s").arg("--resume").arg(&path).status().unwrap();
    assert!(status.success());
    let rows = lines_of_the_only_file(results.path(), "-full.jsonl");
    assert_eq!(rows.len(), 2);
    let first = &noted["parts"][0][1]["samples"][0];
    assert_eq!(&rows[0]["samples"][0], first, "what was measured before is kept");
    assert!(rows[0]["n"].as_u64() >= noted["rounds"].as_u64());
}
