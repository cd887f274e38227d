//! The two ends: accepting and connecting with rustls's own configurations.

use std::fmt;
use std::sync::Arc;

use ringway_runtime::net::{Half, TcpStream};
use ringway_runtime::time::timeout;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};

use super::error::{TlsError, TlsErrorKind};
use super::handshake::{self, Carrier, Connection, Established};
use super::hello::{self, Hello};
use super::{TlsLimits, TlsStream};

/// The cryptography of rustls by aws-lc-rs, with the order of suites that suits a server of files:
/// AES-128-GCM before AES-256-GCM before ChaCha20-Poly1305.
///
/// A [`TlsAcceptor`] follows the server's order, except for a client that lists ChaCha20-Poly1305 first:
/// that one has no AES instructions.
#[must_use]
pub fn crypto_provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let name = format!("{:?}", suite.suite());
        let cipher = ["AES_128", "AES_256", "CHACHA20"].iter().position(|part| name.contains(part));
        (!name.starts_with("TLS13"), cipher)
    });
    provider
}

/// Accepts TLS connections.
#[derive(Clone)]
pub struct TlsAcceptor {
    /// Our order of suites.
    ours: Arc<ServerConfig>,
    /// The client's.
    theirs: Arc<ServerConfig>,
    limits: TlsLimits,
}

impl TlsAcceptor {
    /// With a configuration of the caller's, of which a clone is changed: the secrets of a connection can
    /// be extracted (so that records can be sealed in place), early data (0-RTT) and half-RTT data are
    /// off, and the server's order of suites counts unless the client has no AES instructions.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let mut theirs = Arc::unwrap_or_clone(config);
        theirs.enable_secret_extraction = true;
        theirs.max_early_data_size = 0;
        theirs.send_half_rtt_data = false;
        let mut ours = theirs.clone();
        ours.ignore_client_order = true;
        Self { ours: Arc::new(ours), theirs: Arc::new(theirs), limits: TlsLimits::default() }
    }

    /// Sets the limits of its connections.
    #[must_use]
    pub fn with_limits(mut self, limits: TlsLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes the server's side of a handshake.
    ///
    /// # Errors
    ///
    /// [`TlsError`] says what happened and whose fault it likely is; the peer was told by an alert.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use ringway::{runtime::{fs::File, net::TcpListener}, tls::TlsAcceptor, transfer_file};
    /// # async fn serve(config: rustls::ServerConfig) -> Result<(), Box<dyn std::error::Error>> {
    /// let acceptor = TlsAcceptor::new(Arc::new(config));
    /// let listener = TcpListener::bind("127.0.0.1:8443".parse()?)?;
    /// let mut stream = acceptor.accept(listener.accept().await?).await?;
    /// stream.write_all(b"hello, ").await?;
    /// stream.close().await?;
    /// # Ok(()) }
    /// ```
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream, TlsError> {
        let shaken = within(&self.limits, &stream, self.shake(&stream)).await;
        TlsStream::establish(stream, shaken?, &self.limits)
    }

    async fn shake(&self, stream: &TcpStream) -> Result<Established, TlsError> {
        let mut carrier = Carrier::default();
        let hello = loop {
            match hello::read(carrier.filled()) {
                Hello::Incomplete => handshake::receive(stream, &mut carrier).await?,
                hello => break hello,
            }
        };
        let (chacha_first, server_name) = match hello {
            Hello::Read { chacha_first, server_name } => (chacha_first, server_name),
            Hello::Incomplete | Hello::Unreadable => (false, None),
        };
        let config = if chacha_first { &self.theirs } else { &self.ours };
        let connection = UnbufferedServerConnection::new(Arc::clone(config)).map_err(unusable)?;
        handshake::run(stream, Connection::Server(Box::new(connection)), carrier, server_name).await
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Connects by TLS.
#[derive(Clone)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
    limits: TlsLimits,
}

impl TlsConnector {
    /// With a configuration of the caller's, of which a clone is changed: the secrets of a connection can
    /// be extracted, and early data (0-RTT) is off.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        let mut config = Arc::unwrap_or_clone(config);
        config.enable_secret_extraction = true;
        config.enable_early_data = false;
        Self { config: Arc::new(config), limits: TlsLimits::default() }
    }

    /// Sets the limits of its connections.
    #[must_use]
    pub fn with_limits(mut self, limits: TlsLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes the client's side of a handshake with the server of that name.
    ///
    /// # Errors
    ///
    /// As for [`TlsAcceptor::accept`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(
        &self,
        stream: TcpStream,
        name: ServerName<'static>,
    ) -> Result<TlsStream, TlsError> {
        let said = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.config), name);
        let connection = Connection::Client(Box::new(connection.map_err(unusable)?));
        let shaking = handshake::run(&stream, connection, Carrier::default(), said);
        let shaken = within(&self.limits, &stream, shaking).await;
        TlsStream::establish(stream, shaken?, &self.limits)
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn unusable(error: rustls::Error) -> TlsError {
    TlsError::new(TlsErrorKind::Configuration(error))
}

async fn within(
    limits: &TlsLimits,
    stream: &TcpStream,
    shaking: impl Future<Output = Result<Established, TlsError>>,
) -> Result<Established, TlsError> {
    let limit = limits.handshake_timeout;
    let shaken = timeout(limit, shaking).await;
    let shaken = shaken.unwrap_or_else(|_| Err(TlsError::new(TlsErrorKind::TimedOut { limit })));
    if let Err(error) = &shaken {
        // The peer learns now that it is over; the socket is closed when it is dropped.
        let _ = stream.shutdown(Half::Write);
        tracing::info!(%error, blame = %error.blame(), "a TLS handshake failed");
    }
    shaken
}
