//! Where the daemon listens, and what it says when it cannot.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, Start};

/// What the daemon says when it does not start.
fn refusal(mut command: Command) -> String {
    let output = command.output().expect("it can be run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this host has no IPv6");
        return;
    }
    let root = Root::new();
    let content = root.file("file", 5000);
    let daemon = Daemon::serve(&root, &["--listen", "[::1]:0", "--log-format", "json"]);
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/file").body, &content, "the file");
    assert!(daemon.finish().contains("\"peer\":\"[::1]:"));
}

#[test]
fn two_addresses_and_two_threads() {
    let root = Root::new();
    let content = root.file("file", 5000);
    let daemon = Daemon::serve(
        &root,
        &["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0", "--threads", "2"],
    );
    assert_eq!(daemon.addresses[0].ip().to_string(), "127.0.0.1");
    assert_eq!(daemon.addresses[1].ip().to_string(), "127.0.0.2");
    assert!(daemon.errors().contains(", 2 threads, Linux "), "{}", daemon.errors());
    let mut clients = Vec::new();
    for address in &daemon.addresses {
        // Enough of them that the kernel gives some to each thread.
        clients.extend((0..40).map(|_| Client::connect(*address)));
    }
    for client in &mut clients {
        assert_same(&client.get("/file").body, &content, "the file");
    }
    drop(clients);
    assert_eq!(daemon.finish().lines().count(), 80);
}

#[test]
fn an_address_in_use_is_explained() {
    let root = Root::new();
    let daemon = Daemon::serve(&root, &["--threads", "2"]);
    let taken = daemon.address().to_string();
    for threads in ["1", "2"] {
        let arguments = ["--listen", &taken, "--threads", threads];
        let said = refusal(Start::new(&root, &arguments).command());
        assert!(said.contains(&format!("cannot listen on {taken}: Address already in use")));
        assert!(said.contains("ss -ltnp"), "{said}");
    }
    let said = refusal(Start::new(&root, &["--listen", "192.0.2.1:0"]).command());
    assert!(said.contains("this host has no such address"), "{said}");
}

#[test]
fn an_address_that_becomes_free_in_a_moment_is_waited_for() {
    let root = Root::new();
    for threads in ["1", "2"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let arguments = ["--listen", &address, "--threads", threads];
        let mut child = Start::new(&root, &arguments).command().spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let waits = format!("{address} is in use; trying for 2s");
        let waited = lines.find(|line| line.contains(&waits));
        drop(taken);
        let serves = format!(" on http://{address}");
        let served = lines.find(|line| line.contains(&serves));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(waited.is_some() && served.is_some(), "{waited:?}, then {served:?}");
    }
}

#[test]
fn a_daemon_takes_the_place_of_one_that_was_killed() {
    let root = Root::new();
    let content = root.file("file", 5000);
    let mut daemon = Daemon::serve(&root, &[]);
    let address = daemon.address().to_string();
    for _ in 0..10 {
        let mut client = Client::connect(daemon.address());
        assert_same(&client.get("/file").body, &content, "the file");
        daemon.signal(Signal::KILL);
        daemon.ended();
        daemon = Daemon::serve(&root, &["--listen", &address]);
    }
}

#[test]
fn a_root_that_cannot_be_served_is_explained() {
    let root = Root::new();
    root.file("file", 10);
    for (name, words) in [("missing", "name an existing folder"), ("file", "it is a file")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwayd"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--root"]).arg(root.path(name));
        let said = refusal(command);
        assert!(said.contains(words) && said.contains(name), "{said}");
    }
}

#[test]
fn a_ring_that_cannot_be_had_is_explained() {
    let root = Root::new();
    // So few descriptors that the listener is the last one to get any.
    let daemon = Start::new(&root, &[]).command();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 9; exec \"$@\"", "sh"]);
    command.arg(daemon.get_program()).args(daemon.get_args());
    let said = refusal(command);
    assert!(said.contains("raise RLIMIT_NOFILE"), "{said}");
}
