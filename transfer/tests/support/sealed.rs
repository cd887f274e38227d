//! The other end of an encrypted stream: rustls itself, over a socket of the standard library and on a
//! thread. What it opens was sealed as rustls would have sealed it.

use std::io::{self, Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::{Arc, OnceLock};

use ringway::runtime::net::TcpStream;
use ringway::tls::rustls::client::Resumption;
use ringway::tls::rustls::crypto::aws_lc_rs::cipher_suite;
use ringway::tls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use ringway::tls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedCipherSuite,
    SupportedProtocolVersion, version,
};
use ringway::tls::{TlsAcceptor, TlsLimits, TlsStream, crypto_provider};
use ringway::{Mode, Route};

use super::tap::{Appetite, Tap};

/// The client, after its handshake: reading gives plaintext, and an end without a `close_notify` is an
/// error.
pub type Client = StreamOwned<ClientConnection, Prompt>;

/// A socket that acknowledges at once: with little room at the sender's, each acknowledgement that is
/// put off costs 40 ms.
pub struct Prompt(pub StdStream);

impl Read for Prompt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        rustix::net::sockopt::set_tcp_quickack(&self.0, true)?;
        self.0.read(buffer)
    }
}

impl Write for Prompt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The route in each of its modes.
pub const SEALED_WAYS: [(Route, Mode); 3] = [
    (Route::Registered, Mode::Ring),
    (Route::Registered, Mode::Hybrid),
    (Route::Registered, Mode::Inline),
];

/// What kind of connection it is.
#[derive(Clone)]
pub struct Settings {
    pub version: &'static SupportedProtocolVersion,
    pub suite: SupportedCipherSuite,
    pub limits: TlsLimits,
    /// Bytes of the socket's send buffer.
    pub send_buffer: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: &version::TLS13,
            suite: cipher_suite::TLS13_AES_256_GCM_SHA384,
            limits: TlsLimits::default().with_kernel_tls(false),
            send_buffer: 1 << 20,
        }
    }
}

/// The suites of TLS 1.3.
pub fn suites() -> [SupportedCipherSuite; 3] {
    [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ]
}

/// A connection of TLS 1.2.
pub fn old() -> Settings {
    let suite = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    Settings { version: &version::TLS12, suite, ..Settings::default() }
}

/// The kernel seals, where it can.
pub fn by_kernel() -> Settings {
    Settings { limits: TlsLimits::default(), ..Settings::default() }
}

/// A little room in the socket, so that it is full again and again.
pub fn narrow() -> Settings {
    Settings { send_buffer: 16 << 10, ..Settings::default() }
}

/// Both ends, after the handshake.
pub async fn connected(settings: &Settings) -> (TlsStream, Client) {
    let (ours, theirs) = super::tap::tcp_pair();
    shaken(settings, ours, theirs).await
}

/// The same over two sockets that lead to each other.
pub async fn shaken(
    settings: &Settings,
    ours: StdStream,
    theirs: StdStream,
) -> (TlsStream, Client) {
    theirs.set_read_timeout(Some(ringway_testkit::peer::PATIENCE_DEFAULT)).unwrap();
    // rustls writes its last messages one by one: the second would wait 40 ms for an acknowledgement.
    theirs.set_nodelay(true).unwrap();
    let config = client_config(settings);
    let client = std::thread::spawn(move || {
        let name = ServerName::try_from("peer.test").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut theirs = Prompt(theirs);
        while connection.is_handshaking() {
            connection.complete_io(&mut theirs).unwrap();
        }
        StreamOwned::new(connection, theirs)
    });
    let acceptor = TlsAcceptor::new(server_config()).with_limits(settings.limits.clone());
    let ours = TcpStream::from_std(ours).unwrap();
    ours.set_send_buffer(settings.send_buffer).unwrap();
    let stream = acceptor.accept(ours).await.unwrap();
    (stream, client.join().unwrap())
}

/// An encrypted connection to a tap.
pub async fn tap_tls(appetite: Appetite, settings: &Settings) -> (TlsStream, Tap) {
    let (stream, client) = connected(settings).await;
    (stream, Tap::spawn(client, appetite))
}

fn server_config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let key = PrivatePkcs8KeyDer::from(certified().signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified().cert.der().clone()], PrivateKeyDer::from(key));
        Arc::new(config.unwrap())
    });
    Arc::clone(config)
}

fn client_config(settings: &Settings) -> ClientConfig {
    let mut provider = crypto_provider();
    provider.cipher_suites = vec![settings.suite];
    let mut roots = RootCertStore::empty();
    roots.add(certified().cert.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[settings.version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

fn certified() -> &'static rcgen::CertifiedKey<rcgen::KeyPair> {
    static CERTIFIED: OnceLock<rcgen::CertifiedKey<rcgen::KeyPair>> = OnceLock::new();
    CERTIFIED.get_or_init(|| rcgen::generate_simple_self_signed(["peer.test".to_owned()]).unwrap())
}
