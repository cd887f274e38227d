//! Our own daemon as the server, in the clear and over TLS.

use std::fs;

use ringway_testkit::chaos::{Chaos, Harm, Plan};

use crate::authority::{Authority, Signed};
use crate::daemon::Daemon;
use crate::receiver::assert_same;
use crate::run::{Files, get, run};

#[test]
fn our_own_daemon_takes_what_is_pushed() {
    let (root, files) = (Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let names = ["empty", "small", "large"];
    let contents: Vec<_> =
        names.iter().zip([0, 5000, 7_000_001]).map(|(name, len)| files.file(name, len)).collect();
    let mut arguments = files.names(&names);
    arguments.extend(["--to".to_owned(), daemon.url.clone()]);
    run(&arguments).assert_delivered(3);
    for (name, content) in names.iter().zip(&contents) {
        assert_same(&fs::read(root.path(name)).unwrap(), content, name);
    }
}

#[test]
fn a_receiver_whose_disk_is_full_says_so_and_keeps_no_part() {
    let (root, files, state) = (Files::new(), Files::new(), Files::new());
    let Some(daemon) = Daemon::on_a_small_disk(&root) else { return };
    files.file("fits", 700_000);
    files.file("small", 600_000);
    files.file("large", 3_000_000);
    let push = |name: &str, more: &[&str]| {
        let path = files.names(&[name]).remove(0);
        run(&[&[&path, "--to", &daemon.url, "--retries", "1"][..], more].concat())
    };
    let state = state.names(&["."]).remove(0);
    let resume = ["--resume", "--state-dir", &state];
    push("large", &[]).assert_failed(6, "refused", "507");
    assert_eq!(daemon.names(&root, ""), [".ringway"]);
    push("fits", &[]).assert_delivered(1);
    // This one is not asked for first, and would have its place if the other had not.
    let outcome = push("small", &[]);
    outcome.assert_failed(6, "refused", "There is no room for the file.");
    assert_eq!(outcome.events("retrying").len(), 1, "room may be made meanwhile: {outcome:?}");
    assert_eq!(daemon.names(&root, ""), [".ringway", "fits"]);
    assert_eq!(daemon.names(&root, ".ringway"), ["lock"]);
    push("small", &resume).assert_failed(6, "refused", "507");
    assert_eq!(daemon.names(&root, ""), [".ringway", "fits"]);
}

#[test]
fn our_own_daemon_takes_and_gives_over_tls() {
    let (root, files) = (Files::new(), Files::new());
    let authority = Authority::new("authority of the test");
    let daemon = Daemon::secure(&root, &authority, &[]);
    let trust = authority.file();
    let got = files.names(&["got"]).remove(0);
    for size in [0, 1, 16_384, 16_385, 1_048_577, 9_000_001] {
        let name = format!("file-{size}");
        let content = files.file(&name, size);
        let path = files.names(&[&name]).remove(0);
        let outcome = run(&[&path, "--to", &daemon.url, "--cacert", &trust]);
        outcome.assert_delivered(1);
        assert_eq!(outcome.events("delivered")[0]["verified"], true, "{outcome:?}");
        assert_same(&fs::read(root.path(&name)).unwrap(), &content, &name);
        let url = format!("{}{name}", daemon.url);
        get(&[&url, "--output", &got, "--cacert", &trust]).assert_delivered(1);
        assert_same(&fs::read(&got).unwrap(), &content, "what came back");
        fs::remove_file(&got).unwrap();
    }
    let path = files.names(&["file-1"]).remove(0);
    run(&[&path, "--to", &daemon.url]).assert_failed(12, "tls", "certificate");
}

#[test]
fn our_own_daemon_asks_for_a_certificate_and_is_shown_one() {
    let (root, files) = (Files::new(), Files::new());
    let authority = Authority::new("authority of servers");
    let of_clients = Authority::new("authority of clients");
    let Signed { certificate, key } = of_clients.sign("client", |_| {});
    let content = files.file("file", 2_000_000);
    let path = files.names(&["file"]).remove(0);
    let (trust, clients) = (authority.file(), of_clients.file());
    let daemon = Daemon::secure(&root, &authority, &["--client-ca", &clients]);
    let nobody = [&*path, "--to", &daemon.url, "--cacert", &trust, "--retries", "0"];
    run(&nobody).assert_failed(12, "tls", "certificate");
    assert!(!root.path("file").exists());
    let shown = ["--cert", &certificate, "--key", &key];
    run(&[&nobody[..], &shown].concat()).assert_delivered(1);
    let (url, got) = (format!("{}file", daemon.url), files.names(&["got"]).remove(0));
    let fetch = [&*url, "--output", &got, "--cacert", &trust, "--retries", "0"];
    assert_eq!(get(&fetch).status, 12);
    get(&[&fetch[..], &shown].concat()).assert_delivered(1);
    assert_same(&fs::read(got).unwrap(), &content, "what came back");
}

#[test]
fn a_get_over_tls_goes_on_where_its_connection_broke() {
    let (root, files) = (Files::new(), Files::new());
    let authority = Authority::new("authority of the test");
    let daemon = Daemon::secure(&root, &authority, &[]);
    let content = root.file("file", 6_000_000);
    let chaos = Chaos::before(daemon.address(), |number| match number {
        0 => Plan::downstream(Harm::Reset(2_000_000)),
        1 => Plan::downstream(Harm::HalfClose(2_000_000)),
        _ => Plan::default(),
    });
    let url = format!("https://{}/file", chaos.address());
    let got = files.names(&["got"]).remove(0);
    let outcome = get(&[&url, "--output", &got, "--cacert", &authority.file()]);
    outcome.assert_delivered(1);
    assert_eq!(outcome.events("retrying").len(), 2, "{outcome:?}");
    assert_same(&fs::read(got).unwrap(), &content, "the file");
}
