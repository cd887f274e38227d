//! Signals arrive as futures. They are the process's, so this room has a binary of its own.

use std::process::Command;
use std::time::Duration;

use ringway_runtime::signal::{Kind, Signals};
use ringway_runtime::{Runtime, spawn, time};

fn raise(name: &str) {
    let id = std::process::id().to_string();
    assert!(
        Command::new("kill").args(["-s", name, &id]).status().is_ok_and(|status| status.success())
    );
}

#[test]
fn a_signal_wakes_whoever_waits_and_is_kept_until_then() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut signals = Signals::new(&[Kind::User1, Kind::HangUp]).unwrap();
        // Nobody waits yet: it is kept.
        raise("USR1");
        signals.recv().await.unwrap();
        // Somebody waits already.
        let waiting = spawn(async move {
            signals.recv().await.unwrap();
            signals
        });
        ringway_runtime::yield_now().await;
        raise("HUP");
        let mut signals = waiting.await.unwrap();
        // A wait that is given up loses nothing, and there was no third signal.
        assert!(time::timeout(Duration::from_millis(20), signals.recv()).await.is_err());
        raise("USR1");
        signals.recv().await.unwrap();
    });
    assert_eq!(runtime.stats().tasks_panicked, 0);
}
