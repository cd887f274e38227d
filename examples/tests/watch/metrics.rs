//! What a watch tells those who run it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, kill_process};

use crate::receiver::{CREATED, Receiver};
use crate::run::wait_until;
use crate::scene::{Scene, await_events, finish, free_address};

/// Asks by GET; nothing if nobody answers.
fn ask(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: watch\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Waits until the numbers hold all of these lines.
#[track_caller]
fn await_lines(address: &str, lines: &[String]) {
    let mut text = String::new();
    wait_until(&format!("{lines:?} are told"), || {
        text = ask(address, "/metrics").unwrap_or_default();
        lines.iter().all(|line| text.contains(line.as_str()))
    });
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn numbers_tell_what_came_what_was_tried_again_and_what_was_given_up() {
    let scene = Scene::new();
    scene.write("file", 1, 1000);
    let turn = Mutex::new(0);
    let busy_at_first = Receiver::start(move |mut connection| {
        while connection.request().is_some() {
            let mut turn = turn.lock().unwrap();
            *turn += 1;
            connection.say(match *turn {
                1 => "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n",
                _ => CREATED,
            });
        }
    });
    let refuses = Receiver::start(|mut connection| {
        while connection.request().is_some() {
            connection.say("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let to = [busy_at_first.url(""), refuses.url("")];
    let address = free_address();
    let watch = scene.watch(&to, &["--admin-listen", &address]);
    await_events(&watch, "delivered", 1);
    await_events(&watch, "failed", 1);
    let of = |name: &str, to: &str, value: u64| format!("{name}{{to=\"{to}\"}} {value}\n");
    await_lines(
        &address,
        &[
            "ringwayd_watch_files_seen_total 1\n".to_owned(),
            "ringwayd_watch_files 1\n".to_owned(),
            "ringwayd_watch_draining 0\n".to_owned(),
            of("ringwayd_watch_deliveries_total", &to[0], 1),
            of("ringwayd_watch_delivered_bytes_total", &to[0], 1000),
            of("ringwayd_watch_retries_total", &to[0], 1),
            of("ringwayd_watch_dead_letters", &to[0], 0),
            of("ringwayd_watch_deliveries_total", &to[1], 0),
            of("ringwayd_watch_retries_total", &to[1], 0),
            of("ringwayd_watch_given_up_total", &to[1], 1),
            of("ringwayd_watch_dead_letters", &to[1], 1),
            of("ringwayd_watch_lag_seconds", &to[1], 0),
        ],
    );
    assert!(ask(&address, "/health").unwrap().ends_with("\r\n\r\nok\n"));
    finish(watch);
}

#[test]
fn what_waits_behind_a_receiver_that_is_slow_is_told_with_its_age() {
    let scene = Scene::new();
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        scene.write(name, number as u64, 1000);
    }
    static OPEN: AtomicBool = AtomicBool::new(false);
    let receiver = Receiver::start(|mut connection| {
        while connection.request().is_some() {
            wait_until("it may answer", || OPEN.load(Ordering::SeqCst));
            connection.say(CREATED);
        }
    });
    let to = [receiver.url("")];
    let address = free_address();
    let watch = scene.watch(&to, &["--admin-listen", &address]);
    let of =
        |name: &str, value: u64| format!("ringwayd_watch_{name}{{to=\"{}\"}} {value}\n", to[0]);
    await_lines(&address, &[of("sending", 1), of("queued", 2), of("queued_bytes", 2000)]);
    wait_until("it has waited for a second", || {
        let text = ask(&address, "/metrics").unwrap_or_default();
        let lag = text.lines().find(|line| line.starts_with("ringwayd_watch_lag_seconds{"));
        lag.is_some_and(|line| !line.ends_with(" 0"))
    });
    kill_process(watch.pid(), Signal::TERM).unwrap();
    wait_until("it says that it drains", || {
        ask(&address, "/health").is_some_and(|answer| answer.starts_with("HTTP/1.1 503 "))
    });
    OPEN.store(true, Ordering::SeqCst);
    let outcome = watch.ended();
    assert_eq!((outcome.status, outcome.events("delivered").len()), (0, 1), "{outcome:?}");
}
