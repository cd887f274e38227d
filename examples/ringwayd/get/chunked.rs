//! A body in chunks, decoded on its way into the file.

use std::io;

use ringway::receive::Decoded;
use ringway::runtime::net::Stream;

use crate::client::body::{Body, Step};
use crate::client::response::Framing;
use crate::client::wire::Ear;

/// Bytes that are received at once.
const PIECE: usize = 64 * 1024;

/// Takes chunks apart.
#[derive(Debug)]
pub(crate) struct Chunked {
    ear: Ear,
    body: Body,
    /// What was received: all of it up to `end`, of which `start` bytes are done with.
    received: Vec<u8>,
    start: usize,
    end: usize,
}

impl Chunked {
    /// The body behind a head with which these bytes of it were received.
    pub(crate) fn new(ear: Ear, given: &[u8]) -> Chunked {
        let mut received = vec![0; PIECE.max(given.len())];
        received[..given.len()].copy_from_slice(given);
        let body = Body::new(Framing::Chunked);
        Chunked { ear, body, received, start: 0, end: given.len() }
    }

    /// Receives more behind what is there.
    fn receive(&mut self) -> io::Result<()> {
        self.received.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.received.len() {
            // Framing is bounded, so this does not happen; a stop is better than a spin.
            return Err(io::ErrorKind::InvalidData.into());
        }
        match self.ear.try_receive(&mut self.received[self.end..])? {
            0 => Err(io::Error::new(io::ErrorKind::InvalidData, "the body breaks off")),
            received => {
                self.end += received;
                Ok(())
            }
        }
    }
}

impl Decoded for Chunked {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let here = &self.received[self.start..self.end];
            let step = self.body.next_up_to(here, buffer.len());
            match step.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.0))? {
                Step::Data(len) => {
                    buffer[..len].copy_from_slice(&here[..len]);
                    self.start += len;
                    return Ok(len);
                }
                Step::Skip(len) => self.start += len,
                Step::More => self.receive()?,
                Step::End => return Ok(0),
            }
        }
    }

    fn stream(&self) -> &Stream {
        self.ear.stream()
    }
}
