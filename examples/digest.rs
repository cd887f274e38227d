//! Sends a file with its SHA-256 behind it: `cargo run --example digest -- FILE HOST:PORT`
//!
//! The digest is computed while the file is sent, of the very bytes that are sent; the receiver splits the
//! last 32 bytes off and compares. By hand:
//!
//! ```text
//! nc -l 9000 > got                                     # in one terminal, the example in another
//! head -c -32 got | sha256sum                          # of what came
//! tail -c 32 got | od -An -v -t x1 | tr -d ' \n'       # what came behind it
//! ```

use std::net::ToSocketAddrs;

use ringway::process::{Algorithm, Digesting};
use ringway::runtime::{Runtime, fs::File, net::TcpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(peer)) = (arguments.next(), arguments.next()) else {
        return Err("usage: digest FILE HOST:PORT".into());
    };
    let address = peer.to_socket_addrs()?.next().ok_or("this name has no address")?;
    Runtime::new()?.block_on(async {
        let file = File::open(path).await?;
        let mut stream = TcpStream::connect(address).await?;
        let digesting = Digesting::new(Algorithm::Sha256).with_trailer();
        let receipt = ringway::transfer_file(&file, &mut stream).process(digesting).await?;
        println!("{receipt}");
        // The receipt has it too, for whoever sends it by another way than as a trailer.
        for digest in receipt.processed.iter().flat_map(|done| &done.digests) {
            println!("{digest}");
        }
        Ok(())
    })
}
