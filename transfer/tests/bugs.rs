//! Other people's bugs, each a test of ours: the rows of the table in RELIABILITY.md that a transfer
//! can have. (Cancellation and pools have files of their own; here stands what is short to tell.)

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenes;
mod support;

use std::future::IntoFuture;
use std::io::Read;
use std::time::{Duration, Instant};

use ringway::error::ErrorKind;
use ringway::runtime::fault::{self, Fault};
use ringway::runtime::time::timeout;
use ringway::runtime::{Config, Runtime, spawn, stats};
use ringway::{Mode, Parts, Route, transfer_file};
use ringway_testkit::peer::Stop;
use ringway_testkit::{Behaviour, Budget, Checker, canary};
use scenes::borders::{send_ranges_far_out, send_the_last_byte};
use support::tap::{Appetite, close, in_child, quiet, tap_tcp, tap_unix};
use support::{WAYS, canary_file, expecting, folder, open, runtime, runtime_with_buffers, tcp};

const FILE: u64 = 61;
const OTHER: u64 = 62;

/// liburing#412, curvine#1002: an aborted splice left bytes in a pipe that the next one used.
#[test]
fn a_pipe_with_residue_is_destroyed_and_not_lent_again() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let (file, other) =
        (open(&canary_file(&folder, FILE, 32 << 20)), open(&canary_file(&folder, OTHER, 300_000)));
    let config = Config { completion_entries: 512, pipes_max: 1, ..Config::default() };
    let runtime = Runtime::with_config(config).unwrap();
    for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
        let destroyed = runtime.stats().pipes_destroyed;
        let (mut stream, receiver) = tcp(Behaviour::read_all().stopping_after(9, Stop::Reset));
        let error = runtime.block_on(async {
            transfer_file(&file, &mut stream).route(Route::Splice).mode(mode).await.unwrap_err()
        });
        assert!(matches!(error.kind(), ErrorKind::PeerClosed { .. }), "{error}");
        assert_eq!(receiver.join().unwrap().bytes, 9);
        assert_eq!(runtime.stats().pipes_destroyed, destroyed + 1);
        let (mut stream, receiver) = tcp(expecting(OTHER, 0));
        let receipt = runtime.block_on(async {
            transfer_file(&other, &mut stream).route(Route::Splice).mode(mode).await.unwrap()
        });
        close(&runtime, stream);
        receiver.join().unwrap().assert_complete(300_000);
        assert_eq!((receipt.pipes, receipt.fallbacks.len()), (1, 0), "{receipt}");
    }
}

/// liburing#248: a short splice breaks a chain of links, and with it the body.
#[test]
fn a_short_splice_at_any_place_breaks_nothing() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, 300_001));
    let runtime = runtime();
    let (mut stream, tap) = tap_tcp(Appetite::Greedy, 1 << 20);
    let mut shortened = 0;
    runtime.block_on(async {
        for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
            for len in [1, 4095, 4096, 65_537] {
                for kth in 0.. {
                    fault::arm_for("splice", kth, Fault::Short(len));
                    let transfer = transfer_file(&file, &mut stream).quantum(128 << 10);
                    let receipt = transfer.route(Route::Splice).mode(mode).await.unwrap();
                    let fired = fault::disarm().fired.is_some();
                    assert_eq!(receipt.bytes, 300_001);
                    tap.take_canary(FILE, 0, 300_001);
                    if !fired {
                        break;
                    }
                    shortened += 1;
                }
            }
        }
    });
    assert!(shortened >= 12 * 4, "{shortened}");
}

/// enghitalo/vanilla#77: a pipe for each connection, until the user's pages were spent.
#[test]
fn three_hundred_transfers_share_two_pipes() {
    in_child("three_hundred_transfers_share_two_pipes", Duration::from_secs(100), || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, 200_000));
        let runtime = Runtime::with_config(Config { pipes_max: 2, ..Config::default() }).unwrap();
        let mut receivers = Vec::new();
        let fallbacks = runtime.block_on(async {
            let base = stats().unwrap();
            let mut tasks = Vec::new();
            for number in 0..300 {
                // Slow enough to overlap.
                let behaviour =
                    expecting(FILE, 0).receive_buffer(8192).stalling(0, Duration::from_millis(30));
                let (mut stream, receiver) = tcp(behaviour);
                receivers.push(receiver);
                let file = file.clone();
                let mode = WAYS[number % 3].1;
                tasks.push(spawn(async move {
                    transfer_file(&file, &mut stream).route(Route::Splice).mode(mode).await
                }));
            }
            let mut fallbacks = 0;
            for task in tasks {
                let receipt = task.await.unwrap().unwrap();
                assert_eq!(receipt.bytes, 200_000);
                fallbacks += u64::from(!receipt.fallbacks.is_empty());
            }
            quiet(&base).await;
            fallbacks
        });
        receivers.into_iter().for_each(|r| r.join().unwrap().assert_complete(200_000));
        let stats = runtime.stats();
        assert!(stats.pipes <= 2 && stats.pipes_refused > 0, "{stats:?}");
        println!("300 transfers over 2 pipes: {fallbacks} told of a fallback");
    });
}

/// lalinsky/zio#630: an inline splice to a socket that was closed raised `SIGPIPE`. Rust's programs
/// ignore that signal, which would hide it, so what counts here is that the ring's thread blocks it.
#[test]
fn a_closed_peer_is_an_error_and_no_signal() {
    in_child("a_closed_peer_is_an_error_and_no_signal", Duration::from_secs(60), || {
        let folder = folder();
        let file = open(&canary_file(&folder, FILE, 200_000));
        let runtime = runtime();
        assert!(signals("SigBlk") & SIGPIPE != 0, "the ring's thread blocks SIGPIPE");
        for (route, mode) in WAYS {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            let mut stream = ringway::runtime::net::UnixStream::from_std(ours).unwrap();
            drop(theirs);
            let error = runtime.block_on(async {
                transfer_file(&file, &mut stream).route(route).mode(mode).await.unwrap_err()
            });
            assert!(matches!(error.kind(), ErrorKind::PeerClosed { .. }), "{error}");
            assert_eq!(error.sent(), 0);
        }
        // What an ordinary program would have been killed by waits here, or never came.
        let pending = signals("SigPnd") & SIGPIPE != 0;
        println!(
            "6 closed peers: no death, SIGPIPE {}",
            if pending { "held back" } else { "never raised" }
        );
    });
}

/// SIGPIPE is signal 13.
const SIGPIPE: u64 = 1 << 12;

/// A mask of the calling thread from /proc; see proc_pid_status(5).
fn signals(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

/// Netty, by reading: offsets in 32 bits, so that it breaks past 2 GiB.
#[test]
fn ranges_past_two_and_four_gib_are_the_right_ones() {
    let _budget = Budget::new(Duration::from_secs(80));
    send_ranges_far_out();
}

#[test]
#[ignore = "lane: torture; run with: cargo test -p ringway --test bugs -- --ignored"]
fn a_whole_file_past_four_gib_arrives() {
    let _budget = Budget::new(Duration::from_secs(900));
    let folder = folder();
    let path = folder.path().join("sparse");
    let len = (4 << 30) + 777;
    canary::write_sparse_file(&path, FILE, len).unwrap();
    let file = open(&path);
    let runtime = runtime();
    for (route, mode) in WAYS {
        let checker = Checker::sparse(FILE, 0, len);
        let (mut stream, receiver) = tcp(Behaviour::read_all().expecting(checker));
        let receipt = runtime.block_on(async {
            transfer_file(&file, &mut stream).route(route).mode(mode).await.unwrap()
        });
        close(&runtime, stream);
        receiver.join().unwrap().assert_complete(len);
        println!("{receipt}");
    }
}

/// golang#10948: the last bytes were sent with "more follows" and waited 200 ms. It shows only on a
/// connection that is idle; the bound is far from both, and tried again, since a machine can be busy.
#[test]
fn the_last_byte_is_not_corked_on_an_idle_connection() {
    let _budget = Budget::new(Duration::from_secs(60));
    send_the_last_byte();
}

/// The same for what was dropped or cancelled in the middle: it went out with "more follows", and
/// nothing follows.
#[test]
fn what_went_out_before_a_drop_is_not_corked_once_it_is_settled() {
    let _budget = Budget::new(Duration::from_secs(60));
    let runtime = runtime();
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, 100));
    let prompt = (0..5).any(|_| {
        let (mut stream, tap) = tap_tcp(Appetite::Greedy, 1 << 20);
        let began = Instant::now();
        let settled = runtime.block_on(async {
            let rate = std::num::NonZeroU64::new(100).unwrap();
            let parts = Parts::new().bytes(vec![1; 1000]).file(&file, 0..100);
            let transfer = transfer_file(parts, &mut stream).rate_limit(rate, 1000);
            let dropped = timeout(Duration::from_millis(1), transfer.into_future()).await;
            assert!(dropped.is_err() && stream.is_poisoned());
            stream.settle().await
        });
        assert_eq!(tap.take(settled).len(), 1000);
        began.elapsed() < Duration::from_millis(100)
    });
    assert!(prompt, "what was dropped stayed corked, five times");
}

/// Kafka: after a send that was given up, left-overs of it stood before the next one.
#[test]
fn a_transfer_after_an_abandoned_one_begins_with_its_own_first_byte() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let (file, other) =
        (open(&canary_file(&folder, FILE, 32 << 20)), open(&canary_file(&folder, OTHER, 100_000)));
    let runtime = runtime();
    for (route, mode) in WAYS {
        let (mut stream, tap) = tap_unix(Appetite::Stalled, 64 << 10);
        runtime.block_on(async {
            let base = stats().unwrap();
            let mut settled = 0;
            // Longer and longer, until it was abandoned in the middle.
            for millis in [5, 50, 500, 5000] {
                let transfer = transfer_file(&file, &mut stream).route(route).mode(mode);
                timeout(Duration::from_millis(millis), transfer.into_future()).await.unwrap_err();
                settled = stream.settle().await;
                if settled > 0 {
                    break;
                }
            }
            assert!(settled > 0 && settled < 4 << 20);
            let sent = tap.take(settled);
            Checker::new(FILE, 0).feed(&sent).unwrap();
            quiet(&base).await;
            let receipt =
                transfer_file(&other, &mut stream).range(0..20_000).route(route).mode(mode);
            assert_eq!(receipt.await.unwrap().bytes, 20_000);
            tap.take_canary(OTHER, 0, 20_000);
        });
        support::end(stream);
        assert_eq!(tap.finish(), 0);
    }
}

/// Netty: the channel was closed, or the file's handle released, before the last bytes had left.
#[test]
fn handles_closed_early_cut_nothing_off() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, FILE, 3_000_000);
    let runtime = runtime();
    for (route, mode) in WAYS {
        let slow = expecting(FILE, 0).receive_buffer(64 << 10);
        let (mut stream, receiver) = tcp(slow.slowly(128 << 10, Duration::from_micros(200)));
        runtime.block_on(async {
            let file = open(&path);
            let transfer = transfer_file(&file, &mut stream).route(route).mode(mode);
            // The caller's handle goes before the first byte, and the socket with the last one.
            drop(file);
            assert_eq!(transfer.await.unwrap().bytes, 3_000_000);
            support::end(stream);
        });
        receiver.join().unwrap().assert_complete(3_000_000);
    }
}

/// neon tokio-epoll-uring#60: an op that had completed and was not polled held its slot, until nobody
/// could go on. Here 60 transfers begin with a read by the ring, and only the last is polled again.
#[test]
fn transfers_that_nobody_polls_hold_up_nobody() {
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let file = open(&canary_file(&folder, FILE, 100_000));
    let config = Config { completion_entries: 256, submission_entries: 8, ..Config::default() };
    let runtime = Runtime::with_config(config).unwrap();
    runtime.block_on(async {
        let mut connections: Vec<_> = (0..60)
            .map(|_| {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                (ringway::runtime::net::UnixStream::from_std(ours).unwrap(), theirs)
            })
            .collect();
        let mut left = Vec::new();
        for (stream, _) in &mut connections {
            let transfer = transfer_file(&file, stream).mode(Mode::Hybrid);
            let mut transfer = transfer.into_future();
            std::future::poll_fn(|context| {
                let _ = std::pin::Pin::new(&mut transfer).poll(context);
                std::task::Poll::Ready(())
            })
            .await;
            left.push(transfer);
        }
        let (mut stream, tap) = tap_unix(Appetite::Greedy, 1 << 20);
        let transfer = transfer_file(&file, &mut stream).route(Route::Copy).mode(Mode::Ring);
        assert_eq!(transfer.await.unwrap().bytes, 100_000);
        tap.take_canary(FILE, 0, 100_000);
        drop(left);
        for (mut stream, mut peer) in connections {
            stream.settle().await;
            let sent = stream.accepted();
            support::end(stream);
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, sent);
            Checker::new(FILE, 0).feed(&bytes).unwrap();
        }
    });
}

/// Ours, found by review: where a direct read no longer fitted behind what the buffer held, that was
/// taken for the end of the file.
#[test]
fn a_direct_read_without_room_is_not_the_end_of_the_file() {
    use std::os::unix::fs::OpenOptionsExt;
    const O_DIRECT: i32 = if cfg!(target_arch = "aarch64") { 0o200_000 } else { 0o40_000 };
    let _budget = Budget::new(Duration::from_secs(60));
    let folder = folder();
    let path = canary_file(&folder, FILE, 300_000);
    let direct = std::fs::OpenOptions::new().read(true).custom_flags(O_DIRECT).open(&path);
    let Ok(direct) = direct else {
        println!("this file system knows no O_DIRECT: nothing was tested");
        return;
    };
    let (file, runtime) = (direct.into(), runtime_with_buffers(256 << 10, 4));
    for mode in [Mode::Ring, Mode::Hybrid, Mode::Inline] {
        // The first part ends in the last block of the largest buffer.
        let parts = Parts::new().file(&file, 0..258_100).file(&file, 5000..9000).bytes("end");
        let (mut stream, tap) = tap_tcp(Appetite::Greedy, 1 << 20);
        runtime.block_on(async {
            transfer_file(parts, &mut stream).route(Route::Copy).mode(mode).await.unwrap();
        });
        tap.take_canary(FILE, 0, 258_100);
        tap.take_canary(FILE, 5000, 4000);
        assert_eq!(tap.take(3), b"end");
    }
}
