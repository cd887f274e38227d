//! Sends one file over TLS to everybody who connects, as
//! `openssl s_client -quiet -connect HOST:PORT` does:
//! `cargo run --example serve_tls -- FILE 127.0.0.1:9443 CERT.pem KEY.pem`
//!
//! The call is the same as without TLS. The receipt names the way: records are sealed where the file was
//! read to, or made by the kernel where it can.

use std::net::SocketAddr;
use std::sync::Arc;

use ringway::runtime::net::{TcpListener, TcpStream};
use ringway::runtime::{Runtime, fs::File, spawn};
use ringway::tls::rustls::ServerConfig;
use ringway::tls::rustls::pki_types::pem::PemObject;
use ringway::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ringway::tls::{TlsAcceptor, crypto_provider};
use ringway::{Receipt, transfer_file};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, address, certificate, key] = arguments.as_slice() else {
        return Err("usage: serve_tls FILE ADDRESS:PORT CERT.pem KEY.pem".into());
    };
    let address: SocketAddr = address.parse()?;
    let acceptor = TlsAcceptor::new(Arc::new(configuration(certificate, key)?));
    Runtime::new()?.block_on(async {
        let file = File::open(path).await?;
        let listener = TcpListener::bind(address)?;
        println!("sending {path} over TLS to whoever connects to {}", listener.local_address()?);
        loop {
            let stream = listener.accept().await?;
            let (file, acceptor) = (file.clone(), acceptor.clone());
            spawn(async move {
                match send(&file, &acceptor, stream).await {
                    Ok(receipt) => println!("{receipt} ({})", receipt.reason),
                    Err(error) => eprintln!("{error}"),
                }
            });
        }
    })
}

async fn send(file: &File, acceptor: &TlsAcceptor, stream: TcpStream) -> Result<Receipt, Error> {
    let mut stream = acceptor.accept(stream).await?;
    let receipt = transfer_file(file, &mut stream).await?;
    // Without this the client would not know that nothing is missing.
    stream.close().await?;
    Ok(receipt)
}

fn configuration(certificate: &str, key: &str) -> Result<ServerConfig, Error> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(config)
}
