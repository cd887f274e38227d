//! A thread that computes digests from the files as they stand, so that neither the disk nor the arithmetic
//! holds a loop. All threads of the daemon share two: one for what was received, and one for questions.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use futures_channel::oneshot;
use ringway::runtime::fs::File;
use sha2::{Sha256, Sha512};

use crate::http::{Algorithm, Digest};

/// Bytes that are read at once: few calls, and small enough to stay in a cache.
const PIECE: usize = 256 * 1024;

/// The line to the thread, which ends with the last of these.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    orders: Sender<Order>,
}

#[derive(Debug)]
struct Order {
    file: std::fs::File,
    algorithms: Vec<Algorithm>,
    reply: oneshot::Sender<io::Result<Vec<Digest>>>,
}

impl Verifier {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub(crate) fn start(name: &str) -> io::Result<Verifier> {
        let (orders, queue) = channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || work(&queue))?;
        Ok(Verifier { orders })
    }

    /// The digests of a file by the algorithms of these.
    ///
    /// # Errors
    ///
    /// Those of pread(2).
    pub(super) async fn digests(&self, file: &File, like: &[Digest]) -> io::Result<Vec<Digest>> {
        self.compute(file, like.iter().map(|digest| digest.algorithm).collect()).await
    }

    /// The digest of a file by one of them.
    ///
    /// # Errors
    ///
    /// Those of pread(2).
    pub(super) async fn digest(&self, file: &File, algorithm: Algorithm) -> io::Result<Digest> {
        let mut digests = self.compute(file, vec![algorithm]).await?;
        digests.pop().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    async fn compute(&self, file: &File, algorithms: Vec<Algorithm>) -> io::Result<Vec<Digest>> {
        let file = std::fs::File::from(file.as_fd().try_clone_to_owned()?);
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread for digests has ended");
        self.orders.send(Order { file, algorithms, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn work(queue: &Receiver<Order>) {
    let mut piece = vec![0; PIECE];
    for order in queue {
        let digests = compute(&order, &mut piece);
        // Nobody may wait any more.
        _ = order.reply.send(digests);
    }
}

enum State {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl State {
    fn new(algorithm: Algorithm) -> State {
        match algorithm {
            Algorithm::Sha256 => State::Sha256(Box::default()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            State::Sha256(state) => sha2::Digest::update(&mut **state, bytes),
            State::Sha512(state) => sha2::Digest::update(&mut **state, bytes),
        }
    }

    fn finish(self) -> Digest {
        match self {
            State::Sha256(state) => Digest {
                algorithm: Algorithm::Sha256,
                bytes: sha2::Digest::finalize(*state).as_slice().into(),
            },
            State::Sha512(state) => Digest {
                algorithm: Algorithm::Sha512,
                bytes: sha2::Digest::finalize(*state).as_slice().into(),
            },
        }
    }
}

fn compute(order: &Order, piece: &mut [u8]) -> io::Result<Vec<Digest>> {
    let mut states: Vec<State> = order.algorithms.iter().map(|one| State::new(*one)).collect();
    let mut offset = 0;
    loop {
        if order.reply.is_canceled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match order.file.read_at(piece, offset) {
            Ok(0) => return Ok(states.into_iter().map(State::finish).collect()),
            Ok(read) => {
                states.iter_mut().for_each(|state| state.update(&piece[..read]));
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
