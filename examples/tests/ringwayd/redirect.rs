//! Plain HTTP beside https, where it only shows the way.

use std::process::Command;

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root};
use crate::secure::certificate;

const ARGUMENTS: [&str; 5] =
    ["--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--redirect-to-https"];

fn serve(root: &Root, files: &(String, String), more: &[&str]) -> Daemon {
    let keys = ["--cert", &files.0, "--key", &files.1];
    Daemon::serve(root, &[&ARGUMENTS[..], &keys, more].concat())
}

#[test]
fn curl_is_led_to_the_file_by_https() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("a file", 70_000);
    let daemon = serve(&root, &files, &[]);
    let url = format!("http://{}/a%20file?x=y", daemon.addresses[0]);
    let always = ["-sS", "-f", "-L", "--max-time", "30", "--cacert", &files.0];
    let write = ["-w", "%{stderr}%{num_redirects} %{http_code} %{scheme}"];
    let output = match Command::new("curl").args(always).args(write).arg(url).output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: curl cannot be run: {error}"),
    };
    assert!(output.status.success(), "{output:?}");
    assert_same(&output.stdout, &content, "what curl got");
    let facts = String::from_utf8(output.stderr).unwrap().to_lowercase();
    assert_eq!(facts, "1 200 https");
}

#[test]
fn nothing_but_the_way_is_told_in_the_clear() {
    let root = Root::new();
    let files = certificate(&root, "first");
    root.file("file", 5000);
    let daemon = serve(&root, &files, &["--writable", "--write-without-token"]);
    let port = daemon.addresses[1].port();
    let mut client = Client::connect(daemon.addresses[0]);
    // All on one connection: it stays.
    for path in ["/file", "/missing", "/.hidden", "/../file"] {
        client.ask("GET", path, "Range: bytes=0-9\r\n");
        let response = client.response();
        assert_eq!(response.status, 308, "{path}");
        let location = format!("https://test:{port}{path}");
        assert_eq!(response.field("Location"), Some(location.as_str()));
        assert_eq!(response.body, b"This is served by https.\n");
    }
    client.ask("HEAD", "/file", "");
    assert_eq!(client.head().status, 308);
    client.ask("PUT", "/new", "Content-Length: 4\r\n");
    client.send("body");
    let refused = client.response();
    assert_eq!((refused.status, refused.field("Location")), (403, None));
    client.ask("GET", "/file", "");
    assert_eq!(client.response().status, 308, "the body was thrown away");
    assert!(!root.path("new").exists(), "nothing is taken in the clear");
}

#[test]
fn a_request_that_names_no_host_or_two_is_refused() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let daemon = serve(&root, &files, &[]);
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    ] {
        let mut client = Client::connect(daemon.addresses[0]);
        client.send(head);
        let response = client.response();
        assert_eq!((response.status, response.field("Location")), (400, None), "{head}");
    }
}
