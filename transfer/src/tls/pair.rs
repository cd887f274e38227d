//! Two ends of a TLS session without a socket between them, for tests.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, version};

use super::config::crypto_provider;
use super::engine::Engine;
use super::handshake::{Carrier, Connection, Need, Records};
use super::record::Suite;

pub(crate) const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

fn certified() -> &'static rcgen::CertifiedKey<rcgen::KeyPair> {
    static CERTIFIED: OnceLock<rcgen::CertifiedKey<rcgen::KeyPair>> = OnceLock::new();
    CERTIFIED.get_or_init(|| {
        rcgen::generate_simple_self_signed(["peer.test".to_owned()]).expect("a certificate")
    })
}

/// The suite of rustls for one of ours.
pub(crate) fn suite_of_rustls(suite: Suite) -> SupportedCipherSuite {
    use rustls::crypto::aws_lc_rs::cipher_suite as suites;
    match suite {
        Suite::Aes128Gcm => suites::TLS13_AES_128_GCM_SHA256,
        Suite::Aes256Gcm => suites::TLS13_AES_256_GCM_SHA384,
        Suite::ChaCha20Poly1305 => suites::TLS13_CHACHA20_POLY1305_SHA256,
    }
}

pub(crate) fn server_config() -> ServerConfig {
    let provider = Arc::new(crypto_provider());
    let key = PrivatePkcs8KeyDer::from(certified().signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified().cert.der().clone()], PrivateKeyDer::from(key))
        .expect("a certificate");
    config.enable_secret_extraction = true;
    config
}

pub(crate) fn client_config(
    suites: &[SupportedCipherSuite],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut provider = crypto_provider();
    provider.cipher_suites = suites.to_vec();
    let mut roots = RootCertStore::empty();
    roots.add(certified().cert.der().clone()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    config
}

/// A handshake in memory: client and server, and what each had left unread.
pub(crate) struct Shaken {
    pub(crate) client: (Connection, Vec<u8>),
    pub(crate) server: (Connection, Vec<u8>),
}

pub(crate) fn shake(client: ClientConfig, server: ServerConfig) -> Shaken {
    use rustls::client::UnbufferedClientConnection;
    use rustls::server::UnbufferedServerConnection;
    let name = ServerName::try_from("peer.test").expect("a name");
    let client = UnbufferedClientConnection::new(Arc::new(client), name).expect("a client");
    let server = UnbufferedServerConnection::new(Arc::new(server)).expect("a server");
    let mut client = (Connection::Client(Box::new(client)), Carrier::default());
    let mut server = (Connection::Server(Box::new(server)), Carrier::default());
    // Tickets are read in the handshake, so that both ends begin at the same sequence numbers.
    (client.1.shows_all, server.1.shows_all) = (true, true);
    let mut done = (false, false);
    for _ in 0..16 {
        done.0 = advance(&mut client, &mut server.1);
        done.1 = advance(&mut server, &mut client.1);
        if done == (true, true) {
            break;
        }
    }
    assert_eq!(done, (true, true), "the handshake does not end");
    // Tickets of the server.
    advance(&mut client, &mut server.1);
    assert!(client.1.plaintext.is_empty() && server.1.plaintext.is_empty());
    Shaken { client: (client.0, client.1.take_rest()), server: (server.0, server.1.take_rest()) }
}

fn advance(from: &mut (Connection, Carrier), to: &mut Carrier) -> bool {
    loop {
        match from.0.advance(&mut from.1).expect("a handshake") {
            Need::Send => to.put(&std::mem::take(&mut from.1.outgoing)),
            Need::Receive => return false,
            Need::Nothing => return true,
        }
    }
}

pub(crate) fn records(connection: Connection) -> Records {
    match connection.into_records() {
        Ok(records) => records,
        Err(error) => panic!("{error}"),
    }
}

/// Our engine, made of a side of a handshake.
pub(crate) fn ours(side: (Connection, Vec<u8>), key_records_max: u64) -> Engine {
    Engine::new(records(side.0), Vec::new(), &side.1, false, key_records_max).expect("an engine")
}

/// rustls as the peer: it seals and opens by itself, in TLS 1.3 as well.
pub(crate) fn theirs(side: (Connection, Vec<u8>)) -> Engine {
    Engine::new(Records::Theirs(side.0), Vec::new(), &side.1, false, u64::MAX).expect("an engine")
}

/// A session of TLS 1.3 with this suite: ours is the server, rustls the client.
pub(crate) fn server_and_rustls(suite: Suite, key_records_max: u64) -> (Engine, Engine) {
    let config = client_config(&[suite_of_rustls(suite)], &[&version::TLS13]);
    let Shaken { client, server } = shake(config, server_config());
    (ours(server, key_records_max), theirs(client))
}

/// The same with ours as the client.
pub(crate) fn client_and_rustls(suite: Suite, key_records_max: u64) -> (Engine, Engine) {
    let config = client_config(&[suite_of_rustls(suite)], &[&version::TLS13]);
    let Shaken { client, server } = shake(config, server_config());
    (ours(client, key_records_max), theirs(server))
}

/// Everything that `from` has to say goes to `to`.
pub(crate) fn carry(from: &mut Engine, to: &mut Engine) {
    loop {
        from.prepare().expect("new keys");
        let bytes = from.pending().as_slice().to_vec();
        if bytes.is_empty() {
            return;
        }
        from.pending_sent(bytes.len());
        deliver(to, &bytes);
    }
}

/// `bytes` arrive at `to`.
pub(crate) fn deliver(to: &mut Engine, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let room = to.room().expect("room");
        let count = room.len().min(rest.len());
        room[..count].copy_from_slice(&rest[..count]);
        to.received(count);
        if to.is_classic() {
            // rustls keeps what it has opened by itself.
            to.step().expect("good records");
        }
        rest = &rest[count..];
    }
}

/// What stands in the memory of this process, whoever owned it: to see that a key is gone.
pub(crate) fn memory_at(address: usize, len: usize) -> Vec<u8> {
    let memory = std::fs::File::open("/proc/self/mem").expect("our own memory");
    let mut bytes = vec![0; len];
    let offset = u64::try_from(address).expect("an address");
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, offset).expect("mapped memory");
    bytes
}
