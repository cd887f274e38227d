//! Pushes that break off and are gone on with, by tus 1.0: within a run, and in a later one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::authority::Authority;
use crate::daemon::Daemon;
use crate::receiver::{Receiver, assert_same};
use crate::run::{Files, Outcome, run, start, wait_until};

const LEN: usize = 12_000_000;

/// Something on the way to a server that counts what it carries, and breaks off the first connections
/// after so many bytes.
struct Relay {
    address: SocketAddr,
    carried: Arc<AtomicU64>,
}

impl Relay {
    fn to(server: SocketAddr, breaks: u64, after: u64) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let carried = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&carried);
        thread::spawn(move || {
            let mut broken = 0;
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).unwrap();
                let (mut answers, mut to_client) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    _ = std::io::copy(&mut answers, &mut to_client);
                    _ = to_client.shutdown(Shutdown::Both);
                });
                // Small requests do not count: one is broken that carries a body.
                let most = if broken < breaks { after } else { u64::MAX };
                let carried = carry(&client, &server, most, &counted);
                broken += u64::from(carried == most);
                _ = client.shutdown(Shutdown::Both);
                _ = server.shutdown(Shutdown::Both);
            }
        });
        Relay { address, carried }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Carries at most so many bytes, and says how many.
fn carry(mut from: &TcpStream, mut to: &TcpStream, most: u64, counted: &AtomicU64) -> u64 {
    let (mut piece, mut carried) = (vec![0; 1 << 16], 0);
    while carried < most {
        let want = piece.len().min(usize::try_from(most - carried).unwrap_or(usize::MAX));
        let Ok(count @ 1..) = from.read(&mut piece[..want]) else { break };
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
        carried += count as u64;
        counted.fetch_add(count as u64, Ordering::Relaxed);
    }
    carried
}

/// What is remembered of uploads in a state folder.
fn remembered(state: &Files) -> usize {
    fs::read_dir(state.path("uploads")).map_or(0, Iterator::count)
}

fn push(file: &str, to: &str, state: &Files, more: &[&str]) -> Outcome {
    let state = state.names(&["."]).remove(0);
    run(&[&[file, "--to", to, "--resume", "--state-dir", &state][..], more].concat())
}

#[test]
fn files_of_every_size_are_pushed_by_uploads() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let names = ["empty", "one", "small", "läge"];
    let contents: Vec<_> = names
        .iter()
        .zip([0, 1, 5000, 7_000_001])
        .map(|(name, len)| files.file(name, len))
        .collect();
    let mut arguments = files.names(&names);
    arguments.extend(["--to".to_owned(), daemon.url.clone(), "--resume".to_owned()]);
    arguments.extend(["--state-dir".to_owned(), state.names(&["."]).remove(0)]);
    run(&arguments).assert_delivered(4);
    for (name, content) in names.iter().zip(&contents) {
        assert_same(&fs::read(root.path(name)).unwrap(), content, name);
    }
    assert_eq!(remembered(&state), 0);
    // What is there already is made again, in one step.
    run(&arguments).assert_delivered(4);
}

#[test]
fn a_connection_that_breaks_costs_no_byte_that_has_arrived() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let relay = Relay::to(daemon.address(), 3, 2_500_000);
    let content = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    let outcome = push(&path, &relay.url(), &state, &[]);
    outcome.assert_delivered(1);
    assert_same(&fs::read(root.path("file")).unwrap(), &content, "the file");
    assert!(outcome.events("retrying").len() >= 3, "{outcome:?}");
    let carried = relay.carried.load(Ordering::Relaxed);
    // What was between the relay and the daemon when it broke may have been lost, and no more.
    assert!(carried < LEN as u64 * 3 / 2, "{carried} bytes for {LEN}");
    assert_eq!(remembered(&state), 0);
}

#[test]
fn what_is_there_and_is_to_stay_is_delivered_if_it_is_the_same_and_refused_if_not() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let daemon = Daemon::keeping(&root);
    let relay = Relay::to(daemon.address(), 0, 0);
    let content = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    push(&path, &daemon.url, &state, &[]).assert_delivered(1);
    push(&path, &relay.url(), &state, &[]).assert_delivered(1);
    let carried = relay.carried.load(Ordering::Relaxed);
    assert!(carried < 10_000, "{carried} bytes for a file that is there");
    files.file("file", 100);
    push(&path, &relay.url(), &state, &[]).assert_failed(6, "refused", "it is to stay");
    assert_same(&fs::read(root.path("file")).unwrap(), &content, "the file");
    assert_eq!(remembered(&state), 0);
}

#[test]
fn a_later_run_goes_on_and_a_file_that_has_changed_begins_anew() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let content = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    let broken =
        push(&path, &Relay::to(daemon.address(), 1, 6_000_000).url(), &state, &["--retries", "0"]);
    // The relay has another port, so that is another place; ours has been left with a part.
    broken.assert_failed(5, "broken", "");
    assert_eq!(remembered(&state), 1);
    let relay = Relay::to(daemon.address(), 1, 6_000_000);
    push(&path, &relay.url(), &state, &["--retries", "0"]).assert_failed(5, "broken", "");
    assert_eq!(remembered(&state), 2);
    let before = relay.carried.load(Ordering::Relaxed);
    push(&path, &relay.url(), &state, &[]).assert_delivered(1);
    let carried = relay.carried.load(Ordering::Relaxed) - before;
    assert!(carried < LEN as u64 * 3 / 4, "{carried} bytes were sent again of {LEN}");
    assert_same(&fs::read(root.path("file")).unwrap(), &content, "the file");
    assert_eq!(remembered(&state), 1, "the other place is still to be gone on with");
    // Changed meanwhile: nothing of the old one is used.
    let relay = Relay::to(daemon.address(), 1, 6_000_000);
    push(&path, &relay.url(), &state, &["--retries", "0"]).assert_failed(5, "broken", "");
    let changed = files.file("other", LEN + 1);
    fs::write(&path, &changed).unwrap();
    push(&path, &relay.url(), &state, &[]).assert_delivered(1);
    assert_same(&fs::read(root.path("file")).unwrap(), &changed, "the changed file");
}

#[test]
fn a_run_that_is_killed_is_gone_on_with() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let content = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    let folder = state.names(&["."]).remove(0);
    let slow = ["--rate-bytes-per-second", "3000000"];
    let always = [&path, "--to", &daemon.url, "--resume", "--state-dir", &folder];
    let running = start(&[&always[..], &slow].concat());
    let part = |root: &Path| {
        let entries = fs::read_dir(root.join(".ringway")).ok()?;
        let sizes = entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
        sizes.max()
    };
    wait_until("a part has arrived", || part(&root.path("")).is_some_and(|len| len > 2_000_000));
    running.kill();
    assert_eq!(remembered(&state), 1);
    push(&path, &daemon.url, &state, &[]).assert_delivered(1);
    assert_same(&fs::read(root.path("file")).unwrap(), &content, "the file");
    assert_eq!(remembered(&state), 0);
}

#[test]
fn an_upload_that_is_gone_is_made_anew() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let content = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    let relay = Relay::to(daemon.address(), 1, 6_000_000);
    push(&path, &relay.url(), &state, &["--retries", "0"]).assert_failed(5, "broken", "");
    wait_until("nobody writes to the part", || {
        for entry in fs::read_dir(root.path(".ringway")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("tus-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        true
    });
    push(&path, &relay.url(), &state, &[]).assert_delivered(1);
    assert_same(&fs::read(root.path("file")).unwrap(), &content, "the file");
}

#[test]
fn a_server_that_makes_no_uploads_is_told_from_one_that_does() {
    let (files, state) = (Files::new(), Files::new());
    files.file("file", 1000);
    let path = files.names(&["file"]).remove(0);
    for (answer, status, kind, says) in [
        ("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", 6, "refused", "without --resume"),
        ("HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n", 5, "broken", "where the upload is"),
    ] {
        let receiver = Receiver::answering(answer);
        let outcome = push(&path, &receiver.url("in/"), &state, &["--retries", "0"]);
        outcome.assert_failed(status, kind, says);
        let request = receiver.requests().remove(0);
        assert!(request.head.starts_with("POST /in/ HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.field("Upload-Metadata"), Some("filename ZmlsZQ=="));
    }
    assert_eq!(remembered(&state), 0);
}

/// A server of tus that others have written. Dropping it kills it.
struct Foreign {
    child: Child,
    address: SocketAddr,
}

impl Foreign {
    fn start(store: &Files) -> Foreign {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/push/tus_server.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(store.path("")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node runs");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().expect("it says its port").unwrap();
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Foreign { child, address: format!("127.0.0.1:{port}").parse().unwrap() }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn uploads_go_on_over_tls() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let authority = Authority::new("authority of the test");
    let daemon = Daemon::secure(&root, &authority, &[]);
    let relay = Relay::to(daemon.address(), 3, 2_500_000);
    let content = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    let url = relay.url().replace("http:", "https:");
    let outcome = push(&path, &url, &state, &["--cacert", &authority.file(), "--retries", "5"]);
    outcome.assert_delivered(1);
    assert_same(&fs::read(root.path("file")).unwrap(), &content, "the file");
    assert_eq!(remembered(&state), 0);
    let carried = relay.carried.load(Ordering::Relaxed);
    // If nothing had been kept it would be more than 19 million.
    assert!(carried < LEN as u64 * 3 / 2, "{carried} bytes for {LEN}");
}

#[test]
#[ignore = "lane: needs packages of npm; run with: .ci/tus"]
fn a_server_of_others_takes_uploads_that_break_off() {
    let (store, files, state) = (Files::new(), Files::new(), Files::new());
    let server = Foreign::start(&store);
    let relay = Relay::to(server.address, 2, 2_500_000);
    let content = files.file("file", LEN);
    let path = files.names(&["file"]).remove(0);
    for to in [format!("{}files/", relay.url()), format!("{}files", relay.url())] {
        push(&path, &to, &state, &[]).assert_delivered(1);
    }
    let entries = fs::read_dir(store.path("")).unwrap().flatten();
    let stored: Vec<_> = entries
        .filter(|entry| entry.metadata().unwrap().len() == LEN as u64)
        .map(|entry| fs::read(entry.path()).unwrap())
        .collect();
    assert_eq!(stored.len(), 2, "both are whole");
    stored.iter().for_each(|stored| assert_same(stored, &content, "what it has stored"));
    let carried = relay.carried.load(Ordering::Relaxed);
    assert!(carried < LEN as u64 * 5 / 2, "{carried} bytes for two of {LEN}");
    assert_eq!(remembered(&state), 0);
}

#[test]
#[ignore = "lane: needs packages of npm; run with: .ci/tus"]
fn a_client_of_others_uploads_to_ours_and_goes_on() {
    let (root, files) = (Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let content = files.file("file", LEN);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/push/tus_client.mjs");
    let output = Command::new("node")
        .args([script, &files.names(&["file"])[0], &daemon.url])
        .output()
        .expect("node runs");
    assert!(output.status.success(), "{output:?}");
    assert_same(&fs::read(root.path("by tus-js-client")).unwrap(), &content, "the file");
}
