//! What has no socket: an op's way through the ring, the plan, a progress step, a lease, a task's wake, a
//! record's sealing.
//!
//! ```sh
//! cargo bench -p ringway-bench --bench micro
//! ```

use divan::Bencher;
use ringway::plan::{
    Capabilities, DirectIo, Filesystem, Residency, SinkFacts, SinkKind, SourceFacts, Wishes, plan,
};
use ringway::progress::{Extent, Progress, Step};
use ringway::runtime::{self, Runtime};
use ringway::{Parts, Thresholds};

fn main() {
    divan::main();
}

/// How often the asynchronous ones repeat within one measured run of the loop.
const TIMES: u32 = 1000;

fn in_a_ring(bencher: Bencher<'_, '_>, work: impl AsyncFn()) {
    let runtime = Runtime::new().expect("a ring");
    bencher.counter(TIMES).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..TIMES {
                work().await;
            }
        });
    });
}

/// One op alone, from submission to the completion that its task sees.
#[divan::bench]
fn submit_and_reap_an_op(bencher: Bencher<'_, '_>) {
    in_a_ring(bencher, async || runtime::nop().await.expect("an op that does nothing"));
}

/// Eight ops that share their turns of the loop.
#[divan::bench]
fn submit_and_reap_eight_ops_at_once(bencher: Bencher<'_, '_>) {
    let runtime = Runtime::new().expect("a ring");
    bencher.counter(TIMES).bench_local(|| {
        runtime.block_on(async {
            let one = || async {
                for _ in 0..TIMES / 8 {
                    runtime::nop().await.expect("an op that does nothing");
                }
            };
            let tasks: Vec<_> = (0..8).map(|_| runtime::spawn(one())).collect();
            for task in tasks {
                task.await.expect("no task panics");
            }
        });
    });
}

/// A registered buffer lent and given back.
#[divan::bench]
fn lease_a_buffer(bencher: Bencher<'_, '_>) {
    in_a_ring(bencher, async || {
        divan::black_box(runtime::lease(16 << 10).await.expect("a buffer"));
    });
}

/// A full record of TLS 1.3, sealed where it lies by AWS-LC with AES-256-GCM: what is left of a record's cost is
/// the reading and the sending.
#[divan::bench]
fn seal_a_record(bencher: Bencher<'_, '_>) {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key"));
    // The data and its content type.
    let mut record = vec![0x5a; (16 << 10) + 1];
    let mut number = 0u64;
    bencher.counter(divan::counter::BytesCount::new(16usize << 10)).bench_local(|| {
        number += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let header = Aad::from([23, 3, 3, 0x40, 0x11]);
        key.seal_in_place_separate_tag(nonce, header, &mut record).expect("a sealed record")
    });
}

/// A task that wakes itself and runs again in the next turn.
#[divan::bench]
fn wake_a_task(bencher: Bencher<'_, '_>) {
    in_a_ring(bencher, async || runtime::yield_now().await);
}

/// The choice of a route from its facts.
#[divan::bench]
fn plan_a_transfer(bencher: Bencher<'_, '_>) {
    let source = SourceFacts {
        total_bytes: 65_736,
        file_bytes: 65_536,
        file_parts: 1,
        filesystem: Filesystem::Local,
        direct_io: DirectIo::No,
        residency: Residency::Resident,
    };
    let sink = SinkFacts { kind: SinkKind::Tcp, same_host: false };
    let host = Capabilities {
        splice: true,
        splice_sqe: true,
        registered_buffers: true,
        pipe_bytes: 1 << 20,
    };
    let (wishes, thresholds) = (Wishes::default(), Thresholds::default());
    bencher.bench(|| {
        plan(
            divan::black_box(&source),
            divan::black_box(&sink),
            &wishes,
            &host,
            divan::black_box(&thresholds),
        )
    });
}

/// Header and file of 1 MiB, in quanta of 64 KiB: 33 steps.
#[divan::bench]
fn progress_through_a_mebibyte(bencher: Bencher<'_, '_>) {
    let extents = [Extent::Bytes { len: 200 }, Extent::File { offset: 0, len: 1 << 20 }];
    bencher.counter(33_u32).bench(|| {
        let mut progress = Progress::new(divan::black_box(extents).to_vec()).expect("it fits");
        loop {
            match progress.next(divan::black_box(64 << 10)) {
                Step::Done | Step::Truncated(_) => return progress,
                Step::SendBytes { len, .. } => progress.pass(len),
                Step::Fill(fill) => progress.stage(fill.len),
                Step::Drain { len, .. } => progress.accept(len),
            }
            .expect("no more than was asked for");
        }
    });
}

/// A body of a header and a file range, before anything is looked at.
#[divan::bench]
fn name_the_parts_of_a_body(bencher: Bencher<'_, '_>) {
    let file = runtime::fs::File::from_std(std::fs::File::open("/dev/null").expect("it is there"));
    let header = bytes::Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n");
    bencher.bench_local(|| Parts::new().bytes(header.clone()).file(&file, 0..65_536));
}
