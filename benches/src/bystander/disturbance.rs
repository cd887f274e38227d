//! What is done to the server while others ask.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::data::DataFile;
use crate::loopback;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One large file that is not in the page cache, received as fast as it comes.
    ColdTransfer,
    /// Peers that ask for a file and read nothing.
    StalledPeers,
}

/// One while it lasts.
#[derive(Debug)]
pub(super) enum Disturbance {
    Transfer {
        socket: TcpStream,
        taker: JoinHandle<Result<()>>,
        taken: Arc<Taken>,
    },
    /// Held open, never read.
    Peers(Vec<TcpStream>),
}

#[derive(Debug, Default)]
pub(super) struct Taken {
    bytes: AtomicU64,
    over: AtomicBool,
}

impl Disturbance {
    /// Starts one and returns when the server has felt it.
    pub(super) fn begin(
        kind: Kind,
        server: SocketAddr,
        large: &DataFile,
        stalled: u32,
    ) -> Result<Self> {
        match kind {
            Kind::ColdTransfer => {
                large.drop_from_cache()?;
                let mut socket = loopback::connect(server)?;
                loopback::prepare(&socket)?;
                socket.write_all(b"GET /large.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
                let taken = Arc::new(Taken::default());
                let (own, theirs) = (socket.try_clone()?, Arc::clone(&taken));
                let end = large.slices.len;
                let taker = std::thread::spawn(move || take(&own, end, &theirs));
                while taken.bytes.load(Ordering::Relaxed) == 0 && !taker.is_finished() {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Ok(Disturbance::Transfer { socket, taker, taken })
            }
            Kind::StalledPeers => {
                let mut peers = Vec::new();
                for _ in 0..stalled {
                    let mut socket = loopback::connect(server)?;
                    // The kernel would otherwise read megabytes for it.
                    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 32 * 1024)?;
                    socket.write_all(b"GET /stalled.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
                    peers.push(socket);
                }
                // Longer than a server holds anything for them.
                std::thread::sleep(Duration::from_millis(150));
                Ok(Disturbance::Peers(peers))
            }
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Disturbance::Transfer { taken, .. } => taken.over.load(Ordering::Relaxed),
            Disturbance::Peers(_) => false,
        }
    }

    /// Ends it; gives back how many bytes were received.
    pub(super) fn end(self) -> Result<u64> {
        match self {
            Disturbance::Transfer { socket, taker, taken } => {
                let bytes = taken.bytes.load(Ordering::Relaxed);
                taken.over.store(true, Ordering::Relaxed);
                // It fails only if the server has closed it already.
                let _ = socket.shutdown(Shutdown::Both);
                taker.join().map_err(|_| anyhow!("the receiver of the transfer panicked"))??;
                drop(socket);
                std::thread::sleep(Duration::from_millis(20));
                Ok(bytes)
            }
            Disturbance::Peers(peers) => {
                drop(peers);
                // The server notices a thousand ends.
                std::thread::sleep(Duration::from_millis(100));
                Ok(0)
            }
        }
    }
}

/// Discards what comes until `end` bytes of body, or until the socket is shut. In the background: the
/// bystanders come first.
fn take(socket: &TcpStream, end: u64, taken: &Taken) -> Result<()> {
    rustix::process::nice(19)?;
    let mut buffer = vec![0; 1024 * 1024];
    let mut bytes = 0;
    while bytes < end {
        match rustix::net::recv(socket, &mut buffer, RecvFlags::TRUNC) {
            Ok((_, 0)) => break,
            Ok((_, read)) => bytes += read as u64,
            Err(Errno::INTR) => {}
            Err(errno) if taken.over.load(Ordering::Relaxed) => {
                let _ = errno;
                break;
            }
            Err(errno) => return Err(errno).context("the large transfer failed"),
        }
        taken.bytes.store(bytes, Ordering::Relaxed);
    }
    taken.over.store(true, Ordering::Relaxed);
    Ok(())
}
