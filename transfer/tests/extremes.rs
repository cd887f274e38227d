//! The ends of what can be asked and of what a host sets: the longest times, a limit on the length of
//! files, a file that gives nothing for as long as one waits, one that tells no length.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use ringway::error::ErrorKind;
use ringway::receive::ReceiveErrorKind;
use ringway::runtime::fs::OpenOptions;
use ringway::{CancelToken, Incoming, Limits, Route, transfer_file};
use ringway_testkit::{Budget, run_in_child};
use support::feed::Feed;
use support::gated::Gated;
use support::*;

#[test]
fn bytes_may_be_held_for_a_peer_for_ever_in_both_directions() {
    let folder = folder();
    let file = open(&canary_file(&folder, 3, 8 << 20));
    let limits = Limits::default().with_stall_hold(Duration::MAX);
    runtime().block_on(async {
        let (mut stream, theirs) = tcp_pair();
        let peer = Gated::new(theirs);
        let slow = limits.clone().with_peer_timeout(Duration::from_millis(50));
        let sent = transfer_file(&file, &mut stream).limits(slow).await;
        assert!(matches!(sent.unwrap_err().kind(), ErrorKind::PeerTimedOut { .. }));
        end(stream);
        peer.finish();

        let path = folder.path().join("in");
        let mut into = OpenOptions::new().write(true).create(true).open(&path).await.unwrap();
        let pieces = Feed::of(3, 0, 3000).in_pieces(1000, Duration::from_millis(20));
        let (mut stream, sending) = pieces.over_tcp();
        let body = Incoming::exactly(&mut stream, 3000);
        transfer_file(body, &mut into).limits(limits).await.unwrap();
        sending.join().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), canary_bytes(3, 0, 3000));
    });
}

// write(2) raises SIGXFSZ, which ends a process that does not expect it.
#[test]
fn a_limit_on_the_length_of_files_is_an_error_and_no_signal() {
    run_in_child("a_limit_on_the_length_of_files_is_an_error_and_no_signal", || {
        let (disk, memory) = (folder(), memory_folder());
        let most = rustix::process::Rlimit { current: Some(100_000), maximum: None };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, most).unwrap();
        runtime().block_on(async {
            for place in [&disk, &memory] {
                for route in [Route::Splice, Route::Copy] {
                    let path = place.path().join("in");
                    let options = OpenOptions::new().write(true).create(true).truncate(true);
                    let mut file = options.open(&path).await.unwrap();
                    let (mut stream, sending) = Feed::of(3, 0, 300_000).over_tcp();
                    let body = Incoming::exactly(&mut stream, 300_000);
                    let error = transfer_file(body, &mut file).route(route).await.unwrap_err();
                    let too_large = ReceiveErrorKind::FileTooLarge { op: "write", errno: 27 };
                    let kind = std::mem::discriminant(error.kind());
                    assert_eq!(kind, std::mem::discriminant(&too_large), "{route}: {error}");
                    assert_eq!(error.written(), 100_000, "{route}: {error}");
                    assert_eq!(std::fs::metadata(&path).unwrap().len(), 100_000);
                    drop(stream);
                    sending.join().unwrap();
                }
            }
        });
    });
}

/// A buffer of the kernel's tracing of its own, whose pipe has nothing to say.
struct Silent(std::path::PathBuf);

impl Silent {
    fn new() -> Option<Self> {
        let name = format!("ringway-{}", std::process::id());
        let made = std::path::Path::new("/sys/kernel/tracing/instances").join(name);
        match std::fs::create_dir(&made) {
            Ok(()) => Some(Self(made)),
            Err(error) => {
                eprintln!("not run: no tracing of one's own here: {error}");
                None
            }
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_generated_file_that_has_nothing_to_say_keeps_to_the_deadline_and_to_the_token() {
    let _budget = Budget::new(Duration::from_secs(60));
    let Some(silent) = Silent::new() else { return };
    let runtime = runtime();
    let file = open(&silent.0.join("trace_pipe"));
    runtime.block_on(async {
        let (mut stream, theirs) = unix_pair();
        let limit = Duration::from_millis(30);
        let error = transfer_file(&file, &mut stream).deadline(limit).await.unwrap_err();
        assert_eq!((error.kind(), error.sent()), (&ErrorKind::DeadlineExceeded { limit }, 0));
        let token = CancelToken::new();
        let elsewhere = token.clone();
        let cancelling = std::thread::spawn(move || {
            std::thread::sleep(limit);
            elsewhere.cancel();
        });
        let error = transfer_file(&file, &mut stream).cancel_token(&token).await.unwrap_err();
        assert_eq!((error.kind(), error.sent()), (&ErrorKind::Cancelled, 0));
        cancelling.join().unwrap();
        assert!(!stream.is_poisoned(), "nothing has gone out");
        drop(theirs);
    });
    drop((file, runtime));
}

const MOUNTED: &str = "RINGWAY_TEST_MOUNTED";

/// `binfmt_misc` stands for every file system that makes its files up and is not known by its number.
#[test]
fn a_file_without_a_length_on_an_unknown_file_system_is_read_and_not_taken_for_empty() {
    let name = "a_file_without_a_length_on_an_unknown_file_system_is_read_and_not_taken_for_empty";
    if std::env::var_os(MOUNTED).is_none() {
        let script = "mount -t binfmt_misc none /mnt && exec \"$0\" \"$@\"";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(MOUNTED, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        if !said.contains("running 1 test") {
            eprintln!("not run: nothing can be mounted here: {complained}");
            return;
        }
        assert!(output.status.success(), "{:?}: {said}{complained}", output.status.signal());
        return;
    }
    let file = open(std::path::Path::new("/mnt/status"));
    assert_eq!(file.metadata().unwrap().len, 0);
    let (mut stream, mut theirs) = unix_pair();
    let receipt = runtime().block_on(async { transfer_file(&file, &mut stream).await.unwrap() });
    end(stream);
    let mut got = String::new();
    theirs.read_to_string(&mut got).unwrap();
    assert_eq!(got, std::fs::read_to_string("/mnt/status").unwrap());
    assert!(receipt.bytes > 0, "{receipt}");
}
