//! Receivers that refuse, fail, close and lie; files that vanish; a journal whose disk is full.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::wait_until;
use crate::scene::{Scene, await_events, finish};

#[test]
fn what_is_refused_is_a_dead_letter_until_it_is_asked_for() {
    let scene = Scene::new();
    let file = scene.write("file", 1, 1000);
    static OPEN: AtomicBool = AtomicBool::new(false);
    let receiver = Receiver::start(|mut connection| {
        while let Some(request) = connection.request() {
            let open = OPEN.load(Ordering::SeqCst);
            if open {
                connection.keep(request);
            }
            connection.say(match open {
                true => CREATED,
                false => "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever",
            });
        }
    });
    let to = [receiver.url("")];
    let watch = scene.watch(&to, &[]);
    await_events(&watch, "failed", 1);
    scene.write("other", 2, 10);
    await_events(&watch, "failed", 2);
    let status = scene.status(&[]);
    assert_eq!(status["receivers"][0]["given_up"], 2, "{status}");
    assert_eq!(status["dead_letters"][0]["file"], "file", "{status}");
    assert_eq!(status["dead_letters"][0]["error"], "it answered 403: never");
    finish(watch);
    // They stay over a restart, nothing is tried by itself, and the file is kept.
    assert_eq!(scene.status(&[])["dead_letters"].as_array().unwrap().len(), 2);
    let watch = scene.watch(&to, &["--done", "delete"]);
    wait_until("it answers", || scene.status(&[])["running"] == true);
    OPEN.store(true, Ordering::SeqCst);
    assert_eq!(scene.status(&["--retry", "file"])["retried"], 1);
    await_events(&watch, "delivered", 1);
    finish(watch);
    assert_same(&receiver.requests()[receiver.requests().len() - 1].body, &file, "the file");
    // And while it does not run.
    assert_eq!(scene.status(&["--retry"])["retried"], 1);
    let watch = scene.watch(&to, &["--done", "delete"]);
    await_events(&watch, "delivered", 1);
    wait_until("it is put away", || !scene.path("other").exists());
    finish(watch);
    let (success, text, _) = scene.try_status(&[]);
    assert!(success && text.contains("0 files, not running"), "{text}");
}

#[test]
fn errors_breaks_and_lies_are_tried_again_and_the_right_bytes_arrive() {
    let scene = Scene::new();
    let file = scene.write("file", 1, 2_000_000);
    let turn = Mutex::new(0);
    let receiver = Receiver::start(move |mut connection| {
        loop {
            let Some(request) = connection.head() else { return };
            if request.head.starts_with("HEAD") {
                connection.say("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let turn = {
                let mut turn = turn.lock().unwrap();
                *turn += 1;
                *turn
            };
            match turn {
                1 => connection.say("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
                2 => {
                    connection.say("HTTP/1.1 100 Continue\r\n\r\n");
                    _ = connection.body(500_000);
                    return;
                }
                3 => {
                    connection.say("HTTP/1.1 100 Continue\r\n\r\n");
                    _ = connection.body(request.length());
                    connection.say(
                        "HTTP/1.1 204 x\r\nRepr-Digest: \
                         sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\r\n\r\n",
                    );
                }
                4 => connection.say("HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n"),
                _ => {
                    connection.say("HTTP/1.1 100 Continue\r\n\r\n");
                    let body = connection.body(request.length()).unwrap();
                    connection.keep(crate::receiver::Request { body, ..request });
                    connection.say(CREATED);
                }
            }
        }
    });
    let watch = scene.watch(&[receiver.url("")], &["--retries", "9"]);
    await_events(&watch, "delivered", 1);
    assert_same(&receiver.requests()[0].body, &file, "the file");
    let outcome = finish(watch);
    let errors: Vec<&str> =
        outcome.events("retrying").iter().map(|line| line["error"].as_str().unwrap()).collect();
    assert!(
        errors[0].contains("500") && errors.iter().any(|error| error.contains("507")),
        "{errors:?}"
    );
    assert!(errors.iter().any(|error| error.contains("the connection broke")), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("it has other bytes")), "{errors:?}");
}

#[test]
fn a_file_that_vanishes_while_it_waits_is_forgotten() {
    let scene = Scene::new();
    scene.write("gone", 1, 100);
    let receiver = Receiver::start(|mut connection| {
        while let Some(request) = connection.request() {
            let busy = request.head.contains(" /gone ");
            connection.keep(request);
            connection.say(match busy {
                true => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
                false => CREATED,
            });
        }
    });
    let watch = scene.watch(&[receiver.url("")], &["--retries", "1000"]);
    await_events(&watch, "retrying", 1);
    fs::remove_file(scene.path("gone")).unwrap();
    await_events(&watch, "gone", 1);
    scene.write("next", 2, 100);
    await_events(&watch, "delivered", 1);
    assert_eq!(scene.status(&[])["files"], 1);
    finish(watch);
}

#[test]
fn a_full_disk_under_the_journal_holds_everything_and_loses_nothing() {
    let scene = Scene::new();
    let state = scene.base().join("state");
    fs::create_dir(&state).unwrap();
    let Some(_mount) = Mount::tmpfs(&state, "4m") else {
        eprintln!("nothing can be mounted here; not run");
        return;
    };
    let receiver = Receiver::answering(CREATED);
    let watch = scene.watch(&[receiver.url("")], &[]);
    scene.write("first", 1, 10);
    await_events(&watch, "delivered", 1);
    // Fill what is left to the last byte.
    let mut filler = fs::File::create(state.join("filler")).unwrap();
    while std::io::Write::write(&mut filler, &[1; 4096]).is_ok_and(|written| written > 0) {}
    // Whatever the journal had in reserve is used up by many long names.
    let (mut files, mut error) = (0, String::new());
    wait_until("the journal cannot be written", || {
        for _ in 0..100 {
            scene.write(&format!("{:0>200}", files), files, 1);
            files += 1;
        }
        error = scene.status(&[])["journal_error"].as_str().unwrap_or_default().to_owned();
        !error.is_empty()
    });
    assert!(error.contains("watch.redb") && error.contains("No space left"), "{error}");
    drop(filler);
    fs::remove_file(state.join("filler")).unwrap();
    await_events(&watch, "delivered", 1 + usize::try_from(files).unwrap());
    let outcome = finish(watch);
    assert!(outcome.errors.contains("nothing is lost"), "{}", outcome.errors);
    assert!(outcome.errors.contains("can be written again"), "{}", outcome.errors);
    assert_eq!(scene.status(&[])["receivers"][0]["delivered"], files + 1);
}

/// A file system that goes away with the test.
struct Mount(std::path::PathBuf);

impl Mount {
    fn tmpfs(at: &std::path::Path, size: &str) -> Option<Mount> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(at);
        let mounted = mount.stderr(std::process::Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
