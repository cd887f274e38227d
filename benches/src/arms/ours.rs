//! Arms of the library: each route in each mode, forced, and what it chooses by itself.
//!
//! The ring is made with the arm, so its set-up is not measured. Workers of the kernel (the modes `ring`
//! and `hybrid` use them) do not inherit the CPU that the sender is pinned to; their time is counted.

use std::fs::File;
use std::net::TcpStream;

use anyhow::{Context, Result};
use ringway::runtime::Stats;
use ringway::runtime::{self, Runtime, net};
use ringway::{FileSlice, Limits, Mode, Parts, Route, Thresholds, Transfer, transfer_file};

use super::ways::Ways;
use super::{Arm, Counts, ExchangeArm, Make, Span, StreamArm, Wire};
use crate::point::{Choice, KIB, MIB, Slices};
use crate::wire::{REQUEST_LEN, offset_asked, response_header};

/// What is forced; [`AUTO`] forces nothing.
#[derive(Debug, Clone)]
struct Way {
    forced: Option<(Route, Mode)>,
    thresholds: fn() -> Thresholds,
    /// Streams are cut into parts of this many bytes, as a filter would leave them.
    part_len: u64,
    /// Pipes are filled no further, as if they were no larger, in bytes.
    pipe_bytes: u64,
}

const AUTO: Way =
    Way { forced: None, thresholds: Thresholds::default, part_len: u64::MAX, pipe_bytes: MIB };

const fn forced(route: Route, mode: Mode) -> Way {
    Way { forced: Some((route, mode)), ..AUTO }
}

const fn ranges(route: Route, part_len: u64) -> Way {
    Way { part_len, ..forced(route, Mode::Inline) }
}

const fn pipe(mode: Mode, pipe_bytes: u64) -> Way {
    Way { pipe_bytes, ..forced(Route::Splice, mode) }
}

macro_rules! stream {
    ($name:expr, $about:expr, $choice:ident, $way:expr) => {
        Arm {
            name: $name,
            about: $about,
            make: Make::Stream(|file, socket| Ok(Box::new(Stream::new(file, socket, $way)?))),
            choice: Choice::$choice,
            copies: 0,
            hot_only: false,
            wire: Wire::Plain,
        }
    };
}

macro_rules! exchange {
    ($name:expr, $about:expr, $choice:ident, $way:expr) => {
        Arm {
            name: $name,
            about: $about,
            make: Make::Exchange(|file, slices, sockets| {
                Ok(Box::new(Exchange::new(file, slices, sockets, $way)?))
            }),
            choice: Choice::$choice,
            copies: 0,
            hot_only: false,
            wire: Wire::Plain,
        }
    };
}

macro_rules! arms {
    ($($name:literal, $about:literal, $choice:ident, $way:expr;)+) => {
        pub(super) const ARMS: &[Arm] = &[$(
            stream!(concat!("ringway-", $name), concat!("transfer_file, ", $about), $choice, $way),
            exchange!(
                concat!("serve-ringway-", $name),
                concat!("a ring; header and body by transfer_file, ", $about),
                $choice,
                $way
            ),
        )+];
    };
}

arms! {
    "auto", "which chooses by itself", Quick, AUTO;
    "splice-inline", "by splice, both hops made by the loop", Quick, forced(Route::Splice, Mode::Inline);
    "splice-hybrid", "by splice, filled by the ring and drained by the loop", Quick, forced(Route::Splice, Mode::Hybrid);
    "splice-ring", "by splice, both hops made by the ring", Full, forced(Route::Splice, Mode::Ring);
    "copy-inline", "by copy, read and sent by the loop", Quick, forced(Route::Copy, Mode::Inline);
    "copy-hybrid", "by copy, read by the ring and sent by the loop", Full, forced(Route::Copy, Mode::Hybrid);
    "copy-ring", "by copy, read and sent by the ring", Full, forced(Route::Copy, Mode::Ring);
}

/// Ways that differ in one threshold, for `calibrate`.
pub(super) const TRIED: &[Arm] = &[
    exchange!(
        "serve-ringway-no-sendfile",
        "splice inline; no end of a body leaves by sendfile(2)",
        Hidden,
        Way {
            thresholds: || Thresholds::default().with_sendfile_max_bytes(0),
            ..forced(Route::Splice, Mode::Inline)
        }
    ),
    exchange!(
        "serve-ringway-corked",
        "splice inline; the header always waits for the body",
        Hidden,
        Way {
            thresholds: || Thresholds::default().with_cork_max_bytes(u64::MAX),
            ..forced(Route::Splice, Mode::Inline)
        }
    ),
    exchange!(
        "serve-ringway-uncorked",
        "splice inline; the header never waits for the body",
        Hidden,
        Way {
            thresholds: || Thresholds::default().with_cork_max_bytes(0),
            ..forced(Route::Splice, Mode::Inline)
        }
    ),
    exchange!(
        "serve-ringway-cork-held",
        "splice inline; partial segments are held back until the end of a body",
        Hidden,
        Way {
            thresholds: || Thresholds::default().with_hold_cork_min_bytes(0),
            ..forced(Route::Splice, Mode::Inline)
        }
    ),
    exchange!(
        "serve-ringway-cork-not-held",
        "splice inline; partial segments leave with the next acknowledgement",
        Hidden,
        Way {
            thresholds: || Thresholds::default().with_hold_cork_min_bytes(u64::MAX),
            ..forced(Route::Splice, Mode::Inline)
        }
    ),
    stream!(
        "pipe-64k-inline",
        "splice inline through a pipe of 64 KiB",
        Hidden,
        pipe(Mode::Inline, 64 * KIB)
    ),
    stream!(
        "pipe-128k-inline",
        "splice inline through a pipe of 128 KiB",
        Hidden,
        pipe(Mode::Inline, 128 * KIB)
    ),
    stream!(
        "pipe-256k-inline",
        "splice inline through a pipe of 256 KiB",
        Hidden,
        pipe(Mode::Inline, 256 * KIB)
    ),
    stream!(
        "pipe-64k-hybrid",
        "splice hybrid through a pipe of 64 KiB",
        Hidden,
        pipe(Mode::Hybrid, 64 * KIB)
    ),
    stream!(
        "pipe-128k-hybrid",
        "splice hybrid through a pipe of 128 KiB",
        Hidden,
        pipe(Mode::Hybrid, 128 * KIB)
    ),
    stream!(
        "pipe-256k-hybrid",
        "splice hybrid through a pipe of 256 KiB",
        Hidden,
        pipe(Mode::Hybrid, 256 * KIB)
    ),
    stream!("ranges-4k-copy", "ranges of 4 KiB, copied", Hidden, ranges(Route::Copy, 4 * KIB)),
    stream!("ranges-4k-splice", "ranges of 4 KiB, spliced", Hidden, ranges(Route::Splice, 4 * KIB)),
    stream!("ranges-16k-copy", "ranges of 16 KiB, copied", Hidden, ranges(Route::Copy, 16 * KIB)),
    stream!(
        "ranges-16k-splice",
        "ranges of 16 KiB, spliced",
        Hidden,
        ranges(Route::Splice, 16 * KIB)
    ),
    stream!("ranges-64k-copy", "ranges of 64 KiB, copied", Hidden, ranges(Route::Copy, 64 * KIB)),
    stream!(
        "ranges-64k-splice",
        "ranges of 64 KiB, spliced",
        Hidden,
        ranges(Route::Splice, 64 * KIB)
    ),
    stream!(
        "ranges-256k-copy",
        "ranges of 256 KiB, copied",
        Hidden,
        ranges(Route::Copy, 256 * KIB)
    ),
    stream!(
        "ranges-256k-splice",
        "ranges of 256 KiB, spliced",
        Hidden,
        ranges(Route::Splice, 256 * KIB)
    ),
];

/// One stream of file ranges.
struct Stream {
    runtime: Runtime,
    file: runtime::fs::File,
    socket: net::TcpStream,
    way: Way,
    before: Stats,
    ways: Ways,
}

impl Stream {
    fn new(file: File, socket: TcpStream, way: Way) -> Result<Self> {
        let socket = net::TcpStream::from_std(socket)?;
        let before = Stats::default();
        Ok(Self {
            runtime: Runtime::new()?,
            file: file.into(),
            socket,
            way,
            before,
            ways: Ways::default(),
        })
    }
}

impl StreamArm for Stream {
    fn send(&mut self, span: Span) -> Result<()> {
        let end = span.offset + span.len;
        if span.len <= self.way.part_len {
            let slice = FileSlice::new(&self.file, span.offset..end);
            let transfer = self.way.apply(transfer_file(slice, &mut self.socket));
            self.ways.note(&self.runtime.block_on(transfer.into_future())?);
            return Ok(());
        }
        let mut offset = span.offset;
        while offset < end {
            let mut parts = Parts::new();
            // As many as one body may have.
            for _ in 0..Limits::default().parts_max.min(64) {
                let until = end.min(offset + self.way.part_len);
                parts = parts.file(&self.file, offset..until);
                offset = until;
                if offset == end {
                    break;
                }
            }
            let transfer = self.way.apply(transfer_file(parts, &mut self.socket));
            self.ways.note(&self.runtime.block_on(transfer.into_future())?);
        }
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        counted(&self.runtime, &mut self.before, &self.ways)
    }
}

impl Way {
    fn apply<'t>(&self, transfer: Transfer<'t>) -> Transfer<'t> {
        let transfer = transfer.thresholds((self.thresholds)());
        let transfer = match self.pipe_bytes {
            MIB => transfer,
            less => transfer.limits(Limits::default().with_pipe_bytes(less)),
        };
        match self.forced {
            Some((route, mode)) => transfer.route(route).mode(mode),
            None => transfer,
        }
    }
}

/// What the ring has counted since `before`, which becomes now.
fn counted(runtime: &Runtime, before: &mut Stats, ways: &Ways) -> Counts {
    let now = runtime.stats();
    let before = std::mem::replace(before, now);
    Counts {
        // Out of the page cache, and into the socket: Auto and the forced routes never send without copying
        // what they have read.
        copied_bytes: Some(2 * (now.file_read_bytes - before.file_read_bytes)),
        zero_copy_sends: now.zero_copy_sends - before.zero_copy_sends,
        zero_copy_copied: now.zero_copy_copied - before.zero_copy_copied,
        ways: ways.take(),
    }
}

/// Keep-alive connections, a task each.
struct Exchange {
    runtime: Runtime,
    file: runtime::fs::File,
    seen: runtime::fs::Metadata,
    slices: Slices,
    header: bytes::Bytes,
    sockets: Vec<net::TcpStream>,
    way: Way,
    before: Stats,
    ways: Ways,
}

impl Exchange {
    fn new(file: File, slices: Slices, sockets: Vec<TcpStream>, way: Way) -> Result<Self> {
        let sockets =
            sockets.into_iter().map(net::TcpStream::from_std).collect::<Result<_, _>>()?;
        let (header, before) = (response_header(slices.len).into(), Stats::default());
        let runtime = Runtime::new()?;
        let file = runtime::fs::File::from_std(file);
        let seen = file.metadata()?;
        Ok(Self {
            runtime,
            file,
            seen,
            slices,
            header,
            sockets,
            way,
            before,
            ways: Ways::default(),
        })
    }
}

impl ExchangeArm for Exchange {
    fn serve(&mut self, requests_each: u32) -> Result<()> {
        let tasks: Vec<_> = self
            .sockets
            .drain(..)
            .map(|mut socket| {
                let (file, header, seen) = (self.file.clone(), self.header.clone(), self.seen);
                let (slices, way, ways) = (self.slices, self.way.clone(), self.ways.clone());
                self.runtime.spawn(async move {
                    for _ in 0..requests_each {
                        let base = asked(&socket, slices).await?;
                        let body = base..base + slices.len;
                        let parts = Parts::new().bytes(header.clone());
                        // As a server does that keeps files open: looked at once.
                        let parts = parts.file_as_seen(&file, body, seen);
                        let transfer = way.apply(transfer_file(parts, &mut socket));
                        ways.note(&transfer.await?);
                    }
                    anyhow::Ok(socket)
                })
            })
            .collect();
        self.runtime.block_on(async {
            for task in tasks {
                self.sockets.push(task.await.context("a connection's task ended")??);
            }
            Ok(())
        })
    }

    fn counts(&mut self) -> Counts {
        counted(&self.runtime, &mut self.before, &self.ways)
    }
}

/// Reads one request: where the body that it wants begins.
async fn asked(socket: &net::TcpStream, slices: Slices) -> Result<u64> {
    let mut request = [0u8; REQUEST_LEN];
    let mut read = 0;
    while read < REQUEST_LEN {
        match socket.read(&mut request[read..]).await? {
            0 => anyhow::bail!("the load ended in the middle of a request"),
            more => read += more,
        }
    }
    offset_asked(&request, slices).context("a request for nothing")
}
