//! What must not be seen.

use std::fs;

use crate::receiver::{CREATED, Receiver};
use crate::run::{Files, run};

#[test]
fn a_token_reaches_the_receiver_and_nobody_else() {
    let files = Files::new();
    files.file("file", 100);
    fs::write(files.path("token"), "t0ken-of-the-test\n").unwrap();
    let [path, token] = ["file", "token"].map(|name| files.names(&[name]).remove(0));
    let receivers =
        [CREATED, "HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n"].map(Receiver::answering);
    for given in [["--token-file", &token], ["--token-variable", "RINGWAYD_TEST_TOKEN"]] {
        let urls = [receivers[0].url("x?signature=hidden"), receivers[1].url("x?signature=hidden")];
        let outcome = run(&[&[&path, "--to", &urls[0], &urls[1]][..], &given].concat());
        assert_eq!(outcome.status, 6, "{outcome:?}");
        let told = format!("{outcome:?}");
        assert!(!told.contains("t0ken") && !told.contains("hidden"), "{told}");
    }
    for receiver in &receivers {
        assert_eq!(receiver.requests().len(), 2);
        for request in receiver.requests() {
            assert_eq!(request.field("Authorization"), Some("Bearer t0ken-of-the-test"));
            assert!(request.head.starts_with("PUT /x?signature=hidden HTTP/1.1\r\n"));
        }
    }
}

#[test]
fn a_token_that_is_missing_or_broken_ends_it_at_once() {
    let files = Files::new();
    files.file("file", 100);
    fs::write(files.path("token"), "two words").unwrap();
    let [path, token] = ["file", "token"].map(|name| files.names(&[name]).remove(0));
    let receiver = Receiver::answering(CREATED);
    for given in [["--token-file", &token], ["--token-variable", "RINGWAYD_NOT_SET"]] {
        let outcome = run(&[&[&path, "--to", &receiver.url("x")][..], &given].concat());
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(!outcome.errors.contains("two words"), "{outcome:?}");
    }
    assert_eq!(receiver.connections(), 0);
}
