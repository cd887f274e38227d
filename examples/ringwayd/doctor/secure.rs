//! TLS with ourselves over loopback: which cipher is agreed on, and who seals, is seen and not foretold.

use std::fmt::Display;
use std::fs;
use std::sync::Arc;

use ringway::runtime::net::{TcpListener, TcpStream};
use ringway::runtime::spawn;
use ringway::tls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use ringway::tls::rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore, ServerConfig};
use ringway::tls::{Backend, TlsAcceptor, TlsConnector, crypto_provider};

/// What TLS does here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFacts {
    /// The suite that two of us agree on.
    pub(crate) suite: String,
    /// Why the kernel does not seal; none if it does.
    pub(crate) no_kernel_tls: Option<&'static str>,
    /// Whether the processor has instructions for AES; none if that is not known.
    pub(crate) aes_instructions: Option<bool>,
}

/// Shakes hands with ourselves.
///
/// # Errors
///
/// In words.
pub(crate) async fn look() -> Result<TlsFacts, String> {
    let (acceptor, connector) = both_ends().map_err(|error| error.to_string())?;
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).map_err(text)?;
    let address = listener.local_address().map_err(text)?;
    let accepting = spawn(async move {
        let stream = listener.accept().await.map_err(text)?;
        acceptor.accept(stream).await.map_err(text)
    });
    let stream = TcpStream::connect(address).await.map_err(text)?;
    let name = ServerName::try_from("localhost").map_err(text)?;
    let mut client = connector.connect(stream, name).await.map_err(text)?;
    let mut server = accepting.await.map_err(|error| format!("{error:?}"))??;
    let facts = TlsFacts {
        suite: client.suite().as_str().unwrap_or("an unknown suite").to_owned(),
        no_kernel_tls: match server.backend() {
            Backend::Registered { kernel_tls } => Some(kernel_tls),
            Backend::Rustls { reason } => Some(reason),
            _ => None,
        },
        aes_instructions: aes_instructions(),
    };
    // What was learned stands, however they part.
    _ = server.close().await;
    _ = client.close().await;
    Ok(facts)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn both_ends() -> anyhow::Result<(TlsAcceptor, TlsConnector)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let provider = Arc::new(crypto_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(DEFAULT_VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(DEFAULT_VERSIONS)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsAcceptor::new(Arc::new(server)), TlsConnector::new(Arc::new(client))))
}

/// The flag `aes` of the first processor.
fn aes_instructions() -> Option<bool> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, flags) = lines.find(|(name, _)| matches!(name.trim(), "flags" | "Features"))?;
    Some(flags.split_whitespace().any(|flag| flag == "aes"))
}
