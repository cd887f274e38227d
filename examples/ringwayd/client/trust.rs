//! Whom a client believes to be who, and what it shows of itself: the TLS of `push` and `get`.
//!
//! The authorities are those of the system (`rustls-native-certs`, which heeds `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`): they are kept up to date with it, and those that a company adds are among them. A
//! list in the program would be as old as the program.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use ringway::tls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use ringway::tls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use ringway::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use ringway::tls::rustls::{
    self, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use ringway::tls::{TlsConnector, TlsLimits, crypto_provider};

use crate::cli::client::Trust;
use crate::pem;

/// What connects over https as the settings say.
///
/// # Errors
///
/// Files that cannot be used, and a system that trusts nobody.
pub(crate) fn connector(
    trust: &Trust,
    handshake_timeout: Duration,
) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(crypto_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .context("TLS 1.2 and 1.3 cannot be had")?;
    let builder = match trust.insecure_accept_any_certificate {
        true => {
            eprintln!(
                "ringwayd: --insecure-accept-any-certificate: anybody on the way can read and change \
                 what is sent, tokens included"
            );
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        }
        false => builder.with_root_certificates(authorities(trust)?),
    };
    let mut config = match (&trust.cert, &trust.key) {
        (Some(cert), Some(key)) => {
            let (chain, own_key) = (pem::chain(cert, "--cert")?, pem::key(key)?);
            builder.with_client_auth_cert(chain, own_key).map_err(|error| {
                let (cert, key) = (cert.display(), key.display());
                anyhow!("the certificate in {cert} and the key in {key} cannot be used: {error}")
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let limits = TlsLimits::default().with_handshake_timeout(handshake_timeout);
    Ok(TlsConnector::new(Arc::new(config)).with_limits(limits))
}

fn authorities(trust: &Trust) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &trust.cacert {
        for authority in pem::chain(file, "--cacert")? {
            let added = roots.add(authority);
            added.with_context(|| format!("a certificate in {} is no good", file.display()))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    // Some of a hundred may be too old for rustls: the others count.
    roots.add_parsable_certificates(found.certs);
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    ensure!(
        !roots.is_empty(),
        "this system trusts no authority, so no https server can be trusted{why}: install them \
         (Debian: ca-certificates), or name one by --cacert FILE"
    );
    Ok(roots)
}

/// Takes whoever answers for whoever was meant. That it has the key of what it shows is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
