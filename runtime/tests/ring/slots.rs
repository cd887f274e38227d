//! Vectored reads into the slots of a buffer: the right bytes at the right places and nowhere else.

use std::fs::File as StdFile;
use std::io::{ErrorKind, Write, pipe};
use std::os::fd::OwnedFd;
use std::pin::pin;

use ringway_runtime::fs::File;
use ringway_runtime::{Lease, SLOTS_MAX, Slots, lease, nop, stats};
use ringway_testkit::{Quarantine, canary};

use crate::baseline::{on_a_ring, on_a_ring_with, once, small, start_and_drop};

const SLOTS: Slots = Slots { start: 9, gap: 5, room: 1000, tail: 17 };
/// What lies in a buffer where no read may write.
const MARK: u8 = 0x5a;

fn canary_file(len: usize) -> (File, Vec<u8>) {
    let bytes = canary::bytes(3, 0, len);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (File::from_std(file), bytes)
}

async fn marked(bytes: usize) -> Lease {
    let mut lease = lease(bytes).await.unwrap();
    lease.spare_mut().fill(MARK);
    lease
}

/// What the buffer must be after `read` bytes of the file came to the positions from `from` on.
fn expected(capacity: usize, from: usize, read: &[u8]) -> Vec<u8> {
    let mut expected = vec![MARK; capacity];
    for (n, byte) in read.iter().enumerate() {
        let position = from + n;
        expected[9 + position / 1000 * 1022 + 5 + position % 1000] = *byte;
    }
    expected
}

/// The place, the length and the offset of some reads; the file has 20 000 bytes.
const READS: [(usize, usize, u64); 9] = [
    (0, 1, 0),
    (0, 1000, 0),
    (0, 1001, 7),
    (999, 2, 4095),
    (500, 7500, 333),
    (0, 8000, 0),
    (3000, 0, 0),
    (2100, 5000, 18_000),
    (0, 100, 20_000),
];

#[test]
fn file_bytes_reach_the_rooms_and_nothing_else_is_touched() {
    on_a_ring(async {
        let (file, bytes) = canary_file(20_000);
        for (from, len, offset) in READS {
            let start = usize::try_from(offset).unwrap();
            let there = &bytes[start..(start + len).min(bytes.len())];
            let mut lease = marked(8192 + 1000).await;
            let read = file.try_read_slots(&mut lease, &SLOTS, from, len, offset).unwrap();
            assert_eq!(read, there.len(), "inline, {len} bytes at {offset}");
            let expected = expected(lease.capacity(), from, there);
            assert!(lease.is_empty(), "who filled the gaps says what counts");
            assert!(lease.spare_mut() == expected, "inline, {len} bytes at {offset}");

            let reading = file.read_slots(marked(9000).await, &SLOTS, from, len, offset).unwrap();
            let (read, lease) = reading.await;
            let mut lease = lease.unwrap();
            assert_eq!(read.unwrap(), there.len(), "by the ring, {len} bytes at {offset}");
            assert!(lease.spare_mut() == expected, "by the ring, {len} bytes at {offset}");
        }
        assert_eq!(
            stats().unwrap().file_read_bytes,
            2 * (1 + 1000 + 1001 + 2 + 7500 + 8000 + 2000)
        );
    });
}

#[test]
fn a_read_ends_with_the_buffer_and_with_the_most_slots() {
    on_a_ring(async {
        let (file, bytes) = canary_file(20_000);
        let mut full = marked(4096).await;
        let capacity = full.capacity();
        let room = (0..20_000).take_while(|n| 9 + n / 1000 * 1022 + 5 + n % 1000 < capacity);
        let room = room.count();
        assert_eq!(file.try_read_slots(&mut full, &SLOTS, 0, 20_000, 0).unwrap(), room);
        assert!(full.spare_mut() == expected(capacity, 0, &bytes[..room]));
        let reading = file.read_slots(marked(4096).await, &SLOTS, 0, 20_000, 0).unwrap();
        let (read, back) = reading.await;
        assert_eq!(read.unwrap(), room);
        assert!(back.unwrap().spare_mut() == expected(capacity, 0, &bytes[..room]));

        let narrow = Slots { start: 0, gap: 1, room: 10, tail: 0 };
        let reading = file.read_slots(marked(4096).await, &narrow, 0, 4000, 0).unwrap();
        assert_eq!(reading.await.0.unwrap(), 10 * SLOTS_MAX);
    });
}

#[test]
fn an_offset_that_no_file_has_is_refused_and_the_buffer_is_given_back() {
    on_a_ring(async {
        let (file, _) = canary_file(100);
        for offset in [u64::MAX, 1 << 63] {
            let refused = file.read_slots(marked(4096).await, &SLOTS, 0, 10, offset);
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EOVERFLOW));
            assert_eq!(stats().unwrap().leases, 0);
        }
    });
}

#[test]
fn a_dropped_read_gives_back_a_buffer_without_its_secret() {
    on_a_ring_with(small(), async {
        let (file, _) = canary_file(4096);
        for round in 0..300u32 {
            let mut plain = marked(4096).await;
            plain.set_secret(plain.capacity());
            let mut reading = pin!(Some(file.read_slots(plain, &SLOTS, 0, 3000, 0).unwrap()));
            if round % 3 > 0 {
                once(reading.as_mut().as_pin_mut().unwrap()).await;
            }
            if round % 3 > 1 {
                nop().await.unwrap();
            }
            reading.set(None);
            // In the end the op has its last completion, and its buffer is the next one lent.
            while stats().unwrap().ops_in_flight > 0 {
                nop().await.unwrap();
            }
            let mut next = lease(4096).await.unwrap();
            assert!(next.spare_mut().iter().all(|byte| *byte == 0), "round {round}");
        }
    });
    Quarantine::verify().unwrap();
}

#[test]
fn a_dropped_read_that_waits_returns_its_lease_and_its_vector() {
    on_a_ring_with(small(), async {
        for round in 0..200u32 {
            let (reader, mut writer) = pipe().unwrap();
            let slow = File::from_std(StdFile::from(OwnedFd::from(reader)));
            let lease = lease(4096).await.unwrap();
            start_and_drop(slow.read_slots(lease, &SLOTS, 0, 3000, 0).unwrap()).await;
            if round % 2 == 0 {
                nop().await.unwrap();
            }
            drop(writer.write(&[0xaa; 3000]));
        }
    });
    Quarantine::verify().unwrap();
}

#[test]
fn a_cancelled_read_resolves_with_its_buffer() {
    on_a_ring_with(small(), async {
        let (reader, _writer) = pipe().unwrap();
        let slow = File::from_std(StdFile::from(OwnedFd::from(reader)));
        let mut reading = slow.read_slots(marked(4096).await, &SLOTS, 0, 3000, 0).unwrap();
        once(pin!(&mut reading)).await;
        nop().await.unwrap();
        reading.cancel();
        let (read, lease) = reading.await;
        assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        assert!(lease.unwrap().spare_mut().iter().all(|byte| *byte == MARK));
    });
}

#[test]
fn nothing_is_read_where_no_ring_is() {
    let (file, _) = canary_file(100);
    let lease = on_a_ring(async { file.try_read_slots(&mut marked(99).await, &SLOTS, 0, 9, 0) });
    assert_eq!(lease.unwrap(), 9);
    let runtime = ringway_runtime::Runtime::new().unwrap();
    let lease = runtime.block_on(marked(4096));
    let refused = file.read_slots(lease, &SLOTS, 0, 10, 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Other);
    assert_eq!(runtime.stats().leases, 0);
}

#[cfg(feature = "fault")]
mod faults {
    use super::*;
    use ringway_runtime::fault::{Fault, arm_for, disarm};

    #[test]
    fn a_short_read_ends_in_any_slot() {
        on_a_ring(async {
            let (file, bytes) = canary_file(20_000);
            for short in [1, 999, 1000, 1001, 2500, 4999] {
                let there = &bytes[..short];
                let fault = Fault::Short(u32::try_from(short).unwrap());
                let mut lease = marked(9000).await;
                arm_for("preadv", 0, fault);
                let read = file.try_read_slots(&mut lease, &SLOTS, 300, 5000, 0).unwrap();
                assert_eq!((read, disarm().fired), (short, Some("preadv")));
                let expected = expected(lease.capacity(), 300, there);
                assert!(lease.spare_mut() == expected);

                arm_for("readv", 0, fault);
                let reading = file.read_slots(marked(9000).await, &SLOTS, 300, 5000, 0).unwrap();
                let (read, lease) = reading.await;
                assert_eq!((read.unwrap(), disarm().fired), (short, Some("readv")));
                let mut lease = lease.unwrap();
                assert!(lease.spare_mut() == expected);
            }
        });
    }

    #[test]
    fn an_errno_is_reported_and_the_buffer_comes_back() {
        on_a_ring(async {
            let (file, _) = canary_file(20_000);
            for errno in [libc::EIO, libc::EAGAIN, libc::EOPNOTSUPP, libc::EFAULT] {
                let mut lease = marked(9000).await;
                arm_for("preadv", 0, Fault::Errno(errno));
                let refused = file.try_read_slots(&mut lease, &SLOTS, 0, 5000, 0);
                assert_eq!(refused.unwrap_err().raw_os_error(), Some(errno));
                arm_for("readv", 0, Fault::Errno(errno));
                let (read, lease) = file.read_slots(lease, &SLOTS, 0, 5000, 0).unwrap().await;
                assert_eq!(read.unwrap_err().raw_os_error(), Some(errno));
                assert!(lease.unwrap().spare_mut().iter().all(|byte| *byte == MARK));
                disarm();
            }
        });
    }
}
