//! A session whose records the kernel seals: what must be said, for somebody who has the socket.

use rustls::ConnectionTrafficSecrets;

use super::{Fault, Keys, Message, Session};

impl Session {
    /// Takes over after a handshake where the kernel has the key for sending, so that nothing is sealed
    /// here: [`owed`](Self::owed) is for the kernel to say. `None` for a suite that is unknown.
    pub(crate) fn sealed_elsewhere(
        keys: Keys,
        receiving: &(u64, ConnectionTrafficSecrets),
    ) -> Option<Self> {
        Self::with_sealer(keys, None, receiving, 0)
    }

    /// What is owed next. It goes out behind all data.
    pub(crate) fn owed(&self) -> Option<Message> {
        let owed = &self.sending.owed;
        let update = if owed.answer { Some(false) } else { owed.update };
        update.map(Message::KeyUpdate).or(owed.alert.map(Message::Alert))
    }

    /// It is out. Returns the key for what follows, if it was about that.
    ///
    /// # Errors
    ///
    /// If no new key can be made: the session is over then.
    pub(crate) fn said(
        &mut self,
        message: Message,
    ) -> Result<Option<(u64, ConnectionTrafficSecrets)>, Fault> {
        let owed = &mut self.sending.owed;
        match message {
            Message::Alert(_) => {
                owed.alert = None;
                Ok(None)
            }
            Message::KeyUpdate(_) => {
                if !std::mem::take(&mut owed.answer) {
                    owed.update = None;
                }
                let next = self.keys.update_tx().map_err(|_error| self.fail(Fault::NoKey))?;
                self.key_updates.sent += 1;
                Ok(Some(next))
            }
        }
    }

    /// The kernel takes no second key, and one is due: the session is over, and the alert that says so
    /// is owed.
    pub(crate) fn cannot_update(&mut self) -> Fault {
        let owed = &mut self.sending.owed;
        (owed.answer, owed.update) = (false, None);
        self.fail(Fault::KeyStays)
    }

    /// The kernel has sent so much data in all, in bytes.
    pub(crate) fn kernel_has_sent(&mut self, bytes: u64) {
        self.sending.sealed_elsewhere(bytes);
    }
}
