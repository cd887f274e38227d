//! `--thresholds`: what was measured on this machine decides, and a file that says nothing is refused.

use std::fs;

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, Start};

/// The log of one request for 64 KiB under these thresholds.
fn log(thresholds: &str) -> String {
    let (root, settings) = (Root::new(), Root::new());
    let content = root.file("file", 64 << 10);
    let path = settings.path("thresholds.json");
    fs::write(&path, thresholds).unwrap();
    let arguments = ["--log-format", "json", "--thresholds", path.to_str().unwrap()];
    let daemon = Daemon::serve(&root, &arguments);
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/file").body, &content, "the file");
    drop(client);
    daemon.finish()
}

#[test]
fn thresholds_from_a_file_decide_the_route() {
    assert!(log("{}").contains("\"route\":\"splice\""));
    let copied = log(r#"{"copy_max_bytes": 1000000, "cold_copy_max_bytes": 1000000}"#);
    assert!(copied.contains("\"route\":\"copy\""), "{copied}");
}

#[test]
fn file_without_thresholds_is_refused_by_name() {
    let (root, settings) = (Root::new(), Root::new());
    for (text, expected) in [
        (Some("{\"copy_max\": 1}"), "does not hold thresholds"),
        (Some("no JSON"), "does not hold thresholds"),
        (None, "cannot read"),
    ] {
        let path = settings.path(if text.is_some() { "thresholds.json" } else { "missing.json" });
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let path = path.to_str().unwrap();
        let output = Start::new(&root, &["--thresholds", path]).command().output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(path) && said.contains(expected), "{said}");
    }
}
