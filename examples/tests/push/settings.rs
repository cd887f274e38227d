//! Settings from a file, and what `check` and `doctor` say.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::receiver::{CREATED, Receiver};
use crate::run::{Files, run};

fn ringwayd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringwayd")).args(arguments).output().unwrap()
}

#[test]
fn a_push_takes_its_receivers_from_a_file_and_its_file_from_the_command_line() {
    let files = Files::new();
    files.file("a", 1000);
    let receivers = [Receiver::answering(CREATED), Receiver::answering(CREATED)];
    let [one, other] = [0, 1].map(|number| receivers[number].url("in/"));
    let text = format!("[push]\nto = [\"{one}\", \"{other}\"]\nheader = \"X-From: file\"\n");
    fs::write(files.path("settings"), text).unwrap();
    let [path, settings] = ["a", "settings"].map(|name| files.names(&[name]).remove(0));
    run(&[&path, "--config", &settings]).assert_delivered(2);
    assert_eq!(receivers[0].requests()[0].field("x-from"), Some("file"));
    // What is said on the command line takes the place of what the file says.
    run(&[&path, "--config", &settings, "--to", &one]).assert_delivered(1);
    assert_eq!(receivers.map(|receiver| receiver.requests().len()), [2, 1]);
}

#[test]
fn a_file_with_mistakes_is_told_with_lines_keys_and_remedies() {
    let files = Files::new();
    let text = "[serve]\nroot = \".\"\nidle_timeout_second = 5\n[push]\nretries = 5000\n";
    fs::write(files.path("settings"), text).unwrap();
    let settings = files.names(&["settings"]).remove(0);
    for arguments in [&["check", &settings][..], &["serve", "--config", &settings]] {
        let output = ringwayd(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("2 mistakes"), "{errors}");
        let told = format!(
            "{settings}:3: `idle_timeout_second` is no option of serve; did you mean \
                            `idle_timeout_seconds`?"
        );
        assert!(errors.contains(&told), "{errors}");
        assert!(errors.contains(&format!("{settings}:5: `retries`")), "{errors}");
    }
    fs::write(files.path("settings"), "[serve]\nroot = \".\"\n").unwrap();
    let output = ringwayd(&["check", &settings]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 option of serve, all good"), "{said}");
    assert_eq!(ringwayd(&["check", &files.names(&["missing"])[0]]).status.code(), Some(1));
}

#[test]
fn the_doctor_tells_each_finding_and_what_a_low_limit_needs() {
    let files = Files::new();
    let folder = files.path("").display().to_string();
    let output = ringwayd(&["doctor", "--json", "--folder", &folder]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    assert_eq!(told["exit"], output.status.code().unwrap());
    for topic in ["ring", "splice", "buffers", "a large file (16 MiB) in memory"] {
        let found = findings.iter().find(|finding| finding["topic"] == topic);
        assert!(found.is_some_and(|found| found["says"].is_string()), "{topic}: {told}");
    }
    for finding in findings {
        assert_eq!(finding["remedy"].is_null(), finding["state"] == "good", "{finding}");
    }
    let script = "ulimit -n 64; exec \"$0\" doctor --folder \"$1\"";
    let binary = env!("CARGO_BIN_EXE_ringwayd");
    let output = Command::new("sh").args(["-c", script, binary, &folder]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("! descriptors: 64 allowed") && said.contains("LimitNOFILE"), "{said}");
}
