//! For loops of their own: what can be read and written now, and waiting for it without a buffer.

use super::*;

impl TlsStream {
    /// Waits until something has come, or the peer has finished, without a buffer. It may be nothing
    /// that can be read: part of a record, a key update.
    ///
    /// # Errors
    ///
    /// Those of waiting; an error of the connection shows when it is used.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn readable(&mut self) -> io::Result<()> {
        // What was received with an earlier record is here already, and the socket would not tell of it.
        if self.state.lock().has_more() {
            return Ok(());
        }
        self.stream.readable().await?;
        self.state.lock().dry = false;
        Ok(())
    }

    /// Takes bytes to be sent, without waiting; returns how many. Part of a record may be left here:
    /// after the last bytes call [`try_flush`](Self::try_flush) until it is out.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket is full: wait until [`tcp`](Self::tcp) is writable. Otherwise as for
    /// [`write_all`](Self::write_all).
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.write_ready(bytes)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }
}
