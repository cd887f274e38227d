//! Files: reading, writing, opening with confinement, names, residency.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use ringway_runtime::fs::{
    self, Advice, File, FileKind, FileSystem, NotRegular, OpenOptions, Residency,
};
use ringway_runtime::{lease, lend_pipe, try_lease};
use ringway_testkit::canary;
use tempfile::tempdir;

use crate::baseline::on_a_ring;

fn canary_file(path: &Path, len: usize) -> Vec<u8> {
    let bytes = canary::bytes(1, 0, len);
    std::fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    on_a_ring(async {
        let options = OpenOptions::new().write(true).create_new(true).mode(0o600);
        let file = options.open(&path).await.unwrap();
        assert_eq!(options.open(&path).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let (written, vec) = file.write_at(b"..hello".to_vec(), 2, 3).await;
        assert_eq!((written.unwrap(), vec.unwrap()), (5, b"..hello".to_vec()));
        let (written, _) = file.write_at(Bytes::from_static(b"abc"), 0, 0).await;
        assert_eq!(written.unwrap(), 3);
        file.sync_data().await.unwrap();
        file.sync_all().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abchello");
        assert_eq!(file.metadata().unwrap().permissions, 0o600);

        let (read, lease) = file.read_at(lease(4096).await.unwrap(), 0, 100, 2).await;
        let mut lease = lease.unwrap();
        assert_eq!((read.unwrap(), &*lease), (6, &b"chello"[..]));
        assert_eq!(file.try_read(&mut lease, 0, 2).unwrap(), 2, "behind what is there");
        assert_eq!(&*lease, b"chelloab");
        let (read, vec) = file.read_at(vec![b'-'; 8], 1, 100, 3).await;
        assert_eq!((read.unwrap(), vec.unwrap()), (5, b"-hello".to_vec()));
        let (read, _) = file.read_at(vec![0; 8], 0, 8, 8).await;
        assert_eq!(read.unwrap(), 0, "the end of the file");
    });
}

#[test]
fn an_offset_that_no_file_has_is_refused_and_never_the_current_position() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    canary_file(&path, 100);
    on_a_ring(async {
        let file = OpenOptions::new().write(true).open(&path).await.unwrap();
        for offset in [u64::MAX, 1 << 63] {
            let (read, buffer) = file.read_at(vec![0; 10], 0, 10, offset).await;
            assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EOVERFLOW));
            assert_eq!(buffer.unwrap().len(), 10, "the buffer comes back");
            let (written, _) = file.write_at(vec![0; 10], 0, offset).await;
            assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EOVERFLOW));
            let pipe = lend_pipe().unwrap().unwrap();
            assert!(file.fill(pipe, offset, 10).is_err());
        }
        assert_eq!(file.metadata().unwrap().len, 100);
    });
}

#[test]
fn an_escape_from_a_folder_is_refused() {
    let folder = tempdir().unwrap();
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    canary_file(&folder.path().join("secret"), 10);
    canary_file(&inside.join("open"), 10);
    symlink("../secret", inside.join("up")).unwrap();
    symlink("/etc/passwd", inside.join("absolute")).unwrap();
    symlink("open", inside.join("harmless")).unwrap();
    on_a_ring(async {
        let root = OpenOptions::new().folder(true).open(&inside).await.unwrap();
        let beneath = OpenOptions::new().beneath(true);
        for path in ["../secret", "/etc/passwd", "up", "absolute", "./../inside/../secret"] {
            let refused = beneath.open_in(&root, path).await.unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EXDEV), "{path}");
        }
        beneath.open_in(&root, "open").await.unwrap();
        beneath.open_in(&root, "harmless").await.unwrap();
        let refused = beneath.no_links(true).open_in(&root, "harmless").await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ELOOP));
        let refused = OpenOptions::new().folder(true).open(inside.join("open")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotADirectory);
        let refused = beneath.open_in(&root, "with\0nul").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    });
}

// openat2(2) answers EAGAIN when anything at all is renamed while it goes up by `..` in confinement.
#[test]
fn a_rename_elsewhere_does_not_disturb_a_confined_open() {
    let (folder, elsewhere) = (tempdir().unwrap(), tempdir().unwrap());
    std::fs::create_dir(folder.path().join("below")).unwrap();
    canary_file(&folder.path().join("file"), 10);
    symlink("below/../below/../below/../file", folder.path().join("link")).unwrap();
    let names = [elsewhere.path().join("a"), elsewhere.path().join("b")];
    std::fs::write(&names[0], "").unwrap();
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(&names[0], &names[1]).unwrap();
                std::fs::rename(&names[1], &names[0]).unwrap();
            }
        });
        on_a_ring(async {
            let root = OpenOptions::new().folder(true).open(folder.path()).await.unwrap();
            let mut refused = Vec::new();
            for _ in 0..100_000 {
                let opened = OpenOptions::new().beneath(true).open_in(&root, "link").await;
                refused.extend(opened.err());
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(refused.is_empty(), "{} opens: {}", refused.len(), refused[0]);
        });
    });
}

#[test]
fn only_regular_files_pass_and_a_fifo_does_not_hang() {
    let folder = tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let path = folder.path().join("file");
    let bytes = canary_file(&path, 5000);
    on_a_ring(async {
        let regular = OpenOptions::new().regular_only(true);
        for path in [&fifo, folder.path(), Path::new("/dev/zero")] {
            let refused = regular.open(path).await.unwrap_err();
            assert!(refused.get_ref().is_some_and(|inner| inner.is::<NotRegular>()), "{refused}");
        }
        let file = regular.open(&path).await.unwrap();
        let flags = rustix::fs::fcntl_getfl(file.as_fd()).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "cold reads wait");
        let (read, buffer) = file.read_at(vec![0; 5000], 0, 5000, 0).await;
        assert_eq!((read.unwrap(), buffer.unwrap()), (5000, bytes));

        let std = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = File::from_std(std.unwrap());
        let flags = rustix::fs::fcntl_getfl(file.as_fd()).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    });
}

#[test]
fn names_are_moved_and_removed() {
    let folder = tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    canary_file(&from, 123);
    std::fs::write(&to, "old").unwrap();
    on_a_ring(async {
        fs::rename(&from, &to).await.unwrap();
        assert_eq!(fs::metadata(&from).await.unwrap_err().kind(), ErrorKind::NotFound);
        let by_name = fs::metadata(&to).await.unwrap();
        assert_eq!((by_name.len, by_name.kind), (123, FileKind::Regular));
        let file = File::open(&to).await.unwrap();
        assert_eq!(file.metadata().unwrap(), by_name, "fstat and statx agree");
        assert_eq!(fs::metadata(folder.path()).await.unwrap().kind, FileKind::Folder);
        fs::remove_file(&to).await.unwrap();
        assert_eq!(fs::remove_file(&to).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(fs::rename(&to, &from).await.is_err());
    });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn space_is_allocated_and_a_file_emptied() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    on_a_ring(async {
        let options = OpenOptions::new().write(true).create(true);
        let file = options.open(&path).await.unwrap();
        file.allocate(0, 1 << 20).await.unwrap();
        assert_eq!(file.metadata().unwrap().len, 1 << 20);
        assert!(file.metadata().unwrap().allocated >= 1 << 20);
        file.advise(0, 0, Advice::Sequential).await.unwrap();
        drop(options.truncate(true).open(&path).await.unwrap());
        assert_eq!(file.metadata().unwrap().len, 0);
        assert!(!file.is_direct().unwrap());
    });
}

#[test]
fn what_is_in_memory_is_known_from_what_is_not() {
    const LEN: u64 = 1 << 20;
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    canary_file(&path, 1 << 20);
    on_a_ring(async {
        let file = OpenOptions::new().write(true).open(&path).await.unwrap();
        assert_eq!(file.residency(0, LEN), Residency::Resident);
        assert_eq!(file.residency(0, 0), Residency::Resident);
        if file.file_system().unwrap() != FileSystem::Local {
            eprintln!("{} is not on a disk: nothing is ever cold there", path.display());
            return;
        }
        let mut cold = Residency::Resident;
        for _ in 0..20 {
            // Pages that were just touched can be held by a batch of the kernel's for a moment.
            file.sync_all().await.unwrap();
            file.advise(0, 0, Advice::DontNeed).await.unwrap();
            cold = file.residency(0, LEN);
            if cold == Residency::Cold {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(cold, Residency::Cold);
        file.advise(0, 0, Advice::DontNeed).await.unwrap();
        let mut lease = try_lease(4096).unwrap().unwrap();
        let refused = file.try_read(&mut lease, LEN - 4096, 4096).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock, "a cold read does not wait here");
        assert!(lease.is_empty());
        let (read, _) = file.read_at(vec![0; 1 << 20], 0, 1 << 20, 0).await;
        assert!(read.unwrap() > 0);
    });
}

#[test]
fn a_pipe_knows_what_lies_in_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes = canary_file(&path, 10_000);
    on_a_ring(async {
        let file = File::open(&path).await.unwrap();
        let pipe = lend_pipe().unwrap().unwrap();
        assert!(pipe.capacity() >= 64 << 10);
        let (filled, pipe) = file.fill(pipe, 1000, 5000).unwrap().await;
        let mut pipe = pipe.unwrap();
        assert_eq!((filled.unwrap(), pipe.residue()), (5000, 5000));
        assert_eq!(file.try_fill(&mut pipe, 6000, 1 << 20).unwrap(), 4000);
        assert_eq!(file.try_fill(&mut pipe, 10_000, 1).unwrap(), 0, "the end of the file");
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let stream = ringway_runtime::net::UnixStream::from_std(ours).unwrap();
        while pipe.residue() > 0 {
            let (drained, back) = stream.drain(pipe, false).unwrap().await;
            pipe = back.unwrap();
            drained.unwrap();
        }
        assert_eq!(stream.accepted(), 9000);
        drop(stream);
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut theirs, &mut got).unwrap();
        assert_eq!(got, bytes[1000..]);
        theirs.flush().unwrap();
    });
}
