//! Runtimes that end while everything is in flight.

use std::cell::RefCell;
use std::future::pending;
use std::io::{Read, Write, pipe};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringway_runtime::fs::File;
use ringway_runtime::net::{TcpListener, UnixStream};
use ringway_runtime::{
    BufferClass, Config, JoinHandle, Runtime, lease, lend_pipe, nop, spawn, time, yield_now,
};
use ringway_testkit::{Census, Quarantine, run_in_child};

use crate::baseline::{LIMIT, budget, small, start_and_drop};

/// Begins one of everything and leaves it there.
async fn begin(file: File, joined: Rc<RefCell<Option<JoinHandle<()>>>>) {
    let (reader, writer) = pipe().unwrap();
    let slow = File::from_std(std::fs::File::from(OwnedFd::from(reader)));
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let ours = UnixStream::from_std(ours).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    drop(spawn(async move {
        let _writer = writer;
        let _held = lease(100).await.unwrap();
        drop(slow.read_at(vec![0; 3000], 0, 3000, 0).await);
    }));
    drop(spawn(async move {
        let _theirs = theirs;
        start_and_drop(ours.readable()).await;
        drop(ours.readable().await);
    }));
    drop(spawn(async move { drop(listener.accept().await) }));
    drop(spawn(time::sleep(LIMIT)));
    drop(spawn(async move {
        let pipe = lend_pipe().unwrap().unwrap();
        drop(file.fill(pipe, 0, 60_000).unwrap().await);
        drop(file.read_at(lease(4096).await.unwrap(), 0, 4096, 0).await);
        pending::<()>().await;
    }));
    // One that holds the handle of another, and one that starts a third when it is dropped.
    let inner = spawn(pending::<()>());
    *joined.borrow_mut() = Some(spawn(async move { drop(inner.await) }));
    struct Starts;
    impl Drop for Starts {
        fn drop(&mut self) {
            drop(spawn(async { drop(nop().await) }));
        }
    }
    drop(spawn(async {
        let _starts = Starts;
        pending::<()>().await;
    }));
}

#[test]
fn a_runtime_can_end_at_any_moment() {
    run_in_child("teardown::a_runtime_can_end_at_any_moment", || {
        let _budget = budget();
        let mut content = tempfile::tempfile().unwrap();
        content.write_all(&[5; 100_000]).unwrap();
        let file = File::from_std(content);
        let before = Census::take();
        // Older kernels keep one idle worker for as long as the thread lives that made it.
        let shared = file.clone();
        let all = std::thread::spawn(move || end_again_and_again(&shared));
        all.join().unwrap();
        before.assert_unchanged_within(Duration::from_secs(20));
        drop(file);
        Quarantine::verify().unwrap();
    });
}

fn end_again_and_again(file: &File) {
    const RUNTIMES: u32 = 3000;
    for round in 0..RUNTIMES {
        let joined = Rc::new(RefCell::new(None));
        let runtime = Runtime::with_config(small()).unwrap();
        let (file, kept) = (file.clone(), Rc::clone(&joined));
        runtime.block_on(async {
            begin(file, kept).await;
            for _ in 0..round % 4 {
                yield_now().await;
            }
            if round % 3 == 0 {
                nop().await.unwrap();
            }
        });
        drop(runtime);
        assert!(joined.take().unwrap().is_finished(), "who joins is told");
    }
}

#[test]
fn what_outlives_the_runtime_can_be_dropped_later() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    let (ours, _theirs) = StdUnixStream::pair().unwrap();
    let kept = runtime.block_on(async {
        let stream = UnixStream::from_std(ours).unwrap();
        let sending = stream.send(vec![1u8; 100], 0, false).unwrap();
        let lease = lease(10).await.unwrap();
        (stream, sending, lease, lend_pipe().unwrap().unwrap(), time::sleep(LIMIT))
    });
    drop(runtime);
    assert_eq!(kept.0.accepted(), 100, "what was submitted is counted");
    drop(kept);
}

/// Memory of the caller's whose drop panics.
struct Bomb([u8; 64]);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb was dropped");
    }
}

#[test]
fn a_panic_while_ending_leaves_the_kernel_no_freed_memory() {
    run_in_child("teardown::a_panic_while_ending_leaves_the_kernel_no_freed_memory", || {
        let _budget = budget();
        for _ in 0..20 {
            let (reader, mut writer) = pipe().unwrap();
            let slow = File::from_std(std::fs::File::from(OwnedFd::from(reader)));
            let runtime = Runtime::with_config(small()).unwrap();
            drop(runtime.spawn(async move { drop(slow.read_at(vec![0; 999], 0, 999, 0).await) }));
            runtime.block_on(async {
                yield_now().await;
                nop().await.unwrap();
            });
            let bomb = Bytes::from_owner(Bomb([0; 64]));
            drop(runtime.handle().run(move || async move { drop(bomb) }));
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(runtime)));
            assert!(ended.is_err(), "the panic goes through");
            let gone = writer.write(&[0xaa; 999]).unwrap_err();
            assert_eq!(
                gone.kind(),
                std::io::ErrorKind::BrokenPipe,
                "the op has let go of its file"
            );
        }
        Quarantine::verify().unwrap();
    });
}

#[test]
fn a_runtime_may_be_told_to_wait_for_ever_when_it_ends() {
    let _budget = budget();
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let runtime =
        Runtime::with_config(Config { shutdown_timeout: Duration::MAX, ..small() }).unwrap();
    runtime.block_on(async {
        let ours = UnixStream::from_std(ours).unwrap();
        drop(spawn(async move { drop(ours.readable().await) }));
        yield_now().await;
        nop().await.unwrap();
    });
    drop(runtime);
    assert_eq!((&theirs).read(&mut [0]).unwrap(), 0, "the op has let go of its socket");
}

#[test]
fn buffers_beyond_what_can_be_counted_are_refused() {
    for (bytes, count) in [(usize::MAX, 1), (1 << 62, 8)] {
        let buffers = vec![BufferClass { bytes, count }];
        assert_eq!(Runtime::with_config(Config { buffers, ..small() }).unwrap_err().call(), "mmap");
    }
}
