//! One stream over TLS 1.3, for the classic table: sealed where it was read, by rustls's writer, by the kernel.
//!
//! Hands are shaken while an arm is made, which is not measured. The mode `tls` has the costs of long files.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use ringway::runtime::{self, Runtime, Stats, net};
use ringway::tls::rustls::ServerConnection;
use ringway::tls::{TlsAcceptor, TlsStream};
use ringway::{FileSlice, Route, transfer_file};

use super::{Arm, Counts, Span, StreamArm, Wire};
use crate::tls::{TLS_SUITE, server_of_a_moment, shaken};

pub(super) const ARMS: &[Arm] = &[
    Arm::stream(
        "tls-rustls-64k",
        "TLS 1.3 on a blocking socket: pread 64 KiB, write to rustls, which writes",
        3,
        |file, socket| Ok(Box::new(Buffered::new(file, socket)?)),
    )
    .over(Wire::Sealed)
    .hidden(),
    Arm::stream(
        "tls-registered",
        "transfer_file to a TlsStream by Registered: read, sealed in place, sent",
        2,
        |file, socket| Ok(Box::new(Ours::new(file, socket, Route::Registered)?)),
    )
    .over(Wire::Sealed)
    .hidden(),
    Arm::stream(
        "tls-kernel",
        "transfer_file to a TlsStream by KernelTls: spliced, sealed by the kernel",
        1,
        |file, socket| Ok(Box::new(Ours::new(file, socket, Route::KernelTls)?)),
    )
    .over(Wire::SealedByKernel)
    .hidden(),
];

/// Why the kernel cannot seal here, if it cannot.
pub(super) fn no_kernel_tls() -> Option<&'static str> {
    let family = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
    let socket: OwnedFd = rustix::net::socket(family.0, family.1, None).ok()?;
    let name = b"tls";
    // SAFETY: `name` is live for the whole call, its length is told, and the kernel keeps no pointer to it.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_ULP,
            name.as_ptr().cast(),
            3,
        )
    };
    // A kernel that has it wants a connection first: ENOTCONN.
    let unknown = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
    (outcome != 0 && unknown).then_some("this kernel has no TLS (CONFIG_TLS is not set)")
}

/// rustls as it is used where nobody thinks about copies.
struct Buffered {
    file: File,
    socket: TcpStream,
    connection: ServerConnection,
    buffer: Vec<u8>,
    copied_bytes: u64,
}

/// What is read at a time, in bytes.
const CHUNK: usize = 64 * 1024;

impl Buffered {
    fn new(file: File, mut socket: TcpStream) -> Result<Self> {
        let connection = shaken(&mut socket, server_of_a_moment(TLS_SUITE)?)?;
        Ok(Self { file, socket, connection, buffer: vec![0; CHUNK], copied_bytes: 0 })
    }

    fn flush(&mut self) -> Result<()> {
        while self.connection.wants_write() {
            self.copied_bytes += self.connection.write_tls(&mut self.socket)? as u64;
        }
        Ok(())
    }
}

impl StreamArm for Buffered {
    fn send(&mut self, span: Span) -> Result<()> {
        let mut sent = 0;
        while sent < span.len {
            let want = usize::try_from((span.len - sent).min(CHUNK as u64))?;
            let read = self.file.read_at(&mut self.buffer[..want], span.offset + sent)?;
            ensure!(read > 0, "the file has shrunk");
            sent += read as u64;
            // Out of the page cache, and into what rustls seals.
            self.copied_bytes += 2 * read as u64;
            let mut taken = 0;
            while taken < read {
                taken += self.connection.writer().write(&self.buffer[taken..read])?;
                self.flush()?;
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        let copied_bytes = Some(std::mem::take(&mut self.copied_bytes));
        Counts { copied_bytes, ..Counts::default() }
    }
}

/// One route of the library.
struct Ours {
    runtime: Runtime,
    file: runtime::fs::File,
    stream: TlsStream,
    route: Route,
    before: Stats,
}

impl Ours {
    fn new(file: File, socket: TcpStream, route: Route) -> Result<Self> {
        let runtime = Runtime::new()?;
        let socket = net::TcpStream::from_std(socket)?;
        let acceptor = TlsAcceptor::new(server_of_a_moment(TLS_SUITE)?);
        let stream = runtime.block_on(acceptor.accept(socket))?;
        Ok(Self { runtime, file: file.into(), stream, route, before: Stats::default() })
    }
}

impl StreamArm for Ours {
    fn send(&mut self, span: Span) -> Result<()> {
        let slice = FileSlice::new(&self.file, span.offset..span.offset + span.len);
        let transfer = transfer_file(slice, &mut self.stream).route(self.route);
        let receipt = self.runtime.block_on(transfer.into_future())?;
        ensure!(receipt.route == self.route, "not the route that was to be measured: {receipt}");
        Ok(())
    }

    fn counts(&mut self) -> Counts {
        let now = self.runtime.stats();
        let before = std::mem::replace(&mut self.before, now);
        let read = now.file_read_bytes - before.file_read_bytes;
        // What the kernel seals it copies once, and nobody counts that.
        let counts = self.route == Route::Registered;
        Counts { copied_bytes: counts.then_some(2 * read), ..Counts::default() }
    }
}
