//! The quarantine at work, as the allocator of this very binary.

use ringway_testkit::quarantine::{HELD_BLOCKS_MAX, HELD_BYTES_MAX, LateWrite, PATTERN};
use ringway_testkit::{Quarantine, run_in_child};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine::new();

/// Has the kernel write to an address, as it would to the buffer of an op in flight.
fn kernel_writes(addr: usize, bytes: &[u8]) {
    let memory =
        OpenOptions::new().write(true).open("/proc/self/mem").expect("own memory can be opened");
    memory.write_all_at(bytes, addr as u64).expect("own memory can be written");
}

fn address_of_freed_block(size: usize) -> usize {
    let block = vec![1_u8; size];
    block.as_ptr().expose_provenance()
}

#[test]
fn an_orderly_program_passes() {
    run_in_child("an_orderly_program_passes", || {
        for size in 0..2000 {
            drop(vec![7_u8; size]);
        }
        let mut growing = Vec::new();
        (0..100_000_u32).for_each(|n| growing.push(n));
        assert_eq!(growing[99_999], 99_999);
        assert!(Quarantine::held().blocks > 1900);
        Quarantine::verify().unwrap();
    });
}

#[test]
fn a_late_write_of_the_kernel_is_seen() {
    run_in_child("a_late_write_of_the_kernel_is_seen", || {
        let addr = address_of_freed_block(5000);
        Quarantine::verify().unwrap();
        kernel_writes(addr + 4321, b"late");
        let late = Quarantine::verify().unwrap_err();
        let mut found = [PATTERN; 16];
        found[..4].copy_from_slice(b"late");
        assert_eq!(late, LateWrite { addr, size: 5000, offset: 4321, span: 4, found });
        assert!(late.to_string().contains("a freed block of 5000 bytes"), "{late}");
    });
}

#[test]
fn a_late_write_through_a_raw_pointer_is_seen() {
    run_in_child("a_late_write_through_a_raw_pointer_is_seen", || {
        let addr = address_of_freed_block(300);
        let dangling = std::ptr::with_exposed_provenance_mut::<u8>(addr + 299);
        // SAFETY: the bug that is looked for, on purpose; the quarantine still holds the block, so
        // that nothing of anybody's is overwritten, and a volatile write is not optimised away.
        unsafe { dangling.write_volatile(0) };
        assert_eq!(Quarantine::verify().unwrap_err().offset, 299);
    });
}

#[test]
fn a_late_write_into_the_block_that_a_vector_outgrew_is_seen() {
    run_in_child("a_late_write_into_the_block_that_a_vector_outgrew_is_seen", || {
        let mut buffer = Vec::<u8>::with_capacity(4096);
        let outgrown = buffer.as_ptr().expose_provenance();
        buffer.reserve(1 << 16);
        kernel_writes(outgrown, b"x");
        assert_eq!(Quarantine::verify().unwrap_err().addr, outgrown);
        assert!(buffer.is_empty());
    });
}

#[test]
fn a_late_write_is_remembered_after_its_block_has_left() {
    run_in_child("a_late_write_is_remembered_after_its_block_has_left", || {
        let addr = address_of_freed_block(777);
        kernel_writes(addr, b"x");
        for _ in 0..HELD_BLOCKS_MAX + 10 {
            drop(vec![0_u8; 100]);
        }
        assert_eq!(Quarantine::held().blocks, HELD_BLOCKS_MAX);
        assert_eq!(Quarantine::verify().unwrap_err().size, 777);
    });
}

#[test]
fn what_is_held_stays_bounded() {
    run_in_child("what_is_held_stays_bounded", || {
        for _ in 0..20 {
            drop(vec![3_u8; 10 << 20]);
        }
        let held = Quarantine::held();
        assert!(held.bytes <= HELD_BYTES_MAX && held.bytes > HELD_BYTES_MAX / 2, "{held:?}");
        Quarantine::verify().unwrap();
    });
}

#[test]
fn switched_off_it_holds_nothing_more() {
    run_in_child("switched_off_it_holds_nothing_more", || {
        Quarantine::set_holding(false);
        let before = Quarantine::held();
        drop(vec![0_u8; 4096]);
        assert_eq!(Quarantine::held(), before);
        Quarantine::set_holding(true);
        drop(vec![0_u8; 4096]);
        assert_eq!(Quarantine::held().bytes, before.bytes + 4096);
    });
}

#[test]
fn allocations_are_counted() {
    run_in_child("allocations_are_counted", || {
        let mut buffer = Vec::<u8>::with_capacity(1);
        let before = Quarantine::allocations();
        buffer.push(1);
        assert_eq!(Quarantine::allocations(), before);
        buffer.reserve(100);
        drop(vec![0_u8; 10]);
        assert_eq!(Quarantine::allocations(), before + 2);
    });
}

#[test]
fn many_threads_may_free_each_others_blocks() {
    run_in_child("many_threads_may_free_each_others_blocks", || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (give, take) = std::sync::mpsc::channel::<Vec<u8>>();
                scope.spawn(move || take.into_iter().for_each(drop));
                scope.spawn(move || (0..5000).for_each(|n| give.send(vec![1; n]).unwrap()));
            }
            scope.spawn(|| (0..5).for_each(|_| Quarantine::verify().unwrap()));
        });
        Quarantine::verify().unwrap();
    });
}
