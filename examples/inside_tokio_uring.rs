//! A transfer inside of another event loop, on that loop's thread:
//! `cargo run --example inside_tokio_uring -- FILE HOST:PORT`
//!
//! tokio-uring has its own ring and its own tasks, and keeps the thread. Ringway's ring is embedded:
//! it shows a descriptor that becomes readable when it has work, and [`Runtime::turn`] does that work
//! without waiting. One task of tokio ([`drive`]) brings the two together, and everything else in it
//! can await what runs on the ring.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use ringway::runtime::{Config, Runtime, fs::File, net::TcpStream};
use ringway::{Receipt, transfer_file};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(peer)) = (arguments.next(), arguments.next()) else {
        return Err("usage: inside_tokio_uring FILE HOST:PORT".into());
    };
    let address = peer.to_socket_addrs()?.next().ok_or("this name has no address")?;
    tokio_uring::start(async {
        let ring = Rc::new(Runtime::embedded(Config::default())?);
        let driving = tokio_uring::spawn(drive(Rc::clone(&ring)));
        // The transfer is a task of the ring; awaiting its handle works from any executor.
        let sending = ring.spawn(send(path, address));
        // Meanwhile the thread is free for tokio-uring's own work.
        let (told, _) =
            tokio_uring::fs::File::open("/proc/self/comm").await?.read_at(vec![0; 64], 0).await;
        println!("tokio-uring has read {} bytes meanwhile", told?);
        println!("{}", sending.await??);
        driving.abort();
        Ok(())
    })
}

async fn send(path: String, address: SocketAddr) -> Result<Receipt, AnyError> {
    let file = File::open(path).await?;
    let mut stream = TcpStream::connect(address).await?;
    Ok(transfer_file(&file, &mut stream).await?)
}

/// Turns the ring whenever it has work, for as long as this future is polled.
async fn drive(ring: Rc<Runtime>) -> io::Result<()> {
    // What replaces `new` in tokio is unsafe, because a descriptor could be closed while tokio polls
    // it. This one belongs to `ring`, which is dropped after `readiness`.
    #[allow(deprecated, reason = "the examples are without unsafe code")]
    let readiness = AsyncFd::new(ring.as_fd().as_raw_fd())?;
    loop {
        let turn = ring.turn()?;
        if turn.again {
            tokio::task::yield_now().await;
            continue;
        }
        let deadline = turn.deadline.map(Instant::from_std);
        tokio::select! {
            // Cleared before the next turn: what comes during it makes the descriptor ready again.
            ready = readiness.readable() => ready?.clear_ready(),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        }
    }
}
