//! Uploads by a client that others have written.

use std::process::{Command, Output};

use crate::client::assert_same;
use crate::daemon::{Root, content};
use crate::uploads::{staged, writable};

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
fn curl_uploads_files_of_every_size_in_every_manner() {
    let (root, source) = (Root::new(), Root::new());
    let daemon = writable(&root, &[]);
    for (number, size) in [0, 1, 65_536, 1_048_577, 5_000_000].into_iter().enumerate() {
        let from = source.path("file");
        std::fs::write(&from, content("curl", size)).unwrap();
        let from = from.to_str().unwrap();
        let manners: [&[&str]; 4] = [
            &[],
            &["-H", "Transfer-Encoding: chunked"],
            &["-H", "Expect: 100-continue"],
            &["-H", "Expect:", "-0"],
        ];
        for (manner, more) in manners.into_iter().enumerate() {
            // curl 7.88 announces chunks for an empty file and sends none.
            if size == 0 && !more.is_empty() {
                continue;
            }
            let name = format!("file-{number}-{manner}");
            let arguments = ["-f", "-w", "%{http_code}", "-T", from, &daemon.url(&name)];
            let Some(output) = curl(&[&arguments[..], more].concat()) else { return };
            assert_eq!(String::from_utf8_lossy(&output.stdout), "201", "{more:?} {output:?}");
            assert_same(&std::fs::read(root.path(&name)).unwrap(), &content("curl", size), &name);
        }
    }
    assert_eq!(staged(&root), 0);
}

#[test]
fn curl_uploads_from_a_pipe() {
    let root = Root::new();
    let daemon = writable(&root, &[]);
    let command = format!(
        "head -c 3000000 /dev/zero | curl -sS -f --max-time 30 -T - {}",
        daemon.url("piped")
    );
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("not found") {
        println!("skipped: no curl");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    assert_same(&std::fs::read(root.path("piped")).unwrap(), &vec![0; 3_000_000], "the file");
}
