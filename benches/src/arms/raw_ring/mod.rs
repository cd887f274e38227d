//! io_uring without a library: what its ops cost by themselves, used as one would from the manual.
//!
//! Sockets stay blocking here unless said otherwise, as in the examples that people copy from: a splice
//! op then waits for room inside a worker of the kernel.

mod copies;
mod exchange;
mod pipes;
mod ring;

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::Result;
use io_uring::{opcode, squeue, types::Fd};
use memmap2::MmapMut;

use super::Arm;
use crate::point::{KIB, MIB};
use copies::{Copies, Shape};
use exchange::{BodyServer, CopyServer};
use pipes::{Pipes, Way};

use super::epoll::bodies;

pub(super) const ARMS: &[Arm] = &[
    Arm::stream(
        "ring-splice-linked-64k",
        "a ring; two linked splice ops per 64 KiB pipe",
        0,
        |f, s| Ok(Box::new(Pipes::new(f, s, Way::Linked, 64 * KIB)?)),
    ),
    Arm::stream(
        "ring-splice-linked-256k",
        "a ring; two linked splice ops per 256 KiB pipe",
        0,
        |f, s| Ok(Box::new(Pipes::new(f, s, Way::Linked, 256 * KIB)?)),
    ),
    Arm::stream(
        "ring-splice-linked-1m",
        "a ring; two linked splice ops per 1 MiB pipe",
        0,
        |f, s| Ok(Box::new(Pipes::new(f, s, Way::Linked, MIB)?)),
    )
    .quick(),
    Arm::stream(
        "ring-splice-unlinked-1m",
        "a ring; two 1 MiB pipes, one fills while the other drains, all by splice ops",
        0,
        |f, s| Ok(Box::new(Pipes::new(f, s, Way::Unlinked, MIB)?)),
    ),
    Arm::stream(
        "ring-hybrid-1m",
        "a ring; a splice op fills a 1 MiB pipe, splice(2) drains it",
        0,
        |f, s| Ok(Box::new(Pipes::new(f, s, Way::Hybrid, MIB)?)),
    ),
    Arm::stream(
        "ring-inline-1m",
        "a ring; splice(2) both ways on a non-blocking socket, a poll op when it is full",
        0,
        |f, s| Ok(Box::new(Pipes::new(f, s, Way::Inline, MIB)?)),
    ),
    Arm::stream(
        "ring-read-fixed-send",
        "a ring; READ_FIXED and SEND of 256 KiB, two buffers",
        2,
        |f, s| Ok(Box::new(Copies::new(f, s, Shape::BUFFERED)?)),
    )
    .quick(),
    Arm::stream(
        "ring-read-fixed-send-zc",
        "a ring; READ_FIXED and SEND_ZC of 256 KiB, three buffers",
        1,
        |f, s| Ok(Box::new(Copies::new(f, s, Shape::ZERO_COPY)?)),
    ),
    Arm::stream(
        "ring-direct-send",
        "a ring; O_DIRECT READ_FIXED and SEND of 1 MiB, three buffers: reads the disk each time",
        1,
        |f, s| Ok(Box::new(Copies::new(f, s, Shape::DIRECT)?)),
    ),
    Arm::exchange(
        "ring-serve-read-fixed-send",
        "a ring; RECV, READ_FIXED and SEND, a 256 KiB buffer per connection",
        2,
        |f, s, c| Ok(Box::new(CopyServer::new(f, s, c)?)),
    )
    .quick(),
    Arm::exchange(
        "ring-serve-sendfile",
        "a ring waits; header by send(MSG_MORE), body by sendfile(2)",
        0,
        |f, s, c| Ok(Box::new(BodyServer::new(f, s, c, bodies::Sendfile)?)),
    ),
    Arm::exchange(
        "ring-serve-splice-1m",
        "a ring waits; header by send(MSG_MORE), body by splice(2) through pooled 1 MiB pipes",
        0,
        |f, s, c| Ok(Box::new(BodyServer::new(f, s, c, bodies::Splice::new(MIB))?)),
    ),
];

/// Has a worker of the kernel read the first MiB of `file` so many times: known work off this thread.
pub(super) fn read_in_a_worker(file: &File, times: u32) -> Result<()> {
    let mut buffer = MmapMut::map_anon(usize::try_from(MIB)?)?;
    // Dropped before the buffer, because it is declared after it.
    let mut ring = ring::Ring::new(4)?;
    for _ in 0..times {
        let len = u32::try_from(buffer.len())?;
        let read = opcode::Read::new(Fd(file.as_raw_fd()), buffer.as_mut_ptr(), len);
        ring.push(&read.build().flags(squeue::Flags::ASYNC), 0)?;
        ring.wait()?[0].count("a read in a worker")?;
    }
    Ok(())
}
