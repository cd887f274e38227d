//! A daemon that was killed goes on where it was.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ringway_testkit::chaos::{Chaos, Harm, Plan};

use crate::receiver::{CREATED, Receiver};
use crate::run::wait_until;
use crate::scene::{Scene, Server, await_events, finish};

#[test]
fn what_was_delivered_is_not_sent_again_and_the_rest_is() {
    let scene = Scene::new();
    scene.write("a", 1, 1000);
    let good = Receiver::answering(CREATED);
    let late = Receiver::start(|mut connection| match connection.number {
        0 => {
            connection.head();
            thread::sleep(Duration::from_secs(120));
        }
        // What it has, it does not say.
        _ => while connection.take(CREATED) {},
    });
    let to = [good.url(""), late.url("")];
    let watch = scene.watch(&to, &[]);
    await_events(&watch, "delivered", 1);
    wait_until("the other one is being sent", || late.connections() == 1);
    // The mark of the delivery is on the disk a moment after it is told.
    thread::sleep(Duration::from_millis(300));
    watch.kill();
    scene.write("b", 2, 1000);
    let watch = scene.watch(&to, &[]);
    await_events(&watch, "delivered", 3);
    finish(watch);
    let paths = |receiver: &Receiver, method: &str| {
        let requests = receiver.requests();
        let lines = requests.iter().map(|request| request.head.lines().next().unwrap().to_owned());
        lines.filter(|line| line.starts_with(method)).collect::<Vec<_>>()
    };
    assert_eq!(paths(&good, "PUT"), ["PUT /a HTTP/1.1", "PUT /b HTTP/1.1"]);
    assert_eq!(paths(&late, "HEAD"), ["HEAD /a HTTP/1.1"], "it may have had it");
    assert_eq!(paths(&late, "PUT"), ["PUT /a HTTP/1.1", "PUT /b HTTP/1.1"]);
}

#[test]
fn who_says_that_it_has_the_same_bytes_is_not_sent_them_again() {
    let scene = Scene::new();
    // The example of RFC 9530.
    fs::write(scene.path("hello"), "{\"hello\": \"world\"}\n").unwrap();
    let methods = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&methods);
    let receiver = Receiver::start(move |mut connection| {
        let Some(request) = connection.request() else { return };
        let method = request.head.split(' ').next().unwrap().to_owned();
        seen.lock().unwrap().push(method.clone());
        if method == "PUT" {
            // It has everything, and its answer is lost.
            return;
        }
        connection.say(
            "HTTP/1.1 200 OK\r\nContent-Length: 19\r\nRepr-Digest: \
             sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:\r\n\r\n",
        );
    });
    let watch = scene.watch(&[receiver.url("")], &[]);
    await_events(&watch, "delivered", 1);
    let outcome = finish(watch);
    assert_eq!(outcome.events("delivered")[0]["route"], "already there", "{outcome:?}");
    // Once more over a connection that is new, as a push does, and then it is asked.
    let methods = methods.lock().unwrap();
    assert_eq!(methods.iter().filter(|method| *method == "HEAD").count(), 1, "{methods:?}");
}

#[test]
fn a_receiver_that_is_new_gets_what_is_there_and_one_that_is_left_out_holds_nothing() {
    let scene = Scene::new();
    scene.write("a", 1, 1000);
    let (one, two) = (Server::start(&[]), Server::start(&[]));
    let watch = scene.watch(&[one.url()], &[]);
    await_events(&watch, "delivered", 1);
    finish(watch);
    let watch = scene.watch(&[two.url()], &["--done", "delete"]);
    await_events(&watch, "delivered", 1);
    wait_until("it is put away", || !scene.path("a").exists());
    finish(watch);
    assert_eq!(two.names(), ["a"]);
}

/// The one file that a server has, whatever was written since.
fn inode(server: &Server, name: &str) -> u64 {
    fs::metadata(server.path(name)).unwrap().ino()
}

#[test]
fn a_watch_that_is_killed_before_it_hears_of_its_delivery_asks_and_does_not_send_again() {
    for policy in ["always", "never"] {
        let scene = Scene::new();
        scene.write("file", 1, 300_000);
        let server = Server::start(&["--overwrite", policy]);
        let held = Plan::downstream(Harm::Stall(1, Duration::from_secs(120)));
        let chaos = Chaos::before(server.address(), move |number| match number {
            0 => held,
            _ => Plan::default(),
        });
        let to = [format!("http://{}/", chaos.address())];
        let watch = scene.watch(&to, &[]);
        wait_until("it has its name", || server.names() == ["file"]);
        watch.kill();
        let before = inode(&server, "file");
        let watch = scene.watch(&to, &[]);
        await_events(&watch, "delivered", 1);
        let outcome = finish(watch);
        assert_eq!(outcome.events("delivered")[0]["route"], "already there", "{outcome:?}");
        assert_eq!(inode(&server, "file"), before, "it was not written again");
        assert_eq!(scene.status(&[])["dead_letters"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn a_watch_that_has_lost_its_journal_fails_at_nothing_that_is_there() {
    let scene = Scene::new();
    let files = [("small", 5000), ("large", 3_000_000)];
    for (name, len) in files {
        scene.write(name, 1, len);
    }
    let server = Server::start(&["--overwrite", "never"]);
    let watch = scene.watch(&[server.url()], &[]);
    await_events(&watch, "delivered", files.len());
    finish(watch);
    let before = files.map(|(name, _)| inode(&server, name));
    fs::remove_dir_all(scene.base().join("state")).unwrap();
    let watch = scene.watch(&[server.url()], &[]);
    await_events(&watch, "delivered", files.len());
    let outcome = finish(watch);
    assert!(outcome.events("failed").is_empty(), "{outcome:?}");
    let large = outcome.events("delivered").into_iter().find(|line| line["bytes"] == 3_000_000);
    assert_eq!(large.map(|line| &line["route"]), Some(&"already there".into()), "{outcome:?}");
    assert_eq!(files.map(|(name, _)| inode(&server, name)), before, "nothing was written again");
    assert_eq!(scene.status(&[])["dead_letters"].as_array().map(Vec::len), Some(0));
}
