//! The floor: what the socket costs when the data is in a pipe already and there is no file.
//!
//! A template pipe holds the end of the file; tee(2) gives the same pages again and again. So the bytes
//! that are compared in a timed run are the right ones, and all others only count. What is compared in
//! full, which never is a whole file, is spliced like anywhere else.

use std::fs::File;
use std::net::TcpStream;

use anyhow::{Result, ensure};
use rustix::pipe::SpliceFlags;

use super::classic::{Pipe, Splice};
use super::{Arm, Span, StreamArm};
use crate::point::MIB;

pub(super) const ARMS: &[Arm] = &[Arm::stream(
    "floor",
    "pages that lie in a pipe already: tee(2) and splice(2), no file",
    0,
    |file, socket| Ok(Box::new(Floor::new(file, socket)?)),
)
.quick()
.hot_only()];

struct Floor {
    file_len: u64,
    template: Pipe,
    held: usize,
    splice: Splice,
}

impl Floor {
    fn new(file: File, socket: TcpStream) -> Result<Self> {
        let template = Pipe::open(MIB)?;
        let file_len = file.metadata()?.len();
        // From a page border on: each page takes one slot of the pipe.
        let mut offset = file_len.saturating_sub(template.len as u64).next_multiple_of(4096);
        let held = usize::try_from(file_len - offset)?;
        while offset < file_len {
            let want = usize::try_from(file_len - offset)?;
            let (from, flags) = (Some(&mut offset), SpliceFlags::NONBLOCK);
            let more = rustix::pipe::splice(&file, from, &template.into, None, want, flags)?;
            ensure!(more > 0, "the file ended early");
        }
        let splice = Splice::new(file, socket, MIB)?;
        Ok(Self { file_len, template, held, splice })
    }
}

impl StreamArm for Floor {
    fn send(&mut self, span: Span) -> Result<()> {
        if span.len < self.file_len {
            return self.splice.send(span);
        }
        // What is no whole template comes first, so that the last bytes are those of the file's end.
        let mut left = span.len;
        while left > 0 {
            let odd = usize::try_from(left % self.held as u64)?;
            let want = if odd == 0 { self.held } else { odd };
            let flags = SpliceFlags::empty();
            let into = &self.splice.pipe.into;
            let filled = rustix::pipe::tee(&self.template.out, into, want, flags)?;
            ensure!(filled > 0, "the template is empty");
            left -= filled as u64;
            self.splice.pipe.drain(self.splice.socket(), filled, left == 0)?;
        }
        Ok(())
    }
}
