//! Files that appear and arrive.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::scene::{Scene, Server, await_events, content, finish};

#[test]
fn files_that_are_there_written_or_moved_in_arrive_at_every_receiver() {
    let scene = Scene::new();
    let before = scene.write("before", 1, 100_001);
    let (one, two) = (Server::start(&[]), Server::start(&[]));
    let watch = scene.watch(&[one.url(), two.url()], &[]);
    await_events(&watch, "delivered", 2);
    let written = scene.write("written", 2, 2_000_003);
    let moved = content(3, 5);
    fs::write(scene.base().join("moved"), &moved).unwrap();
    fs::rename(scene.base().join("moved"), scene.path("moved in")).unwrap();
    fs::write(scene.base().join("linked"), b"").unwrap();
    fs::hard_link(scene.base().join("linked"), scene.path("linked")).unwrap();
    await_events(&watch, "delivered", 8);
    for server in [&one, &two] {
        assert_eq!(server.names(), ["before", "linked", "moved in", "written"]);
        assert_same(&fs::read(server.path("before")).unwrap(), &before, "before");
        assert_same(&fs::read(server.path("written")).unwrap(), &written, "written");
        assert_same(&fs::read(server.path("moved in")).unwrap(), &moved, "moved");
    }
    let outcome = finish(watch);
    let delivered = outcome.events("delivered");
    assert_eq!(delivered.len(), 8, "each once: {outcome:?}");
    assert!(delivered.iter().all(|line| line["verified"] == true), "{outcome:?}");
    assert_eq!(fs::read_dir(scene.path("")).unwrap().count(), 4, "they are kept");
}

#[test]
fn a_file_that_is_written_in_pieces_is_pushed_when_it_is_left_alone() {
    let scene = Scene::new();
    let receiver = Receiver::answering(CREATED);
    let watch = scene.watch(&[receiver.url("")], &["--settle-milliseconds", "400"]);
    let whole = content(1, 50_000);
    for end in [10_000, 20_000, 50_000] {
        // Closed each time, as a program does that appends.
        fs::write(scene.path("file"), &whole[..end]).unwrap();
        thread::sleep(Duration::from_millis(30));
    }
    await_events(&watch, "delivered", 1);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert_same(&requests[0].body, &whole, "the file");
    finish(watch);
}

#[test]
fn a_file_that_changes_while_it_is_pushed_is_pushed_again_as_it_is_then() {
    let scene = Scene::new();
    scene.write("file", 1, 3_000_000);
    let path = scene.path("file");
    let new = content(2, 1_500_000);
    let replacement = new.clone();
    let receiver = Receiver::start(move |mut connection| {
        if connection.number == 0 {
            let Some(request) = connection.head() else { return };
            connection.say("HTTP/1.1 100 Continue\r\n\r\n");
            // In place, while its bytes are on their way; so much of it was promised before.
            fs::write(&path, &replacement).unwrap();
            _ = connection.body(request.length());
            connection.say("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
        }
        while connection.take(CREATED) {}
    });
    let watch = scene.watch(&[receiver.url("")], &[]);
    await_events(&watch, "delivered", 1);
    let requests = receiver.requests();
    assert_same(&requests[requests.len() - 1].body, &new, "the file");
    let outcome = finish(watch);
    assert_eq!(outcome.events("delivered").len(), 1, "{outcome:?}");
}

#[test]
fn a_receiver_that_stalls_and_one_that_is_not_there_hold_no_other() {
    let scene = Scene::new();
    for number in 0..4 {
        scene.write(&format!("file-{number}"), number, 300_000);
    }
    let good = Server::start(&[]);
    let stalled = Receiver::start(|mut connection| {
        connection.head();
        thread::sleep(Duration::from_secs(120));
    });
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let to = [stalled.url(""), nobody, good.url()];
    let watch = scene.watch(&to, &["--drain-timeout-seconds", "1"]);
    await_events(&watch, "delivered", 4);
    await_events(&watch, "retrying", 3);
    let status = scene.status(&[]);
    let receivers = status["receivers"].as_array().unwrap();
    assert_eq!(receivers[0]["sending"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!((&receivers[1]["given_up"], &receivers[2]["delivered"]), (&0.into(), &4.into()));
    assert_eq!(receivers[2]["bytes_since_start"], 1_200_000);
    assert!(receivers[1]["last_error"].as_str().unwrap().contains("cannot be reached"));
    let outcome = finish(watch);
    assert!(outcome.events("failed").is_empty(), "nobody is given up: {outcome:?}");
}

#[test]
fn files_go_to_each_receiver_oldest_first() {
    let scene = Scene::new();
    let names = ["z", "m", "a"];
    for (place, name) in names.iter().enumerate() {
        scene.write(name, place as u64, 1000);
        let file = fs::File::options().write(true).open(scene.path(name)).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(100 - place as u64);
        file.set_modified(time).unwrap();
    }
    let receiver = Receiver::answering(CREATED);
    let watch = scene.watch(&[receiver.url("in/")], &[]);
    await_events(&watch, "delivered", 3);
    let paths = receiver.requests().into_iter().map(|request| {
        request.head.split(' ').nth(1).unwrap().trim_start_matches("/in/").to_owned()
    });
    assert_eq!(paths.collect::<Vec<_>>(), names);
    finish(watch);
}

#[test]
fn a_running_push_is_finished_after_a_signal_and_nothing_new_is_begun() {
    let scene = Scene::new();
    let first = scene.write("a", 1, 2_000_000);
    scene.write("b", 2, 10);
    let old = std::time::SystemTime::now() - Duration::from_secs(9);
    fs::File::options().write(true).open(scene.path("a")).unwrap().set_modified(old).unwrap();
    let receiver = Receiver::start(|mut connection| {
        let Some(request) = connection.head() else { return };
        connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        thread::sleep(Duration::from_millis(500));
        let body = connection.body(request.length()).unwrap();
        connection.keep(crate::receiver::Request { body, ..request });
        connection.say(CREATED);
        while connection.take(CREATED) {}
    });
    let watch = scene.watch(&[receiver.url("")], &[]);
    crate::run::wait_until("the first one is being sent", || receiver.connections() == 1);
    let outcome = finish(watch);
    assert_eq!(outcome.events("delivered").len(), 1, "{outcome:?}");
    assert_eq!(receiver.requests().len(), 1);
    assert_same(&receiver.requests()[0].body, &first, "the first one");
    let status = scene.status(&[]);
    assert_eq!((&status["running"], &status["receivers"][0]["queued"]), (&false.into(), &1.into()));
}
