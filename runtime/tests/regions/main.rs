//! Mapped regions, as those see them who use them.
//!
//! A binary of its own: it installs a handler of `SIGBUS`, and many of its tests need a process for
//! themselves, because what they show would end it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

#[path = "../ring/baseline.rs"]
#[allow(dead_code, reason = "shared with another binary, which uses the rest")]
mod baseline;
mod caps;
mod faults;
mod foreign;
#[cfg(feature = "fault")]
mod guards;
mod leases;
mod rocketmq;
mod sending;
mod sharing;
mod storing;
mod windows;

use std::fs;
use std::path::{Path, PathBuf};

use ringway_runtime::fs::{File, OpenOptions};
use ringway_runtime::region::{Access, Options, Populate, Window};
use ringway_testkit::canary;

const PAGE: usize = 4096;

/// A file of `len` canary bytes, and its content.
fn canary_file(folder: &Path, name: &str, len: usize) -> (PathBuf, Vec<u8>) {
    let mut bytes = vec![0; len];
    canary::fill(3, 0, &mut bytes);
    let path = folder.join(name);
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

async fn open_for_writing(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).await.unwrap()
}

/// All of a file.
async fn whole(file: &File, access: Access) -> Window {
    let len = file.metadata().unwrap().len;
    Options::new().access(access).map(file, 0..len).await.unwrap()
}

/// The same with nothing present before it is touched.
async fn unpopulated(file: &File, access: Access) -> Window {
    let len = file.metadata().unwrap().len;
    Options::new().access(access).populate(Populate::No).map(file, 0..len).await.unwrap()
}

fn truncate(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn bytes_of(window: &Window) -> Vec<u8> {
    let mut bytes = vec![0; window.len()];
    assert_eq!(window.copy_to(0, &mut bytes).unwrap(), bytes.len());
    bytes
}
