//! Whatever ends the harness leaves no process, no network and no file behind.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::arms::quick_for;
use crate::support::{descendants, is_gone, wait_for};

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
