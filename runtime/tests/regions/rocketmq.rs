//! RocketMQ's traps, one test each: what its mapped files do wrong is not possible here.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringway_runtime::fs::File;
use ringway_runtime::region::{self, Access, Options, WriteError};
use ringway_runtime::{Config, stats};
use ringway_testkit::{bus, run_in_child};
use tempfile::tempdir;

use crate::baseline::{on_a_ring, on_a_ring_with, small, under};
use crate::{PAGE, bytes_of, canary_file, faults, open_for_writing, whole};

#[test]
fn trap_forced_unmap_while_held() {
    run_in_child("rocketmq::trap_forced_unmap_while_held", || {
        let folder = tempdir().unwrap();
        let (path, bytes) = canary_file(folder.path(), "file", 2 * PAGE);
        let config = Config { regions_max: 1, region_idle: std::time::Duration::ZERO, ..small() };
        on_a_ring_with(config, async {
            let file = File::open(&path).await.unwrap();
            let held = whole(&file, Access::ReadOnly).await;
            // Everything that unmaps is tried: the cap, the cleaner, forgetting, removing.
            assert!(region::map(&file, 0..1).await.is_err());
            region::forget(&file).unwrap();
            std::fs::remove_file(&path).unwrap();
            ringway_runtime::yield_now().await;
            assert_eq!(bytes_of(&held), bytes);
            assert_eq!(stats().unwrap().regions, 1);
        });
    });
}

#[test]
fn trap_unmap_while_another_thread_writes() {
    run_in_child("rocketmq::trap_unmap_while_another_thread_writes", || {
        let folder = tempdir().unwrap();
        let (path, _) = canary_file(folder.path(), "file", 16 * PAGE);
        on_a_ring(async {
            let file = open_for_writing(&path).await;
            let window = whole(&file, Access::Shared).await;
            let (stop, stored) = (AtomicBool::new(false), AtomicU64::new(0));
            std::thread::scope(|scope| {
                let mine = window.slice(PAGE..9 * PAGE).unwrap();
                let (stop, stored) = (&stop, &stored);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = stored.load(Ordering::Relaxed) + 1;
                        let at = number as usize % 4000 * 8;
                        assert!(mine.write(|pen| pen.put_u64_le(at, number)).unwrap());
                        stored.store(number, Ordering::Release);
                    }
                });
                // The ring's side lets go of everything it has, again and again.
                drop(window);
                while stored.load(Ordering::Acquire) < 50_000 {
                    region::forget(&file).unwrap();
                    std::thread::yield_now();
                }
                stop.store(true, Ordering::Relaxed);
            });
            let last = stored.load(Ordering::Acquire);
            let place = PAGE + last as usize % 4000 * 8;
            let content = std::fs::read(&path).unwrap();
            assert_eq!(content[place..place + 8], last.to_le_bytes());
            assert_eq!(stats().unwrap().regions, 0, "and then it was unmapped");
        });
    });
}

// max_map_count exhausted is an errno, and a fault then is still contained.
#[test]
fn trap_exhausted_mappings() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 4096 * PAGE);
    on_a_ring(async {
        // A reader that wants a window for each page stays within the cap of the configuration, far
        // below the kernel's; see `faults` for what happens at the kernel's own limit.
        let file = File::open(&path).await.unwrap();
        let mut held = Vec::new();
        let mut refused = 0;
        for page in 0..4096u64 {
            match region::map(&file, page * PAGE as u64..(page + 1) * PAGE as u64).await {
                Ok(window) => held.push(window),
                Err(_) => refused += 1,
            }
        }
        assert_eq!((held.len(), refused), (1024, 4096 - 1024));
    });
}

#[test]
fn trap_cumulative_counts() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 100);
    on_a_ring(async {
        let window = whole(&open_for_writing(&path).await, Access::Shared).await;
        // Each count is of its own call, whatever was copied or stored before.
        let counts = [0, 60, 60, 90, 100].map(|at| window.copy_to(at, &mut [0; 40]).unwrap());
        assert_eq!(counts, [40, 40, 40, 10, 0]);
        assert_eq!(window.put(90, &[0; 11]), Err(WriteError::OutOfRange), "no part of it");
        assert_eq!(window.put(90, &[0; 10]), Ok(()));
    });
}

/// A device that turns read-only, or fails, below a mapped file: ext4 on a loop device whose file system
/// is shut down under it. Needs root.
fn with_a_file_system_that_is_shut_down(test: &str, body: impl FnOnce(&Path, &dyn Fn())) {
    if !crate::baseline::is_wrapped() && !rustix::process::geteuid().is_root() {
        eprintln!("{test}: only root can mount a file system; not run");
        return;
    }
    let able = Command::new("unshare").args(["--mount", "mkfs.ext4", "-V"]).output();
    if !crate::baseline::is_wrapped() && !able.is_ok_and(|output| output.status.success()) {
        eprintln!("{test}: no mount namespace or no mkfs.ext4 here; not run");
        return;
    }
    under(test, &["unshare", "--mount"], || {
        let folder = tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let mkfs = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        assert!(mkfs.unwrap().success());
        let place = folder.path().join("mounted");
        std::fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place).status();
        if !mounted.unwrap().success() {
            eprintln!("{test}: no loop device here; not run");
            return;
        }
        body(&place, &|| {
            bus::shut_file_system_down(&std::fs::File::open(&place).unwrap()).unwrap();
        });
        let unmounted = Command::new("umount").args(["-l"]).arg(&place).status();
        assert!(unmounted.unwrap().success());
    });
}

#[test]
fn trap_flush_claims_durability_it_lacks() {
    let name = "rocketmq::trap_flush_claims_durability_it_lacks";
    with_a_file_system_that_is_shut_down(name, |place, fail| {
        let path = place.join("log");
        std::fs::write(&path, vec![0; 8 * PAGE]).unwrap();
        on_a_ring(async {
            let file = open_for_writing(&path).await;
            let window = whole(&file, Access::Shared).await;
            window.put(0, b"before").unwrap();
            window.flush(0..8 * PAGE).await.unwrap();
            window.put(PAGE, b"dirty").unwrap();
            fail();
            // Stored in memory, but never to reach the device: the flush says so, and says it again.
            assert!(window.flush(PAGE..2 * PAGE).await.is_err());
            assert!(window.flush(PAGE..2 * PAGE).await.is_err());
            assert!(window.put(0, b"lost").is_err());
        });
    });
}

#[test]
fn trap_a_device_that_turns_read_only() {
    let name = "rocketmq::trap_a_device_that_turns_read_only";
    with_a_file_system_that_is_shut_down(name, |place, fail| {
        let path = place.join("log");
        std::fs::write(&path, vec![0; 8 * PAGE]).unwrap();
        on_a_ring(async {
            let file = open_for_writing(&path).await;
            let window = whole(&file, Access::Shared).await;
            window.put(0, b"before").unwrap();
            window.flush(0..8 * PAGE).await.unwrap();
            fail();
            // A store into a page that was written out asks the file system, and would end the process.
            let fresh = Options::new().access(Access::Shared).map(&file, 0..4 * PAGE as u64).await;
            let lost = match fresh {
                Ok(fresh) => fresh.put(3 * PAGE, b"lost").and(Ok(fresh.flush(0..PAGE).await)),
                Err(_) => Err(WriteError::ReadOnly),
            };
            assert!(!matches!(lost, Ok(Ok(()))), "no store is reported as done");
            // Through the window that was there before, it is the store or the flush that tells.
            let lost = match window.put(0, b"lost") {
                Ok(()) => window.flush(0..PAGE).await.is_ok(),
                Err(_) => false,
            };
            assert!(!lost, "no store is reported as done");
        });
    });
}

// Not in the list, but of the same class: the handler must hold when it is needed over and over.
#[test]
fn trap_truncation_while_selected() {
    run_in_child("rocketmq::trap_truncation_while_selected", || {
        faults::truncate_under_loads(0..20);
    });
}
