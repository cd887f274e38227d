//! The sending half of a stream whose records the kernel seals: data goes to the socket as it is, and
//! what the session has to say goes as records of other types behind it.

use std::io::{self, IoSlice};
use std::time::Duration;

use ringway_runtime::time;

use super::{Engine, State, TlsStream};
use crate::tls::error::{TlsError, TlsErrorKind};
use crate::tls::kernel::KernelSender;
use crate::tls::session::{Fault, Message, Session};

/// How long to wait before looking again whether the kernel has handed its last record to TCP.
const PAUSE_MAX: Duration = Duration::from_millis(20);

impl TlsStream {
    /// Says what is owed; `false` if the socket is full.
    pub(super) fn try_say(&self) -> io::Result<bool> {
        let mut state = self.state.lock();
        let Some((session, kernel)) = state.kernel_half() else { return Ok(true) };
        loop {
            let Some(message) = session.owed() else { return Ok(true) };
            if matches!(message, Message::KeyUpdate(_)) && !KernelSender::can_update() {
                session.cannot_update();
                continue;
            }
            let (kind, content, len) = message.encode();
            match kernel.say(&self.stream, kind, &content[..len]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.push();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            if let Some(next) = session.said(message).map_err(into_io)? {
                kernel.update(&self.stream, &next)?;
            }
        }
    }

    /// Data that may be sent now, in bytes: at least 1, or an error when nothing more may follow.
    ///
    /// # Errors
    ///
    /// If the session has failed or was closed; those of getsockopt(2). `WouldBlock` if a new key is
    /// due and the socket is too full to say so.
    pub(crate) fn allowance(&self) -> io::Result<u64> {
        loop {
            let mut state = self.state.lock();
            let Some((session, kernel)) = state.kernel_half() else { return Ok(u64::MAX) };
            if let Some(fault) = session.fault().filter(|_| !session.may_send()) {
                return Err(into_io(fault));
            }
            if session.is_closed_by_us() {
                return Err(TlsError::new(TlsErrorKind::Closed).into_io());
            }
            match kernel.allowance(&self.stream)? {
                0 => session.update_keys(false),
                bytes => return Ok(bytes),
            }
            drop(state);
            if !self.try_say()? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    /// Closes a record that was left open for more, when nothing follows after all.
    pub(crate) fn close_record(&self) {
        if self.state.lock().kernel.is_some() {
            KernelSender::flush(&self.stream);
        }
    }

    /// Lets TCP send what it holds back, before a wait for room. A record that was sent with more to
    /// follow stays corked in TCP, and when it has filled a small socket, the kernel's TLS takes nothing
    /// and pushes nothing: nobody would ever move again.
    pub(crate) fn push(&self) {
        self.stream.uncork();
    }

    /// Sends what the socket takes without waiting; returns how much.
    pub(super) fn write_to_kernel(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let allowed = match self.allowance() {
            Ok(allowed) => usize::try_from(allowed).unwrap_or(usize::MAX),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let bytes = &bytes[..bytes.len().min(allowed)];
        match self.stream.try_send(&[IoSlice::new(bytes)], false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        }
    }

    /// Waits until TCP has been given every record: the kernel keeps those that it has sealed for a full
    /// socket, and a shutdown or a close would overtake them.
    pub(super) async fn drain_kernel(&mut self) -> io::Result<()> {
        let mut pause = Duration::from_millis(1);
        loop {
            match &self.state.lock().kernel {
                Some(kernel) if !kernel.is_drained(&self.stream)? => {}
                _ => return Ok(()),
            }
            self.push();
            self.stream.writable().await?;
            // Writable again, the kernel hands them over in a worker of its own.
            time::sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// Tells the session how much data the kernel has sent.
    pub(super) fn note_kernel(&self) {
        let mut state = self.state.lock();
        if let Some((session, kernel)) = state.kernel_half() {
            session.kernel_has_sent(kernel.accepted(&self.stream));
        }
    }
}

impl State {
    fn kernel_half(&mut self) -> Option<(&mut Session, &mut KernelSender)> {
        match (&mut self.engine, &mut self.kernel) {
            (Engine::Own(session, _), Some(kernel)) => Some((session, kernel)),
            _ => None,
        }
    }
}

fn into_io(fault: Fault) -> io::Error {
    TlsError::from(fault).into_io()
}
