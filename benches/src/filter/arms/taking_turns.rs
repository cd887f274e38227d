//! What a filter that keeps everything cannot cost less than, if it sends as it goes: a walk over a window,
//! and a splice of it, in turns. A receiver that has taken everything sleeps during the walk, and it is the
//! sender who wakes it.

use std::fs::File;
use std::net::TcpStream;

use anyhow::{Result, ensure};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use super::{Map, RECORD, confirmed, keeps, key};
use crate::measure::{Start, Usage};

const WINDOW: usize = 4 << 20;
const PIPE: usize = 1 << 20;

/// Everything goes out, whatever is kept: what keeps all is what this is compared with. With `maps` each
/// window is mapped, populated and unmapped; otherwise the whole file is, before the time begins.
pub(super) fn run(file: &File, socket: &TcpStream, mask: u32, maps: bool) -> Result<Usage> {
    let (out, into) = rustix::pipe::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&out, PIPE)?;
    let len = usize::try_from(file.metadata()?.len())?;
    let whole = if maps { None } else { Some(Map::new(file)?) };
    socket.set_nonblocking(true)?;
    let start = Start::now();
    let mut at = 0;
    while at < len {
        let end = (at + WINDOW).min(len);
        let window = if maps { Some(Map::of(file, at, end - at)?) } else { None };
        let bytes = match (&window, &whole) {
            (Some(window), _) => window.bytes(),
            (None, Some(whole)) => &whole.bytes()[at..end],
            (None, None) => &[],
        };
        let kept = bytes.chunks_exact(RECORD).filter(|record| keeps(key(record), mask)).count();
        std::hint::black_box(kept);
        while at < end {
            let mut offset = at as u64;
            let want = (end - at).min(PIPE);
            let mut left =
                splice(file, Some(&mut offset), &into, None, want, SpliceFlags::empty())?;
            ensure!(left > 0, "the file ended at {at}");
            at += left;
            while left > 0 {
                match splice(&out, None, socket, None, left, SpliceFlags::NONBLOCK) {
                    Ok(moved) => left -= moved,
                    Err(Errno::AGAIN) => writable(socket)?,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
    }
    socket.set_nonblocking(false)?;
    confirmed(socket)?;
    Ok(start.used())
}

fn writable(socket: &TcpStream) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
    Ok(())
}
