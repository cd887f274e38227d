//! Arms of the library: each route in each mode, forced, and what it chooses by itself.
//!
//! The ring is made with the arm, so its set-up is not measured. Workers of the kernel (the modes `ring`
//! and `hybrid` use them) do not inherit the CPU that the sender is pinned to; their time is counted.

use std::fs::File;
use std::net::TcpStream;

use anyhow::{Context, Result};
use ringway::runtime::Stats;
use ringway::runtime::{self, Runtime, net};
use ringway::{FileSlice, Mode, Parts, Route, transfer_file};

use super::{Arm, Counts, ExchangeArm, Make, Span, StreamArm};
use crate::point::{Choice, Slices};
use crate::wire::{REQUEST_LEN, offset_asked, response_header};

/// What is forced; the default forces nothing.
type Way = Option<(Route, Mode)>;

macro_rules! arms {
    ($($name:literal, $about:literal, $choice:ident, $way:expr;)+) => {
        pub(super) const ARMS: &[Arm] = &[$(
            Arm {
                name: concat!("ringway-", $name),
                about: concat!("transfer_file, ", $about),
                make: Make::Stream(|file, socket| Ok(Box::new(Stream::new(file, socket, $way)?))),
                choice: Choice::$choice,
                copies: 0,
                hot_only: false,
            },
            Arm {
                name: concat!("serve-ringway-", $name),
                about: concat!("a ring; header and body by transfer_file, ", $about),
                make: Make::Exchange(|file, slices, sockets| {
                    Ok(Box::new(Exchange::new(file, slices, sockets, $way)?))
                }),
                choice: Choice::$choice,
                copies: 0,
                hot_only: false,
            },
        )+];
    };
}

arms! {
    "auto", "which chooses by itself", Quick, None;
    "splice-inline", "by splice, both hops made by the loop", Quick, Some((Route::Splice, Mode::Inline));
    "splice-hybrid", "by splice, filled by the ring and drained by the loop", Quick, Some((Route::Splice, Mode::Hybrid));
    "splice-ring", "by splice, both hops made by the ring", Full, Some((Route::Splice, Mode::Ring));
    "copy-inline", "by copy, read and sent by the loop", Quick, Some((Route::Copy, Mode::Inline));
    "copy-hybrid", "by copy, read by the ring and sent by the loop", Full, Some((Route::Copy, Mode::Hybrid));
    "copy-ring", "by copy, read and sent by the ring", Full, Some((Route::Copy, Mode::Ring));
}

/// One stream of file ranges.
struct Stream {
    runtime: Runtime,
    file: runtime::fs::File,
    socket: net::TcpStream,
    way: Way,
    before: Stats,
}

impl Stream {
    fn new(file: File, socket: TcpStream, way: Way) -> Result<Self> {
        let socket = net::TcpStream::from_std(socket)?;
        let before = Stats::default();
        Ok(Self { runtime: Runtime::new()?, file: file.into(), socket, way, before })
    }
}

impl StreamArm for Stream {
    fn send(&mut self, span: Span) -> Result<()> {
        let slice = FileSlice::new(&self.file, span.offset..span.offset + span.len);
        let transfer = transfer_file(slice, &mut self.socket);
        let transfer = match self.way {
            Some((route, mode)) => transfer.route(route).mode(mode),
            None => transfer,
        };
        self.runtime.block_on(transfer.into_future())?;
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        counted(&self.runtime, &mut self.before)
    }
}

/// What the ring has counted since `before`, which becomes now.
fn counted(runtime: &Runtime, before: &mut Stats) -> Counts {
    let now = runtime.stats();
    let before = std::mem::replace(before, now);
    Counts {
        // Out of the page cache, and into the socket: Auto and the forced routes never send without copying
        // what they have read.
        copied_bytes: Some(2 * (now.file_read_bytes - before.file_read_bytes)),
        zero_copy_sends: now.zero_copy_sends - before.zero_copy_sends,
        zero_copy_copied: now.zero_copy_copied - before.zero_copy_copied,
    }
}

/// Keep-alive connections, a task each.
struct Exchange {
    runtime: Runtime,
    file: runtime::fs::File,
    slices: Slices,
    header: bytes::Bytes,
    sockets: Vec<net::TcpStream>,
    way: Way,
    before: Stats,
}

impl Exchange {
    fn new(file: File, slices: Slices, sockets: Vec<TcpStream>, way: Way) -> Result<Self> {
        let sockets =
            sockets.into_iter().map(net::TcpStream::from_std).collect::<Result<_, _>>()?;
        let (header, before) = (response_header(slices.len).into(), Stats::default());
        let runtime = Runtime::new()?;
        Ok(Self { runtime, file: file.into(), slices, header, sockets, way, before })
    }
}

impl ExchangeArm for Exchange {
    fn serve(&mut self, requests_each: u32) -> Result<()> {
        let tasks: Vec<_> = self
            .sockets
            .drain(..)
            .map(|mut socket| {
                let (file, header) = (self.file.clone(), self.header.clone());
                let (slices, way) = (self.slices, self.way);
                self.runtime.spawn(async move {
                    for _ in 0..requests_each {
                        let base = asked(&socket, slices).await?;
                        let body = base..base + slices.len;
                        let parts = Parts::new().bytes(header.clone()).file(&file, body);
                        answer(&mut socket, parts, way).await?;
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
        counted(&self.runtime, &mut self.before)
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

async fn answer(socket: &mut net::TcpStream, parts: Parts, way: Way) -> Result<()> {
    let transfer = transfer_file(parts, socket);
    match way {
        Some((route, mode)) => transfer.route(route).mode(mode).await?,
        None => transfer.await?,
    };
    Ok(())
}
