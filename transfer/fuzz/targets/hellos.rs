//! The beginning of a connection, as a server sees it.

#![no_main]

use std::sync::{Arc, OnceLock};

use ringway::tls::crypto_provider;
use ringway::tls::rustls::ServerConfig;
use ringway::tls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

fn config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let made =
            rcgen::generate_simple_self_signed(["peer.test".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key));
        Arc::new(config.expect("a certificate"))
    });
    Arc::clone(config)
}

libfuzzer_sys::fuzz_target!(|received: &[u8]| ringway::tls::fuzzing::hello(config(), received));
