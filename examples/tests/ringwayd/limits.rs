//! What clients may take, and what is left when they are gone.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, wait_until};

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let root = Root::new();
    fs::File::create(root.path("large")).unwrap().set_len(64 << 20).unwrap();
    let small = root.file("small", 1000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/small").body, &small, "the file");
    let before = daemon.sockets();
    for round in 0..20 {
        let mut leaving = Client::connect(daemon.address());
        leaving.ask("GET", "/large", "");
        if round % 2 == 0 {
            leaving.head();
            leaving.exactly(100_000).unwrap();
        }
    }
    for _ in 0..20 {
        let mut leaving = Client::connect(daemon.address());
        leaving.send("GET /small HT");
    }
    assert_same(&client.get("/small").body, &small, "the file");
    wait_until("their sockets are closed", || daemon.sockets() == before);
    let log = daemon.finish();
    let cut = log.lines().filter(|line| line.contains(" outcome=peer-closed")).count();
    assert!(cut >= 10, "{cut} downloads were cut short:\n{log}");
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let root = Root::new();
    let daemon = Daemon::serve(&root, &["--header-timeout-seconds", "1"]);
    let mut client = Client::connect(daemon.address());
    client.send("GET / HTTP/1.1\r\nHost");
    let response = client.response();
    assert_eq!(response.status, 408);
    assert_eq!(response.field("Connection"), Some("close"));
    client.assert_closed();
    // One that drips bytes has no more time than one that is silent.
    let mut client = Client::connect(daemon.address());
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    client.send("GET / HTTP/1.1\r\nX: ");
    wait_until("the dripping client is cut off", || {
        // Once the daemon has closed, a write fails.
        std::io::Write::write(&mut client.stream, b"a").is_err()
            || matches!(std::io::Read::read(&mut client.stream, &mut [0; 512]), Ok(0))
    });
}

#[test]
fn an_idle_connection_is_closed() {
    let root = Root::new();
    let content = root.file("file", 100);
    let daemon = Daemon::serve(&root, &["--idle-timeout-seconds", "1"]);
    let mut silent = Client::connect(daemon.address());
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/file").body, &content, "the file");
    client.assert_closed();
    silent.assert_closed();
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let root = Root::new();
    fs::File::create(root.path("large")).unwrap().set_len(96 << 20).unwrap();
    let daemon = Daemon::serve(&root, &["--send-timeout-seconds", "1"]);
    let mut client = Client::connect(daemon.address());
    client.ask("GET", "/large", "");
    assert_eq!(client.head().length(), Some(96 << 20));
    let before = daemon.sockets();
    wait_until("it is given up", || daemon.sockets() < before);
    let (rest, _) = client.rest();
    assert!(rest.len() < 96 << 20, "it looks whole");
    let log = daemon.finish();
    assert!(log.contains(" outcome=peer-timed-out"), "{log}");
}

#[test]
fn connections_beyond_the_limit_wait_for_a_seat() {
    let root = Root::new();
    let content = root.file("file", 100);
    let daemon = Daemon::serve(&root, &["--max-connections", "2"]);
    let mut seated: Vec<_> = (0..2).map(|_| Client::connect(daemon.address())).collect();
    for client in &mut seated {
        assert_same(&client.get("/file").body, &content, "the file");
    }
    let mut waiting: Vec<_> = (0..3).map(|_| Client::connect(daemon.address())).collect();
    for client in &mut waiting {
        client.ask("GET", "/file", "");
    }
    // Those who are seated are served on, and nobody else is.
    for client in &mut seated {
        assert_same(&client.get("/file").body, &content, "the file");
    }
    waiting[0].stream.set_nonblocking(true).unwrap();
    let nothing = std::io::Read::read(&mut waiting[0].stream, &mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    waiting[0].stream.set_nonblocking(false).unwrap();
    drop(seated);
    for mut client in waiting {
        assert_same(&client.response().body, &content, "the file");
    }
}

#[test]
fn without_descriptors_it_is_503_and_files_that_are_kept_open_go_first() {
    let root = Root::new();
    root.file("one", 100);
    let two = root.file("two", 100);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.get("/nothing").status, 404);
    let usual = getrlimit(Resource::Nofile);
    let allow = |limit| {
        prlimit(Some(daemon.pid()), Resource::Nofile, Rlimit { current: Some(limit), ..usual })
            .unwrap();
    };
    let first_free = || (0..).find(|number| !daemon.descriptors().contains_key(number)).unwrap();
    allow(first_free());
    let response = client.get("/one");
    assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")));
    allow(first_free() + 1);
    assert_eq!(client.get("/one").status, 200);
    assert_same(&client.get("/two").body, &two, "the file that took the place of the other");
    allow(usual.current.unwrap_or(u64::MAX));
    assert_eq!(client.get("/one").status, 200);
}

#[test]
fn idle_connections_cost_little_memory() {
    const BYTES_EACH_MAX: u64 = 6 * 1024;
    let root = Root::new();
    root.file("file", 100);
    let daemon = Daemon::serve(&root, &["--log-format", "none"]);
    // Both ends of each connection are descriptors, of two processes with the same limit.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = (allowed.saturating_sub(300) / 2).min(10_000);
    let mut clients: Vec<_> = (0..10).map(|_| Client::connect(daemon.address())).collect();
    let ask = |client: &mut Client| assert_eq!(client.get("/file").status, 200);
    clients.iter_mut().for_each(ask);
    let before = daemon.memory();
    for _ in 0..count {
        let mut client = Client::connect(daemon.address());
        ask(&mut client);
        clients.push(client);
    }
    let each = (daemon.memory() - before) / count;
    println!("{count} idle connections cost {each} bytes each");
    assert!(each <= BYTES_EACH_MAX, "an idle connection costs {each} bytes");
    clients.iter_mut().rev().take(10).for_each(ask);
}
