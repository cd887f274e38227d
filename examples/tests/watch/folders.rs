//! What is in the folder besides files to push, and what becomes of files that were.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::{Signal, kill_process};

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::wait_until;
use crate::scene::{Scene, Server, await_events, content, finish};

#[test]
fn ignored_names_links_and_subfolders_are_passed_over() {
    let scene = Scene::new();
    for name in [".hidden", "a.tmp", "b.part", "c~", "wanted"] {
        scene.write(name, 1, 10);
    }
    fs::create_dir(scene.path("folder")).unwrap();
    scene.write("folder/file", 1, 10);
    symlink("wanted", scene.path("link")).unwrap();
    let receiver = Receiver::answering(CREATED);
    let watch = scene.watch(&[receiver.url("")], &[]);
    await_events(&watch, "delivered", 1);
    scene.write("last", 1, 10);
    await_events(&watch, "delivered", 2);
    finish(watch);
    assert_eq!(receiver.requests().len(), 2);
}

#[test]
fn files_of_subfolders_keep_their_paths() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("old/er")).unwrap();
    scene.write("old/er/a b", 1, 10);
    let receiver = Receiver::answering(CREATED);
    let watch = scene.watch(&[receiver.url("in/")], &["--recursive", "--ignore", "*.raw"]);
    await_events(&watch, "delivered", 1);
    // One that is made, one that is moved in with what is in it, and one in a folder that was moved.
    fs::create_dir(scene.path("new")).unwrap();
    scene.write("new/.b", 2, 10);
    scene.write("new/c.raw", 2, 10);
    fs::create_dir(scene.base().join("else")).unwrap();
    fs::write(scene.base().join("else/d"), b"d").unwrap();
    fs::rename(scene.base().join("else"), scene.path("moved")).unwrap();
    await_events(&watch, "delivered", 3);
    scene.write("moved/e", 3, 10);
    await_events(&watch, "delivered", 4);
    finish(watch);
    let mut paths: Vec<String> = receiver
        .requests()
        .iter()
        .map(|request| request.head.split(' ').nth(1).unwrap().to_owned())
        .collect();
    paths.sort();
    assert_eq!(paths, ["/in/moved/d", "/in/moved/e", "/in/new/.b", "/in/old/er/a%20b"]);
}

#[test]
fn delivered_files_are_moved_or_deleted_once_everybody_has_them() {
    for policy in ["move", "delete"] {
        let scene = Scene::new();
        let done = match policy {
            "move" => format!("move:{}", scene.base().join("done").display()),
            other => other.to_owned(),
        };
        let one = Server::start(&[]);
        let mut late = Server::start(&[]);
        late.kill();
        let file = scene.write("file", 1, 200_000);
        let watch = scene.watch(&[one.url(), late.url()], &["--done", &done]);
        await_events(&watch, "delivered", 1);
        await_events(&watch, "retrying", 1);
        assert!(scene.path("file").exists(), "one has not got it yet");
        late.restart();
        wait_until("the file is put away", || !scene.path("file").exists());
        assert_same(&fs::read(late.path("file")).unwrap(), &file, "the file");
        // The same name once more is another file.
        let again = scene.write("file", 2, 1000);
        wait_until("the second file is put away", || !scene.path("file").exists());
        for server in [&one, &late] {
            assert_same(&fs::read(server.path("file")).unwrap(), &again, "the second file");
        }
        wait_until("nothing is remembered", || scene.status(&[])["files"] == 0);
        finish(watch);
        assert_eq!(fs::read_dir(scene.path("")).unwrap().count(), 0);
        if policy == "move" {
            let kept = |name| fs::read(scene.base().join("done").join(name)).unwrap();
            assert_same(&kept("file"), &file, "the first one, moved");
            assert_same(&kept("file.2"), &again, "the second one, moved");
        }
    }
}

#[test]
fn events_that_were_lost_cost_a_walk_and_no_file() {
    let scene = Scene::new();
    let receiver = Receiver::answering(CREATED);
    let watch = scene.watch(&[receiver.url("")], &[]);
    scene.write("first", 1, 10);
    await_events(&watch, "delivered", 1);
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    kill_process(watch.pid(), Signal::STOP).unwrap();
    // Two events for each, made and closed; none of them is wanted.
    for number in 0..=most.min(200_000) / 2 {
        fs::write(scene.path(&format!("{number}.tmp")), b"").unwrap();
    }
    let lost = content(2, 1000);
    fs::write(scene.path("lost"), &lost).unwrap();
    kill_process(watch.pid(), Signal::CONT).unwrap();
    await_events(&watch, "delivered", 2);
    assert_same(&receiver.requests()[1].body, &lost, "the file");
    finish(watch);
}

#[test]
fn files_beyond_the_bound_wait_until_there_is_room() {
    let scene = Scene::new();
    for number in 0..7 {
        scene.write(&format!("file-{number}"), number, 10);
    }
    let server = Server::start(&[]);
    let watch = scene.watch(&[server.url()], &["--max-files", "2", "--done", "delete"]);
    await_events(&watch, "delivered", 7);
    assert_eq!(server.names().len(), 7);
    wait_until("all are put away", || fs::read_dir(scene.path("")).unwrap().count() == 0);
    let outcome = finish(watch);
    assert!(!outcome.events("full").is_empty(), "{outcome:?}");
}

#[test]
fn a_folder_that_is_taken_away_ends_the_watch_with_its_reason() {
    let scene = Scene::new();
    let receiver = Receiver::answering(CREATED);
    let watch = scene.watch(&[receiver.url("")], &[]);
    scene.write("first", 1, 10);
    await_events(&watch, "delivered", 1);
    fs::rename(scene.path(""), scene.base().join("elsewhere")).unwrap();
    let outcome = watch.ended();
    assert_eq!(outcome.status, 1);
    assert!(outcome.errors.contains("was removed, renamed or unmounted"), "{outcome:?}");
}
