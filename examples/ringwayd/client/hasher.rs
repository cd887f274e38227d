//! The thread that computes digests, so that neither the disk nor the arithmetic holds the loop.
//!
//! There is one: files wait for each other, not for a thread each.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use futures_channel::oneshot;
use ringway::runtime::fs::File;
use sha2::Digest;

use super::digest::Sha256;

/// Bytes that are read at once: few calls, and small enough to stay in a cache.
const PIECE: usize = 256 * 1024;

/// The line to the thread. It ends with the last of these.
#[derive(Debug)]
pub(crate) struct Hasher {
    orders: Sender<Order>,
}

#[derive(Debug)]
struct Order {
    file: std::fs::File,
    len: u64,
    reply: oneshot::Sender<io::Result<Sha256>>,
}

impl Hasher {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub(crate) fn start() -> io::Result<Hasher> {
        let (orders, queue) = channel();
        thread::Builder::new().name("ringwayd-digest".to_owned()).spawn(move || work(&queue))?;
        Ok(Hasher { orders })
    }

    /// The digest of the first `len` bytes of a file.
    ///
    /// # Errors
    ///
    /// Those of pread(2), and `UnexpectedEof` if the file is shorter.
    ///
    /// # Cancel safety
    ///
    /// The thread notices that nobody waits, and stops.
    pub(crate) async fn digest(&self, file: &File, len: u64) -> io::Result<Sha256> {
        let file = std::fs::File::from(file.as_fd().try_clone_to_owned()?);
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread for digests has ended");
        self.orders.send(Order { file, len, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn work(queue: &Receiver<Order>) {
    let mut piece = vec![0; PIECE];
    for order in queue {
        let digest = digest(&order, &mut piece);
        _ = order.reply.send(digest);
    }
}

fn digest(order: &Order, piece: &mut [u8]) -> io::Result<Sha256> {
    let mut state = sha2::Sha256::new();
    let mut offset = 0;
    while offset < order.len {
        if order.reply.is_canceled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let want = usize::try_from(order.len - offset).unwrap_or(PIECE).min(PIECE);
        match order.file.read_at(&mut piece[..want], offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                state.update(&piece[..read]);
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Sha256(state.finalize().into()))
}
