//! What a Rust user writes today: tower-http's `ServeDir` on axum, in one thread. Files are read by the
//! blocking pool of tokio, 64 KiB at a time, as `ServeDir` does by itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use axum::Router;
use axum::serve::{Listener, ListenerExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower_http::services::ServeDir;

use crate::tls::{Certificate, TLS_SUITE};

/// What the harness wants served.
#[derive(Debug, clap::Args)]
pub(crate) struct ServedirJob {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    root: PathBuf,
    /// Serve over TLS, with the certificate in this directory.
    #[arg(long)]
    certificate: Option<PathBuf>,
}

/// Serves until it is killed.
pub(crate) fn serve_dir(job: &ServedirJob) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(job.listen).await?.tap_io(|socket| {
            // As nginx and ringwayd have it; without it the connection only is slower.
            let _ = socket.set_nodelay(true);
        });
        let router = Router::new().fallback_service(ServeDir::new(&job.root));
        match &job.certificate {
            Some(directory) => {
                let config = Certificate::at(directory).server(TLS_SUITE)?;
                axum::serve(Sealed { listener, acceptor: config.into() }, router).await?;
            }
            None => axum::serve(listener, router).await?,
        }
        Ok(())
    })
}

/// Streams of `listener` after their handshake, one after the other.
struct Sealed<L> {
    listener: L,
    acceptor: TlsAcceptor,
}

impl<L: Listener> Listener for Sealed<L> {
    type Io = TlsStream<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (socket, address) = self.listener.accept().await;
            // Who fails to shake hands is not served.
            if let Ok(stream) = self.acceptor.accept(socket).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
