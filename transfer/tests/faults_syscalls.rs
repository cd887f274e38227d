//! R3: the K-th system call of a kind fails, made to by strace(1), so that not even the libraries below
//! know of it. The transfer completes with the right bytes, or ends with an error that tells exactly
//! how many went out; it never hangs, aborts or panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ringway_testkit::Budget;
use support::traced::{Way, trace};
use support::{canary_file, folder};

const FILE: u64 = 81;
const BODY: u64 = (3 << 20) + 5;

/// System calls of a transfer, and what each can fail with.
const CALLS: [(&str, &[&str]); 12] = [
    ("io_uring_enter", &["EINTR", "EAGAIN", "EBUSY"]),
    ("splice", &["EINTR", "EAGAIN", "ENOMEM", "EIO", "EPIPE", "EINVAL", "ECONNRESET"]),
    ("sendfile", &["EINTR", "EAGAIN", "ENOMEM", "EIO", "EPIPE", "EINVAL"]),
    ("sendmsg", &["EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "EPIPE", "ECONNRESET"]),
    ("sendto", &["EINTR", "EAGAIN", "ENOBUFS", "EPIPE"]),
    ("preadv2", &["EINTR", "EAGAIN", "EIO", "EOPNOTSUPP", "EINVAL"]),
    ("pipe2", &["EMFILE", "ENFILE", "ENOMEM"]),
    ("fcntl", &["EPERM", "EBUSY", "EINVAL", "EINTR"]),
    ("statx", &["EIO", "ENOMEM", "ENOSYS"]),
    ("fstat", &["EIO", "ENOMEM"]),
    ("fstatfs", &["EIO", "ENOSYS", "EINTR"]),
    ("io_uring_register", &["ENOMEM", "EINVAL", "EOPNOTSUPP"]),
];

#[test]
fn the_child_that_is_traced() {
    support::traced::child();
}

#[test]
fn a_sample_of_failing_system_calls_ends_well() {
    let _budget = Budget::new(Duration::from_secs(100));
    let mut number = 0;
    let fired = inject_all(BODY, 5, |_| {
        number += 1;
        number % 9 == 0
    });
    assert!(fired >= 30, "only {fired} were injected");
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test faults_syscalls -- --ignored"]
fn ten_thousand_failing_system_calls_end_well() {
    let _budget = Budget::new(Duration::from_secs(3600));
    let mut fired = 0;
    // Each time a longer body, which makes more calls.
    for round in 1.. {
        fired += inject_all(BODY + round * 700_000, 400, |_| true);
        println!("{fired} in all");
        if fired >= 10_000 {
            break;
        }
    }
}

/// Injects those of all failures that are chosen: by way, system call, place and errno, as long as
/// there are calls that can fail, and at the first `places` ones at most.
fn inject_all(body: u64, places: u32, mut choose: impl FnMut(&str) -> bool) -> u32 {
    let folder = folder();
    let path = canary_file(&folder, FILE, body);
    let mut counts = BTreeMap::<&str, [u32; 3]>::new();
    for (call, errnos) in CALLS {
        for way in Way::ALL {
            'places: for place in 1..=places {
                for errno in errnos {
                    let options = format!("inject={call}:error={errno}:when={place}");
                    if choose(&options) {
                        let Some(end) = inject((&path, body), call, &options, way) else {
                            break 'places;
                        };
                        counts.entry(call).or_default()[end] += 1;
                    }
                }
            }
        }
    }
    let fired: u32 = counts.values().flatten().sum();
    println!("{fired} system calls failed; transfers complete, failed, not begun: {counts:?}");
    fired
}

/// `None`: there is no such call to fail. 0: it completed. 1: it failed, with an exact count. 2: it
/// did not come to a transfer.
fn inject((path, body): (&Path, u64), call: &str, options: &str, way: Way) -> Option<usize> {
    let log = path.with_extension("strace");
    let trace_only = format!("trace={call}");
    let asked = ["-e", &trace_only, "-e", options, "-o", log.to_str().unwrap()];
    let child = trace(&asked, way, path, FILE);
    assert!(child.clean, "{way:?} {options}: {child:?}");
    if !std::fs::read_to_string(&log).unwrap().contains("(INJECTED)") {
        return None;
    }
    let Some(received) = &child.received else { return Some(2) };
    let sent = child.number("sent");
    assert!(received.foreign.is_none(), "{way:?} {options}: {child:?}");
    assert_eq!((received.bytes, child.number("accepted")), (sent, sent), "{way:?} {options}");
    assert_eq!((child.number("lent"), child.number("leases")), (0, 0), "{way:?} {options}");
    if child.told.starts_with("connected ok") {
        assert_eq!(sent, body, "{way:?} {options}: {child:?}");
        return Some(0);
    }
    Some(1)
}
