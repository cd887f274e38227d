//! Out of a socket into a file: through a pipe, through memory, and what is left when it is dropped.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use bytes::Bytes;
use ringway_runtime::fs::{self, File, OpenOptions};
use ringway_runtime::net::{TcpStream, Torn, UnixStream};
use ringway_runtime::{lease, lend_pipe, stats};
use ringway_testkit::canary;
use tempfile::tempdir;

use crate::baseline::{on_a_ring, on_a_ring_with, small, start_and_drop};

fn tcp() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (TcpStream::from_std(listener.accept().unwrap().0).unwrap(), theirs)
}

fn unix() -> (UnixStream, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    (UnixStream::from_std(ours).unwrap(), theirs)
}

fn canaries(len: usize) -> Vec<u8> {
    canary::bytes(7, 0, len)
}

async fn new_file(path: &Path) -> File {
    OpenOptions::new().write(true).create_new(true).open(path).await.unwrap()
}

#[test]
fn what_arrives_goes_through_a_pipe_into_a_file() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let sent = canaries(50_001);
    on_a_ring(async {
        let file = new_file(&path).await;
        let (stream, mut theirs) = tcp();
        let mut pipe = lend_pipe().unwrap().unwrap();
        let none = stream.try_fill(&mut pipe, 10).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
        theirs.write_all(&sent).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut at = 7u64;
        loop {
            stream.readable().await.unwrap();
            let filled = stream.try_fill(&mut pipe, 20_000).unwrap();
            assert_eq!(pipe.residue(), filled);
            if filled == 0 {
                break;
            }
            let (written, back) = file.drain(pipe, at).unwrap().await;
            pipe = back.unwrap();
            assert_eq!((written.unwrap(), pipe.residue()), (filled as usize, 0));
            at += u64::from(filled);
        }
        assert_eq!((stream.received(), at), (50_001, 50_008));
        let stored = std::fs::read(&path).unwrap();
        assert_eq!(stored[..7], [0; 7]);
        assert!(stored[7..] == sent);
        let read_only = File::open(&path).await.unwrap();
        let (refused, _) = read_only.store(vec![1], 0, 0).unwrap().await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn a_pipe_is_drained_inline_or_read_out_and_is_then_lent_again() {
    let folder = tempdir().unwrap();
    on_a_ring(async {
        let file = new_file(&folder.path().join("file")).await;
        let (stream, mut theirs) = unix();
        theirs.write_all(b"abcdefgh").unwrap();
        let mut pipe = lend_pipe().unwrap().unwrap();
        assert_eq!(stream.try_fill(&mut pipe, 100).unwrap(), 8);
        let mut memory = [0; 3];
        assert_eq!(pipe.try_read(&mut memory).unwrap(), 3);
        assert_eq!((&memory, pipe.residue()), (b"abc", 5));
        assert_eq!(file.try_drain(&mut pipe, 2).unwrap(), 5);
        assert_eq!((pipe.residue(), pipe.try_read(&mut memory).unwrap()), (0, 0));
        assert!(file.try_drain(&mut pipe, u64::MAX).is_err());
        drop(pipe);
        let stats = stats().unwrap();
        assert_eq!((stats.pipes_destroyed, stats.pipes), (0, 1));
        assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"\0\0defgh");
    });
}

#[test]
fn memory_of_every_kind_is_stored_from_its_middle() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    on_a_ring(async {
        let file = new_file(&path).await;
        let mut lent = lease(4096).await.unwrap();
        lent.spare_mut()[..5].copy_from_slice(b"lease");
        lent.set_filled(5);
        let (written, back) = file.store(lent, 1, 0).unwrap().await;
        assert_eq!((written.unwrap(), &*back.unwrap()), (4, &b"lease"[..]));
        let (written, _) = file.store(Bytes::from_static(b"bytes"), 0, 4).unwrap().await;
        assert_eq!(written.unwrap(), 5);
        let (written, _) = file.store(b"..vec".to_vec(), 2, 9).unwrap().await;
        assert_eq!(written.unwrap(), 3);
        assert!(file.store(vec![0], 0, 1 << 63).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"easebytesvec");
    });
}

#[test]
fn blocks_are_reserved_and_the_length_stays() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    on_a_ring(async {
        let file = new_file(&path).await;
        file.reserve(0, 1 << 20).await.unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len, 0);
        assert!(metadata.allocated >= 1 << 20);
        assert!(!file.is_append().unwrap());
        let appending = std::fs::File::options().append(true).open(&path).unwrap();
        assert!(File::from_std(appending).is_append().unwrap());
    });
}

#[test]
fn names_in_open_folders_are_moved_and_removed() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("a")).unwrap();
    std::fs::create_dir(at("b")).unwrap();
    std::fs::write(at("a/new"), "new").unwrap();
    std::fs::write(at("b/old"), "old").unwrap();
    on_a_ring(async {
        let open = OpenOptions::new().listed_folder(true);
        let (a, b) = (open.open(at("a")).await.unwrap(), open.open(at("b")).await.unwrap());
        let taken = fs::rename_in((&a, "new"), (&b, "old"), false).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        fs::rename_in((&a, "new"), (&b, "old"), true).await.unwrap();
        assert_eq!(std::fs::read(at("b/old")).unwrap(), b"new");
        b.sync_all().await.unwrap();
        fs::remove_in(&b, "old").await.unwrap();
        assert_eq!(fs::remove_in(&b, "old").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(open.open(at("a/none")).await.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_torn_stream_gives_nothing_until_it_was_settled() {
    let (mut stream, mut theirs) = tcp();
    theirs.write_all(b"headbody").unwrap();
    on_a_ring(async {
        let mut head = [0; 4];
        assert_eq!(stream.read(&mut head).await.unwrap(), 4);
        let began = stream.received();
        assert_eq!(stream.read(&mut [0; 3]).await.unwrap(), 3);
        stream.tear(began);
        assert!(stream.is_torn());
        let refused = stream.try_recv(&mut [0]).unwrap_err();
        assert!(refused.get_ref().is_some_and(|inner| inner.is::<Torn>()), "{refused}");
        let mut pipe = lend_pipe().unwrap().unwrap();
        assert!(stream.try_fill(&mut pipe, 1).is_err());
        assert_eq!(stream.settle_received(), 3);
        assert_eq!((stream.is_torn(), stream.settle_received()), (false, 0));
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 1);
        // Sending was never concerned.
        stream.write_all(b"x").await.unwrap();
    });
    assert_eq!(theirs.read(&mut [0; 2]).unwrap(), 1);
}

#[test]
fn a_write_that_is_dropped_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    on_a_ring_with(small(), async {
        let file = new_file(&folder.path().join("file")).await;
        let (stream, mut theirs) = unix();
        for round in 0..200u64 {
            theirs.write_all(&[1; 5000]).unwrap();
            let mut pipe = lend_pipe().unwrap().unwrap();
            stream.readable().await.unwrap();
            let filled = stream.try_fill(&mut pipe, 5000).unwrap();
            assert!(filled > 0);
            start_and_drop(file.drain(pipe, round * 5000).unwrap()).await;
            let mut rest = vec![0; 5000];
            while stream.received() < (round + 1) * 5000 {
                stream.read(&mut rest).await.unwrap();
            }
            let mut lent = lease(4096).await.unwrap();
            lent.set_filled(4096);
            start_and_drop(file.store(lent, 0, 0).unwrap()).await;
        }
    });
}
