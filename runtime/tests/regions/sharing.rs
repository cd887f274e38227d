//! Who sees whose changes.

use std::os::unix::fs::FileExt;
use std::thread;

use ringway_runtime::fs::File;
use ringway_runtime::region::{Access, Intent, Options, Populate, WriteError};
use tempfile::tempdir;

use crate::baseline::on_a_ring;
use crate::{PAGE, bytes_of, canary_file, open_for_writing, whole};

#[test]
fn a_shared_store_is_in_the_file_and_a_private_one_is_not() {
    let folder = tempdir().unwrap();
    let (path, mut bytes) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        let private = whole(&file, Access::Private).await;
        private.put(PAGE - 2, b"mine").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert!(private.read(|view| view.matches(PAGE - 2, b"mine")).unwrap());
        let shared = whole(&file, Access::Shared).await;
        shared.put(PAGE + 1, b"ours").unwrap();
        bytes[PAGE + 1..PAGE + 5].copy_from_slice(b"ours");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let looking = whole(&file, Access::ReadOnly).await;
        assert_eq!(looking.put(0, b"x"), Err(WriteError::ReadOnly));
        assert_eq!(bytes_of(&looking), bytes);
        // Private pages are nobody else's, and go with their window.
        drop(private);
        assert_eq!(bytes_of(&whole(&file, Access::Private).await), bytes);
    });
}

#[test]
fn private_pages_are_a_snapshot_only_once_they_were_written() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let private = whole(&file, Access::Private).await;
        let page = private.populate(0..1, Intent::Write, Populate::Worker);
        page.await.unwrap();
        let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all_at(b"new", 10).unwrap();
        writer.write_all_at(b"new", PAGE as u64 + 10).unwrap();
        let seen = bytes_of(&private);
        assert_eq!(seen[..PAGE], bytes[..PAGE], "this page was made private before");
        assert_eq!(&seen[PAGE + 10..PAGE + 13], b"new", "this one is still the file's");
    });
}

#[test]
fn neighbours_in_one_word_lose_nothing_to_each_other() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", PAGE);
    let window = on_a_ring(async { whole(&open_for_writing(&path).await, Access::Shared).await });
    // Four threads store three bytes each into the same two words, over and over.
    thread::scope(|scope| {
        for writer in 0..4usize {
            let window = &window;
            scope.spawn(move || {
                for round in 0..=250u8 {
                    let bytes = [round; 3];
                    window.write(|pen| assert!(pen.put(2 + 3 * writer, &bytes))).unwrap();
                    let read = window.read(|view| view.matches(2 + 3 * writer, &bytes));
                    assert!(read.unwrap(), "a neighbour wrote over it");
                }
            });
        }
    });
    assert_eq!(bytes_of(&window)[2..14], [250; 12]);
}

#[test]
fn stores_of_any_place_and_length_touch_only_their_bytes() {
    let folder = tempdir().unwrap();
    let (path, mut bytes) = canary_file(folder.path(), "file", PAGE);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        let window = Options::new().access(Access::Shared).map(&file, 1..4090).await.unwrap();
        for at in 0..20 {
            for len in 0..30 {
                let new: Vec<u8> = (0..len).map(|byte| byte as u8 ^ at as u8).collect();
                window.put(at, &new).unwrap();
                bytes[1 + at..1 + at + len].copy_from_slice(&new);
                assert_eq!(std::fs::read(&path).unwrap(), bytes, "{at} {len}");
            }
        }
        let len = window.len();
        assert_eq!(window.put(len - 1, b"xy"), Err(WriteError::OutOfRange));
        assert_eq!(window.put(usize::MAX, b"xy"), Err(WriteError::OutOfRange));
        let filled = window.write(|pen| {
            assert!(!pen.fill(5..len + 1, 9) && !pen.put_u32_le(len - 3, 1));
            assert!(pen.put_u64_le(3, 0x0102_0304_0506_0708) && pen.put_u32_le(20, 77));
            assert_eq!((pen.u64_le(3), pen.u32_le(20)), (Some(0x0102_0304_0506_0708), Some(77)));
            pen.fill(100..1400, 9)
        });
        assert!(filled.unwrap());
        let now = std::fs::read(&path).unwrap();
        assert!(now[101..1401].iter().all(|byte| *byte == 9));
        assert_eq!(now[1401..], bytes[1401..]);
    });
}
