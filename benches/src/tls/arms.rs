//! The ways to send a file over TLS, and what they are measured against.

#[cfg(feature = "peers")]
mod tokio_rustls;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ringway::runtime::{self, Runtime, net};
use ringway::tls::TlsAcceptor;
use ringway::tls::rustls::{ServerConfig, ServerConnection, Stream};
use ringway::{Route, transfer_file};

use super::sealed_loop::Sealer;
use super::suite::Suite;
use super::{cipher, rustls_loop};
use crate::measure::{Start, Usage};

/// One way.
#[derive(Debug)]
pub(crate) struct Arm {
    pub(crate) name: &'static str,
    /// One line for the reader.
    pub(crate) about: &'static str,
    pub(crate) sends: Sends,
    /// Runs only when named: it exists for the harness's own tests.
    pub(crate) hidden: bool,
    way: Way,
}

/// What the receiver gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sends {
    Sealed,
    Plain,
    Nothing,
}

#[derive(Debug)]
enum Way {
    Ours,
    Copy,
    Blocking(Fault),
    /// So many records at a time.
    SealedLoop(usize),
    RustlsLoop,
    #[cfg(feature = "peers")]
    Tokio(fn(File, TcpStream, Arc<ServerConfig>) -> Result<Usage>),
    Cipher,
}

/// What is wrong with what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    WrongByte,
    Short,
    /// The end is not announced.
    Cut,
}

const fn hidden(name: &'static str, about: &'static str, fault: Fault) -> Arm {
    Arm { hidden: true, ..sealed(name, about, Way::Blocking(fault)) }
}

const fn sealed(name: &'static str, about: &'static str, way: Way) -> Arm {
    Arm { name, about, sends: Sends::Sealed, hidden: false, way }
}

/// What the others are compared with.
pub(super) const OURS: &str = "ringway-tls";
/// The floor of reading, sealing and sending.
pub(super) const FLOOR: &str = "sealed-loop";
/// The floor of the copying.
pub(super) const COPY: &str = "ringway-copy";
/// The floor of the sealing.
pub(super) const CIPHER: &str = "cipher-alone";

pub(crate) const ARMS: &[Arm] = &[
    sealed(OURS, "transfer_file to a TlsStream, which chooses by itself: Registered", Way::Ours),
    sealed(
        FLOOR,
        "a bare blocking loop, no runtime: preadv of 64 records, AWS-LC seals them in place, one send",
        Way::SealedLoop(64),
    ),
    sealed("sealed-loop-4", "the same, 4 records at a time", Way::SealedLoop(4)),
    sealed("sealed-loop-16", "the same, 16 records at a time", Way::SealedLoop(16)),
    sealed(
        "rustls-loop",
        "rustls's buffered writer over the loop of ringway: read 64 KiB, write to rustls, send",
        Way::RustlsLoop,
    ),
    sealed(
        "rustls-64k",
        "blocking std sockets: pread 64 KiB, write to rustls, which writes",
        Way::Blocking(Fault::Nothing),
    ),
    #[cfg(feature = "peers")]
    sealed(
        "tokio-rustls",
        "tokio::fs read 64 KiB at a time, copy_buf to tokio-rustls",
        Way::Tokio(tokio_rustls::copied),
    ),
    #[cfg(feature = "peers")]
    sealed(
        "tokio-rustls-pread",
        "pread 64 KiB on the loop, write_all to tokio-rustls: no thread for files",
        Way::Tokio(tokio_rustls::read_on_the_loop),
    ),
    Arm {
        name: COPY,
        about: "transfer_file to a TcpStream by Route::Copy: no TLS",
        sends: Sends::Plain,
        hidden: false,
        way: Way::Copy,
    },
    Arm {
        name: CIPHER,
        about: "AWS-LC seals as many records in place; no file, no socket",
        sends: Sends::Nothing,
        hidden: false,
        way: Way::Cipher,
    },
    hidden("broken-byte", "one byte of the file is wrong", Fault::WrongByte),
    hidden("broken-short", "the last byte is missing", Fault::Short),
    hidden("broken-cut", "the end is not announced", Fault::Cut),
];

impl Arm {
    /// Shakes hands if that is its way, and sends all of `file`; what it used from there on.
    pub(super) fn run(
        &self,
        file: File,
        socket: TcpStream,
        config: Arc<ServerConfig>,
        suite: &Suite,
    ) -> Result<Usage> {
        match &self.way {
            Way::Ours => ours(file, socket, config),
            Way::Copy => plain_copy(file, socket),
            Way::Blocking(fault) => blocking(&file, socket, config, *fault),
            Way::SealedLoop(records) => sealed_loop(&file, socket, config, *records),
            Way::RustlsLoop => rustls_over_the_loop(file, socket, config),
            #[cfg(feature = "peers")]
            Way::Tokio(send) => send(file, socket, config),
            Way::Cipher => {
                let used = cipher::alone(suite, file.metadata()?.len())?;
                confirmed(&socket)?;
                Ok(used)
            }
        }
    }
}

fn ours(file: File, socket: TcpStream, config: Arc<ServerConfig>) -> Result<Usage> {
    let runtime = Runtime::new()?;
    let file = runtime::fs::File::from_std(file);
    let stream = net::TcpStream::from_std(socket)?;
    let acceptor = TlsAcceptor::new(config);
    runtime.block_on(async {
        let mut stream = acceptor.accept(stream).await?;
        let start = Start::now();
        let receipt = transfer_file(&file, &mut stream).await?;
        stream.close().await?;
        let end = stream.tcp().read(&mut [0]).await?;
        let used = start.used();
        ensure!(end == 0, "the receiver said something");
        let registered = receipt.route == Route::Registered;
        ensure!(registered, "not the route that was to be measured: {receipt}");
        Ok(used)
    })
}

fn plain_copy(file: File, socket: TcpStream) -> Result<Usage> {
    let runtime = Runtime::new()?;
    let file = runtime::fs::File::from_std(file);
    let mut stream = net::TcpStream::from_std(socket)?;
    runtime.block_on(async {
        let start = Start::now();
        transfer_file(&file, &mut stream).route(Route::Copy).await?;
        stream.shutdown(net::Half::Write)?;
        let end = stream.read(&mut [0]).await?;
        let used = start.used();
        ensure!(end == 0, "the receiver said something");
        Ok(used)
    })
}

fn rustls_over_the_loop(file: File, socket: TcpStream, config: Arc<ServerConfig>) -> Result<Usage> {
    let runtime = Runtime::new()?;
    let file = runtime::fs::File::from_std(file);
    let stream = net::TcpStream::from_std(socket)?;
    runtime.block_on(async {
        let mut connection = rustls_loop::accept(&stream, config).await?;
        let start = Start::now();
        rustls_loop::send(&stream, &mut connection, &file).await?;
        let end = stream.read(&mut [0]).await?;
        let used = start.used();
        ensure!(end == 0, "the receiver said something");
        Ok(used)
    })
}

fn sealed_loop(
    file: &File,
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    records: usize,
) -> Result<Usage> {
    let mut config = Arc::unwrap_or_clone(config);
    config.enable_secret_extraction = true;
    let mut sealer = Sealer::of(shaken(&mut socket, Arc::new(config))?)?;
    let start = Start::now();
    sealer.send_file(&mut socket, file, records)?;
    sealer.send_end(&mut socket)?;
    confirmed(&socket)?;
    Ok(start.used())
}

/// A connection of rustls over a blocking socket, with nothing left to be sent.
pub(crate) fn shaken(
    socket: &mut TcpStream,
    config: Arc<ServerConfig>,
) -> Result<ServerConnection> {
    let mut connection = ServerConnection::new(config)?;
    while connection.is_handshaking() || connection.wants_write() {
        connection.complete_io(socket).context("no handshake")?;
    }
    Ok(connection)
}

/// What everybody reads at a time, in bytes.
pub(super) const CHUNK: usize = 64 * 1024;

fn blocking(
    file: &File,
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    fault: Fault,
) -> Result<Usage> {
    let mut connection = shaken(&mut socket, config)?;
    let mut buffer = vec![0; CHUNK];
    let start = Start::now();
    let (mut stream, mut offset) = (Stream::new(&mut connection, &mut socket), 0);
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            break;
        }
        let bytes = spoiled(&mut buffer[..read], fault);
        stream.write_all(bytes)?;
        offset += read as u64;
    }
    if fault != Fault::Cut {
        connection.send_close_notify();
    }
    while connection.wants_write() {
        connection.write_tls(&mut socket)?;
    }
    confirmed(&socket)?;
    Ok(start.used())
}

/// What is really sent of a part of the file.
fn spoiled(part: &mut [u8], fault: Fault) -> &[u8] {
    match fault {
        Fault::WrongByte => part[part.len() / 2] ^= 1,
        // Only the last part is not a whole one.
        Fault::Short if part.len() < CHUNK => return &part[..part.len() - 1],
        Fault::Short | Fault::Cut | Fault::Nothing => {}
    }
    part
}

/// Waits until the other side has taken everything and closed.
fn confirmed(mut socket: &TcpStream) -> Result<()> {
    socket.shutdown(std::net::Shutdown::Write)?;
    ensure!(socket.read(&mut [0])? == 0, "the receiver said something");
    Ok(())
}
