//! R18: kill −9 at any point of watch, push and receive. No partial file under its final name, none
//! lost, none delivered with other content.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::{Running, start, wait_until};
use crate::scene::{Scene, Server, await_events, content, finish};

#[test]
fn nothing_is_lost_and_nothing_is_torn_by_kills() {
    kill_often(21, 7);
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway-examples --test watch killed -- --ignored --nocapture"]
fn a_thousand_kills_lose_nothing_and_tear_nothing() {
    kill_often(1000, 1);
}

#[test]
fn a_daemon_that_is_killed_while_it_makes_its_journal_starts_again() {
    let mut chance = fastrand::Rng::with_seed(3);
    let receiver = Receiver::answering(CREATED);
    for _ in 0..12 {
        let scene = Scene::new();
        let watch = scene.watch(&[receiver.url("")], &[]);
        thread::sleep(Duration::from_micros(chance.u64(..25_000)));
        watch.kill();
        scene.write("file", 1, 10);
        let watch = scene.watch(&[receiver.url("")], &[]);
        await_events(&watch, "delivered", 1);
        finish(watch);
    }
}

/// What a name stands for: identity and length of each content that it has had.
type Versions = BTreeMap<String, Vec<(u64, usize)>>;

fn kill_often(times: u32, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let scene = Scene::new();
    let done = scene.base().join("done");
    let policy = format!("move:{}", done.display());
    let mut servers = [Server::start(&[]), Server::start(&[])];
    let to = [servers[0].url(), servers[1].url()];
    let (mut versions, mut once) = (Versions::new(), Vec::new());
    let mut watch: Option<Running> = None;
    let mut kills = [0u32; 3];
    for round in 0..times {
        // One that comes once, and one whose name has a new content every few rounds.
        let unique = format!("once-{round}");
        publish(&scene, &unique, 2 * u64::from(round), chance.usize(..60_000), &mut versions);
        once.push(unique);
        let again = format!("again-{}", chance.u8(..5));
        publish(&scene, &again, 2 * u64::from(round) + 1, chance.usize(..200_000), &mut versions);
        watch.get_or_insert_with(|| {
            scene
                .watch(&to, &["--done", &policy, "--settle-milliseconds", "1", "--retries", "1000"])
        });
        let moment = Duration::from_micros(chance.u64(..60_000));
        match chance.u8(..4) {
            0 | 1 => {
                thread::sleep(moment);
                watch.take().expect("it was just started").kill();
                kills[0] += 1;
            }
            2 => {
                let (name, url) = (format!("pushed-{}", round % 7), to[0].clone() + "pushed/x");
                let len = chance.usize(..900_000);
                let path = scene.base().join(&name);
                fs::write(&path, content(u64::from(round), len)).unwrap();
                versions.entry(name.clone()).or_default().push((u64::from(round), len));
                let url = url.replace("pushed/x", &name);
                let push = start(&[path.to_str().unwrap(), "--to", &url, "--retries", "0"]);
                thread::sleep(moment);
                push.kill();
                kills[1] += 1;
            }
            _ => {
                thread::sleep(moment);
                let server = &mut servers[usize::from(chance.bool())];
                server.kill();
                server.restart();
                kills[2] += 1;
            }
        }
        assert!(watch.is_none() || running_still(watch.as_ref()), "the watch ended by itself");
        for server in &servers {
            let names = server.names();
            for _ in 0..3.min(names.len()) {
                assert_whole(server, &names[chance.usize(..names.len())], &versions);
            }
        }
    }
    // Everything may go on in peace now.
    if let Some(watch) = watch.take() {
        watch.kill();
    }
    // Something to do, so that it is seen to have begun.
    publish(&scene, "again-0", 1_000_000, 10, &mut versions);
    let watch = scene.watch(&to, &["--done", &policy, "--settle-milliseconds", "1"]);
    // A thousand rounds leave more than one patience is good for.
    for _ in 0..10 {
        let left = || fs::read_dir(scene.path("")).unwrap().count();
        let before = left();
        if before == 0 {
            break;
        }
        wait_until("a file is put away", || {
            left() < before.saturating_sub(200).max(1) || left() == 0
        });
    }
    wait_until("everything is put away", || fs::read_dir(scene.path("")).unwrap().count() == 0);
    finish(watch);
    let mut looked = 0;
    for server in &servers {
        for name in &server.names() {
            assert_whole(server, name, &versions);
            looked += 1;
        }
        for name in &once {
            assert_last(&server.path(name), name, &versions);
            assert_last(&done.join(name), name, &versions);
        }
        for name in versions.keys().filter(|name| name.starts_with("again-")) {
            assert_last(&server.path(name), name, &versions);
        }
    }
    println!(
        "{} kills of watch, {} of push, {} of serve; {} files at two receivers, {looked} looked at: \
         none lost, none partial, none with other content",
        kills[0],
        kills[1],
        kills[2],
        versions.len()
    );
}

fn running_still(watch: Option<&Running>) -> bool {
    watch.is_some_and(|watch| kill_process(watch.pid(), Signal::CONT).is_ok())
}

/// Puts a file into the watched folder in one step.
fn publish(scene: &Scene, name: &str, identity: u64, len: usize, versions: &mut Versions) {
    let aside = scene.base().join("aside");
    fs::write(&aside, content(identity, len)).unwrap();
    fs::rename(aside, scene.path(name)).unwrap();
    versions.entry(name.to_owned()).or_default().push((identity, len));
}

/// It has one of the contents that its name has had, to the last byte.
#[track_caller]
fn assert_whole(server: &Server, name: &str, versions: &Versions) {
    let stored = fs::read(server.path(name)).unwrap();
    let known = versions.get(name).unwrap_or_else(|| panic!("nobody has sent {name}"));
    let fits =
        |&(identity, len): &(u64, usize)| len == stored.len() && content(identity, len) == stored;
    assert!(known.iter().any(fits), "{name} has {} bytes that nobody has sent", stored.len());
}

/// It has the last content of its name.
#[track_caller]
fn assert_last(path: &Path, name: &str, versions: &Versions) {
    let &(identity, len) = versions[name].last().unwrap();
    let stored = fs::read(path).unwrap_or_else(|error| panic!("{name} is lost: {error}"));
    assert_same(&stored, &content(identity, len), name);
}
