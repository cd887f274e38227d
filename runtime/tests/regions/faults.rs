//! R7: pages that go away under a window. Every test here that could kill its process has one of its
//! own.

use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringway_runtime::fs::File;
use ringway_runtime::region::{
    self, Access, Cause, Intent, Options, Populate, Refusal, Window, WriteError,
};
use ringway_runtime::stats;
use ringway_testkit::child::run_in_child_within;
use ringway_testkit::{bus, run_in_child};
use tempfile::tempdir;

use crate::baseline::{on_a_ring, on_a_ring_with, small, under};
use crate::{PAGE, bytes_of, canary_file, open_for_writing, truncate, unpopulated, whole};

/// R7, the first half: truncated under a load, in each access, with pages present and not.
pub(crate) fn truncate_under_loads(rounds: Range<u64>) {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 4 * PAGE);
    let (mut lost, times) = (0, rounds.end - rounds.start);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        for round in rounds {
            let access = [Access::ReadOnly, Access::Private, Access::Shared][round as usize % 3];
            let window = match round % 2 {
                0 => whole(&file, access).await,
                _ => unpopulated(&file, access).await,
            };
            let cut = round % 4 * PAGE as u64;
            truncate(&path, cut);
            // A store faults as a load does, in private pages too.
            let seen = if round % 5 == 4 && access != Access::ReadOnly {
                match window.put(4 * PAGE - 9, b"lost") {
                    Err(WriteError::Poisoned(poisoned)) => poisoned,
                    other => panic!("a store into nothing: {other:?}"),
                }
            } else {
                window.read(|view| view.byte(4 * PAGE - 1)).unwrap_err()
            };
            assert_eq!((seen.cause, seen.file_len), (Cause::Fault, Some(cut)));
            assert!(window.is_poisoned());
            assert_eq!(window.check().unwrap_err().cause, Cause::Fault, "poison lasts");
            std::fs::write(&path, &bytes).unwrap();
            assert!(window.check().is_err(), "though the file is whole again");
            let again = whole(&file, access).await;
            if bytes_of(&again) != bytes {
                lost += 1;
            }
        }
        assert_eq!(stats().unwrap().region_faults, times);
    });
    assert_eq!(lost, 0);
}

/// The same while somebody scans: what counts is right, and the truncation is noticed by the scan that
/// it hits or by the next.
pub(crate) fn truncate_during_scans(rounds: Range<usize>) {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 64 * PAGE);
    // 0: scan, 1: truncate now, 2: the truncation was noticed.
    let turn = AtomicUsize::new(0);
    let file = on_a_ring(async { File::open(&path).await.unwrap() });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in rounds.clone() {
                while turn.load(Ordering::SeqCst) != 1 {
                    std::thread::yield_now();
                }
                // Somewhere in the scan, by a number of steps that differs.
                (0..round % 97 * 50).for_each(|_| std::hint::spin_loop());
                truncate(&path, (round % 63 * PAGE + round % 7) as u64);
                while turn.load(Ordering::SeqCst) != 2 {
                    std::thread::yield_now();
                }
                std::fs::write(&path, &bytes).unwrap();
                turn.store(0, Ordering::SeqCst);
            }
        });
        on_a_ring(async {
            for _ in rounds.clone() {
                while turn.load(Ordering::SeqCst) != 0 {
                    std::thread::yield_now();
                }
                let window = whole(&file, Access::ReadOnly).await;
                turn.store(1, Ordering::SeqCst);
                loop {
                    let mut copy = vec![0; window.len()];
                    match window.copy_to(0, &mut copy) {
                        Ok(copied) => assert!(copied == bytes.len() && copy == bytes),
                        Err(_) => break,
                    }
                }
                turn.store(2, Ordering::SeqCst);
            }
        });
    });
}

/// Runs a test's body in a mount namespace with a tmpfs of 64 KiB at the given folder's place.
fn on_a_small_tmpfs(test: &str, body: impl FnOnce(&Path)) {
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
    let able = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status();
    if !crate::baseline::is_wrapped() && !able.is_ok_and(|status| status.success()) {
        eprintln!("{test}: no mount namespace can be had here; not run");
        return;
    }
    under(test, &wrapper, || {
        let folder = tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(folder.path());
        assert!(mount.status().unwrap().success());
        body(folder.path());
        // It goes with the namespace; the folder is still in use here.
        std::mem::forget(folder);
    });
}

/// R7, the second half: stores into a sparse file on a file system that is full. Each store that was
/// reported as done is in the file.
pub(crate) fn store_where_nothing_can_be_allocated(folder: &Path, times: u64) {
    let path = folder.join("sparse");
    let pages = 32;
    on_a_ring(async {
        std::fs::write(&path, b"").unwrap();
        let file = open_for_writing(&path).await;
        for round in 0..times {
            truncate(&path, 0);
            truncate(&path, pages * PAGE as u64);
            // The file system has room for sixteen pages; how many are left differs.
            std::fs::write(folder.join("filler"), vec![1; (round % 8) as usize * PAGE]).unwrap();
            let window = unpopulated(&file, Access::Shared).await;
            let mut done = Vec::new();
            for page in 0..pages as usize {
                match window.put(page * PAGE + 5, &round.to_le_bytes()) {
                    Ok(()) => done.push(page),
                    Err(WriteError::Poisoned(poisoned)) => {
                        assert_eq!(poisoned.cause, Cause::Fault);
                        assert_eq!(poisoned.file_len, Some(pages * PAGE as u64));
                        break;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(window.is_poisoned() && (1..pages as usize).contains(&done.len()));
            assert!(window.flush(0..1).await.is_err(), "nothing is flushed that was lost");
            let content = std::fs::read(&path).unwrap();
            for page in done {
                let there = &content[page * PAGE + 5..page * PAGE + 13];
                assert_eq!(there, round.to_le_bytes(), "a store reported as done was lost");
            }
        }
        assert_eq!(stats().unwrap().region_faults, times);
    });
}

#[test]
fn a_file_truncated_under_a_window_ends_no_process() {
    let name = "faults::a_file_truncated_under_a_window_ends_no_process";
    run_in_child(name, || truncate_under_loads(0..1000));
}

#[test]
fn what_a_scan_has_seen_counts_only_if_no_truncation_hit_it() {
    let name = "faults::what_a_scan_has_seen_counts_only_if_no_truncation_hit_it";
    run_in_child(name, || truncate_during_scans(0..300));
}

#[test]
fn stores_that_cannot_be_allocated_are_never_reported_as_done() {
    let name = "faults::stores_that_cannot_be_allocated_are_never_reported_as_done";
    on_a_small_tmpfs(name, |folder| store_where_nothing_can_be_allocated(folder, 500));
}

#[test]
#[ignore = "lane: R7, 10 000 truncations under a window, and 10 000 in the middle of a scan"]
fn lane_twenty_thousand_truncations() {
    let name = "faults::lane_twenty_thousand_truncations";
    let budget = std::time::Duration::from_secs(300);
    run_in_child_within(name, budget, || {
        // A ring of its own for every thousand: each has its budget of time.
        (0..10).for_each(|part| truncate_under_loads(1000 * part..1000 * (part + 1)));
        (0..10).for_each(|part| truncate_during_scans(1000 * part..1000 * (part + 1)));
    });
}

#[test]
#[ignore = "lane: R7, 10 000 stores that cannot be allocated"]
fn lane_ten_thousand_stores_without_space() {
    let name = "faults::lane_ten_thousand_stores_without_space";
    on_a_small_tmpfs(name, |folder| store_where_nothing_can_be_allocated(folder, 10_000));
}

#[test]
fn zeros_behind_the_end_of_the_last_page_are_found_though_nothing_faults() {
    find_zeros_behind_the_end();
}

pub(crate) fn find_zeros_behind_the_end() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", PAGE);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        for access in [Access::ReadOnly, Access::Shared] {
            truncate(&path, PAGE as u64);
            let window = whole(&file, access).await;
            truncate(&path, 100);
            let poisoned = window.read(|view| view.byte(101)).unwrap_err();
            assert_eq!((poisoned.cause, poisoned.file_len), (Cause::Truncated, Some(100)));
            truncate(&path, PAGE as u64);
            assert_eq!(window.check().unwrap_err().cause, Cause::Truncated, "poison lasts");
            // A store there would be lost too.
            let window = whole(&file, access).await;
            truncate(&path, 100);
            if access == Access::Shared {
                assert!(matches!(window.put(200, b"lost"), Err(WriteError::Poisoned(_))));
            }
            // What ends before the cut is not concerned.
            let front = region::map(&file, 0..100).await.unwrap();
            front.check().unwrap();
        }
        assert_eq!(stats().unwrap().region_faults, 0);
    });
}

#[test]
fn private_pages_that_lose_their_changes_are_found_though_nothing_faults() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let window = whole(&file, Access::Private).await;
        window.put(PAGE, b"changed").unwrap();
        truncate(&path, PAGE as u64);
        let poisoned = window.check().unwrap_err();
        assert_eq!(poisoned.cause, Cause::Truncated);
        // It is so: the change has gone, and would not come back with the file.
        std::fs::write(&path, &bytes).unwrap();
        assert!(window.read(|view| view.matches(PAGE, b"changed")).is_err());
    });
}

#[test]
fn a_fault_poisons_everybody_who_shares_the_region_and_nobody_else() {
    let name = "faults::a_fault_poisons_everybody_who_shares_the_region_and_nobody_else";
    run_in_child(name, || {
        let folder = tempdir().unwrap();
        let (path, bytes) = canary_file(folder.path(), "file", 8 * PAGE);
        on_a_ring(async {
            let file = File::open(&path).await.unwrap();
            let one = whole(&file, Access::ReadOnly).await;
            let two = whole(&file, Access::ReadOnly).await;
            let part = one.slice(0..10).unwrap();
            let other = region::map(&file, 0..PAGE as u64).await.unwrap();
            truncate(&path, PAGE as u64);
            let seen = std::thread::spawn(move || one.read(|view| view.byte(5 * PAGE)));
            assert!(seen.join().unwrap().is_err());
            assert!(two.is_poisoned() && part.is_poisoned());
            assert_eq!(bytes_of(&other), &bytes[..PAGE]);
            let now = whole(&file, Access::ReadOnly).await;
            assert_eq!(bytes_of(&now), &bytes[..PAGE], "a new window has new pages");
        });
    });
}

#[test]
fn faults_in_hundreds_of_regions_by_several_threads_are_each_contained() {
    let name = "faults::faults_in_hundreds_of_regions_by_several_threads_are_each_contained";
    run_in_child(name, || {
        let folder = tempdir().unwrap();
        let (path, _) = canary_file(folder.path(), "file", 900 * PAGE);
        on_a_ring(async {
            let file = open_for_writing(&path).await;
            let mut windows = Vec::new();
            for page in 0..900u64 {
                let access = [Access::ReadOnly, Access::Private, Access::Shared][page as usize % 3];
                let range = page * PAGE as u64..(page + 1) * PAGE as u64;
                windows.push(Options::new().access(access).map(&file, range).await.unwrap());
            }
            truncate(&path, 0);
            std::thread::scope(|scope| {
                for part in windows.chunks(225) {
                    scope.spawn(move || {
                        for window in part {
                            let seen = window.read(|view| view.byte(17)).unwrap_err();
                            assert_eq!(seen.cause, Cause::Fault);
                        }
                    });
                }
            });
            assert_eq!(stats().unwrap().region_faults, 900);
        });
    });
}

#[test]
fn populating_what_has_gone_is_a_refusal() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 4 * PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        for how in [Populate::Worker, Populate::Inline] {
            truncate(&path, 4 * PAGE as u64);
            let window = unpopulated(&file, Access::ReadOnly).await;
            truncate(&path, 10);
            let refusal = window.populate(0..4 * PAGE, Intent::Read, how).await.unwrap_err();
            assert_eq!(refusal, Refusal::PastEnd { len: 10 });
            let writing = window.populate(0..1, Intent::Write, how).await.unwrap_err();
            assert_eq!(writing, Refusal::NotPermitted);
        }
        assert_eq!(stats().unwrap().region_faults, 0);
    });
}

#[test]
fn populating_for_stores_finds_a_full_file_system_before_any_store() {
    let name = "faults::populating_for_stores_finds_a_full_file_system_before_any_store";
    on_a_small_tmpfs(name, |folder| {
        let path = folder.join("sparse");
        std::fs::write(&path, b"").unwrap();
        truncate(&path, 32 * PAGE as u64);
        on_a_ring(async {
            let file = open_for_writing(&path).await;
            let shared = Options::new().access(Access::Shared);
            for how in [Populate::Worker, Populate::Inline] {
                let refused = shared.populate(how).map(&file, 0..32 * PAGE as u64).await;
                assert_eq!(refused.unwrap_err(), Refusal::NoSpace);
            }
            let full = region::preallocate(&file, 40 * PAGE as u64).await.unwrap_err();
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            assert_eq!(stats().unwrap().region_faults, 0);
        });
    });
}

#[test]
fn with_all_mappings_exhausted_a_fault_is_still_contained() {
    let name = "faults::with_all_mappings_exhausted_a_fault_is_still_contained";
    run_in_child(name, || {
        let folder = tempdir().unwrap();
        let (path, _) = canary_file(folder.path(), "file", 16 * PAGE);
        on_a_ring_with(small(), async {
            let file = open_for_writing(&path).await;
            // Next to each other, so that the kernel merges some: replacing one splits a mapping.
            let mut windows: Vec<Window> = Vec::new();
            for page in 0..16 {
                let range = page * PAGE as u64..(page + 1) * PAGE as u64;
                windows.push(region::map(&file, range).await.unwrap());
            }
            let exhausted = bus::exhaust_mappings();
            let refusal = region::map(&file, 0..16 * PAGE as u64).await.unwrap_err();
            assert_eq!(refusal, Refusal::Exhausted, "it says so, and the caller can read instead");
            truncate(&path, 0);
            let seen = windows[7].read(|view| view.byte(9));
            // One out of the middle is unmapped.
            drop(windows.remove(4));
            region::forget(&file).unwrap();
            drop(exhausted);
            assert_eq!(seen.unwrap_err().cause, Cause::Fault);
            assert_eq!(stats().unwrap().region_faults, 1);
        });
    });
}

#[test]
fn at_the_limit_of_mappings_idle_regions_make_room() {
    let name = "faults::at_the_limit_of_mappings_idle_regions_make_room";
    run_in_child(name, || {
        let folder = tempdir().unwrap();
        let (path, bytes) = canary_file(folder.path(), "file", 64 * PAGE);
        on_a_ring_with(small(), async {
            let file = File::open(&path).await.unwrap();
            // Every other page: these cannot be merged.
            for page in 0..32 {
                let start = page * 2 * PAGE as u64;
                region::map(&file, start..start + 9).await.unwrap();
            }
            let exhausted = bus::exhaust_mappings();
            let window = region::map(&file, 0..64 * PAGE as u64).await;
            drop(exhausted);
            assert_eq!(bytes_of(&window.unwrap()), bytes);
            assert!(stats().unwrap().regions_evicted > 0);
        });
    });
}

#[test]
fn a_file_on_a_descriptor_that_is_closed_keeps_its_window() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let window = whole(&file, Access::ReadOnly).await;
        drop(file);
        assert_eq!(bytes_of(&window), bytes);
        assert!(window.file().as_fd().try_clone_to_owned().is_ok());
    });
}
