//! A chunked body as a source of a transfer.

use std::io;

use ringway::receive::{Decoded, Origin};
use ringway::runtime::net::Stream;

use crate::http::ChunkedBody;

/// What is read while it is open how much belongs to the body: the most that has to be put back.
const FRAMING_BYTES: u64 = 8192;

/// A stream whose chunks are taken apart in the buffer of the transfer.
pub(super) struct Chunks<'t> {
    origin: Origin<'t>,
    body: ChunkedBody,
    /// Coded bytes that came with the head.
    given: Vec<u8>,
    /// What follows the body.
    rest: Vec<u8>,
}

impl<'t> Chunks<'t> {
    pub(super) fn new(origin: Origin<'t>, given: Vec<u8>) -> Chunks<'t> {
        Chunks { origin, body: ChunkedBody::new(), given, rest: Vec::new() }
    }

    /// What was received behind the body, or instead of it.
    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.rest.append(&mut self.given);
        self.rest
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.given.is_empty() {
            let here = self.given.len().min(buffer.len());
            buffer[..here].copy_from_slice(&self.given[..here]);
            self.given.drain(..here);
            return Ok(here);
        }
        let most = self.body.certain().max(FRAMING_BYTES);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        self.origin.try_read(&mut buffer[..most])
    }
}

impl Decoded for Chunks<'_> {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let malformed = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        loop {
            if self.body.is_done() || buffer.is_empty() {
                return Ok(0);
            }
            let received = self.receive(buffer)?;
            if received == 0 {
                return malformed("the stream ended within the chunks");
            }
            match self.body.decode(&mut buffer[..received]) {
                Ok(taken) => {
                    self.rest.extend_from_slice(&buffer[taken.coded..received]);
                    if taken.body > 0 {
                        return Ok(taken.body);
                    }
                }
                Err(crate::http::Malformed(what)) => return malformed(what),
            }
        }
    }

    fn stream(&self) -> &Stream {
        self.origin.stream()
    }

    fn taken(&self) -> u64 {
        self.origin.taken()
    }

    fn tear(&self, began: u64) {
        self.origin.tear(began);
    }

    fn is_torn(&self) -> bool {
        self.origin.is_torn()
    }

    fn is_secret(&self) -> bool {
        self.origin.is_secret()
    }
}
