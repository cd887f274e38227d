//! What this kernel's TLS can do: tried once per process, on connections of our own over loopback.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;

use ringway_runtime::net::TcpStream;

use super::info::CryptoInfo;
use crate::tls::record::Suite;

pub(super) const NO_CIPHER: &str = "the kernel's TLS lacks the cipher";

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

#[derive(Debug)]
struct Support {
    /// For each of [`SUITES`].
    why_not: [Option<&'static str>; 3],
    can_update: bool,
}

/// Why the kernel cannot seal with this suite; `None` if it can.
pub(crate) fn why_not(suite: Suite) -> Option<&'static str> {
    let at = SUITES.iter().position(|known| *known == suite);
    at.map_or(Some(NO_CIPHER), |at| support().why_not[at])
}

/// Whether it takes a second key for one connection (Linux 6.14).
pub(super) fn can_update() -> bool {
    support().can_update
}

fn support() -> &'static Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    SUPPORT.get_or_init(|| {
        let tried = SUITES.map(|suite| (suite, try_suite(suite)));
        let support = Support {
            why_not: tried.each_ref().map(|(_, outcome)| outcome.err()),
            can_update: tried.iter().all(|(_, outcome)| matches!(outcome, Ok(true) | Err(_))),
        };
        tracing::debug!(?support, "the kernel's TLS was tried");
        support
    })
}

/// Whether the kernel takes the suite, and then whether it takes a second key.
fn try_suite(suite: Suite) -> Result<bool, &'static str> {
    let (stream, _peer) = connected().map_err(|_error| "there is no loopback to try it on")?;
    stream.attach_kernel_tls().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "the kernel has no TLS (module tls)",
        io::ErrorKind::PermissionDenied => "the kernel's TLS is forbidden here",
        _ => "the kernel refuses its TLS",
    })?;
    let mut info = CryptoInfo::trial(suite);
    stream.set_sealing_key(info.as_slice()).map_err(|_error| NO_CIPHER)?;
    let counts = stream.sealing_key(info.as_mut_slice()).and_then(|()| stream.queued());
    counts.map_err(|_error| "the kernel does not count its records")?;
    Ok(stream.set_sealing_key(CryptoInfo::trial(suite).as_slice()).is_ok())
}

fn connected() -> io::Result<(TcpStream, std::net::TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    Ok((TcpStream::from_std(ours)?, theirs))
}
