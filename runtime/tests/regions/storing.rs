//! Preallocating, writing in place, flushing.

use std::io::ErrorKind;

use ringway_runtime::fs::{File, OpenOptions};
use ringway_runtime::region::{self, Access, Cause, Options, Poisoned};
use ringway_runtime::{Config, stats};
use tempfile::tempdir;

use crate::baseline::{on_a_ring, on_a_ring_with, small, start_and_drop};
use crate::{PAGE, canary_file, open_for_writing, truncate, whole};

#[test]
fn a_message_that_was_put_and_flushed_is_read_by_whoever_opens_the_file() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("log");
    on_a_ring(async {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600);
        let file = file.open(&path).await.unwrap();
        region::preallocate(&file, 1 << 20).await.unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len, 1 << 20);
        assert!(metadata.allocated >= 1 << 20, "the blocks are there");
        let window = whole(&file, Access::Shared).await;
        let message = b"hello, region";
        let wrote = window.write(|pen| pen.put_u32_le(0, 13) && pen.put(4, message));
        assert!(wrote.unwrap());
        window.flush(0..17).await.unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content[..4], 13u32.to_le_bytes());
        assert_eq!(&content[4..17], message);
        assert!(content[17..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn preallocating_keeps_what_is_there_and_allocates_the_holes() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 3 * PAGE + 1);
    truncate(&path, 100 * PAGE as u64);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        assert!(file.metadata().unwrap().allocated < 100 * PAGE as u64);
        region::preallocate(&file, 50 * PAGE as u64).await.unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len, 100 * PAGE as u64, "longer files stay so");
        assert!(metadata.allocated >= 50 * PAGE as u64);
        assert_eq!(std::fs::read(&path).unwrap()[..bytes.len()], bytes);
        region::preallocate(&file, 0).await.unwrap();
        let reading = File::open(&path).await.unwrap();
        assert!(region::preallocate(&reading, 1).await.is_err());
    });
}

#[test]
fn a_flush_says_what_it_cannot_flush() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        let window = whole(&file, Access::Shared).await;
        window.flush(0..0).await.unwrap();
        window.flush(2 * PAGE..2 * PAGE).await.unwrap();
        let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(window.flush(0..2 * PAGE + 1).await), ErrorKind::InvalidInput);
        #[expect(clippy::reversed_empty_ranges, reason = "that is the question")]
        let turned = window.flush(5..4).await;
        assert_eq!(kind(turned), ErrorKind::InvalidInput);
        for access in [Access::ReadOnly, Access::Private] {
            let other = whole(&file, access).await;
            assert_eq!(kind(other.flush(0..1).await), ErrorKind::Unsupported);
        }
        // Given up: the op ends by itself, and nothing is known.
        window.put(0, b"x").unwrap();
        start_and_drop(window.flush(0..1)).await;
        window.flush(0..1).await.unwrap();
    });
}

#[test]
fn a_flush_after_a_truncation_is_no_success() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let window = whole(&open_for_writing(&path).await, Access::Shared).await;
        window.put(PAGE + 5, b"lost").unwrap();
        truncate(&path, 10);
        let error = window.flush(0..2 * PAGE).await.unwrap_err();
        let poisoned = error.get_ref().unwrap().downcast_ref::<Poisoned>().unwrap();
        assert_eq!((poisoned.cause, poisoned.file_len), (Cause::Truncated, Some(10)));
    });
}

/// A flush of a failed device, by injection: the kernel tells such an error once and never again.
#[cfg(feature = "fault")]
#[test]
fn a_flush_that_failed_is_never_followed_by_one_that_succeeds() {
    use ringway_runtime::fault::{Fault, arm_for, disarm};
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        let window = whole(&file, Access::Shared).await;
        window.put(0, b"maybe lost").unwrap();
        arm_for("fsync", 0, Fault::Errno(5));
        let error = window.flush(0..10).await.unwrap_err();
        assert_eq!(disarm().fired, Some("fsync"));
        assert_eq!(error.raw_os_error(), Some(5));
        let again = window.flush(0..10).await.unwrap_err();
        let poisoned = again.get_ref().unwrap().downcast_ref::<Poisoned>().unwrap();
        assert_eq!(poisoned.cause, Cause::Flush(5));
        assert!(window.put(0, b"x").is_err() && window.check().is_err());
        // Whoever maps the file again can go on, from what is in the file.
        let anew = whole(&file, Access::Shared).await;
        anew.put(0, b"again").unwrap();
        anew.flush(0..5).await.unwrap();
    });
}

#[cfg(feature = "fault")]
#[test]
fn populating_by_a_worker_answers_every_errno() {
    use ringway_runtime::fault::{Fault, arm_for, disarm};
    use ringway_runtime::region::{Populate, Refusal};
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 2 * PAGE);
    on_a_ring(async {
        let file = open_for_writing(&path).await;
        let shared = Options::new().access(Access::Shared).populate(Populate::Worker);
        for (errno, refusal) in [
            (libc::ENOMEM, Some(Refusal::Exhausted)),
            (libc::EFAULT, Some(Refusal::NoSpace)),
            (libc::EHWPOISON, Some(Refusal::NoSpace)),
            (libc::EINVAL, Some(Refusal::NotMappable(libc::EINVAL))),
            (libc::EPERM, Some(Refusal::NotPermitted)),
            (libc::EIO, Some(Refusal::Errno(libc::EIO))),
            (libc::EINTR, None),
            (libc::EAGAIN, None),
        ] {
            arm_for("madvise", 0, Fault::Errno(errno));
            let result = shared.map(&file, 0..2 * PAGE as u64).await;
            assert_eq!(disarm().fired, Some("madvise"), "{errno}");
            assert_eq!(result.err(), refusal, "{errno}");
        }
    });
}

#[test]
fn a_log_of_many_windows_is_bounded_and_whole() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("log");
    let config = Config { regions_max: 4, ..small() };
    on_a_ring_with(config, async {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600);
        let file = file.open(&path).await.unwrap();
        region::preallocate(&file, 64 * PAGE as u64).await.unwrap();
        for record in 0..64u64 {
            let start = record * PAGE as u64;
            let shared = Options::new().access(Access::Shared);
            let window = shared.map(&file, start..start + PAGE as u64).await.unwrap();
            assert!(window.write(|pen| pen.put_u64_le(8, record)).unwrap());
            if record % 16 == 15 {
                window.flush(0..16).await.unwrap();
            }
        }
        assert!(stats().unwrap().regions <= 4);
        let content = std::fs::read(&path).unwrap();
        for (record, page) in content.chunks(PAGE).enumerate() {
            assert_eq!(page[8..16], (record as u64).to_le_bytes());
        }
    });
}
