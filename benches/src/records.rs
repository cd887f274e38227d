//! Records of TLS 1.3 that are counted and not opened: their headers say how much plaintext they hold.

use anyhow::{Context, Result, bail};

/// Where a stream of records is.
#[derive(Debug, Default)]
pub(crate) struct Records {
    header: [u8; 5],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the record behind its header that are missing.
    left: usize,
}

/// The content type of application data: RFC 8446, 5.1.
const APPLICATION_DATA: u8 = 23;
/// What a record holds beside its plaintext, behind the header: its real type and the tag.
const TYPE_AND_TAG: usize = 1 + 16;

impl Records {
    /// How much plaintext the records hold that begin in `bytes`.
    pub(crate) fn plaintext(&mut self, mut bytes: &[u8]) -> Result<usize> {
        let mut plaintext = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let more = (self.header.len() - self.have).min(bytes.len());
            self.header[self.have..self.have + more].copy_from_slice(&bytes[..more]);
            self.have += more;
            bytes = &bytes[more..];
            if self.have == self.header.len() {
                let [kind, _, _, high, low] = self.header;
                if kind != APPLICATION_DATA {
                    bail!("wrong answer: a record of type {kind}");
                }
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.have = 0;
                let held = self.left.checked_sub(TYPE_AND_TAG);
                plaintext += held.context("wrong answer: a record that is too short")?;
            }
        }
        Ok(plaintext)
    }

    /// Whether the last record is complete.
    pub(crate) fn between(&self) -> bool {
        self.left == 0 && self.have == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_wherever_they_are_cut() {
        let record = |len: usize| {
            let body = u16::try_from(len + TYPE_AND_TAG).unwrap().to_be_bytes();
            [vec![APPLICATION_DATA, 3, 3], body.to_vec(), vec![0xaa; len + TYPE_AND_TAG]].concat()
        };
        let stream = [record(100), record(0), record(16384)].concat();
        for cut in [1, 3, 7, 100, 16_000] {
            let mut records = Records::default();
            let counted = stream.chunks(cut).map(|part| records.plaintext(part).unwrap());
            assert_eq!(counted.sum::<usize>(), 16484, "cut every {cut}");
            assert!(records.between());
        }
        let mut records = Records::default();
        records.plaintext(&stream[..stream.len() - 1]).unwrap();
        assert!(!records.between());
        assert!(Records::default().plaintext(&[21, 3, 3, 0, 30]).is_err());
        assert!(Records::default().plaintext(&[23, 3, 3, 0, 3]).is_err());
    }
}
