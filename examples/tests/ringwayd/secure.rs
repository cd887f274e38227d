//! A client over TLS, and a certificate that it trusts.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use ringway::tls::crypto_provider;
use ringway::tls::rustls::client::Resumption;
use ringway::tls::rustls::pki_types::pem::PemObject;
use ringway::tls::rustls::pki_types::{CertificateDer, ServerName};
use ringway::tls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::daemon::{Daemon, PATIENCE, Root};

/// A certificate for localhost and its key, in two files of the root's.
pub(crate) fn certificate(root: &Root, name: &str) -> (String, String) {
    certificate_until(root, name, 4096)
}

/// One that is valid from 2010 to the beginning of this year.
pub(crate) fn certificate_until(root: &Root, name: &str, year: i32) -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2010, 1, 1), date_time_ymd(year, 1, 1));
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let files = (root.path(&format!(".{name}.pem")), root.path(&format!(".{name}.key")));
    fs::write(&files.0, made.pem()).unwrap();
    fs::write(&files.1, key.serialize_pem()).unwrap();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    (text(files.0), text(files.1))
}

/// A client that trusts this certificate, and shakes hands in full each time.
pub(crate) fn client_config(trusted: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A connection of rustls, blocking.
pub(crate) struct Secure(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    pub(crate) fn connect(daemon: &Daemon, trusted: &str) -> Secure {
        Secure::connect_with(daemon, client_config(trusted))
    }

    /// By a configuration that many share.
    pub(crate) fn connect_with(daemon: &Daemon, config: Arc<ClientConfig>) -> Secure {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        let stream = TcpStream::connect(daemon.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Secure(StreamOwned::new(connection, stream))
    }

    /// The body of a file that is so long.
    pub(crate) fn get(&mut self, path: &str, len: usize) -> Vec<u8> {
        // In one record: `write!` would make one of each piece, and each would wait for the one before.
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.write_all(request.as_bytes()).unwrap();
        let mut got = Vec::new();
        loop {
            let end = got.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end
                && got.len() >= end + 4 + len
            {
                assert!(got.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&got));
                return got.split_off(end + 4);
            }
            let mut chunk = vec![0; 1 << 16];
            let count = self.0.read(&mut chunk).unwrap();
            assert!(count > 0, "an end after {} bytes", got.len());
            got.extend_from_slice(&chunk[..count]);
        }
    }
}
