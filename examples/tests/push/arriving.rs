//! Files that arrive.

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::{Files, run};

#[test]
fn files_of_every_size_arrive_over_one_connection() {
    let files = Files::new();
    let sizes = [0, 1, 4095, 16_384, 65_537, 1_048_576, 3_000_001];
    let names: Vec<String> = sizes.iter().map(|size| format!("file-{size}")).collect();
    let wanted: Vec<_> =
        names.iter().zip(sizes).map(|(name, size)| files.file(name, size)).collect();
    let receiver = Receiver::answering(CREATED);
    let mut arguments = files.names(&names.iter().map(String::as_str).collect::<Vec<_>>());
    arguments.extend(["--to".to_owned(), receiver.url("in/")]);
    let outcome = run(&arguments);
    outcome.assert_delivered(sizes.len());
    assert_eq!(receiver.connections(), 1);
    for ((request, name), wanted) in receiver.requests().iter().zip(&names).zip(&wanted) {
        assert!(request.head.starts_with(&format!("PUT /in/{name} HTTP/1.1\r\n")));
        assert_same(&request.body, wanted, name);
    }
}

#[test]
fn the_digest_is_that_of_the_content_and_a_confirmation_is_told() {
    let files = Files::new();
    std::fs::write(files.path("hello"), "{\"hello\": \"world\"}\n").unwrap();
    // The example of RFC 9530.
    const FIELD: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    let confirming = Receiver::answering(
        "HTTP/1.1 204 No Content\r\nRepr-Digest: \
         sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:\r\n\r\n",
    );
    let silent = Receiver::answering(CREATED);
    let path = files.names(&["hello"]).remove(0);
    let outcome = run(&[&path, "--to", &confirming.url("a"), &silent.url("b")]);
    outcome.assert_delivered(2);
    assert_eq!(confirming.requests()[0].field("Repr-Digest"), Some(FIELD));
    for line in outcome.events("delivered") {
        let confirmed = line["to"] == confirming.url("a").as_str();
        assert_eq!(line["verified"], confirmed, "{line}");
    }
    let outcome = run(&[&path, "--to", &silent.url("c"), "--no-digest"]);
    outcome.assert_delivered(1);
    assert_eq!(silent.requests()[1].field("Repr-Digest"), None);
}

#[test]
fn a_digest_of_other_bytes_is_a_failure_and_that_of_the_answers_own_body_is_not() {
    let files = Files::new();
    files.file("file", 10_000);
    let path = files.names(&["file"]).remove(0);
    const OTHER: &str = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let lying = Receiver::start(|mut connection| {
        let answer = format!("HTTP/1.1 204 x\r\nRepr-Digest: {OTHER}\r\n\r\n");
        while connection.take(&answer) {}
    });
    let outcome = run(&[&path, "--to", &lying.url("x"), "--retries", "1"]);
    outcome.assert_failed(7, "digest", "it has other bytes: sha-256 0000");
    assert_eq!(lying.requests().len(), 2);
    let describing = Receiver::start(|mut connection| {
        let answer =
            format!("HTTP/1.1 200 x\r\nRepr-Digest: {OTHER}\r\nContent-Length: 4\r\n\r\ndone");
        while connection.take(&answer) {}
    });
    let outcome = run(&[&path, "--to", &describing.url("x")]);
    outcome.assert_delivered(1);
    assert_eq!(outcome.events("delivered")[0]["verified"], false);
}

#[test]
fn rates_of_one_and_of_all_change_no_byte() {
    let files = Files::new();
    let wanted = files.file("file", 700_001);
    let path = files.names(&["file"]).remove(0);
    let receivers = [Receiver::answering(CREATED), Receiver::answering(CREATED)];
    let [one, other] = [0, 1].map(|number| receivers[number].url("x"));
    for rates in [
        &["--rate-bytes-per-second", "2000000"][..],
        &["--total-rate-bytes-per-second", "4000000"],
        &["--total-rate-bytes-per-second", "9000000", "--rate-bytes-per-second", "4000000"],
    ] {
        let outcome = run(&[&[&path, "--to", &one, &other], rates].concat());
        outcome.assert_delivered(2);
    }
    for request in receivers.iter().flat_map(Receiver::requests) {
        assert_same(&request.body, &wanted, "the file");
    }
    assert_eq!(receivers.iter().map(|receiver| receiver.requests().len()).sum::<usize>(), 6);
}

#[test]
fn what_cannot_be_begun_is_said_before_anything_is_sent() {
    let files = Files::new();
    files.file("a", 1);
    files.file("b", 1);
    let receiver = Receiver::answering(CREATED);
    let both = files.names(&["a", "b"]);
    let (file, folder) = (receiver.url("file"), receiver.url("folder/"));
    let missing = files.names(&["missing"]).remove(0);
    for (arguments, says) in [
        (vec![&*both[0], &both[1], "--to", &file], "end it with `/`"),
        (vec![&*missing, "--to", &folder], "No such file"),
        (vec!["/", "--to", &folder], "no regular file"),
        (vec![&*both[0], "--to", "https://localhost/", "--cacert", &missing], "--cacert"),
        (vec!["--to", &folder], "at least one FILE"),
        (vec![&*both[0]], "at least one receiver"),
        (vec![&*both[0], "--to", &folder, "--token-file", &missing], "No such file"),
    ] {
        let outcome = run(&arguments);
        assert_eq!((outcome.status, outcome.lines.len()), (1, 0), "{outcome:?}");
        assert!(outcome.errors.contains(says), "{outcome:?}");
    }
    assert_eq!(receiver.connections(), 0);
}
