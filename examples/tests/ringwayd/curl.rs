//! The same through a client that others have written.

use std::process::{Command, Output};

use crate::bodies::SIZES;
use crate::client::assert_same;
use crate::daemon::{Daemon, Root};

/// Runs curl; none if this host has none, which `.ci/run` sees to.
fn curl(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("curl").args(["-sS", "--max-time", "30"]).args(arguments).output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: curl cannot be run: {error}");
            None
        }
    }
}

#[test]
fn curl_downloads_files_of_every_size() {
    let root = Root::new();
    let daemon = Daemon::serve(&root, &[]);
    for size in SIZES {
        let content = root.file(&format!("file-{size}"), size);
        let Some(output) = curl(&["-f", &daemon.url(&format!("file-{size}"))]) else { return };
        assert!(output.status.success(), "{output:?}");
        assert_same(&output.stdout, &content, "what curl got");
    }
}

#[test]
fn curl_resumes_a_download() {
    let root = Root::new();
    let content = root.file("file", 3_000_000);
    let daemon = Daemon::serve(&root, &[]);
    let part = root.path("part");
    std::fs::write(&part, &content[..1_234_567]).unwrap();
    let into = part.to_str().unwrap();
    let Some(output) = curl(&["-f", "-C", "-", "-o", into, &daemon.url("file")]) else { return };
    assert!(output.status.success(), "{output:?}");
    assert_same(&std::fs::read(&part).unwrap(), &content, "the resumed file");
}

#[test]
fn curl_sees_statuses_and_follows_folders() {
    let root = Root::new();
    std::fs::create_dir(root.path("folder")).unwrap();
    let index = root.file("folder/index.html", 500);
    let daemon = Daemon::serve(&root, &[]);
    let Some(output) = curl(&["-L", &daemon.url("folder")]) else { return };
    assert_same(&output.stdout, &index, "the index");
    let code = |arguments: &[&str]| {
        let all = [&["-o", "/dev/null", "-w", "%{http_code}"], arguments].concat();
        String::from_utf8(curl(&all).unwrap().stdout).unwrap()
    };
    assert_eq!(code(&[&daemon.url("missing")]), "404");
    assert_eq!(code(&["-X", "DELETE", &daemon.url("folder/index.html")]), "405");
    assert_eq!(code(&["--path-as-is", &daemon.url("../../etc/passwd")]), "400");
    assert_eq!(code(&["-r", "100-199", &daemon.url("folder/index.html")]), "206");
    assert_eq!(code(&["-r", "500-", &daemon.url("folder/index.html")]), "416");
    assert_eq!(code(&["-I", &daemon.url("folder/index.html")]), "200");
    assert_eq!(code(&["-0", &daemon.url("folder/index.html")]), "200");
    assert_eq!(code(&["-d", "body", &daemon.url("folder/index.html")]), "405");
}
