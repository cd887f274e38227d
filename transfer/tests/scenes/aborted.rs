//! Pipes and buffers that one client leaves behind, and what the next one gets.

use std::time::Duration;

use ringway::error::{Blame, ErrorKind};
use ringway::limits::Limits;
use ringway::runtime::fault::{self, Fault};
use ringway::runtime::fs::File;
use ringway::runtime::{BufferClass, Config, Runtime, stats};
use ringway::{Mode, Parts, Route, Sink, TransferError, transfer_file};
use ringway_testkit::Census;
use ringway_testkit::peer::Stop;

use crate::support::tap::{Appetite, Random, close, quiet, tap_tcp, tap_unix};
use crate::support::through::{ALL_WAYS, through};
use crate::support::{self, canary_file, expecting, folder, open};

pub const VICTIM: u64 = 31;
pub const NEXT: u64 = 32;
pub const VICTIM_BYTES: u64 = 2 << 20;
pub const NEXT_BYTES: u64 = (150 << 10) + 1;

/// Lets clients go away in the middle, `count` of them, and serves another one after each.
pub fn abort_and_go_on(count: u64) {
    let folder = folder();
    let victim = canary_file(&folder, VICTIM, VICTIM_BYTES);
    let next = canary_file(&folder, NEXT, NEXT_BYTES);
    let before = Census::take();
    let runtime = tiny_runtime();
    let (victim, next) = (open(&victim), open(&next));
    let mut random = Random(3);
    let (mut aborted, mut rounds, mut mapped) = (0, 0usize, 0);
    while aborted < count {
        // Splices mostly, for it is the pipe that could carry something over.
        let way = ALL_WAYS[usize::try_from(random.below(11)).unwrap() % ALL_WAYS.len()];
        let read = random.below(300 << 10);
        let left = u64::from(abort(&runtime, &victim, way, read, rounds % 3));
        aborted += left;
        mapped += if way.0 == Route::Mapped { left } else { 0 };
        rounds += 1;
        let (mut stream, receiver) = support::tcp(expecting(NEXT, 0));
        // Those that take pipes.
        let next_way = ALL_WAYS[[0, 1, 2, 6, 7][rounds % 5]];
        let sent =
            runtime.block_on(async { through(transfer_file(&next, &mut stream), next_way).await });
        close(&runtime, stream);
        receiver.join().unwrap().assert_complete(sent.unwrap().bytes);
    }
    let stats = runtime.stats();
    assert_eq!((stats.pipes_lent, stats.leases, stats.completions_stale), (0, 0, 0));
    assert!(stats.pipes <= 2 && stats.pipes_destroyed > count / 10, "{stats:?}");
    drop((runtime, victim, next));
    before.assert_unchanged_within(Duration::from_secs(5));
    println!(
        "{aborted} aborted of {rounds}, {mapped} of them through a processor, {} pipes destroyed: 0 foreign bytes, 0 fds leaked",
        stats.pipes_destroyed
    );
}

/// A client that goes away after it has read so many bytes. Whether that was in the middle.
fn abort(runtime: &Runtime, file: &File, way: (Route, Mode), read: u64, how: usize) -> bool {
    let stop = if how == 0 { Stop::Reset } else { Stop::Close };
    let behaviour = expecting(VICTIM, 0).stopping_after(read, stop);
    let (outcome, received) = if how == 2 {
        let (mut stream, receiver) = support::unix(behaviour);
        (runtime.block_on(send(file, &mut stream, way)), receiver)
    } else {
        let (mut stream, receiver) = support::tcp(behaviour);
        (runtime.block_on(send(file, &mut stream, way)), receiver)
    };
    let received = received.join().unwrap();
    assert!(received.foreign.is_none(), "{received:?}");
    assert_eq!(received.bytes, read);
    match outcome {
        Ok(bytes) => assert_eq!(bytes, VICTIM_BYTES),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::PeerClosed { .. }), "{way:?}: {error}");
            assert_eq!(error.blame(), Blame::Peer);
            assert!(error.sent() >= read && error.sent() < VICTIM_BYTES, "{error}");
            return true;
        }
    }
    false
}

pub async fn send<S: Sink>(
    file: &File,
    stream: &mut S,
    way: (Route, Mode),
) -> Result<u64, TransferError> {
    // Less than a pipe holds: one that is full could pass nothing on, for nothing more goes into it.
    let transfer = transfer_file(file, stream).quantum(96 << 10);
    through(transfer, way).await.map(|receipt| receipt.bytes)
}

pub fn tiny_runtime() -> Runtime {
    let config = Config {
        completion_entries: 512,
        pipes_max: 2,
        pipe_bytes: 128 << 10,
        ..Config::default()
    };
    Runtime::with_config(config).unwrap()
}

/// Sends bodies through one buffer, with a short read in most of them.
pub fn read_short_into_used_buffers(rounds: usize) {
    let folder = folder();
    let large = open(&canary_file(&folder, VICTIM, VICTIM_BYTES));
    let small = open(&canary_file(&folder, NEXT, 70_000));
    // One buffer, so that each transfer gets what the last one left in it.
    let buffers = vec![BufferClass { bytes: 64 << 10, count: 1 }];
    let config = Config { completion_entries: 512, buffers, ..Config::default() };
    let runtime = Runtime::with_config(config).unwrap();
    let (mut stream, tap) = tap_unix(Appetite::Greedy, 1 << 20);
    let (mut over_tcp, tap_of_tcp) = tap_tcp(Appetite::Greedy, 1 << 20);
    let mut random = Random(9);
    let (mut shortened, mut copied) = (0, 0);
    runtime.block_on(async {
        let base = stats().unwrap();
        for round in 0..rounds {
            let mode = [Mode::Ring, Mode::Hybrid, Mode::Inline][round % 3];
            let (file, id, most) =
                if round % 4 == 0 { (&large, VICTIM, 300_000) } else { (&small, NEXT, 9_000) };
            let from = random.below(50_000);
            let to = from + 1 + random.below(most.min(20_000 + most % 280_001));
            let parts =
                Parts::new().bytes(vec![0xee; round % 90]).file(file, from..to).bytes("end");
            let short = u32::try_from(1 + random.below(3000)).unwrap();
            let name = if mode == Mode::Inline { "pread" } else { "read" };
            fault::arm_for(name, random.below(2), Fault::Short(short));
            let zero_copy = round % 5 == 0;
            let limits = Limits::default().with_copy_batch_bytes(64 << 10);
            let outcome = if zero_copy {
                let transfer = transfer_file(parts, &mut over_tcp).zero_copy(true);
                transfer.limits(limits).route(Route::Copy).mode(mode).await
            } else {
                let transfer = transfer_file(parts, &mut stream);
                transfer.limits(limits).route(Route::Copy).mode(mode).await
            };
            shortened += usize::from(fault::disarm().fired.is_some());
            copied += outcome.unwrap().zero_copy_copied;
            let tap = if zero_copy { &tap_of_tcp } else { &tap };
            assert!(tap.take(round as u64 % 90).iter().all(|byte| *byte == 0xee), "{round}");
            tap.take_canary(id, from, to - from);
            assert_eq!(tap.take(3), b"end");
            quiet(&base).await;
        }
    });
    drop((stream, over_tcp));
    assert_eq!((tap.finish(), tap_of_tcp.finish()), (0, 0));
    assert!(shortened > rounds / 3, "{shortened} reads were short");
    println!(
        "{rounds} bodies through one buffer, {shortened} short reads, {copied} copied: 0 stale bytes"
    );
}
