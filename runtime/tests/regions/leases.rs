//! Read leases: given, refused, broken.

use std::os::unix::fs::OpenOptionsExt;

use ringway_runtime::fs::File;
use ringway_runtime::region::{LeaseRefusal, read_lease};
use ringway_testkit::run_in_child;
use tempfile::tempdir;

use crate::baseline::on_a_ring;
use crate::{canary_file, open_for_writing, truncate};

/// `O_NONBLOCK`, with which an open that would have to wait for a lease is refused.
const NONBLOCK: i32 = 0o4000;

fn open_impatiently(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).custom_flags(NONBLOCK).open(path)
}

#[test]
fn a_lease_makes_writers_wait_until_it_is_dropped() {
    // In a process of its own: a signal of a lease that breaks would end it.
    run_in_child("leases::a_lease_makes_writers_wait_until_it_is_dropped", || {
        let folder = tempdir().unwrap();
        let (path, bytes) = canary_file(folder.path(), "file", 5000);
        on_a_ring(async {
            let file = File::open(&path).await.unwrap();
            let lease = match read_lease(&file) {
                Ok(lease) => lease,
                Err(LeaseRefusal::Unsupported) => {
                    eprintln!("this file system has no leases; not run");
                    return;
                }
                Err(other) => panic!("{other}"),
            };
            let second = read_lease(&file).expect("leases of one file do not disturb each other");
            drop(second);
            assert!(!lease.is_breaking());
            let refused = open_impatiently(&path).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
            assert!(lease.is_breaking(), "the holder can ask");
            // A patient one waits.
            let (begun, has_begun) = std::sync::mpsc::channel();
            let patient = std::thread::spawn({
                let path = path.clone();
                move || {
                    begun.send(()).unwrap();
                    truncate(&path, 0);
                }
            });
            has_begun.recv().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(file.metadata().unwrap().len, bytes.len() as u64);
            drop(lease);
            patient.join().unwrap();
            assert_eq!(file.metadata().unwrap().len, 0);
        });
    });
}

#[test]
fn a_lease_is_refused_where_somebody_writes() {
    let folder = tempdir().unwrap();
    let (path, _) = canary_file(folder.path(), "file", 100);
    on_a_ring(async {
        let reading = File::open(&path).await.unwrap();
        let writing = open_for_writing(&path).await;
        let refusals = [LeaseRefusal::OpenForWriting, LeaseRefusal::Unsupported];
        assert!(refusals.contains(&read_lease(&reading).unwrap_err()));
        assert!(refusals.contains(&read_lease(&writing).unwrap_err()));
        let folder = File::open(folder.path()).await;
        let special = File::open("/dev/null").await.unwrap();
        assert!(read_lease(&special).is_err());
        drop(folder);
    });
}
