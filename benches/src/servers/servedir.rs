//! What a Rust user writes today: tower-http's `ServeDir` on axum, in one thread. Files are read by the
//! blocking pool of tokio, 64 KiB at a time, as `ServeDir` does by itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use axum::Router;
use axum::serve::ListenerExt;
use tower_http::services::ServeDir;

/// What the harness wants served.
#[derive(Debug, clap::Args)]
pub(crate) struct ServedirJob {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    root: PathBuf,
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
        axum::serve(listener, router).await?;
        Ok(())
    })
}
