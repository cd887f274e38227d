//! Sends only the lines of a file that hold a word: `cargo run --example filter -- FILE HOST:PORT WORD`

use std::net::ToSocketAddrs;

use ringway::process::{Output, ProcessError, Processor, Window};
use ringway::runtime::{Runtime, fs::File, net::TcpStream};

/// Keeps the lines in which a word stands.
struct Lines {
    word: Vec<u8>,
    line: Vec<u8>,
}

impl Processor for Lines {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let mut at = 0;
        // Return early when there is no room for more, or others have waited long enough.
        while at < window.len() && !output.is_full() && !window.is_due() {
            let end = match window.find(at, b"\n") {
                Some(newline) => newline + 1,
                None if window.is_last() => window.len(),
                // The rest of this line is shown again, together with what follows.
                None => break,
            };
            // The file may change while it is looked at, so a line is copied first.
            self.line.resize(end - at, 0);
            window.copy_to(at, &mut self.line);
            if self.line.windows(self.word.len()).any(|part| part == self.word) {
                output.send(at..end);
            }
            at = end;
        }
        Ok(at)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(peer), Some(word)) =
        (arguments.next(), arguments.next(), arguments.next().filter(|word| !word.is_empty()))
    else {
        return Err("usage: filter FILE HOST:PORT WORD".into());
    };
    let address = peer.to_socket_addrs()?.next().ok_or("this name has no address")?;
    Runtime::new()?.block_on(async {
        let file = File::open(path).await?;
        let mut stream = TcpStream::connect(address).await?;
        let lines = Lines { word: word.into_bytes(), line: Vec::new() };
        println!("{}", ringway::transfer_file(&file, &mut stream).process(lines).await?);
        Ok(())
    })
}
