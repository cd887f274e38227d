//! Cipher suites, and configurations in which nothing else can be agreed on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305};
use ringway::tls::crypto_provider;
use ringway::tls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use ringway::tls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use ringway::tls::rustls::pki_types::pem::PemObject;
use ringway::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use ringway::tls::rustls::version::TLS13;
use ringway::tls::rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

/// A cipher suite of TLS 1.3.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// What OpenSSL's `speed -evp` calls its cipher.
    pub(crate) evp: &'static str,
    pub(crate) algorithm: &'static Algorithm,
    number: CipherSuite,
}

/// The bars are about the first.
pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "aes-256-gcm",
        evp: "aes-256-gcm",
        algorithm: &AES_256_GCM,
        number: CipherSuite::TLS13_AES_256_GCM_SHA384,
    },
    Suite {
        name: "aes-128-gcm",
        evp: "aes-128-gcm",
        algorithm: &AES_128_GCM,
        number: CipherSuite::TLS13_AES_128_GCM_SHA256,
    },
    Suite {
        name: "chacha20-poly1305",
        evp: "chacha20-poly1305",
        algorithm: &CHACHA20_POLY1305,
        number: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    },
];

/// What servers are compared with.
pub(crate) const TLS_SUITE: &Suite = &SUITES[0];

impl Suite {
    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = crypto_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == self.number);
        Arc::new(provider)
    }
}

/// A server's configuration with a certificate that was made a moment ago, and that nobody trusts.
pub(crate) fn server_of_a_moment(suite: &Suite) -> Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let key = key.ok().context("no key")?;
    let config = ServerConfig::builder_with_provider(suite.provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Arc::new(config))
}

/// A client's configuration that trusts whoever is there: the harness's own child at the other end of a
/// connection that it has accepted itself.
pub(crate) fn credulous_client(suite: &Suite) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(suite.provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(suite.provider())))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes every certificate; signatures are checked all the same, because that costs nothing here.
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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate that signs itself, for loopback, and its key: two files in PEM.
#[derive(Debug)]
pub(crate) struct Certificate {
    directory: PathBuf,
}

impl Certificate {
    /// Makes one in `directory`.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        let new = Self::at(directory);
        std::fs::write(new.chain(), made.cert.pem())?;
        std::fs::write(new.key(), made.signing_key.serialize_pem())?;
        Ok(new)
    }

    /// The one that was made there.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    /// A server's configuration with this suite alone.
    pub(crate) fn server(&self, suite: &Suite) -> Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(suite.provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(
                vec![self.certificate()?],
                PrivateKeyDer::from_pem_file(self.key())?,
            )?;
        Ok(Arc::new(config))
    }

    /// A client's, that trusts this certificate alone.
    pub(crate) fn client(&self, suite: &Suite) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()?)?;
        let config = ClientConfig::builder_with_provider(suite.provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn certificate(&self) -> Result<CertificateDer<'static>> {
        CertificateDer::from_pem_file(self.chain()).context("no certificate")
    }
}
