//! Certificates made for a test: an authority, and what it has signed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, date_time_ymd,
};
use ringway::tls::crypto_provider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use tempfile::TempDir;

/// A certificate authority, and a certificate for `peer.test` and 127.0.0.1.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    server: Pair,
}

/// A certificate with its key.
pub(crate) struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Pair {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each has a name of its own, or one would be taken for another with a wrong key.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("authority {} of a test", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let server = sign(&issuer, |_| {});
        Self { issuer, server }
    }

    /// Another certificate for the same names.
    pub(crate) fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        sign(&self.issuer, change)
    }

    pub(crate) fn expired(&self) -> Pair {
        self.sign(|params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    /// Our certificate, with somebody else's key.
    pub(crate) fn stolen(&self) -> Arc<SingleCertAndKey> {
        let key = any_supported_type(&self.sign(|_| {}).key()).unwrap();
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.server.chain(), key)))
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    pub(crate) fn server(&self) -> ServerConfig {
        self.server_with(&self.server)
    }

    pub(crate) fn server_with(&self, pair: &Pair) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pair.chain(), pair.key())
            .unwrap()
    }

    /// A server that wants to see a certificate.
    pub(crate) fn server_for_known_clients(&self) -> ServerConfig {
        let provider = Arc::new(crypto_provider());
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(self.server.chain(), self.server.key())
            .unwrap()
    }

    pub(crate) fn client(&self) -> ClientConfig {
        self.client_of(&[&version::TLS13, &version::TLS12], &[])
    }

    /// A client with these versions, and of the suites only those whose name has one of these parts.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        suites: &[&str],
    ) -> ClientConfig {
        let mut provider = crypto_provider();
        if !suites.is_empty() {
            provider.cipher_suites = suites
                .iter()
                .flat_map(|part| {
                    let all = crypto_provider().cipher_suites;
                    all.into_iter().filter(|suite| format!("{:?}", suite.suite()).contains(*part))
                })
                .collect();
        }
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A client with a certificate of its own.
    pub(crate) fn known_client(
        &self,
        pair: &Pair,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(pair.chain(), pair.key())
            .unwrap()
    }

    /// `authority.pem`, `server.pem` and `server.key` in a folder, for programs.
    pub(crate) fn write(&self, folder: &TempDir) -> Files {
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Files {
            authority: file("authority.pem", self.issuer.pem()),
            certificate: file("server.pem", self.server.certificate.pem()),
            key: file("server.key", self.server.key.serialize_pem()),
        }
    }
}

pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

fn sign(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> Pair {
    let names = ["peer.test", "localhost", "127.0.0.1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "peer.test");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Pair { certificate: params.signed_by(&key, issuer).unwrap(), key }
}
