//! From a handshake to a stream: who seals from now on.

use std::cell::RefCell;

use ringway_runtime::net::TcpStream;

use super::{Backend, State, TlsStream};
use crate::tls::TlsLimits;
use crate::tls::engine::Engine;
use crate::tls::error::{TlsError, TlsErrorKind};
use crate::tls::handshake::{Established, Records};

impl TlsStream {
    /// All bytes of the handshake are with the socket, and nothing has been sealed since.
    pub(crate) fn establish(
        stream: TcpStream,
        established: Established,
        limits: &TlsLimits,
    ) -> Result<Self, TlsError> {
        let Established { agreed, records, plaintext, ciphertext, closed_by_peer } = established;
        // Kernel TLS goes in here: `records` has the secrets of both directions.
        let backend = match &records {
            Records::Ours(..) => Backend::Registered { kernel_tls: "not tried" },
            Records::Theirs(_) => Backend::Rustls { reason: Engine::classic_reason() },
        };
        let engine =
            Engine::new(records, plaintext, &ciphertext, closed_by_peer, limits.key_records_max);
        let unknown = || {
            let suite = rustls::Error::General(format!("cannot seal by {:?}", agreed.suite));
            TlsError::new(TlsErrorKind::Configuration(suite))
        };
        let state = State {
            engine: engine.ok_or_else(unknown)?,
            unread_max: limits.unread_max_bytes,
            dry: false,
            ended: false,
            broken: None,
            poisoned: None,
        };
        let (state, agreed) = (RefCell::new(Box::new(state)), Box::new(agreed));
        Ok(Self { stream, state, agreed, backend })
    }
}
