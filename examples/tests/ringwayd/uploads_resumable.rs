//! Uploads that are gone on with, by tus 1.0: after a part, after a connection that broke, after a
//! daemon that was killed.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use sha2::Digest;

use crate::client::{Client, Response, assert_same};
use crate::daemon::{Daemon, Root, content, wait_until};
use crate::uploads::{staged, writable};

const TUS: &str = "Tus-Resumable: 1.0.0\r\n";

/// Creates an upload; where it is.
#[track_caller]
fn create(client: &mut Client, target: &str, length: usize, fields: &str) -> String {
    client.ask("POST", target, &format!("{TUS}Upload-Length: {length}\r\n{fields}"));
    let made = client.response();
    assert_eq!(made.status, 201, "{made:?}");
    made.field("Location").unwrap().to_owned()
}

#[track_caller]
fn patch(client: &mut Client, place: &str, offset: usize, part: &[u8]) -> Response {
    let fields = format!(
        "{TUS}Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n\
         Content-Length: {}\r\n",
        part.len()
    );
    client.ask("PATCH", place, &fields);
    client.send(part);
    client.response()
}

#[track_caller]
fn offset(client: &mut Client, place: &str) -> usize {
    client.ask("HEAD", place, TUS);
    let told = client.head();
    assert_eq!((told.status, told.field("Cache-Control")), (200, Some("no-store")), "{told:?}");
    told.field("Upload-Offset").unwrap().parse().unwrap()
}

#[test]
fn an_upload_goes_on_part_by_part_and_has_its_name_in_the_end() {
    let root = Root::new();
    std::fs::create_dir(root.path("in")).unwrap();
    let daemon = writable(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let body = content("parts", 1_000_000);
    let name = STANDARD.encode("a file");
    let place =
        create(&mut client, "/in/", body.len(), &format!("Upload-Metadata: filename {name}\r\n"));
    let mut at = 0;
    for part in [&body[..1], &body[1..1], &body[1..300_000], &body[300_000..]] {
        assert!(!root.path("in/a file").exists());
        assert_eq!(offset(&mut client, &place), at);
        let moved = patch(&mut client, &place, at, part);
        at += part.len();
        let told = moved.field("Upload-Offset").map(str::to_owned);
        assert_eq!((moved.status, told), (204, Some(at.to_string())));
    }
    assert_same(&std::fs::read(root.path("in/a file")).unwrap(), &body, "the file");
    // The answer to the last part may be missed.
    assert_eq!(offset(&mut client, &place), body.len());
    assert_eq!(patch(&mut client, &place, body.len(), b"").status, 204);
    assert_eq!(patch(&mut client, &place, 0, b"x").status, 409);
    let empty = create(&mut client, "/in/empty", 0, "");
    assert_eq!(offset(&mut client, &empty), 0);
    assert_eq!(std::fs::read(root.path("in/empty")).unwrap(), b"");
}

#[test]
fn a_connection_that_breaks_and_a_daemon_that_is_killed_lose_nothing_that_came() {
    let root = Root::new();
    let body = content("killed", 3_000_000);
    let mut place = None;
    let mut at = 0;
    for round in 0..5 {
        let mut daemon = writable(&root, &[]);
        let mut client = Client::connect(daemon.address());
        let place = place.get_or_insert_with(|| create(&mut client, "/file", body.len(), ""));
        let there = offset(&mut client, place);
        assert!(there >= at, "{there} of {at}");
        at = there;
        let fields = format!(
            "{TUS}Content-Type: application/offset+octet-stream\r\nUpload-Offset: {at}\r\n\
             Content-Length: {}\r\n",
            body.len() - at
        );
        client.ask("PATCH", place, &fields);
        client.send(&body[at..at + 500_000]);
        if round % 2 == 0 {
            drop(client);
            let mut client = Client::connect(daemon.address());
            wait_until("what came is told", || offset(&mut client, place) == at + 500_000);
            at += 500_000;
        }
        daemon.signal(Signal::KILL);
        daemon.ended();
        assert!(!root.path("file").exists());
    }
    let daemon = writable(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let place = place.unwrap();
    let at = offset(&mut client, &place);
    assert_eq!(patch(&mut client, &place, at, &body[at..]).status, 204);
    assert_same(&std::fs::read(root.path("file")).unwrap(), &body, "the file");
}

#[test]
fn what_does_not_fit_is_refused_and_an_upload_can_be_ended() {
    let root = Root::new();
    std::fs::create_dir(root.path("folder")).unwrap();
    let daemon = writable(&root, &["--max-body", "1MB"]);
    let mut client = Client::connect(daemon.address());
    for (target, fields, status) in [
        ("/none/file", "Upload-Length: 5\r\n", 403),
        ("/folder", "Upload-Length: 5\r\n", 403),
        ("/file", "Upload-Length: 1000001\r\n", 413),
        ("/file", "Upload-Defer-Length: 1\r\n", 400),
        ("/.ringway/x", "Upload-Length: 5\r\n", 404),
    ] {
        client.ask("POST", target, &format!("{TUS}{fields}"));
        let refused = client.response();
        assert_eq!(
            (refused.status, refused.field("Tus-Resumable")),
            (status, Some("1.0.0")),
            "{target}"
        );
    }
    client.ask("POST", "/file", "Tus-Resumable: 0.2.2\r\nUpload-Length: 5\r\n");
    let refused = client.response();
    assert_eq!((refused.status, refused.field("Tus-Version")), (412, Some("1.0.0")));
    client.ask("POST", "/file", "Upload-Length: 5\r\n");
    assert_eq!(client.response().status, 405, "who does not speak the protocol");
    let place = create(&mut client, "/file", 5, "");
    assert_eq!(patch(&mut client, &place, 1, b"x").status, 409);
    assert_eq!(patch(&mut client, &place, 0, b"123456").status, 413);
    assert_eq!(patch(&mut client, &place, 0, b"123").status, 204);
    assert_eq!(client.get(&place).status, 404, "no file that can be read");
    client.ask("DELETE", &place, TUS);
    assert_eq!(client.response().status, 204);
    client.ask("HEAD", &place, TUS);
    assert_eq!(client.head().status, 404);
    assert_eq!((staged(&root), root.path("file").exists()), (0, false));
    client.ask("OPTIONS", "/", "");
    assert_eq!(client.response().field("Tus-Extension"), Some("creation,termination"));
    let wrong =
        format!("Repr-Digest: sha-256=:{}:\r\n", STANDARD.encode(sha2::Sha256::digest("x")));
    let place = create(&mut client, "/file", 5, &wrong);
    assert_eq!(patch(&mut client, &place, 0, b"12345").status, 400);
    assert_eq!((staged(&root), root.path("file").exists()), (0, false));
}

/// What came whole has no name yet when the daemon is killed at that moment, or when the name is taken
/// meanwhile: who asks by HEAD must not be told that all is well before it is.
#[test]
fn an_upload_that_is_whole_is_not_over_before_its_file_has_its_name() {
    let root = Root::new();
    let body = content("whole", 100_000);
    let mut daemon = writable(&root, &["--overwrite", "never"]);
    let mut client = Client::connect(daemon.address());
    let cut = create(&mut client, "/cut", body.len(), "");
    let late = create(&mut client, "/late", body.len(), "");
    for place in [&cut, &late] {
        assert_eq!(patch(&mut client, place, 0, &body[..60_000]).status, 204);
    }
    // As it is when the last part has come and the daemon is killed before the rename.
    daemon.signal(Signal::KILL);
    daemon.ended();
    let staged = root.path(&format!(".ringway/tus-{}", cut.rsplit('/').next().unwrap()));
    std::fs::write(staged, &body).unwrap();
    let daemon = writable(&root, &["--overwrite", "never"]);
    let mut client = Client::connect(daemon.address());
    assert_eq!(offset(&mut client, &cut), body.len());
    assert_same(&std::fs::read(root.path("cut")).unwrap(), &body, "the file");
    // Somebody else has brought a file of that name.
    std::fs::write(root.path("late"), b"another").unwrap();
    assert_eq!(patch(&mut client, &late, 60_000, &body[60_000..]).status, 403);
    client.ask("HEAD", &late, TUS);
    assert_eq!(client.head().status, 403, "not all is well");
    std::fs::remove_file(root.path("late")).unwrap();
    assert_eq!(offset(&mut client, &late), body.len());
    assert_same(&std::fs::read(root.path("late")).unwrap(), &body, "the file");
}

/// Clients try again what is answered 409 or 423: those are for uploads, not for files.
#[test]
fn a_file_that_is_to_stay_is_refused_for_good_and_the_same_one_is_there_already() {
    let root = Root::new();
    let body = content("stays", 1000);
    std::fs::write(root.path("file"), &body).unwrap();
    let daemon = writable(&root, &["--overwrite", "never"]);
    let mut client = Client::connect(daemon.address());
    let digest = |of: &[u8]| {
        format!("Repr-Digest: sha-256=:{}:\r\n", STANDARD.encode(sha2::Sha256::digest(of)))
    };
    for fields in [String::new(), digest(b"others")] {
        client.ask("POST", "/file", &format!("{TUS}Upload-Length: 1000\r\n{fields}"));
        assert_eq!(client.response().status, 403, "{fields}");
    }
    client.ask("POST", "/file", &format!("{TUS}Upload-Length: 1000\r\n{}", digest(&body)));
    let made = client.response();
    assert_eq!((made.status, made.field("Upload-Offset")), (201, Some("1000")), "{made:?}");
    let place = made.field("Location").unwrap().to_owned();
    assert_eq!(offset(&mut client, &place), 1000);
    // And if it comes meanwhile.
    let place = create(&mut client, "/other", 1000, &digest(&body));
    std::fs::write(root.path("other"), &body).unwrap();
    assert_eq!(patch(&mut client, &place, 0, &body).status, 204);
    assert_eq!((offset(&mut client, &place), staged(&root)), (1000, 2), "two records");
}

#[test]
fn tokens_hold_for_uploads_of_every_kind() {
    let (root, secret) = (Root::new(), Root::new());
    std::fs::write(secret.path("tokens"), "sesame").unwrap();
    let tokens = secret.path("tokens");
    let daemon = writable(&root, &["--write-tokens", tokens.to_str().unwrap()]);
    let mut client = Client::connect(daemon.address());
    client.ask("POST", "/file", &format!("{TUS}Upload-Length: 5\r\n"));
    assert_eq!(client.response().status, 401);
    let token = "Authorization: Bearer sesame\r\n";
    let place = create(&mut client, "/file", 5, token);
    for method in ["PATCH", "DELETE"] {
        client.ask(method, &place, TUS);
        assert_eq!(client.response().status, 401, "{method}");
    }
    client.ask("HEAD", &place, TUS);
    assert_eq!(client.head().status, 401);
    let read_only = Daemon::serve(&root, &[]);
    let mut client = Client::connect(read_only.address());
    client.ask("POST", "/file", &format!("{TUS}Upload-Length: 5\r\n"));
    assert_eq!(client.response().status, 405);
}

/// tuspy (PyPI), if this host has it.
#[test]
fn a_client_that_others_have_written_uploads_and_goes_on() {
    let (root, source) = (Root::new(), Root::new());
    let body = content("tuspy", 700_001);
    std::fs::write(source.path("file"), &body).unwrap();
    let daemon = writable(&root, &[]);
    let script = format!(
        "from tusclient import client\n\
         c = client.TusClient('{}')\n\
         u = c.uploader('{}', chunk_size=100000, metadata={{'filename': 'by tuspy'}})\n\
         u.upload_chunk(); u.upload_chunk()\n\
         v = c.uploader('{}', chunk_size=100000, url=u.url)\n\
         assert v.offset == 200000, v.offset\n\
         v.upload()\n",
        daemon.url(""),
        source.path("file").display(),
        source.path("file").display(),
    );
    let output = Command::new("python3").args(["-c", &script]).output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("No module named") => {
            println!("skipped: python3 has no tusclient (tuspy)");
        }
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_same(&std::fs::read(root.path("by tuspy")).unwrap(), &body, "the file");
        }
        Err(error) => println!("skipped: python3 cannot be run: {error}"),
    }
}
