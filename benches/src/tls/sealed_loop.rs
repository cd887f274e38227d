//! The floor of reading, sealing and sending: one thread, one buffer, three calls in a row, no runtime.
//!
//! It does nothing but what anybody must do who has no TLS in the kernel: a vectored read brings the bytes
//! into record slots, AWS-LC seals each where it lies, one send takes all. It never listens, never stalls
//! without its buffer, ends at the first surprise, and has the socket for itself.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use ringway::tls::rustls::{ConnectionTrafficSecrets, ServerConnection};

/// Parts of a record, in bytes: RFC 8446, 5.2. What stands around the data is header, type and tag.
const HEADER: usize = 5;
const DATA: usize = 16 * 1024;
const AROUND: usize = HEADER + 1 + 16;
const SLOT: usize = DATA + AROUND;

/// What seals, and the number of the next record.
pub(crate) struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Sealer {
    /// Takes the key for sending out of `connection`, whose handshake is done and whose bytes are out.
    pub(crate) fn of(connection: ServerConnection) -> Result<Self> {
        let (number, secrets) = connection.dangerous_extract_secrets()?.tx;
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => bail!("a suite that nobody asked for"),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).ok().context("no key")?;
        Ok(Self { key: LessSafeKey::new(key), iv: iv.as_ref().try_into()?, number })
    }

    /// Seals what stands behind the header of `slot`; the length of the record.
    fn seal(&mut self, slot: &mut [u8], len: usize, kind: u8) -> Result<usize> {
        let [high, low] = u16::try_from(len + AROUND - HEADER)?.to_be_bytes();
        let header = [23, 3, 3, high, low];
        slot[..HEADER].copy_from_slice(&header);
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        let (data, tail) = slot[HEADER..len + AROUND].split_at_mut(len);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_scatter(nonce, Aad::from(header), data, &[kind], tail);
        sealed.ok().context("a record was not sealed")?;
        Ok(len + AROUND)
    }

    /// Sends `bytes`, which fit into a record, as one.
    pub(crate) fn send_bytes(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> Result<()> {
        self.send_record(socket, bytes, 23)
    }

    /// Says that nothing follows.
    pub(crate) fn send_end(&mut self, socket: &mut TcpStream) -> Result<()> {
        self.send_record(socket, &[1, 0], 21)
    }

    fn send_record(&mut self, socket: &mut TcpStream, bytes: &[u8], kind: u8) -> Result<()> {
        let mut slot = vec![0; SLOT];
        slot[HEADER..HEADER + bytes.len()].copy_from_slice(bytes);
        let len = self.seal(&mut slot, bytes.len(), kind)?;
        Ok(socket.write_all(&slot[..len])?)
    }

    /// Sends all of `file`, so many records at a time.
    pub(crate) fn send_file(
        &mut self,
        socket: &mut TcpStream,
        file: &File,
        records: usize,
    ) -> Result<()> {
        let (mut buffer, len) = (vec![0; SLOT * records], file.metadata()?.len());
        let mut offset = 0;
        while offset < len {
            let left = usize::try_from(len - offset).unwrap_or(usize::MAX);
            let mut wanted = left.min(DATA * records);
            let mut slots: Vec<IoSliceMut<'_>> = Vec::with_capacity(records);
            for slot in buffer.chunks_mut(SLOT) {
                let part = wanted.min(DATA);
                wanted -= part;
                slots.push(IoSliceMut::new(&mut slot[HEADER..HEADER + part]));
            }
            let read = rustix::io::preadv(file, &mut slots, offset)?;
            // A file that is hot and does not change is read whole; this is no server.
            ensure!(read == left.min(DATA * records), "a short read of {read} bytes");
            let (mut done, mut sealed) = (0, 0);
            while done < read {
                let part = (read - done).min(DATA);
                sealed += self.seal(&mut buffer[sealed..], part, 23)?;
                done += part;
            }
            socket.write_all(&buffer[..sealed])?;
            offset += read as u64;
        }
        Ok(())
    }
}
