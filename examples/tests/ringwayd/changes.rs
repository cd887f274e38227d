//! Files that change while they are served.

use std::fs;
use std::io::Write;

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, content, wait_until};

#[test]
fn a_file_that_vanishes_is_404_soon() {
    let root = Root::new();
    let whole = root.file("file", 70_000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/file").body, &whole, "the file");
    fs::remove_file(root.path("file")).unwrap();
    wait_until("it is gone", || {
        let response = client.get("/file");
        if response.status == 200 {
            assert_same(&response.body, &whole, "the file that is still open");
        }
        response.status == 404
    });
    let again = root.file("file", 100);
    assert_same(&client.get("/file").body, &again, "the file that came back");
    wait_until("its descriptor is closed", || {
        !daemon.descriptors().values().any(|target| target.ends_with("(deleted)"))
    });
}

#[test]
fn a_file_that_is_replaced_is_the_old_or_the_new_one() {
    let root = Root::new();
    let old = root.file("file", 300_000);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let first = client.get("/file");
    let new = root.file("new", 300_000);
    fs::rename(root.path("new"), root.path("file")).unwrap();
    wait_until("the new file is seen", || {
        let response = client.get("/file");
        let same_tag = response.field("ETag") == first.field("ETag");
        assert_same(&response.body, if same_tag { &old } else { &new }, "the file of this tag");
        !same_tag
    });
}

#[test]
fn a_change_of_length_is_seen_at_once() {
    let root = Root::new();
    let whole = content("file", 50_000);
    fs::write(root.path("file"), &whole[..20_000]).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/file").body, &whole[..20_000], "the file");
    let mut file = fs::File::options().append(true).open(root.path("file")).unwrap();
    file.write_all(&whole[20_000..]).unwrap();
    assert_same(&client.get("/file").body, &whole, "the longer file");
    file.set_len(5).unwrap();
    assert_same(&client.get("/file").body, &whole[..5], "the shorter file");
}

#[test]
fn a_file_that_shrinks_in_mid_body_ends_the_connection() {
    const LEN: usize = 96 << 20;
    let root = Root::new();
    fs::File::create(root.path("file")).unwrap().set_len(LEN as u64).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    client.ask("GET", "/file", "");
    assert_eq!(client.head().length(), Some(LEN));
    let begun = client.exactly(100_000).unwrap();
    // The client reads no more, so most of the body is still to be sent.
    fs::File::options().write(true).open(root.path("file")).unwrap().set_len(200_000).unwrap();
    let (rest, _) = client.rest();
    let got = begun.len() + rest.len();
    assert!(got < LEN, "{got} bytes look like the whole");
    let log = daemon.finish();
    assert!(log.contains(" outcome=truncated"), "{log}");
}

#[test]
fn a_change_during_a_download_is_in_the_log() {
    const LEN: usize = 32 << 20;
    let root = Root::new();
    fs::File::create(root.path("file")).unwrap().set_len(LEN as u64).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    client.ask("GET", "/file", "");
    assert_eq!(client.head().length(), Some(LEN));
    let mut file = fs::File::options().append(true).open(root.path("file")).unwrap();
    file.write_all(b"more").unwrap();
    assert_eq!(client.exactly(LEN).unwrap().len(), LEN, "a file that grows is not over-sent");
    let log = daemon.finish();
    assert!(log.contains("file changed: size 33554432 to 33554436"), "{log}");
}
