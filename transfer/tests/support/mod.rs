//! What the tests of transfers share: files of canary bytes, connected streams, and a receiver that
//! checks whose byte it got.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod feed;
pub mod gated;
pub mod sealed;
pub mod tap;
pub mod through;
pub mod traced;
pub mod wire;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use ringway::runtime::net::{TcpStream, UnixStream};
use ringway::runtime::{BufferClass, Config, Runtime};
use ringway::{Mode, Route};
use ringway_testkit::{Behaviour, Checker, Received, Receiver, canary};
use tempfile::TempDir;

/// Every route in every mode.
pub const WAYS: [(Route, Mode); 6] = [
    (Route::Splice, Mode::Ring),
    (Route::Splice, Mode::Hybrid),
    (Route::Splice, Mode::Inline),
    (Route::Copy, Mode::Ring),
    (Route::Copy, Mode::Hybrid),
    (Route::Copy, Mode::Inline),
];

/// A ring small enough for many tests to run side by side.
pub fn runtime() -> Runtime {
    Runtime::with_config(Config { completion_entries: 1024, ..Config::default() }).unwrap()
}

/// The same with buffers of one size only, in bytes.
pub fn runtime_with_buffers(bytes: usize, count: u32) -> Runtime {
    let buffers = vec![BufferClass { bytes, count }];
    Runtime::with_config(Config { completion_entries: 1024, buffers, ..Config::default() }).unwrap()
}

/// A folder on the disk of the target folder, removed at the end.
pub fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A file of canary bytes.
pub fn canary_file(folder: &TempDir, id: u64, len: u64) -> PathBuf {
    let path = folder.path().join(format!("canary-{id}-{len}"));
    canary::write_file(&path, id, len).unwrap();
    path
}

/// A stream to a receiver over loopback.
pub fn tcp(behaviour: Behaviour) -> (TcpStream, JoinHandle<Received>) {
    let (listener, address) = loopback();
    let receiver = Receiver::spawn(listener, behaviour);
    let stream = std::net::TcpStream::connect(address).unwrap();
    (TcpStream::from_std(stream).unwrap(), receiver)
}

fn loopback() -> (std::net::TcpListener, std::net::SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A Unix stream to a receiver.
pub fn unix(behaviour: Behaviour) -> (UnixStream, JoinHandle<Received>) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let receiver = Receiver::spawn_connected(theirs, behaviour);
    (UnixStream::from_std(ours).unwrap(), receiver)
}

/// Expects the bytes of a canary file from an offset on.
pub fn expecting(id: u64, offset: u64) -> Behaviour {
    Behaviour::read_all().expecting(Checker::new(id, offset))
}

/// Opens a file as the runtime sees it.
pub fn open(path: &Path) -> ringway::runtime::fs::File {
    std::fs::File::open(path).unwrap().into()
}

/// Two ends of a TCP connection over loopback: a stream of ours, and a blocking one with an end to
/// its patience.
pub fn tcp_pair() -> (TcpStream, std::net::TcpStream) {
    let (listener, address) = loopback();
    let ours = std::net::TcpStream::connect(address).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    theirs.set_read_timeout(Some(ringway_testkit::peer::PATIENCE_DEFAULT)).unwrap();
    (TcpStream::from_std(ours).unwrap(), theirs)
}

/// The same over a Unix socket.
pub fn unix_pair() -> (UnixStream, std::os::unix::net::UnixStream) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(ringway_testkit::peer::PATIENCE_DEFAULT)).unwrap();
    (UnixStream::from_std(ours).unwrap(), theirs)
}

/// A folder in memory, removed at the end.
pub fn memory_folder() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

/// The bytes of a canary file.
pub fn canary_bytes(id: u64, offset: u64, len: usize) -> Vec<u8> {
    canary::bytes(id, offset, len)
}

/// Drops a file from the page cache; says whether that worked, which it does not everywhere.
pub fn make_cold(path: &Path) -> bool {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let len = file.metadata().unwrap().len();
    let cold = open(path).residency(0, len) == ringway::runtime::fs::Residency::Cold;
    if !cold {
        println!("skipped: {} stays in the page cache", path.display());
    }
    cold
}

/// Ends a stream for its peer now. Dropping closes the socket only when the kernel has let go of the
/// last op of it, and for that the ring must turn once more, which after `block_on` it does not.
pub fn end(stream: impl std::ops::Deref<Target = ringway::runtime::net::Stream>) {
    // It fails if the peer is gone already.
    let _ = stream.shutdown(ringway::runtime::net::Half::Write);
}
