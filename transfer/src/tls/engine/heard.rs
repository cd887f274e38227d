//! What the other end opens of what an engine has to say, for tests.

use super::Engine;
use crate::tls::record::{ContentType, HEADER, Opener};

impl Engine {
    /// Takes all records that are pending or owed, and opens them: type and content of each. After an update
    /// of keys, which is the only message of a handshake here, `next` gives the opener for what follows.
    pub(in crate::tls) fn heard_by(
        &mut self,
        opener: &mut Opener,
        mut next: impl FnMut() -> Opener,
    ) -> Vec<(ContentType, Vec<u8>)> {
        let mut heard = Vec::new();
        loop {
            // This end may be over; what it had to say is pending all the same.
            let _ = self.prepare();
            let mut bytes = self.pending().as_slice().to_vec();
            if bytes.is_empty() {
                return heard;
            }
            self.pending_sent(bytes.len());
            let mut rest = bytes.as_mut_slice();
            while !rest.is_empty() {
                let len = HEADER + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
                let (record, behind) = rest.split_at_mut(len);
                let opened = opener.open(record).expect("what we seal can be opened");
                if opened.kind == ContentType::Handshake {
                    *opener = next();
                }
                heard.push((opened.kind, record[opened.plaintext].to_vec()));
                rest = behind;
            }
        }
    }
}
