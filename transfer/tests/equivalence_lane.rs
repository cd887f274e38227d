//! R1 on file systems of their own, and for a whole file beyond 4 GiB: what needs root or minutes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenes;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ringway::runtime::fs::File;
use ringway::runtime::fs::OpenOptions;
use ringway::{FileSlice, Mode, Route, Source, transfer_file};
use ringway_testkit::{Behaviour, Budget, Checker, canary};
use std::time::Duration;
use support::through::{ALL_WAYS, through};
use support::*;
use tempfile::TempDir;

const SIZES: [u64; 9] =
    [0, 1, 4095, 4096, 4097, 65_537, (1 << 20) - 1, (1 << 20) + 1, (16 << 20) + 7];

fn ways() -> impl Iterator<Item = Option<(Route, Mode)>> {
    ALL_WAYS.into_iter().map(Some).chain([None])
}

/// Sends in one way and insists on the bytes and on the route.
fn send(way: Option<(Route, Mode)>, source: impl Into<Source>, checker: Checker, len: u64) {
    let (mut stream, receiver) = tcp(Behaviour::read_all().expecting(checker));
    let receipt = runtime()
        .block_on(async {
            let transfer = transfer_file(source, &mut stream);
            match way {
                Some(way) => through(transfer, way).await,
                None => transfer.await,
            }
        })
        .unwrap_or_else(|error| panic!("{way:?}: {error}"));
    end(stream);
    receiver.join().unwrap().assert_complete(len);
    assert_eq!(receipt.bytes, len);
    if let Some((route, _)) = way {
        assert_eq!(receipt.route, route, "{receipt}");
    }
    if let Some(done) = &receipt.processed {
        assert_eq!(done.scanned_bytes, len, "{receipt}");
        assert!(len < 40_000 || done.referenced_bytes > 0 && done.windows_mapped > 0, "{receipt}");
    }
    let silent = receipt.fallbacks.iter().all(|fallback| fallback.what == "read by the ring");
    assert!(silent, "{receipt}");
}

/// Sends resident and cold files of all sizes from a folder on some file system.
fn check_folder(folder: &Path) {
    for len in SIZES {
        let path = folder.join(format!("canary-{len}"));
        canary::write_file(&path, 7, len).unwrap();
        for way in ways() {
            for offset in [0, 1, 4096].into_iter().filter(|offset| *offset <= len) {
                let slice = FileSlice::new(&open(&path), offset..len);
                send(way, slice, Checker::new(7, offset), len - offset);
            }
            if len > 0 && make_cold(&path) {
                send(way, open(&path), Checker::new(7, 0), len);
            }
        }
        check_direct(&path, len);
        std::fs::remove_file(&path).unwrap();
    }
    check_border(folder);
    scenes::processed::cut_under_the_processor_in(folder);
}

fn check_direct(path: &Path, len: u64) {
    let opened = runtime().block_on(OpenOptions::new().direct(true).open(path));
    let Ok(file) = opened else { return };
    for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
        send(Some((Route::Copy, mode)), &file, Checker::new(7, 0), len);
        let aligned = len / 4096 * 4096;
        let slice = FileSlice::new(&file, 0..aligned);
        send(Some((Route::Splice, mode)), slice, Checker::new(7, 0), aligned);
    }
    send(None, &file, Checker::new(7, 0), len);
}

fn check_border(folder: &Path) {
    let (path, len) = (folder.join("sparse"), (4 << 30) + 100_003);
    canary::write_sparse_file(&path, 7, len).unwrap();
    let range = (1 << 32) - 70_001..(1 << 32) + 70_001;
    for way in ways() {
        let slice = FileSlice::new(&open(&path), range.clone());
        send(way, slice, Checker::sparse(7, range.start, len), 140_002);
    }
    std::fs::remove_file(&path).unwrap();
}

/// A mount that ends with its folder.
struct Mount {
    point: PathBuf,
    _folder: TempDir,
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !run(Command::new("umount").arg(&self.point)) {
            run(Command::new("umount").arg("--lazy").arg(&self.point));
        }
    }
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Makes a file system in a sparse image and mounts it; says why if it cannot.
fn mount(kind: &str) -> Option<Mount> {
    let folder = folder();
    let (image, point) = (folder.path().join("image"), folder.path().join("mounted"));
    std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
    std::fs::create_dir(&point).unwrap();
    if !run(Command::new(format!("mkfs.{kind}")).arg(&image)) {
        println!("skipped: mkfs.{kind} is not here, or it failed");
        return None;
    }
    let mut command = Command::new("mount");
    if !run(command.args(["-o", "loop", "-t", kind]).arg(&image).arg(&point)) {
        println!("skipped: {kind} cannot be mounted here");
        return None;
    }
    Some(Mount { point, _folder: folder })
}

fn check_kind(kind: &str) {
    let _budget = Budget::new(Duration::from_secs(300));
    if let Some(mounted) = mount(kind) {
        check_folder(&mounted.point);
    }
}

#[test]
#[ignore = "lane: file systems; run with: cargo test -p ringway --test equivalence_lane -- --ignored"]
fn ext4() {
    check_kind("ext4");
}

#[test]
#[ignore = "lane: file systems; run with: cargo test -p ringway --test equivalence_lane -- --ignored"]
fn xfs() {
    check_kind("xfs");
}

#[test]
#[ignore = "lane: file systems; run with: cargo test -p ringway --test equivalence_lane -- --ignored"]
fn btrfs() {
    check_kind("btrfs");
}

#[test]
#[ignore = "lane: file systems; run with: cargo test -p ringway --test equivalence_lane -- --ignored"]
fn overlay() {
    let _budget = Budget::new(Duration::from_secs(300));
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    for name in ["lower", "upper", "work", "mounted"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    canary::write_file(at("lower").join("below"), 7, (1 << 20) + 1).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    );
    let mut command = Command::new("mount");
    if !run(command.args(["-t", "overlay", "-o", &options, "overlay"]).arg(at("mounted"))) {
        println!("skipped: overlay cannot be mounted here");
        return;
    }
    let mounted = Mount { point: at("mounted"), _folder: folder };
    for way in ways() {
        let below: File = open(&mounted.point.join("below"));
        send(way, &below, Checker::new(7, 0), (1 << 20) + 1);
    }
    check_folder(&mounted.point);
}

#[test]
#[ignore = "lane: large files; run with: cargo test --release -p ringway --test equivalence_lane -- --ignored"]
fn a_whole_file_beyond_four_gibibytes() {
    let _budget = Budget::new(Duration::from_secs(600));
    let folder = folder();
    let (path, len) = (folder.path().join("sparse"), (4 << 30) + 100_003);
    canary::write_sparse_file(&path, 7, len).unwrap();
    for way in ways() {
        send(way, open(&path), Checker::sparse(7, 0, len), len);
    }
}
