//! Futures that are dropped, cancelled or never polled again: other people's bugs, each a test.
//!
//! The bug identifiers are those of RELIABILITY's table. Two rows hold by construction: no entry is
//! ever linked (liburing#248, #278), as `sys::sqe` has no constructor that would; and no socket is
//! waited for in a kernel thread (liburing#420), as every socket is non-blocking.

use std::cell::Cell;
use std::fs::File as StdFile;
use std::future::poll_fn;
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use ringway_runtime::fs::File;
use ringway_runtime::net::UnixStream;
use ringway_runtime::{
    BufferClass, Config, Runtime, Setup, lease, lend_pipe, nop, spawn, stats, time, yield_now,
};
use ringway_testkit::{Census, Quarantine, canary, run_in_child};

use crate::baseline::{
    assert_settled, budget, on_a_ring, on_a_ring_with, once, small, start_and_drop, under,
};

fn pair() -> (UnixStream, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    (UnixStream::from_std(ours).unwrap(), theirs)
}

/// A pipe whose reading end is a file of the runtime's: reading it takes as long as the writer does.
fn slow_file() -> (File, std::io::PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    (File::from_std(StdFile::from(OwnedFd::from(reader))), writer)
}

fn canary_file(len: usize) -> File {
    let bytes = canary::bytes(2, 0, len);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    File::from_std(file)
}

async fn nothing_in_flight_within(limit: Duration) {
    let deadline = Instant::now() + limit;
    while stats().unwrap().ops_in_flight > 0 {
        assert!(Instant::now() < deadline, "{:?}", stats().unwrap());
        time::sleep(Duration::from_millis(1)).await;
    }
}

const SOON: Duration = Duration::from_secs(10);

/// Reads files, and drops reads, while the kernel refuses every third enter.
fn works_while_enters_are_refused(test: &str, errno: &str) {
    let injection = format!("inject=io_uring_enter:error={errno}:when=3+3");
    under(test, &["strace", "-f", "-qq", "-o", "/dev/null", "-e", &injection], || {
        let runtime = Runtime::with_config(small()).unwrap();
        runtime.block_on(async {
            let file = Rc::new(canary_file(100_000));
            for round in 0..50 {
                let (slow, mut writer) = slow_file();
                let dropped = spawn(async move {
                    let read = slow.read_at(vec![0; 500], 0, 500, 0);
                    let _ = time::timeout(Duration::from_millis(1), read).await;
                });
                let reads: Vec<_> = (0..20)
                    .map(|n| {
                        let file = Rc::clone(&file);
                        spawn(async move {
                            let (read, bytes) =
                                file.read_at(vec![0; 1000], 0, 1000, n * 1000).await;
                            assert_eq!(read.unwrap(), 1000);
                            canary::Checker::new(2, n * 1000).feed(&bytes.unwrap()).unwrap();
                        })
                    })
                    .collect();
                for read in reads {
                    read.await.unwrap();
                }
                dropped.await.unwrap();
                // The reading end is closed, unless the read is still in flight.
                drop(writer.write(&[round; 400]));
            }
            assert!(stats().unwrap().enters_refused > 10);
        });
        assert_settled(&runtime);
        drop(runtime);
        Quarantine::verify().unwrap();
    });
}

// tokio#8255: enter returned an error, the op's data was freed, and the entry was still queued.
#[test]
fn a_refused_enter_frees_nothing_eagain() {
    works_while_enters_are_refused("drops::a_refused_enter_frees_nothing_eagain", "EAGAIN");
}

#[test]
fn a_refused_enter_frees_nothing_ebusy() {
    works_while_enters_are_refused("drops::a_refused_enter_frees_nothing_ebusy", "EBUSY");
}

// Our own: the doorbell was heard while an enter was refused, and the next enter waited for another.
#[test]
fn a_wake_is_not_lost_while_enters_are_refused() {
    let injection = "inject=io_uring_enter:error=EAGAIN:when=20..170";
    let name = "drops::a_wake_is_not_lost_while_enters_are_refused";
    under(name, &["strace", "-f", "-qq", "-o", "/dev/null", "-e", injection], || {
        // Completions appear outside of enters too with this setup.
        let config = Config { best_setup: Setup::CoopTaskrun, ..small() };
        let runtime = Runtime::with_config(config).unwrap();
        let shared = Arc::new(Mutex::new((false, None::<Waker>)));
        let waking = Arc::clone(&shared);
        runtime.block_on(async {
            while stats().unwrap().enters < 19 {
                nop().await.unwrap();
            }
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(60));
                let mut shared = waking.lock().unwrap();
                shared.0 = true;
                shared.1.take().unwrap().wake();
            });
            poll_fn(|context| {
                let mut shared = shared.lock().unwrap();
                shared.1 = Some(context.waker().clone());
                if shared.0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            thread.join().unwrap();
        });
        assert!(runtime.stats().enters_refused > 0);
        assert_settled(&runtime);
    });
}

// tokio#7979, tokio-uring#129, compio#315: a cancelled open completed anyway and leaked.
#[test]
fn a_dropped_open_closes_its_descriptor() {
    run_in_child("drops::a_dropped_open_closes_its_descriptor", drop_opens);
}

pub(crate) fn drop_opens() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    let before = Census::take();
    runtime.block_on(async {
        for round in 0..2000u32 {
            if round % 2 == 0 {
                start_and_drop(File::open("/proc/self/exe")).await;
            } else {
                let mut open = Box::pin(File::open("/proc/self/exe"));
                once(open.as_mut()).await;
                nop().await.unwrap();
                drop(open);
            }
        }
        nothing_in_flight_within(SOON).await;
    });
    assert_settled(&runtime);
    let left = Census::take().fds_named("/") - before.fds_named("/");
    assert_eq!(left, 0, "descriptors are left open");
}

// foyer#1286, liburing#733: the buffer lived in the future, and the kernel wrote after its drop.
#[test]
fn a_buffer_outlives_the_future_that_was_dropped() {
    run_in_child("drops::a_buffer_outlives_the_future_that_was_dropped", drop_reads);
}

pub(crate) fn drop_reads() {
    let _budget = budget();
    let runtime = Runtime::with_config(small()).unwrap();
    runtime.block_on(async {
        for round in 0..300u32 {
            let (slow, mut writer) = slow_file();
            let mut read = Box::pin(slow.read_at(vec![0; 4000], 0, 4000, 0));
            once(read.as_mut()).await;
            if round % 3 > 0 {
                nop().await.unwrap();
            }
            drop(read);
            writer.write_all(&[0xaa; 4000]).unwrap();
            if round % 2 == 0 {
                nop().await.unwrap();
            }
        }
        nothing_in_flight_within(SOON).await;
    });
    assert_settled(&runtime);
    Quarantine::verify().unwrap();
}

// The same for a lease: whoever is given the buffer next must not get what the kernel still writes.
#[test]
pub(crate) fn a_dropped_read_writes_into_nobodys_buffer() {
    on_a_ring_with(small(), async {
        let file = canary_file(4096);
        for round in 0..100u32 {
            let (slow, mut writer) = slow_file();
            let mut read = Box::pin(slow.read_at(lease(4096).await.unwrap(), 0, 4096, 0));
            once(read.as_mut()).await;
            if round % 2 == 0 {
                nop().await.unwrap();
            }
            drop(read);
            let mut next = lease(4096).await.unwrap();
            assert_eq!(file.try_read(&mut next, 0, 4096).unwrap(), 4096);
            writer.write_all(&[0xaa; 4096]).unwrap();
            nothing_in_flight_within(SOON).await;
            if let Err(foreign) = canary::Checker::new(2, 0).feed(&next) {
                panic!("a foreign byte: {foreign}");
            }
        }
    });
}

// compio#746: a cancelled op never gave its buffer back.
#[test]
pub(crate) fn a_dropped_op_returns_its_lease() {
    let config = Config { buffers: vec![BufferClass { bytes: 4096, count: 2 }], ..small() };
    on_a_ring_with(config, async {
        for _ in 0..200 {
            let (slow, _writer) = slow_file();
            start_and_drop(slow.read_at(lease(4096).await.unwrap(), 0, 4096, 0)).await;
        }
        nothing_in_flight_within(SOON).await;
        assert_eq!(stats().unwrap().leases, 0);
        assert!(stats().unwrap().lease_waits > 0);
    });
}

// compio: a cancel was lost when the submission queue was full.
#[test]
pub(crate) fn no_cancel_is_lost_on_a_full_queue() {
    on_a_ring_with(Config { completion_entries: 2048, ..small() }, async {
        let pairs: Vec<_> = (0..500).map(|_| pair()).collect();
        let mut waits: Vec<_> = pairs.iter().map(|(ours, _)| Box::pin(ours.readable())).collect();
        for wait in &mut waits {
            once(wait.as_mut()).await;
        }
        nop().await.unwrap();
        assert_eq!(stats().unwrap().ops_in_flight, 500);
        drop(waits);
        nothing_in_flight_within(SOON).await;
        assert_eq!(stats().unwrap().ops_orphaned, 0);
    });
}

// Our own: the cancel was pushed before the op that it was for, and found nothing.
#[test]
pub(crate) fn a_cancel_does_not_overtake_its_op() {
    on_a_ring_with(small(), async {
        let (ours, _theirs) = pair();
        start_and_drop(ours.readable()).await;
        nothing_in_flight_within(SOON).await;
        let mut waits: Vec<_> = (0..100).map(|_| Box::pin(ours.readable())).collect();
        for wait in &mut waits {
            once(wait.as_mut()).await;
        }
        drop(waits);
        nothing_in_flight_within(SOON).await;
    });
}

// Our own: an op that waits for room among the completions ends when it is cancelled.
#[test]
fn a_cancelled_op_that_was_never_submitted_just_ends() {
    on_a_ring_with(small(), async {
        let (ours, _theirs) = pair();
        let mut waits: Vec<_> = (0..192).map(|_| Box::pin(ours.readable())).collect();
        for wait in &mut waits {
            once(wait.as_mut()).await;
        }
        let (other, _theirs) = pair();
        let mut send = pin!(other.send(vec![1u8; 10], 0, false).unwrap());
        once(send.as_mut()).await;
        once(send.as_mut()).await;
        assert_eq!(stats().unwrap().ops_waited, 1, "however often it is polled");
        send.as_mut().get_mut().cancel();
        let (outcome, buffer) = send.await;
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        assert_eq!(buffer.unwrap(), [1; 10], "with what it would have sent");
        assert_eq!(other.accepted(), 0);
        drop(waits);
    });
}

// Our own: whoever lets go of a send is told what the socket took of it, and gets the buffer.
#[test]
fn a_send_that_is_let_go_tells_its_heir() {
    on_a_ring_with(small(), async {
        let (mut ours, mut theirs) = pair();
        let told = Rc::new(Cell::new(None));
        let heir = || {
            let told = Rc::clone(&told);
            move |sent: std::io::Result<usize>, buffer: Option<Vec<u8>>| {
                told.set(Some((sent.map_err(|error| error.raw_os_error()), buffer)));
            }
        };
        let send = |mark: u8| ours.send(vec![mark; 10], 2, false).unwrap();
        // Not with the kernel yet, with it and over, and with no room to get there.
        let mut outcomes = Vec::new();
        send(1).abandon_to(heir());
        assert!(told.take().is_none(), "the kernel has it");
        nothing_in_flight_within(SOON).await;
        outcomes.extend(told.take());
        let mut sending = Box::pin(send(2));
        once(sending.as_mut()).await;
        nothing_in_flight_within(SOON).await;
        Pin::into_inner(sending).abandon_to(heir());
        outcomes.extend(told.take());
        let mut waits: Vec<_> = (0..192).map(|_| Box::pin(ours.readable())).collect();
        for wait in &mut waits {
            once(wait.as_mut()).await;
        }
        send(3).abandon_to(heir());
        outcomes.extend(told.take());
        drop(waits);
        let expected = [(Ok(8), 1), (Ok(8), 2), (Err(Some(libc::ECANCELED)), 3)];
        let expected = expected.map(|(sent, mark)| (sent, Some(vec![mark; 10])));
        assert_eq!(outcomes, expected);
        assert_eq!((ours.settle().await, ours.accepted()), (0, 16));
        let mut got = [0; 16];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(got, [[1; 8], [2; 8]].concat()[..]);
    });
}

// liburing#412, curvine#1002: what an aborted splice had left in a pipe reached the next client.
#[test]
pub(crate) fn a_pipe_with_residue_is_destroyed() {
    on_a_ring_with(small(), async {
        let file = canary_file(10_000);
        let mut pipe = lend_pipe().unwrap().unwrap();
        assert_eq!(file.try_fill(&mut pipe, 0, 100).unwrap(), 100);
        drop(pipe);
        assert_eq!((stats().unwrap().pipes, stats().unwrap().pipes_destroyed), (0, 1));
        for round in 0..200u32 {
            let pipe = lend_pipe().unwrap().unwrap();
            assert_eq!(pipe.residue(), 0);
            let mut filling = Box::pin(file.fill(pipe, 0, 5000).unwrap());
            once(filling.as_mut()).await;
            if round % 2 == 0 {
                yield_now().await;
            }
            drop(filling);
            nothing_in_flight_within(SOON).await;
            // What the next one gets is empty, whatever became of that.
            let mut pipe = lend_pipe().unwrap().unwrap();
            assert_eq!(file.try_fill(&mut pipe, 7000, 50).unwrap(), 50);
            let (ours, mut theirs) = pair();
            assert_eq!(ours.try_drain(&mut pipe, false).unwrap(), 50);
            let mut got = [0; 50];
            theirs.read_exact(&mut got).unwrap();
            canary::Checker::new(2, 7000).feed(&got).unwrap();
        }
    });
}

// io-uring#302, liburing#705: the completion queue overflowed.
#[test]
fn completions_never_overflow() {
    on_a_ring_with(Config { tasks_per_turn: 10_000, ..small() }, async {
        let tasks: Vec<_> = (0..10_000).map(|_| spawn(nop())).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(stats().unwrap().completions_overflowed, 0);
        assert!(stats().unwrap().ops_waited > 0);
    });
}

// The same for many that end in the same moment, where the kernel posts all that it has: one after
// the other they would never fill the queue.
#[test]
pub(crate) fn completions_that_come_together_never_overflow() {
    let config = Config { best_setup: Setup::CoopTaskrun, tasks_per_turn: 10_000, ..small() };
    on_a_ring_with(config, async {
        let (ours, mut theirs) = pair();
        let ours = Rc::new(ours);
        let wait = |ours: Rc<UnixStream>| async move { ours.readable().await };
        let waits: Vec<_> = (0..500).map(|_| spawn(wait(Rc::clone(&ours)))).collect();
        // Not by an op: there is no room for one.
        time::sleep(Duration::from_millis(1)).await;
        theirs.write_all(b"x").unwrap();
        for wait in waits {
            wait.await.unwrap().unwrap();
        }
        let overflowed = stats().unwrap().completions_overflowed;
        assert_eq!(overflowed, 0, "the completion queue overflowed");
        assert!(stats().unwrap().ops_waited > 0);
    });
}

// neon tokio-epoll-uring#60: a completed op that nobody polled kept its slot, and all others waited.
#[test]
pub(crate) fn a_completed_op_that_is_never_polled_blocks_nobody() {
    on_a_ring_with(small(), async {
        let mut forgotten: Vec<_> = (0..192).map(|_| Box::pin(nop())).collect();
        for op in &mut forgotten {
            once(op.as_mut()).await;
        }
        for _ in 0..500 {
            nop().await.unwrap();
        }
        drop(forgotten);
    });
}

// lalinsky/zio#630: an inline splice to a closed socket killed the process.
#[test]
fn a_closed_peer_is_an_error_and_no_signal() {
    run_in_child("drops::a_closed_peer_is_an_error_and_no_signal", send_to_closed_peers);
}

pub(crate) fn send_to_closed_peers() {
    let _budget = budget();
    // A handler stands for the default disposition, which would end the process: Rust's own
    // start-up ignores the signal.
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(libc::SIGPIPE, std::sync::Arc::clone(&seen)).unwrap();
    let raised = || seen.swap(false, std::sync::atomic::Ordering::SeqCst);
    // In a thread without a ring, so that it is known that the handler would tell.
    let thread = std::thread::spawn(|| {
        let (reader, mut writer) = pipe().unwrap();
        drop(reader);
        drop(writer.write(b"x"));
    });
    thread.join().unwrap();
    assert!(raised());
    on_a_ring(async {
        let file = canary_file(10_000);
        let (stream, peer) = pair();
        drop(peer);
        let mut pipe = lend_pipe().unwrap().unwrap();
        file.try_fill(&mut pipe, 0, 5000).unwrap();
        let outcomes = [
            stream.try_drain(&mut pipe, false).map(drop),
            stream.try_sendfile(std::os::fd::AsFd::as_fd(&file), 0, 5000).map(drop),
            stream.try_send(&[std::io::IoSlice::new(b"x")], false).map(drop),
            stream.send(vec![1u8], 0, false).unwrap().await.0.map(drop),
            stream.drain(pipe, false).unwrap().await.0.map(drop),
        ];
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        }
    });
    assert!(!raised(), "SIGPIPE was raised");
}
