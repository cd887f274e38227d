//! Sends one file: `cargo run --example copy -- FILE HOST:PORT`

use std::net::ToSocketAddrs;

use ringway::runtime::{Runtime, fs::File, net::TcpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(peer)) = (arguments.next(), arguments.next()) else {
        return Err("usage: copy FILE HOST:PORT".into());
    };
    let address = peer.to_socket_addrs()?.next().ok_or("this name has no address")?;
    Runtime::new()?.block_on(async {
        let file = File::open(path).await?;
        let mut stream = TcpStream::connect(address).await?;
        println!("{}", ringway::transfer_file(&file, &mut stream).await?);
        Ok(())
    })
}
