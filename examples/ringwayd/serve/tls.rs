//! Certificates, handshakes, and what is said of those that fail.

use std::cell::RefCell;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use ringway::runtime::net::TcpStream;
use ringway::runtime::signal::{Kind, Signals};
use ringway::tls::rustls::crypto::CryptoProvider;
use ringway::tls::rustls::crypto::aws_lc_rs::Ticketer;
use ringway::tls::rustls::server::WebPkiClientVerifier;
use ringway::tls::rustls::server::danger::ClientCertVerifier;
use ringway::tls::rustls::{self, PeerIncompatible, RootCertStore, ServerConfig};
use ringway::tls::{TlsAcceptor, TlsErrorKind, TlsLimits, crypto_provider};
use sha2::{Digest, Sha256};

use super::connection::{self, Link};
use super::seats::Seat;
use super::server::Server;
use super::validity;
use super::wire::Wire;
use crate::cli::ClientAuth;
use crate::pem;

/// The certificate of the daemon, as it was last read.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: Files,
    limits: TlsLimits,
    current: Mutex<TlsAcceptor>,
}

/// What a server shows, and what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The authorities of clients, if they are asked for a certificate, and whether they must have one.
    pub(crate) clients: Option<(PathBuf, ClientAuth)>,
}

impl Certificates {
    /// Reads a certificate, with those that lead from it to a known one, its key, and the authorities
    /// of clients.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or holds something else, and a key that is another certificate's.
    pub(crate) fn read(
        files: Files,
        handshake_timeout: Duration,
    ) -> anyhow::Result<Arc<Certificates>> {
        let limits = TlsLimits::default().with_handshake_timeout(handshake_timeout);
        let (acceptor, invalid) = acceptor(&files, &limits)?;
        if let Some(invalid) = invalid {
            // Perhaps it is the clock of this host that is wrong, and there is no other certificate.
            eprintln!("ringwayd: {invalid}: clients refuse it; renew it, then send SIGHUP");
        }
        Ok(Arc::new(Certificates { files, limits, current: Mutex::new(acceptor) }))
    }

    /// Reads them again on each `SIGHUP`. Connections that are there keep what they have.
    pub(crate) async fn reread(self: Arc<Self>, mut signals: Signals) {
        while signals.recv().await.is_ok() {
            let file = self.files.certificate.display();
            let read = acceptor(&self.files, &self.limits);
            match read.and_then(|(acceptor, invalid)| match invalid {
                None => Ok(acceptor),
                Some(invalid) => bail!("{invalid}: put a valid one there, then send SIGHUP again"),
            }) {
                Ok(acceptor) => {
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
                    eprintln!("ringwayd: the certificate in {file} was read again");
                }
                Err(error) => {
                    eprintln!("ringwayd: going on with the certificate as it was: {error:#}");
                }
            }
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The signal that says that certificates have changed.
pub(crate) fn changed() -> std::io::Result<Signals> {
    Signals::new(&[Kind::HangUp])
}

/// Also tells which certificate is not valid now, and why.
fn acceptor(files: &Files, limits: &TlsLimits) -> anyhow::Result<(TlsAcceptor, Option<String>)> {
    let Files { certificate, key, clients } = files;
    let (chain, own_key) = (pem::chain(certificate, "--cert")?, pem::key(key)?);
    let provider = Arc::new(crypto_provider());
    let invalid = validity::why_not(&chain, &provider)
        .map(|why| format!("the certificate in {} {why}", certificate.display()));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .context("TLS 1.2 and 1.3 cannot be had")?;
    let builder = match clients {
        Some((file, auth)) => {
            builder.with_client_cert_verifier(client_verifier(file, *auth, provider)?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, own_key).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        match error {
            rustls::Error::InconsistentKeys(_) => anyhow!(
                "the key in {key} does not belong to the certificate in {certificate}: name the key \
                 that it was made for with --key, and if the file holds a chain, put the server's own \
                 certificate first"
            ),
            error => anyhow!(
                "the certificate in {certificate} and the key in {key} cannot be used: {error}"
            ),
        }
    })?;
    // `curl -0` offers the older one and nothing else.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    // Tickets of before are worth nothing after: a client that resumes is not asked again.
    config.ticketer = Ticketer::new().context("no session tickets can be made")?;
    Ok((TlsAcceptor::new(Arc::new(config)).with_limits(limits.clone()), invalid))
}

fn client_verifier(
    file: &Path,
    auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let shown = file.display();
    let mut roots = RootCertStore::empty();
    for authority in pem::chain(file, "--client-ca")? {
        roots.add(authority).with_context(|| format!("a certificate in {shown} is no good"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = match auth {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    verifier.build().with_context(|| format!("the authorities in {shown} cannot be used"))
}

/// Shakes hands with a client that has a seat, and serves it.
pub(crate) async fn greet(
    server: Rc<Server>,
    certificates: Arc<Certificates>,
    (stream, peer): (TcpStream, SocketAddr),
    seat: Seat,
) {
    let acceptor = certificates.acceptor();
    // The handshake has a limit of its own, which is to be told first.
    seat.allow_until(Instant::now() + server.times.head + SPAN);
    let shaken = seat.wait(Box::pin(acceptor.accept(stream))).await;
    drop((acceptor, certificates));
    match shaken {
        Ok(Ok(stream)) => {
            let user = stream.certificate().map(fingerprint);
            connection::run(server, Link::new(stream, peer, user, seat)).await;
        }
        Ok(Err(error)) => {
            let said = format!("{error}{}", hint(error.kind()));
            server.complaints.borrow_mut().tell(peer, "no TLS with", &said);
        }
        // The daemon ends.
        Err(_) => {}
    }
}

/// What a failure that clients of this daemon meet often comes from, where its name does not say so.
fn hint(kind: &TlsErrorKind) -> &'static str {
    use rustls::AlertDescription as Alert;
    match kind {
        // The last is what comes of trusting another certificate of the same name.
        TlsErrorKind::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::DecryptError,
        ) => {
            "; the client does not trust the certificate of this server: it must be told to trust it, or \
             whoever has signed it, and the name that it calls must be in it"
        }
        TlsErrorKind::AlertReceived(Alert::CertificateExpired) => {
            "; renew the certificate of this server, then send SIGHUP"
        }
        TlsErrorKind::Incompatible(rustls::Error::NoApplicationProtocol) => {
            "; it wants something else than HTTP/1.1, as HTTP/2 alone, by ALPN"
        }
        // Without this extension a client can only mean TLS 1.1 or older.
        TlsErrorKind::Incompatible(rustls::Error::PeerIncompatible(
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        )) => "; TLS 1.2 and 1.3 are served, and it is older",
        _ => "",
    }
}

/// How the log names a client: by its certificate, as `openssl x509 -fingerprint -sha256` does, in small
/// letters and without colons.
fn fingerprint(certificate: &[u8]) -> Box<str> {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(certificate) {
        // Writing to a String does not fail.
        _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// Lines about handshakes and sessions that failed: some, and then how many more there were.
#[derive(Debug)]
pub(crate) struct Complaints {
    since: Instant,
    told: u32,
    withheld: u64,
}

/// Lines in a row.
const TOLD_MAX: u32 = 10;
/// After this long there may be as many again.
const SPAN: Duration = Duration::from_secs(10);

impl Complaints {
    pub(crate) fn new() -> RefCell<Complaints> {
        RefCell::new(Complaints { since: Instant::now(), told: 0, withheld: 0 })
    }

    /// Tells what it came to with whom, and why.
    pub(crate) fn tell(&mut self, peer: SocketAddr, what: &str, error: &dyn std::fmt::Display) {
        self.look(Instant::now());
        if self.told == TOLD_MAX {
            self.withheld += 1;
            return;
        }
        self.told += 1;
        eprintln!("ringwayd: {what} {peer}: {error}");
    }

    /// Tells what was withheld, when its time has come.
    pub(crate) fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) < SPAN {
            return;
        }
        if self.withheld > 0 {
            eprintln!("ringwayd: {} more TLS handshakes or sessions have failed", self.withheld);
        }
        *self = Complaints { since: now, told: 0, withheld: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failures_is_a_few_lines() {
        let complaints = Complaints::new();
        let mut complaints = complaints.borrow_mut();
        let peer = SocketAddr::from(([192, 0, 2, 1], 40_000));
        for _ in 0..1000 {
            complaints.tell(peer, "no TLS with", &"no reason");
        }
        assert_eq!((complaints.told, complaints.withheld), (TOLD_MAX, 990));
        let later = complaints.since + SPAN;
        complaints.look(later);
        assert_eq!((complaints.told, complaints.withheld), (0, 0));
    }
}
