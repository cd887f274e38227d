//! What a window shows: the bytes of the file, wherever it begins and ends.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use ringway_runtime::fs::{File, Residency};
use ringway_runtime::region::{self, Access, Intent, Options, Populate, Refusal};
use ringway_testkit::canary;
use tempfile::tempdir;

use crate::baseline::on_a_ring;
use crate::{PAGE, bytes_of, canary_file, open_for_writing, whole};

#[test]
fn a_window_shows_the_bytes_of_any_range() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 5 * PAGE + 123);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        for access in [Access::ReadOnly, Access::Private, Access::Shared] {
            for how in [Populate::Ask, Populate::Inline, Populate::Worker, Populate::No] {
                for (from, to) in [
                    (0, 1),
                    (0, bytes.len()),
                    (1, PAGE),
                    (PAGE - 1, PAGE + 1),
                    (PAGE, 2 * PAGE),
                    (4095, 12289),
                    (5 * PAGE, bytes.len()),
                    (bytes.len() - 1, bytes.len()),
                ] {
                    let options = Options::new().access(access).populate(how);
                    let window = options.map(&file, from as u64..to as u64).await.unwrap();
                    assert_eq!(bytes_of(&window), &bytes[from..to], "{access:?} {from}..{to}");
                    assert_eq!(window.file_range(), from as u64..to as u64);
                }
            }
        }
    });
}

#[test]
fn an_empty_window_has_nothing_and_wants_nothing() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 10);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        for at in [0, 5, 10] {
            let window = Options::new().access(Access::Shared).map(&file, at..at).await.unwrap();
            assert!(window.is_empty() && window.slice(0..0).unwrap().is_empty());
            assert_eq!(window.copy_to(0, &mut [0; 4]).unwrap(), 0);
            assert_eq!(window.read(|view| (view.byte(0), view.find(0..9, b"a"))), Ok((None, None)));
            window.put(0, b"").unwrap();
            assert!(window.put(0, b"x").is_err());
            window.flush(0..0).await.unwrap();
            window.lock_in_memory().unwrap();
            window.populate(0..9, Intent::Write, Populate::Worker).await.unwrap();
        }
        assert_eq!(ringway_runtime::stats().unwrap().regions_mapped, 0);
    });
}

#[test]
fn a_range_behind_the_end_is_refused_with_the_length() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 1000);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        for range in [0..1001, 1001..1001, 999..u64::MAX, u64::MAX - 1..u64::MAX] {
            let refusal = region::map(&file, range).await.unwrap_err();
            assert_eq!(refusal, Refusal::PastEnd { len: 1000 });
            assert_eq!(std::io::Error::from(refusal).kind(), ErrorKind::UnexpectedEof);
        }
        #[expect(clippy::reversed_empty_ranges, reason = "that is the question")]
        let turned = region::map(&file, 5..4).await;
        assert!(matches!(turned, Err(Refusal::Errno(_))));
    });
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 1000);
    on_a_ring(async {
        let shared = Options::new().access(Access::Shared);
        let reading = File::open(&path).await.unwrap();
        assert_eq!(shared.map(&reading, 0..10).await.unwrap_err(), Refusal::NotPermitted);
        let writing = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let writing = File::from_std(writing);
        assert_eq!(region::map(&writing, 0..10).await.unwrap_err(), Refusal::NotPermitted);
        // What another has mapped already gives no rights.
        let both = open_for_writing(&path).await;
        let _held = (whole(&both, Access::Shared).await, whole(&both, Access::ReadOnly).await);
        assert_eq!(shared.map(&reading, 0..1000).await.unwrap_err(), Refusal::NotPermitted);
        assert_eq!(region::map(&writing, 0..1000).await.unwrap_err(), Refusal::NotPermitted);
        let null = File::open("/dev/null").await.unwrap();
        assert!(matches!(region::map(&null, 0..0).await, Err(Refusal::NotMappable(_))));
        let generated = File::open("/proc/self/status").await.unwrap();
        assert!(matches!(region::map(&generated, 0..1).await, Err(Refusal::PastEnd { .. })));
        let before = ringway_runtime::stats().unwrap();
        assert_eq!(before.regions_refused, 5);
    });
    let file = File::from_std(std::fs::File::open(&path).unwrap());
    let outside = std::pin::pin!(region::map(&file, 0..1));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let refused = std::future::Future::poll(outside, &mut context);
    assert!(matches!(refused, std::task::Poll::Ready(Err(Refusal::NoRing))));
}

// netty (by reading): offsets of 32 bits break beyond 2 GiB.
#[test]
fn windows_far_behind_four_gigabytes_show_their_bytes() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    let places = [(2 << 30) - 3, (4 << 30) - 50, (4 << 30) + 1001, (9u64 << 30) + 12345];
    for at in places {
        let mut bytes = [0; 100];
        canary::fill(7, at, &mut bytes);
        file.write_all_at(&bytes, at).unwrap();
    }
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        for at in places {
            let mut bytes = [0; 100];
            canary::fill(7, at, &mut bytes);
            let window = region::map(&file, at..at + 100).await.unwrap();
            assert_eq!(bytes_of(&window), bytes);
            let shared = Options::new().access(Access::Shared).map(&file, at..at + 100);
            let shared = shared.await.unwrap();
            shared.put(99, b"!").unwrap();
            shared.flush(0..100).await.unwrap();
            assert_eq!(window.read(|view| view.byte(99)).unwrap(), Some(b'!'));
        }
    });
}

#[test]
fn a_slice_is_a_window_of_its_own() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 3 * PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let window = region::map(&file, 5..10_000).await.unwrap();
        let slice = window.slice(4000..4200).unwrap().slice(10..20).unwrap();
        drop(window);
        assert_eq!(slice.file_range(), 4015..4025);
        assert_eq!(bytes_of(&slice), &bytes[4015..4025]);
        assert!(slice.slice(5..11).is_none() && slice.slice(11..11).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "that is the question")]
        let turned = slice.slice(5..4);
        assert!(turned.is_none());
    });
}

#[test]
fn a_view_reads_what_the_slice_would() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 20_000);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let window = region::map(&file, 3..19_999).await.unwrap();
        let bytes = &bytes[3..19_999];
        window
            .read(|view| {
                assert_eq!(view.len(), bytes.len());
                for at in (0..40).chain(4080..4110).chain(bytes.len() - 20..bytes.len() + 2) {
                    let part = |len: usize| bytes.get(at..at + len);
                    let two = part(2).map(|b| b.try_into().unwrap());
                    let four = part(4).map(|b| b.try_into().unwrap());
                    let eight = part(8).map(|b| b.try_into().unwrap());
                    assert_eq!(view.byte(at), bytes.get(at).copied());
                    assert_eq!(view.u16_le(at), two.map(u16::from_le_bytes));
                    assert_eq!(view.u16_be(at), two.map(u16::from_be_bytes));
                    assert_eq!(view.u32_le(at), four.map(u32::from_le_bytes));
                    assert_eq!(view.u32_be(at), four.map(u32::from_be_bytes));
                    assert_eq!(view.u64_le(at), eight.map(u64::from_le_bytes));
                    assert_eq!(view.u64_be(at), eight.map(u64::from_be_bytes));
                }
                assert_eq!(view.byte(usize::MAX), None);
                assert_eq!(view.u64_le(usize::MAX - 3), None);
                for len in (0..40).chain([5000]) {
                    for at in (0..20).chain([bytes.len() - 7, bytes.len(), usize::MAX]) {
                        let mut copy = vec![0; len];
                        let copied = view.copy_to(at, &mut copy);
                        let wanted = bytes.get(at..).unwrap_or_default();
                        assert_eq!(copied, len.min(wanted.len()));
                        assert_eq!(copy[..copied], wanted[..copied]);
                    }
                }
            })
            .unwrap();
    });
}

#[test]
fn scanning_and_finding_agree_with_the_slice() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 40_000);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let window = region::map(&file, 1..40_000).await.unwrap();
        let bytes = &bytes[1..];
        let looked = window.read(|view| {
            let mut seen = Vec::new();
            let broken = view.scan(17..usize::MAX, |at, chunk| {
                assert_eq!(at, 17 + seen.len());
                seen.extend_from_slice(chunk);
                if at > 30_000 { ControlFlow::Break(at) } else { ControlFlow::Continue(()) }
            });
            assert!(broken.is_some() && seen == bytes[17..17 + seen.len()]);
            // Places around the ends of the chunks that a search copies.
            for at in [0, 8185, 8190, 8191, 8192, 16_370, 16_384, 39_990] {
                for len in [1, 2, 9, 4096, 5000] {
                    let needle = &bytes[at..(at + len).min(bytes.len())];
                    let naive = bytes.windows(needle.len()).position(|part| part == needle);
                    assert_eq!(view.find(0..usize::MAX, needle), naive, "{at} {len}");
                    assert!(view.matches(at, needle));
                    let last = needle.len() - 1;
                    assert_eq!(view.find(at..at + last, needle), None, "it must end inside");
                    assert_eq!(view.find(at..at + last + 1, needle), Some(at));
                }
            }
            let mut other = bytes[100..9000].to_vec();
            other[8899] ^= 1;
            assert!(!view.matches(100, &other) && !view.matches(39_990, &other));
            assert_eq!(view.find(5..10, b""), Some(5));
        });
        looked.unwrap();
    });
}

#[test]
fn what_was_populated_is_resident_and_can_be_locked() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 64 * PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        file.sync_all().await.unwrap();
        file.advise(0, 0, ringway_runtime::fs::Advice::DontNeed).await.unwrap();
        let window = region::map(&file, 0..64 * PAGE as u64).await.unwrap();
        assert_ne!(window.residency(0..window.len()), Residency::Cold);
        let stats = ringway_runtime::stats().unwrap();
        assert_eq!(stats.region_populated_bytes, 64 * PAGE as u64);
        window.lock_in_memory().unwrap();
        assert_eq!(locked_kib(), 64 * PAGE as u64 / 1024);
        drop(window);
        assert_eq!(locked_kib(), 0, "an idle region locks nothing");
    });
}

/// The limit is that of an ordinary user: root may lock what it likes.
#[test]
fn locking_is_refused_by_the_limit_and_the_window_works_all_the_same() {
    let name = "windows::locking_is_refused_by_the_limit_and_the_window_works_all_the_same";
    if !crate::baseline::is_wrapped() && !rustix::process::geteuid().is_root() {
        eprintln!("{name}: only root can become another user; not run");
        return;
    }
    let user = (300_000 + std::process::id() % 1_000_000).to_string();
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let limit = "--memlock=1048576:1048576";
    let wrapper = ["prlimit", limit, "setpriv", &uid, &gid, "--clear-groups"];
    crate::baseline::under(name, &wrapper, || {
        let folder = tempdir().unwrap();
        let (path, bytes) = canary_file(folder.path(), "file", 512 * PAGE);
        on_a_ring(async {
            let window = whole(&File::open(&path).await.unwrap(), Access::ReadOnly).await;
            let refused = window.lock_in_memory().unwrap_err();
            assert!(matches!(refused.raw_os_error(), Some(libc::ENOMEM | libc::EPERM)));
            assert_eq!(bytes_of(&window), bytes);
        });
    });
}

#[test]
fn what_is_cold_is_populated_in_the_ring_and_what_is_resident_inline() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 300 * PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let ops = || ringway_runtime::stats().unwrap().ops_submitted;
        let all = 0..100 * PAGE as u64;
        file.sync_all().await.unwrap();
        file.advise(0, 0, ringway_runtime::fs::Advice::DontNeed).await.unwrap();
        if file.residency(0, all.end) == Residency::Cold {
            let before = ops();
            let window = region::map(&file, all.clone()).await.unwrap();
            assert_eq!(ops() - before, 1, "by an op");
            drop(window);
        }
        std::fs::read(&path).unwrap();
        if file.residency(0, all.end) == Residency::Resident {
            let before = ops();
            let _window = region::map(&file, all).await.unwrap();
            assert_eq!(ops() - before, 0, "inline");
            // More than 1 MiB is handed to a worker all the same.
            let _long = region::map(&file, 0..300 * PAGE as u64).await.unwrap();
            assert_eq!(ops() - before, 1);
        }
    });
}

fn locked_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_populate_that_is_dropped_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 256 * PAGE);
    let runtime = ringway_runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let file = File::open(&path).await.unwrap();
        let options = Options::new().access(Access::Private).populate(Populate::Worker);
        for _ in 0..200 {
            crate::baseline::start_and_drop(options.map(&file, 0..256 * PAGE as u64)).await;
        }
    });
    crate::baseline::assert_settled(&runtime);
    assert_eq!((runtime.stats().regions, runtime.stats().region_bytes), (0, 0));
}
