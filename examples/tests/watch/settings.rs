//! What is wrong before anything is begun, and settings from a file.

use std::fs;
use std::process::Command;

use crate::receiver::{CREATED, Receiver, assert_same};
use crate::run::start_command;
use crate::scene::{Scene, await_events, finish};

#[test]
fn what_cannot_be_begun_is_said_with_its_remedy() {
    let scene = Scene::new();
    let receiver = Receiver::answering(CREATED);
    let folder = [receiver.url("")];
    let inside = scene.path("state").to_str().unwrap().to_owned();
    let back = format!("move:{}", scene.path("done").display());
    for (to, more, says) in [
        (&folder[..], &["extra"][..], "one folder is watched"),
        (&[receiver.url("file")], &[], "end it with `/`"),
        (&[receiver.url(""), receiver.url("")], &[], "is named twice"),
        (&folder, &["--no-digest"], "a watch needs digests"),
        (&folder, &["--ignore", "["], "--ignore cannot be used"),
        (&folder, &["--recursive", "--done", &back], "which is watched"),
        (&folder, &["--done", "move:/proc/x"], "cannot make /proc/x"),
        (&folder, &["--done", "move:/dev/shm"], "another file system"),
    ] {
        // The folder comes first, so that nothing is taken for another receiver.
        let mut arguments = scene.arguments(to, &[]);
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        if more == ["extra"] {
            let extra = arguments.pop().unwrap();
            arguments.insert(1, extra);
        }
        let outcome = start_command("watch", &arguments).ended();
        assert_eq!((outcome.status, outcome.lines.len()), (1, 0), "{outcome:?}");
        assert!(outcome.errors.contains(says), "{says}: {outcome:?}");
    }
    let mut arguments = scene.arguments(&folder, &[]);
    arguments[2] = inside;
    let outcome = start_command("watch", &arguments).ended();
    assert!(outcome.errors.contains("lies in the folder that is watched"), "{outcome:?}");
    assert_eq!(receiver.connections(), 0);
    let (success, _, errors) = Scene::new().try_status(&[]);
    assert!(!success && errors.contains("there is no journal"), "{errors}");
}

#[test]
fn a_journal_belongs_to_one_daemon_and_one_folder() {
    let scene = Scene::new();
    let receiver = Receiver::answering(CREATED);
    let to = [receiver.url("")];
    let watch = scene.watch(&to, &[]);
    scene.write("a", 1, 1);
    await_events(&watch, "delivered", 1);
    let second = scene.refused(&to, &[]);
    assert_eq!(second.status, 1);
    assert!(second.errors.contains("another `ringwayd watch` has the journal"), "{second:?}");
    finish(watch);
    fs::create_dir(scene.base().join("other")).unwrap();
    let mut arguments = scene.arguments(&to, &[]);
    arguments[0] = scene.base().join("other").to_str().unwrap().to_owned();
    let other = start_command("watch", &arguments).ended();
    assert!(other.errors.contains("is that of"), "{other:?}");
    fs::write(scene.base().join("state/watch.redb"), "no journal").unwrap();
    let broken = scene.refused(&to, &[]);
    assert!(broken.errors.contains("cannot use the journal"), "{broken:?}");
}

#[test]
fn a_watch_that_was_started_by_root_runs_as_an_ordinary_user() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("a watch as an ordinary user: needs root; not run");
        return;
    }
    let scene = Scene::new();
    let receiver = Receiver::answering(CREATED);
    scene.write("a", 1, 10);
    let refused = scene.refused(&[receiver.url("")], &["--user", "65534:65534"]);
    assert!(refused.errors.contains("cannot"), "{refused:?}");
    for path in [scene.base().to_owned(), scene.path(""), scene.path("a")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let watch = scene.watch(&[receiver.url("")], &["--user", "65534:65534", "--done", "delete"]);
    await_events(&watch, "delivered", 1);
    let folder = format!("/proc/{}/task", watch.pid().as_raw_nonzero());
    for task in fs::read_dir(folder).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    crate::run::wait_until("it is put away", || !scene.path("a").exists());
    finish(watch);
}

#[test]
fn settings_come_from_a_file_and_mistakes_in_it_are_told_with_line_key_and_remedy() {
    let scene = Scene::new();
    let content = scene.write("a", 1, 1000);
    let receiver = Receiver::answering(CREATED);
    let path = scene.base().join("settings.toml");
    let settings = format!(
        "[watch]\ndir = {:?}\nstate_dir = {:?}\nto = [{:?}]\nsettle_milliseconds = 10\n\
         ignore = [\"*.tmp\"]\ndone = \"keep\"\n",
        scene.path(""),
        scene.base().join("state"),
        receiver.url("")
    );
    fs::write(&path, &settings).unwrap();
    let config = path.to_str().unwrap();
    let watch = start_command("watch", &["--config", config]);
    await_events(&watch, "delivered", 1);
    finish(watch);
    assert_same(&receiver.requests()[0].body, &content, "the file");
    fs::write(&path, format!("{settings}settle = 5\n[serve]\nusr = \"x\"\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringwayd")).arg("check").arg(&path).output();
    let output = output.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        errors.contains("settings.toml:8: `settle` is no option of watch; did you mean `settle_"),
        "{errors}"
    );
    assert!(errors.contains("settings.toml:10: `usr` is no option of serve"), "{errors}");
}
