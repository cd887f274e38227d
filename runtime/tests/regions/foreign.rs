//! `SIGBUS` that is not ours: it does what it did before.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway_runtime::fs::File;
use ringway_runtime::region::{self, Access, Refusal};
use ringway_testkit::child::{ChildEnd, observe_child};
use ringway_testkit::{bus, run_in_child};
use tempfile::tempdir;

use crate::baseline::on_a_ring;
use crate::{PAGE, canary_file, truncate, whole};

const LIMIT: Duration = Duration::from_secs(60);
const BUS: i32 = 7;

/// Contains one fault of a window, so that the handler is in place and has worked.
fn contain_one() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let window = whole(&File::open(&path).await.unwrap(), Access::ReadOnly).await;
        truncate(&path, 0);
        assert!(window.read(|view| view.byte(PAGE)).is_err());
    });
}

fn ended_by(test: &str, body: impl FnOnce()) -> (Option<i32>, Option<i32>) {
    let report = observe_child(test, LIMIT, body);
    let ChildEnd::Failed(status) = report.end else { panic!("{report}") };
    (status.signal(), status.code())
}

fn send_to_this_process() {
    let this = rustix::process::getpid();
    rustix::process::kill_process(this, rustix::process::Signal::BUS).unwrap();
    // Delivered to any thread, at once or soon.
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_foreign_fault_still_ends_the_process() {
    let name = "foreign::a_foreign_fault_still_ends_the_process";
    let ended = ended_by(name, || {
        contain_one();
        println!("{}", bus::load_behind_the_end(&tempfile::tempfile().unwrap()));
    });
    assert_eq!(ended, (Some(BUS), None));
}

/// The handler that the standard library installs swallows the first signal that was sent and restores
/// the default; so it is without ours.
#[test]
fn signals_that_were_sent_do_what_they_did_before() {
    let name = "foreign::signals_that_were_sent_do_what_they_did_before";
    let ended = ended_by(name, || {
        contain_one();
        send_to_this_process();
        println!("the first was swallowed");
        contain_one();
        println!("and faults are still contained");
        send_to_this_process();
        println!("never here");
        std::process::exit(9);
    });
    assert_eq!(ended, (Some(BUS), None));
}

#[test]
fn a_foreign_fault_reaches_the_handler_that_was_there_before() {
    let name = "foreign::a_foreign_fault_reaches_the_handler_that_was_there_before";
    let ended = ended_by(name, || {
        let armed = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(BUS, 42, armed).unwrap();
        contain_one();
        println!("{}", bus::load_behind_the_end(&tempfile::tempfile().unwrap()));
    });
    assert_eq!(ended, (None, Some(42)));
}

#[test]
fn a_signal_that_was_sent_reaches_the_handler_that_was_there_before() {
    let name = "foreign::a_signal_that_was_sent_reaches_the_handler_that_was_there_before";
    run_in_child(name, || {
        let seen = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(BUS, Arc::clone(&seen)).unwrap();
        contain_one();
        assert!(!seen.load(Ordering::SeqCst), "a fault of ours does not");
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::BUS).unwrap();
        while !seen.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    });
}

#[test]
fn under_a_handler_that_was_installed_later_nothing_new_is_mapped() {
    let name = "foreign::under_a_handler_that_was_installed_later_nothing_new_is_mapped";
    run_in_child(name, || {
        contain_one();
        signal_hook::flag::register(BUS, Arc::default()).unwrap();
        let folder = tempdir().unwrap();
        let (path, _) = canary_file(folder.path(), "file", PAGE);
        on_a_ring(async {
            let file = File::open(&path).await.unwrap();
            assert_eq!(region::map(&file, 0..9).await.unwrap_err(), Refusal::HandlerReplaced);
        });
    });
}

#[test]
fn a_thread_that_blocks_all_signals_is_opened_for_faults_when_it_looks() {
    let name = "foreign::a_thread_that_blocks_all_signals_is_opened_for_faults_when_it_looks";
    run_in_child(name, || {
        let folder = tempdir().unwrap();
        let (path, _) = canary_file(folder.path(), "file", PAGE);
        on_a_ring(async {
            let window = whole(&File::open(&path).await.unwrap(), Access::ReadOnly).await;
            truncate(&path, 0);
            let looking = std::thread::spawn(move || {
                bus::block_sigbus();
                window.read(|view| view.byte(0)).is_err()
            });
            assert!(looking.join().unwrap());
        });
    });
}
