//! Writes a message into a new mapped file and reads it back: `cargo run --example region -- FILE`

use ringway::runtime::fs::OpenOptions;
use ringway::runtime::region::{self, Access, Options};
use ringway::runtime::{Runtime, stats};

/// Bytes of the file; its blocks are allocated before it is mapped.
const FILE_BYTES: u64 = 1 << 20;
const HEADER_BYTES: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: region FILE")?;
    let message = b"a length, and a message of that length";
    Runtime::new()?.block_on(async {
        // A new one: what is stored into a shared window is in the file at once, over whatever stood there.
        let file = OpenOptions::new().write(true).create_new(true).open(path).await?;

        // Preallocate, so that no store runs out of space, and map, with every page present.
        region::preallocate(&file, FILE_BYTES).await?;
        let window = Options::new().access(Access::Shared).map(&file, 0..FILE_BYTES).await?;

        // Put the message first, and then its length, for those who read at the same time.
        let length = u32::try_from(message.len())?;
        window.put(HEADER_BYTES, message)?;
        window.put(0, &length.to_le_bytes())?;

        // Get it back. What the closure has seen counts only when `read` has returned it: a file that is
        // truncated meanwhile is an error here, and not the end of the process.
        let text = window.read(|view| {
            let length = view.u32_le(0)? as usize;
            let mut text = vec![0; length.min(view.len())];
            (view.copy_to(HEADER_BYTES, &mut text) == length).then_some(text)
        })?;
        println!("{}", String::from_utf8(text.ok_or("no whole message")?)?);

        // Force it to the device, and unmap it: when it is dropped it can be found again for a while,
        // unless the file is forgotten.
        window.flush(0..HEADER_BYTES + message.len()).await?;
        drop(window);
        let unmapped = region::forget(&file)?;
        println!("{unmapped} region unmapped, {} left", stats()?.regions);
        Ok(())
    })
}
