//! Arms of the library: each route in each mode, forced, and what it chooses by itself.
//!
//! The ring is made with the arm, so its set-up is not measured. Workers of the kernel (the modes `ring`
//! and `hybrid` use them) do not inherit the CPU that the sender is pinned to; their time is counted.

use std::fs::File;
use std::net::TcpStream;

use anyhow::{Context, Result};
use ringway::runtime::{self, Runtime, net};
use ringway::{FileSlice, Mode, Parts, Route, transfer_file};

use super::{Arm, ExchangeArm, Make, Span, StreamArm};
use crate::wire::{REQUEST_LEN, response_header};

/// What is forced; the default forces nothing.
type Way = Option<(Route, Mode)>;

macro_rules! arms {
    ($($name:literal, $about:literal, $way:expr;)+) => {
        pub(super) const ARMS: &[Arm] = &[$(
            Arm {
                name: concat!("ringway-", $name),
                about: concat!("transfer_file, ", $about),
                make: Make::Stream(|file, socket| Ok(Box::new(Stream::new(file, socket, $way)?))),
                hidden: false,
            },
            Arm {
                name: concat!("serve-ringway-", $name),
                about: concat!("a ring; header and body by transfer_file, ", $about),
                make: Make::Exchange(|file, sockets| Ok(Box::new(Exchange::new(file, sockets, $way)?))),
                hidden: false,
            },
        )+];
    };
}

arms! {
    "auto", "which chooses by itself", None;
    "splice-inline", "by splice, both hops made by the loop", Some((Route::Splice, Mode::Inline));
    "splice-hybrid", "by splice, filled by the ring and drained by the loop", Some((Route::Splice, Mode::Hybrid));
    "splice-ring", "by splice, both hops made by the ring", Some((Route::Splice, Mode::Ring));
    "copy-inline", "by copy, read and sent by the loop", Some((Route::Copy, Mode::Inline));
    "copy-hybrid", "by copy, read by the ring and sent by the loop", Some((Route::Copy, Mode::Hybrid));
    "copy-ring", "by copy, read and sent by the ring", Some((Route::Copy, Mode::Ring));
}

/// One stream of file ranges.
struct Stream {
    runtime: Runtime,
    file: runtime::fs::File,
    socket: net::TcpStream,
    way: Way,
}

impl Stream {
    fn new(file: File, socket: TcpStream, way: Way) -> Result<Self> {
        let socket = net::TcpStream::from_std(socket)?;
        Ok(Self { runtime: Runtime::new()?, file: file.into(), socket, way })
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
}

/// Keep-alive connections, a task each.
struct Exchange {
    runtime: Runtime,
    file: runtime::fs::File,
    file_len: u64,
    header: bytes::Bytes,
    sockets: Vec<net::TcpStream>,
    way: Way,
}

impl Exchange {
    fn new(file: File, sockets: Vec<TcpStream>, way: Way) -> Result<Self> {
        let file_len = file.metadata()?.len();
        let sockets =
            sockets.into_iter().map(net::TcpStream::from_std).collect::<Result<_, _>>()?;
        let header = response_header(usize::try_from(file_len)?).into();
        Ok(Self { runtime: Runtime::new()?, file: file.into(), file_len, header, sockets, way })
    }
}

impl ExchangeArm for Exchange {
    fn serve(&mut self, requests_each: u32) -> Result<()> {
        let tasks: Vec<_> = self
            .sockets
            .drain(..)
            .map(|mut socket| {
                let (file, header) = (self.file.clone(), self.header.clone());
                let (len, way) = (self.file_len, self.way);
                self.runtime.spawn(async move {
                    for _ in 0..requests_each {
                        let parts = Parts::new().bytes(header.clone()).file(&file, 0..len);
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
}

/// Reads one request and answers it.
async fn answer(socket: &mut net::TcpStream, parts: Parts, way: Way) -> Result<()> {
    let mut request = [0u8; REQUEST_LEN];
    let mut read = 0;
    while read < REQUEST_LEN {
        match socket.read(&mut request[read..]).await? {
            0 => anyhow::bail!("the load ended in the middle of a request"),
            more => read += more,
        }
    }
    let transfer = transfer_file(parts, socket);
    match way {
        Some((route, mode)) => transfer.route(route).mode(mode).await?,
        None => transfer.await?,
    };
    Ok(())
}
