//! R18: a daemon that is killed in the middle of uploads leaves no part of a file under its name.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::assert_same;
use crate::daemon::{Root, content};
use crate::uploads::{staged, writable};

#[test]
fn a_killed_daemon_leaves_no_part_of_a_file() {
    kill_often(12);
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway-examples --test ringwayd killed -- --ignored"]
fn a_thousand_killed_daemons_leave_no_part_of_a_file() {
    kill_often(1000);
}

/// Kills daemons at other and other moments of uploads that replace the same files.
fn kill_often(times: u64) {
    let root = Root::new();
    let versions: Vec<Vec<u8>> = (0..4).map(|v| content(&format!("v{v}"), 400_000 + v)).collect();
    let (mut answered, mut replaced) = (0, 0);
    for round in 0..times {
        let mut daemon = writable(&root, &[]);
        assert_eq!(staged(&root), 0, "what the last one left is gone");
        let address = daemon.address();
        let clients: Vec<_> = (0..4usize)
            .map(|client| {
                let versions = versions.clone();
                thread::spawn(move || upload(address, client, &versions))
            })
            .collect();
        thread::sleep(Duration::from_micros(round * 7919 % 30_000));
        daemon.signal(Signal::KILL);
        daemon.ended();
        answered += clients.into_iter().map(|client| client.join().unwrap()).sum::<u64>();
        for client in 0..4 {
            // Not there, or one version, whole.
            let Ok(stored) = std::fs::read(root.path(&format!("file-{client}"))) else { continue };
            let version = versions.iter().find(|version| version.len() == stored.len());
            let version = version.unwrap_or_else(|| panic!("{} bytes", stored.len()));
            assert_same(&stored, version, "a file after a kill");
            replaced += 1;
        }
    }
    println!(
        "{times} killed, {answered} uploads answered, {replaced} files looked at: none partial"
    );
    assert!(times < 10 || answered > 0);
}

/// Uploads one version after another until the daemon is gone; how many were answered.
fn upload(address: std::net::SocketAddr, client: usize, versions: &[Vec<u8>]) -> u64 {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    for number in 0.. {
        let body = &versions[(client + number) % versions.len()];
        let head = format!(
            "PUT /file-{client} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut answer = [0; 12];
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        if sent.and_then(|()| stream.read_exact(&mut answer)).is_err() {
            return number as u64;
        }
        assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
        // The rest of the answer.
        let mut rest = Vec::new();
        let mut byte = [0];
        while !rest.ends_with(b"\r\n\r\n") {
            if stream.read_exact(&mut byte).is_err() {
                return number as u64;
            }
            rest.push(byte[0]);
        }
    }
    0
}
