//! Sends one file to everybody who connects, as `nc HOST PORT` does:
//! `cargo run --example serve -- FILE 127.0.0.1:9000`
//!
//! The file is opened once and shared by all transfers; each runs in a task of its own, and a client
//! that stops reading holds up nobody.

use std::net::SocketAddr;
use std::time::Duration;

use ringway::runtime::net::{TcpListener, TcpStream};
use ringway::runtime::{Runtime, fs::File, spawn};
use ringway::{Limits, transfer_file};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve FILE ADDRESS:PORT".into());
    };
    let address: SocketAddr = address.parse()?;
    Runtime::new()?.block_on(async {
        let file = File::open(&path).await?;
        let listener = TcpListener::bind(address)?;
        println!("sending {path} to whoever connects to {}", listener.local_address()?);
        loop {
            let stream = listener.accept().await?;
            spawn(send(file.clone(), stream));
        }
    })
}

async fn send(file: File, mut stream: TcpStream) {
    // A client may take nothing for ten seconds; the default is a minute.
    let limits = Limits::default().with_peer_timeout(Duration::from_secs(10));
    match transfer_file(&file, &mut stream).limits(limits).await {
        Ok(receipt) => println!("{receipt}"),
        Err(error) => eprintln!("{error}"),
    }
}
