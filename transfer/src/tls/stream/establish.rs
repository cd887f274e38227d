//! From a handshake to a stream: who seals from now on.

use ringway_runtime::net::TcpStream;

use super::reading::Shared;
use super::{Backend, State, TlsStream};
use crate::tls::TlsLimits;
use crate::tls::engine::Engine;
use crate::tls::error::{TlsError, TlsErrorKind};
use crate::tls::handshake::{Established, Records};
use crate::tls::kernel::KernelSender;

impl TlsStream {
    /// All bytes of the handshake are with the socket, and nothing has been sealed since.
    pub(crate) fn establish(
        stream: TcpStream,
        established: Established,
        limits: &TlsLimits,
    ) -> Result<Self, TlsError> {
        let Established { agreed, records, plaintext, ciphertext, closed_by_peer } = established;
        let (records, backend, kernel) = settle_backend(&stream, records, limits);
        let engine =
            Engine::new(records, plaintext, &ciphertext, closed_by_peer, limits.key_records_max);
        let unknown = || {
            let suite = rustls::Error::General(format!("cannot seal by {:?}", agreed.suite));
            TlsError::new(TlsErrorKind::Configuration(suite))
        };
        let state = State {
            engine: engine.ok_or_else(unknown)?,
            kernel,
            unread_max: limits.unread_max_bytes,
            dry: false,
            ended: false,
            broken: None,
            landing: false,
            landed: None,
            poisoned: None,
            taken: 0,
            torn: None,
            reader: None,
            news: false,
        };
        let (state, agreed) = (Shared::new(state), Box::new(agreed));
        Ok(Self { stream, state, agreed, backend })
    }
}

/// Gives the sending half to the kernel if it may and can.
fn settle_backend(
    stream: &TcpStream,
    records: Records,
    limits: &TlsLimits,
) -> (Records, Backend, Option<KernelSender>) {
    let (keys, secrets) = match records {
        Records::Ours(keys, secrets) => (keys, secrets),
        records @ (Records::Kernels(..) | Records::Theirs(_)) => {
            return (records, Backend::Rustls { reason: Engine::classic_reason() }, None);
        }
    };
    let installed = if limits.kernel_tls {
        KernelSender::install(stream, &secrets.tx, limits.key_records_max)
    } else {
        Err("it was not wanted")
    };
    match installed {
        Ok(kernel) => (Records::Kernels(keys, secrets.rx), Backend::KernelTls, Some(kernel)),
        Err(kernel_tls) => (Records::Ours(keys, secrets), Backend::Registered { kernel_tls }, None),
    }
}
