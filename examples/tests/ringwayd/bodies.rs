//! What arrives is what is there, and as many times as it is asked for.

use std::io::Write;

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root};

pub(crate) const SIZES: [usize; 9] =
    [0, 1, 4095, 4096, 4097, 65_537, (1 << 20) - 1, (1 << 20) + 1, 20 << 20];

#[test]
fn files_of_every_size_arrive_whole() {
    let root = Root::new();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for size in SIZES {
        let name = format!("file-{size}.bin");
        let content = root.file(&name, size);
        let response = client.get(&format!("/{name}"));
        assert_eq!(response.status, 200);
        assert_eq!(response.length(), Some(size));
        assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
        assert!(response.field("ETag").is_some() && response.field("Last-Modified").is_some());
        assert_same(&response.body, &content, &name);
    }
    daemon.finish();
}

#[test]
fn head_tells_the_length_and_sends_no_body() {
    let root = Root::new();
    for size in [0, 5000, 2 << 20] {
        root.file(&format!("file-{size}"), size);
    }
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for size in [0, 5000, 2 << 20] {
        client.ask("HEAD", &format!("/file-{size}"), "");
        let response = client.head();
        assert_eq!((response.status, response.length()), (200, Some(size)));
    }
    client.ask("HEAD", "/nothing", "");
    let response = client.head();
    assert_eq!(response.status, 404);
    assert!(response.length().is_some_and(|length| length > 0));
    // Had a body followed, it would stand where this response begins.
    assert_eq!(client.get("/file-0").status, 200);
}

#[test]
fn a_thousand_requests_on_one_connection() {
    let root = Root::new();
    let small = root.file("small", 700);
    let large = root.file("large", 100_000);
    let daemon = Daemon::serve(&root, &["--log-format", "none"]);
    let mut client = Client::connect(daemon.address());
    for round in 0..1000 {
        let (path, content) = if round % 10 == 9 { ("/large", &large) } else { ("/small", &small) };
        assert_same(&client.get(path).body, content, path);
    }
    assert_eq!(daemon.finish(), "", "nothing is logged");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let root = Root::new();
    let files: Vec<_> = [10usize, 5000, 70_000, 300_000]
        .iter()
        .map(|&size| (format!("/file-{size}"), root.file(&format!("file-{size}"), size)))
        .collect();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let mut requests = String::new();
    for round in 0..100 {
        let (path, _) = &files[round % files.len()];
        requests += &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        requests += "GET /missing HTTP/1.1\r\nHost: test\r\n\r\n";
        requests += &format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let mut sending = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || sending.write_all(requests.as_bytes()).unwrap());
    for round in 0..100 {
        let (path, content) = &files[round % files.len()];
        assert_same(&client.response().body, content, path);
        assert_eq!(client.response().status, 404);
        assert_eq!(client.head().length(), Some(content.len()));
    }
    sender.join().unwrap();
}

#[test]
fn a_request_may_come_in_pieces() {
    let root = Root::new();
    let content = root.file("file", 3000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for _ in 0..2 {
        for byte in b"\r\nGET /file HTTP/1.1\r\nHost: test\r\nX-Long: aaaaaaaaaaaaaaaaaaaa\r\n\r\n"
        {
            client.send([*byte]);
        }
        assert_same(&client.response().body, &content, "the file");
    }
    // A head that is larger than what a desk has room for at first, and another one behind it.
    let long = format!("X-Long: {}\r\n", "a".repeat(9000));
    client.ask("GET", "/file", &long);
    client.ask("GET", "/file", &long);
    for _ in 0..2 {
        assert_same(&client.response().body, &content, "the file");
    }
}

#[test]
fn an_old_client_is_answered_once_unless_it_asks_for_more() {
    let root = Root::new();
    let content = root.file("file", 3000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    client.send("GET /file HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!(response.field("Connection"), Some("keep-alive"));
    assert_same(&response.body, &content, "the file");
    client.send("GET /file HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!(response.field("Connection"), Some("close"));
    assert_same(&response.body, &content, "the file");
    client.assert_closed();
}

#[test]
fn a_small_request_body_is_thrown_away() {
    let root = Root::new();
    let content = root.file("file", 3000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for len in [1, 5000, 60_000] {
        client.ask("POST", "/file", &format!("Content-Length: {len}\r\n"));
        client.send(vec![b'x'; len]);
        let response = client.response();
        assert_eq!(response.status, 405);
        assert_eq!(response.field("Allow"), Some("GET, HEAD, OPTIONS"));
        assert_same(&client.get("/file").body, &content, "the file");
    }
    // A large one is not waited for, and the answer arrives all the same.
    client.ask("PUT", "/file", "Content-Length: 200000\r\n");
    client.send(vec![b'x'; 200_000]);
    assert_eq!(client.response().status, 405);
    client.assert_closed();
}

#[test]
fn many_clients_at_once_get_their_own_bytes() {
    let root = Root::new();
    let files: Vec<_> = (0..8)
        .map(|number| root.file(&format!("file-{number}"), 200_000 + number * 1000))
        .collect();
    let daemon = Daemon::serve(&root, &["--threads", "2"]);
    std::thread::scope(|scope| {
        for (number, content) in files.iter().enumerate() {
            let address = daemon.address();
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..20 {
                    let path = format!("/file-{number}");
                    assert_same(&client.get(&path).body, content, &path);
                }
            });
        }
    });
    let log = daemon.finish();
    assert_eq!(log.lines().count(), 160, "every request has its line");
}
