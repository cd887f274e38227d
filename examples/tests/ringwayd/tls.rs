//! The daemon over TLS: curl, openssl and rustls as clients, certificates that change, and bad company.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use crate::bodies::SIZES;
use crate::client::assert_same;
use crate::daemon::{Daemon, PATIENCE, Root, Start, wait_until};
use crate::secure::{Secure, certificate, certificate_until};

fn serve(root: &Root, files: &(String, String), more: &[&str]) -> Daemon {
    let arguments =
        [&["--tls-listen", "127.0.0.1:0", "--cert", &files.0, "--key", &files.1][..], more];
    Daemon::serve(root, &arguments.concat())
}

fn url(daemon: &Daemon, path: &str) -> String {
    format!("https://{}/{path}", daemon.address())
}

/// Runs a tool with this input; none if this host has none, which `.ci/run` sees to.
fn run(tool: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: {tool} cannot be run: {error}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    // `openssl s_client -ign_eof` goes on without it.
    drop(stdin);
    Some(child.wait_with_output().unwrap())
}

fn curl(trusted: &str, arguments: &[&str]) -> Option<Output> {
    let always = ["-sS", "--max-time", "30", "--cacert", trusted];
    run("curl", &[&always, arguments].concat(), b"")
}

#[test]
fn curl_downloads_files_of_every_size_and_ranges_of_them() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let daemon = serve(&root, &files, &[]);
    for size in SIZES {
        let name = format!("file-{size}");
        let content = root.file(&name, size);
        let Some(output) = curl(&files.0, &["-f", &url(&daemon, &name)]) else { return };
        assert!(output.status.success(), "{output:?}");
        assert_same(&output.stdout, &content, "what curl got");
    }
    let content = root.file("file", 3_000_000);
    let output = curl(&files.0, &["-r", "1000000-2999998", &url(&daemon, "file")]).unwrap();
    assert_same(&output.stdout, &content[1_000_000..2_999_999], "the range");
    let write = "%{http_code} %{http_version} %{ssl_verify_result} %{size_download}";
    let facts = |more: &[&str]| {
        let all = [&["-o", "/dev/null", "-w", write], more].concat();
        String::from_utf8(curl(&files.0, &all).unwrap().stdout).unwrap()
    };
    assert_eq!(facts(&[&url(&daemon, "file")]), "200 1.1 0 3000000");
    assert_eq!(facts(&["-I", &url(&daemon, "file")]), "200 1.1 0 0");
    assert!(facts(&[&url(&daemon, "missing")]).starts_with("404 1.1 0 "));
    assert!(facts(&["-d", "body", &url(&daemon, "file")]).starts_with("405 1.1 0 "));
    assert_eq!(facts(&["--tls-max", "1.2", &url(&daemon, "file")]), "200 1.1 0 3000000");
    let log = daemon.finish();
    let expected = ["route=registered mode=inline", "route=kernel-tls mode=inline"];
    assert!(expected.iter().any(|route| log.contains(route)), "{log}");
}

#[test]
fn many_requests_share_one_connection() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 40_000);
    let daemon = serve(&root, &files, &[]);
    let one = url(&daemon, "file");
    let mut arguments = vec!["-w", "%{stderr}%{num_connects} "];
    arguments.extend(std::iter::repeat_n(one.as_str(), 50));
    let Some(output) = curl(&files.0, &arguments) else { return };
    assert_same(&output.stdout, &content.repeat(50), "fifty answers");
    let connects = String::from_utf8(output.stderr).unwrap();
    assert_eq!(connects.matches('1').count(), 1, "{connects}");
    let mut client = Secure::connect(&daemon, &files.0);
    for _ in 0..200 {
        assert_same(&client.get("file", 40_000), &content, "the next answer");
    }
}

#[test]
fn openssl_sees_a_clean_end_in_every_version_and_cipher() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 300_000);
    let daemon = serve(&root, &files, &[]);
    let address = daemon.address().to_string();
    let request = b"GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for version in [
        &["-tls1_2"][..],
        &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
        &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
        &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
    ] {
        let always = ["s_client", "-connect", &address, "-CAfile", &files.0, "-quiet", "-ign_eof"];
        let all = [&always, &["-verify_return_error", "-alpn", "http/1.1"][..], version].concat();
        let Some(output) = run("openssl", &all, request) else { return };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("unexpected eof"), "{version:?}: {said}");
        let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_same(&output.stdout[end..], &content, "what openssl got");
    }
}

#[test]
fn a_new_certificate_is_read_on_sighup_and_old_connections_stay() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 100_000);
    let daemon = serve(&root, &files, &["--threads", "2"]);
    let old = root.path(".old.pem");
    fs::copy(&files.0, &old).unwrap();
    let old = old.to_str().unwrap();
    let mut before = Secure::connect(&daemon, old);
    assert_same(&before.get("file", 100_000), &content, "before");

    fs::write(&files.0, "no certificate").unwrap();
    daemon.signal(Signal::HUP);
    wait_until("it says that it goes on", || daemon.errors().contains("going on with"));
    assert_same(&Secure::connect(&daemon, old).get("file", 100_000), &content, "with the old one");

    let new = certificate(&root, "second");
    fs::copy(&new.0, &files.0).unwrap();
    fs::copy(&new.1, &files.1).unwrap();
    daemon.signal(Signal::HUP);
    wait_until("it has read it", || daemon.errors().contains("was read again"));
    assert_same(
        &Secure::connect(&daemon, &new.0).get("file", 100_000),
        &content,
        "with the new one",
    );
    assert_same(&before.get("file", 100_000), &content, "over the old connection");
    let mut refused = Secure::connect(&daemon, old);
    assert!(
        refused.0.write_all(b"GET").and_then(|()| refused.0.flush()).is_err(),
        "not the old one"
    );
    drop((before, refused));
    daemon.finish();
}

#[test]
fn a_daemon_without_a_usable_certificate_says_why_and_does_not_start() {
    let root = Root::new();
    let (first, second) = (certificate(&root, "first"), certificate(&root, "second"));
    let empty = root.path(".empty");
    fs::write(&empty, "").unwrap();
    let (empty, missing) = (empty.to_str().unwrap(), "/nonexistent/file.pem");
    for (certificate, key, words) in [
        (missing, first.1.as_str(), "name the certificate with --cert"),
        (first.0.as_str(), missing, "name the key with --key"),
        (empty, first.1.as_str(), "no certificate in"),
        (first.0.as_str(), empty, "no key in"),
        (first.0.as_str(), second.1.as_str(), "does not belong to the certificate in"),
        (first.1.as_str(), first.1.as_str(), "no certificate in"),
    ] {
        let arguments = ["--tls-listen", "127.0.0.1:0", "--cert", certificate, "--key", key];
        let output = Start::new(&root, &arguments).command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(words), "{words}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let output = Start::new(&root, &["--tls-listen", "127.0.0.1:0"]).command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("needs --cert and --key, or --self-signed"), "{said}");
}

#[test]
fn a_certificate_that_is_no_longer_valid_is_told_of_and_does_not_replace_a_good_one() {
    let root = Root::new();
    let (good, old) = (certificate(&root, "good"), certificate_until(&root, "old", 2020));
    let content = root.file("file", 1000);
    let said = "expired on Wed, 01 Jan 2020 00:00:00 GMT";
    let daemon = serve(&root, &old, &[]);
    let errors = daemon.errors();
    assert!(errors.contains(said) && errors.contains("renew it, then send SIGHUP"), "{errors}");
    fs::copy(&good.0, &old.0).unwrap();
    fs::copy(&good.1, &old.1).unwrap();
    daemon.signal(Signal::HUP);
    wait_until("it has read it", || daemon.errors().contains("was read again"));
    assert_same(&Secure::connect(&daemon, &good.0).get("file", 1000), &content, "renewed");

    let (other, older) = (certificate(&root, "other"), certificate_until(&root, "older", 2021));
    let trusted = root.path(".trusted.pem");
    fs::copy(&good.0, &trusted).unwrap();
    // The wrong key, and then a pair that has expired.
    for (pair, said) in [
        ((&other.0, &good.1), "does not belong to the certificate in"),
        ((&older.0, &older.1), "expired on Fri, 01 Jan 2021 00:00:00 GMT"),
    ] {
        fs::copy(pair.0, &old.0).unwrap();
        fs::copy(pair.1, &old.1).unwrap();
        daemon.signal(Signal::HUP);
        let says = |line: &str| line.contains("going on with") && line.contains(said);
        wait_until(said, || daemon.errors().lines().any(says));
        let mut client = Secure::connect(&daemon, trusted.to_str().unwrap());
        assert_same(&client.get("file", 1000), &content, "with the one before");
    }
    drop(daemon.finish());
}

#[test]
fn a_failed_handshake_is_a_line_and_a_flood_of_them_is_a_few() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 1000);
    let daemon = serve(&root, &files, &[]);
    let talk = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let who = stream.local_addr().unwrap().to_string();
        let mut answer = Vec::new();
        // A reset is an end as well.
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        (who, answer)
    };
    let (who, answer) = talk(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!answer.starts_with(b"HTTP"), "nothing is served in the clear");
    let line = format!("no TLS with {who}: the peer speaks plain HTTP where TLS is expected");
    wait_until("it says who speaks plain HTTP", || daemon.errors().contains(&line));
    for _ in 0..60 {
        talk(b"\x16\x03\x01\x00\x04junk");
    }
    assert_same(&Secure::connect(&daemon, &files.0).get("file", 1000), &content, "still served");
    let told = daemon.errors().matches("no TLS with").count();
    assert!((2..=20).contains(&told), "{told} lines for 61 failures");
    drop(daemon.finish());
}

#[test]
fn a_session_that_is_broken_is_ended_by_its_alert_and_a_line() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 1000);
    let daemon = serve(&root, &files, &[]);
    for (record, alert, says) in [
        ([&[23, 3, 3, 0, 20][..], &[7; 20]].concat(), "BadRecordMac", "fails its authentication"),
        (vec![23, 3, 3, 0x41, 1], "RecordOverflow", "longer than TLS allows"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "UnexpectedMessage", "TLS was broken"),
    ] {
        // Idle, and in the middle of a head.
        for begun in [&b""[..], b"GET /file HTTP/1.1\r\nHost"] {
            let mut client = Secure::connect(&daemon, &files.0);
            assert_same(&client.get("file", 1000), &content, "before");
            client.0.write_all(begun).unwrap();
            client.0.flush().unwrap();
            client.0.sock.write_all(&record).unwrap();
            let who = client.0.sock.local_addr().unwrap();
            let mut more = Vec::new();
            let seen = client.0.read_to_end(&mut more).unwrap_err();
            assert!(seen.to_string().contains(alert) && more.is_empty(), "{seen}, {more:?}");
            let line = format!("TLS was ended with {who}: ");
            let told = || {
                let errors = daemon.errors();
                errors.lines().any(|told| told.contains(&line) && told.contains(says))
            };
            wait_until("it says what and who", told);
        }
    }
    drop(daemon.finish());
}

#[test]
fn a_silent_client_is_given_up() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let daemon = serve(&root, &files, &["--header-timeout-seconds", "1"]);
    let mut silent = TcpStream::connect(daemon.address()).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    silent.write_all(&[22, 3, 1]).unwrap();
    assert!(matches!(silent.read(&mut [0; 100]), Ok(0) | Err(_)), "the connection is closed");
    wait_until("it says so", || daemon.errors().contains("had not ended after 1s"));
}

#[test]
fn a_certificate_for_development_is_made_once_and_named() {
    let root = Root::new();
    let content = root.file("file", 5000);
    let state = root.path(".state");
    let folder = state.to_str().unwrap();
    let arguments = ["--tls-listen", "127.0.0.1:0", "--self-signed", "--state-dir", folder];
    let mut kept = None;
    for _ in 0..2 {
        let daemon = Daemon::serve(&root, &arguments);
        let said = daemon.errors();
        let file = state.join("self-signed.pem");
        assert!(said.contains(file.to_str().unwrap()), "{said}");
        let made = fs::read(&file).unwrap();
        assert_eq!(kept.get_or_insert_with(|| made.clone()), &made, "it is kept");
        let mut client = Secure::connect(&daemon, file.to_str().unwrap());
        assert_same(&client.get("file", 5000), &content, "the file");
        assert_eq!(mode(&state.join("self-signed.key")), 0o600, "the key is nobody else's");
        daemon.finish();
    }
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}

#[test]
fn plain_and_encrypted_addresses_are_served_side_by_side() {
    let root = Root::new();
    let files = certificate(&root, "first");
    let content = root.file("file", 70_000);
    let daemon = serve(&root, &files, &["--listen", "127.0.0.1:0"]);
    let mut plain = crate::client::Client::connect(daemon.addresses[0]);
    assert_same(&plain.get("/file").body, &content, "in the clear");
    let encrypted = format!("https://{}/file", daemon.addresses[1]);
    let Some(output) = curl(&files.0, &["-f", &encrypted]) else { return };
    assert_same(&output.stdout, &content, "encrypted");
}
