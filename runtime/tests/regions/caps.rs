//! How much is mapped, for how long, and who may unmap it.

use std::time::Duration;

use ringway_runtime::fs::File;
use ringway_runtime::region::{self, Access, Options, Populate, Refusal, Window};
use ringway_runtime::{Config, Runtime, Stats, stats, time};
use ringway_testkit::run_in_child;
use tempfile::tempdir;

use crate::baseline::{on_a_ring, on_a_ring_with, small};
use crate::{PAGE, bytes_of, canary_file, open_for_writing, whole};

fn few(regions_max: u32, region_bytes_max: usize) -> Config {
    Config { regions_max, region_bytes_max: region_bytes_max as u64, ..small() }
}

fn gauges(stats: Stats) -> (u64, u64, u64) {
    (stats.regions, stats.regions_idle, stats.region_bytes / PAGE as u64)
}

async fn page(file: &File, number: u64) -> Result<Window, Refusal> {
    let start = number * PAGE as u64;
    region::map(file, start..start + PAGE as u64).await
}

/// The number of mappings of a file, by the kernel's own list.
fn mappings_of(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).count()
}

#[test]
fn held_regions_are_bounded_in_number() {
    bound_regions_in_number();
}

pub(crate) fn bound_regions_in_number() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 8 * PAGE);
    on_a_ring_with(few(3, 1 << 20), async {
        let file = File::open(&path).await.unwrap();
        let mut held = Vec::new();
        for number in 0..3 {
            held.push(page(&file, number).await.unwrap());
        }
        assert_eq!(page(&file, 3).await.unwrap_err(), Refusal::RegionsMax);
        // One that is there already costs nothing.
        held.push(page(&file, 1).await.unwrap());
        assert_eq!(gauges(stats().unwrap()), (3, 0, 3));
        held.pop();
        drop(held.pop());
        assert!(page(&file, 3).await.is_ok(), "what is idle makes room");
        assert_eq!(stats().unwrap().regions_refused, 1);
    });
}

#[test]
fn mapped_bytes_are_bounded() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 8 * PAGE);
    on_a_ring_with(few(100, 4 * PAGE), async {
        let file = File::open(&path).await.unwrap();
        let held = region::map(&file, 0..3 * PAGE as u64).await.unwrap();
        let idle = page(&file, 4).await.unwrap();
        assert_eq!(page(&file, 5).await.unwrap_err(), Refusal::BytesMax);
        drop(idle);
        // Five bytes over the edge of a page are two pages.
        let across = region::map(&file, 5 * PAGE as u64 - 2..5 * PAGE as u64 + 3).await;
        assert_eq!(across.unwrap_err(), Refusal::BytesMax);
        drop(held);
        // A range that would not fit alone evicts nobody.
        let before = page(&file, 6).await.map(drop);
        assert!(before.is_ok());
        let evicted = stats().unwrap().regions_evicted;
        assert_eq!(region::map(&file, 0..5 * PAGE as u64).await.unwrap_err(), Refusal::BytesMax);
        assert_eq!(stats().unwrap().regions_evicted, evicted);
    });
}

#[test]
fn a_cap_of_nothing_maps_nothing_but_the_empty_window() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", PAGE);
    on_a_ring_with(few(0, 0), async {
        let file = File::open(&path).await.unwrap();
        assert_eq!(page(&file, 0).await.unwrap_err(), Refusal::RegionsMax);
        assert!(region::map(&file, 7..7).await.is_ok());
    });
}

#[test]
fn the_oldest_idle_region_goes_first() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 8 * PAGE);
    on_a_ring_with(few(3, 1 << 20), async {
        let file = File::open(&path).await.unwrap();
        for number in [0, 1, 2] {
            page(&file, number).await.unwrap();
        }
        // Used again, and so the youngest.
        page(&file, 0).await.unwrap();
        page(&file, 3).await.unwrap();
        let known = |before: Stats, after: Stats| after.regions_reused > before.regions_reused;
        for (number, there) in [(0, true), (2, true), (3, true), (1, false)] {
            let before = stats().unwrap();
            page(&file, number).await.unwrap();
            assert_eq!(known(before, stats().unwrap()), there, "page {number}");
        }
        let stats = stats().unwrap();
        assert_eq!((stats.regions_mapped, stats.regions_reused, stats.regions_evicted), (5, 4, 2));
    });
}

#[test]
fn an_idle_region_is_unmapped_after_its_time_though_nothing_else_happens() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "idle-canary", 2 * PAGE);
    let config = Config { region_idle: Duration::from_millis(30), ..small() };
    on_a_ring_with(config, async {
        let file = File::open(&path).await.unwrap();
        let held = page(&file, 1).await.unwrap();
        page(&file, 0).await.unwrap();
        assert_eq!(gauges(stats().unwrap()), (2, 1, 2));
        // The hold ends on another thread, while the ring waits without a deadline.
        let other = std::thread::spawn(move || drop(held));
        while stats().unwrap().regions > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
        other.join().unwrap();
        assert_eq!(mappings_of("idle-canary"), 0);
        assert_eq!(stats().unwrap().regions_evicted, 2);
    });
}

#[test]
fn a_release_on_another_thread_sets_the_cleaners_clock() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", PAGE);
    let config = Config { region_idle: Duration::from_secs(3600), ..small() };
    let runtime = Runtime::embedded(config).unwrap();
    let window = runtime
        .block_on(async { region::map(&File::open(&path).await.unwrap(), 0..9).await.unwrap() });
    let settle = || while runtime.turn().unwrap().again {};
    settle();
    assert_eq!(runtime.turn().unwrap().deadline, None, "what is held is not cleaned");
    std::thread::spawn(move || drop(window)).join().unwrap();
    settle();
    let deadline = runtime.turn().unwrap().deadline;
    assert!(deadline.is_some(), "the turn tells when to clean");
    assert_eq!(gauges(runtime.stats()), (1, 1, 1));
}

#[test]
fn those_who_want_the_same_range_share_it() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 4 * PAGE);
    on_a_ring(async {
        let (one, two) = (File::open(&path).await.unwrap(), open_for_writing(&path).await);
        let first = region::map(&one, 5..9000).await.unwrap();
        let second = region::map(&two, 7..8999).await.unwrap();
        assert_eq!(gauges(stats().unwrap()), (1, 0, 3));
        drop((first, one));
        assert_eq!(bytes_of(&second), &bytes[7..8999], "the other's hold keeps it");
        drop(second);
        assert_eq!(gauges(stats().unwrap()), (1, 1, 3));
        // Private pages are shared with nobody, and shared ones not with those who only look.
        let private = whole(&two, Access::Private).await;
        let private_too = whole(&two, Access::Private).await;
        let shared = whole(&two, Access::Shared).await;
        assert_eq!(gauges(stats().unwrap()), (4, 1, 3 + 3 * 4));
        drop((private, private_too, shared));
        assert_eq!(gauges(stats().unwrap()), (2, 2, 3 + 4));
    });
}

#[test]
fn forgetting_a_file_unmaps_what_is_idle_and_is_harmless_twice() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "forgotten-canary", 4 * PAGE);
    let (other_path, _) = canary_file(folder.path(), "other", PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let other = File::open(&other_path).await.unwrap();
        page(&other, 0).await.unwrap();
        page(&file, 0).await.unwrap();
        let held = page(&file, 1).await.unwrap();
        assert_eq!(region::forget(&file).unwrap(), 1);
        assert_eq!(region::forget(&file).unwrap(), 0);
        assert_eq!(bytes_of(&held), &bytes[PAGE..2 * PAGE]);
        let again = page(&file, 1).await.unwrap();
        assert_eq!(gauges(stats().unwrap()), (3, 1, 3), "the forgotten one is not found");
        drop(held);
        assert_eq!(gauges(stats().unwrap()), (2, 1, 2), "and goes with its last hold");
        drop(again);
        assert_eq!(region::forget(&file).unwrap(), 1);
        assert_eq!(mappings_of("forgotten-canary"), 0);
        assert_eq!(stats().unwrap().regions, 1);
    });
}

#[test]
fn a_window_outlives_its_ring_and_its_file_s_name() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "outliving-canary", 2 * PAGE);
    let window = on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        page(&file, 1).await.unwrap();
        whole(&file, Access::ReadOnly).await
    });
    std::fs::rename(&path, folder.path().join("renamed-canary")).unwrap();
    assert_eq!(bytes_of(&window), bytes);
    std::fs::remove_file(folder.path().join("renamed-canary")).unwrap();
    assert_eq!(bytes_of(&window), bytes);
    assert_eq!(mappings_of("renamed-canary"), 1, "what was idle went with the ring");
    drop(window);
    assert_eq!(mappings_of("renamed-canary"), 0);
}

#[test]
fn replacing_a_file_by_rename_maps_the_new_one() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", PAGE);
    on_a_ring(async {
        let old = whole(&File::open(&path).await.unwrap(), Access::ReadOnly).await;
        std::fs::write(folder.path().join("new"), b"new bytes").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        let new = whole(&File::open(&path).await.unwrap(), Access::ReadOnly).await;
        assert_eq!(bytes_of(&new), b"new bytes");
        old.check().unwrap();
    });
}

#[test]
fn a_thousand_private_windows_leave_no_page_behind() {
    let name = "caps::a_thousand_private_windows_leave_no_page_behind";
    run_in_child(name, || {
        let folder = tempdir().unwrap();
        let (path, bytes) = canary_file(folder.path(), "private-canary", 16 * PAGE);
        on_a_ring(async {
            let file = File::open(&path).await.unwrap();
            let options = Options::new().access(Access::Private).populate(Populate::Inline);
            for round in 0..1000u32 {
                let window = options.map(&file, 0..16 * PAGE as u64).await.unwrap();
                assert_eq!(bytes_of(&window), bytes, "no byte of the round before");
                window.put(PAGE - 2, &round.to_le_bytes()).unwrap();
            }
            assert_eq!(gauges(stats().unwrap()), (0, 0, 0));
            assert_eq!(mappings_of("private-canary"), 0);
        });
    });
}
