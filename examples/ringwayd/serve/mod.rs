//! `ringwayd serve`: files of one folder over HTTP, on as many rings as there are threads.
//!
//! | room | is |
//! |---|---|
//! | `listen` | the listeners of all threads, bound before anything else |
//! | `stop` | how signals reach every thread |
//! | `server` | what runs on one thread |
//! | `seats` | who is connected there, and until when each may wait |
//! | `connection` | one client, from its first byte to its last |
//! | `wire` | what a connection needs of a stream, plain or encrypted |
//! | `tls` | certificates, and the handshake before a connection |
//! | `validity` | whether a certificate has expired |
//! | `self_signed` | a certificate for development |
//! | `exchange` | one request and its answer |
//! | `record` | what is told of an exchange when it is over |
//! | `desk` | the buffers of a request that is being read or answered |
//! | `cache` | files that are open, and what a path leads to |
//! | `receive` | files that come in |
//! | `log_writer` | the thread that writes the access log |
//! | `admin` | health, and numbers for Prometheus |

pub(crate) mod admin;
mod cache;
mod connection;
mod desk;
mod exchange;
pub(crate) mod listen;
pub(crate) mod log_writer;
mod receive;
mod record;
mod seats;
pub(crate) mod self_signed;
mod server;
mod stop;
mod tls;
mod validity;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use ringway::Thresholds;
use ringway::runtime::fs::OpenOptions;
use ringway::runtime::net::TcpListener;
use ringway::runtime::signal::Signals;
use ringway::runtime::{Config, Runtime, spawn};

use self::admin::Board;
use self::log_writer::{LogSink, LogWriter};
use self::server::{Listeners, Post, Server};
use self::stop::Stop;
use self::tls::{Certificates, Files};
use crate::access_log::LogFormat;
use crate::cli;
use crate::privileges;

/// Files that a thread keeps open for the next request.
const OPEN_FILES_MAX: u64 = 1024;

/// Serves until a signal ends it.
///
/// # Errors
///
/// Whatever keeps it from starting, with what to do about it; and what ends it before its time.
pub(crate) fn run(settings: &cli::Serve) -> anyhow::Result<()> {
    let threads = settings.threads.get();
    let root = root(&settings.root)?;
    let thresholds =
        settings.thresholds.as_deref().map(thresholds).transpose()?.unwrap_or_default();
    let files_max = open_files_max(settings);
    let bound = listen::bind(&settings.listen, threads)?;
    let encrypted = listen::bind(&settings.tls_listen, threads)?;
    let certificates = certificates(settings, &encrypted.addresses)?;
    let admin = settings.admin_listen.map(|address| listen::bind(&[address], 1)).transpose()?;
    if let Some(identity) = &settings.user {
        // From here on there are threads and rings, which keep the user that they were made by.
        privileges::become_user(identity)?;
    }
    let uploads = match settings.receive.writable {
        true => Some(uploads(settings, &root)?),
        false => None,
    };
    let board = admin.as_ref().map(|_| Board::new(threads));
    let admin_address = admin.as_ref().and_then(|admin| admin.addresses.first().copied());
    let mut admin = admin.into_iter().flat_map(|admin| admin.by_thread).flatten();
    let signals = stop::ending_signals().context("cannot listen to signals")?;
    let log = match settings.log_format {
        LogFormat::None => LogWriter::none(),
        _ => LogWriter::start().context("cannot start the thread of the access log")?,
    };
    let stop = Stop::new(threads);
    let (ready, readiness) = channel();
    let https_port = encrypted.addresses.first().map(SocketAddr::port);
    let https_port = https_port.filter(|_| settings.redirect_to_https);
    let mut signals = Some(signals);
    let mut started = Vec::with_capacity(threads);
    let mut renewals = certificates.is_some().then(tls::changed).transpose();
    let by_thread = bound.by_thread.into_iter().zip(encrypted.by_thread);
    for (number, (plain, encrypted)) in by_thread.enumerate() {
        let renewal = renewals.as_mut().map(Option::take);
        let renewal = renewal.map_err(|error| anyhow!("cannot listen to SIGHUP: {error}"))?;
        let listeners = Listeners { plain, encrypted, certificates: certificates.clone() };
        let thread = Thread {
            settings: settings.clone(),
            root: root.clone(),
            files_max,
            thresholds: thresholds.clone(),
            listeners,
            signals: signals.take(),
            renewal,
            log: log.sink(),
            uploads: uploads.clone().map(|uploads| (uploads, number)),
            https_port,
            post: board.clone().map(|board| Post { board, thread: number }),
            admin: admin.next(),
            stop: Arc::clone(&stop),
            ready: ready.clone(),
        };
        let builder = thread::Builder::new().name(format!("ringwayd-{number}"));
        started.push(builder.spawn(move || thread.run()).context("cannot start a thread")?);
    }
    drop(ready);
    if let Some(address) = admin_address {
        eprintln!("health and metrics at http://{address}/health and /metrics");
    }
    // Each thread says once that it serves; one that cannot just ends, and its error is told below.
    let kernels: Vec<String> = readiness.iter().collect();
    if let (true, Some(kernel)) = (kernels.len() == threads, kernels.first()) {
        let plural = if threads == 1 { "" } else { "s" };
        let plain = bound.addresses.iter().map(|address| ("http", address));
        let encrypted = encrypted.addresses.iter().map(|address| ("https", address));
        for (scheme, address) in plain.chain(encrypted) {
            let root = root.display();
            eprintln!(
                "serving {root} on {scheme}://{address}, {threads} thread{plural}, Linux {kernel}"
            );
        }
    }
    let mut outcome = Ok(());
    for thread in started {
        let ended = thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
        outcome = outcome.and(ended);
    }
    let lost = log.finish();
    if lost > 0 {
        eprintln!("ringwayd: {lost} lines of the access log were dropped in all");
    }
    outcome
}

/// What one thread needs to begin.
struct Thread {
    settings: cli::Serve,
    root: PathBuf,
    files_max: usize,
    thresholds: Thresholds,
    listeners: Listeners,
    /// Only one thread listens to signals.
    signals: Option<Signals>,
    /// The signal that certificates have changed.
    renewal: Option<Signals>,
    log: LogSink,
    /// For files that come in, with the number of the thread.
    uploads: Option<(receive::Common, usize)>,
    /// Where clients without encryption are sent to, if they are not served.
    https_port: Option<u16>,
    /// Where its numbers go, if anywhere.
    post: Option<Post>,
    /// Only one thread tells the numbers of all.
    admin: Option<TcpListener>,
    stop: Arc<Stop>,
    ready: Sender<String>,
}

impl Thread {
    fn run(self) -> anyhow::Result<()> {
        let stop = Arc::clone(&self.stop);
        let _ended = Ended(Arc::clone(&stop));
        let config = config(self.settings.limits.max_connections.get());
        let runtime = Runtime::with_config(config).map_err(|error| anyhow!("{error}"))?;
        let kernel = runtime.capabilities().kernel.clone();
        runtime.block_on(async {
            let root = OpenOptions::new().folder(true).open(&self.root).await;
            let root = root.with_context(|| format!("cannot open {}", self.root.display()))?;
            if let (Some(admin), Some(post)) = (self.admin, &self.post) {
                drop(spawn(admin::answer_all(admin, Arc::clone(&post.board))));
            }
            let uploads = match &self.uploads {
                Some((common, number)) => {
                    let settings = &self.settings.receive;
                    let part = common.for_thread(*number, &root, settings).await;
                    Some(part.context("cannot open the staging folder")?)
                }
                None => None,
            };
            let (settings, thresholds) = (&self.settings, self.thresholds);
            let files = (root, self.files_max);
            let (log, post, https_port) = (self.log, self.post, self.https_port);
            let server = Server::new(settings, files, thresholds, log, post, uploads, https_port);
            let obeying = self.signals.map(|signals| spawn(stop::obey(signals, Arc::clone(&stop))));
            if let (Some(signals), Some(certificates)) =
                (self.renewal, &self.listeners.certificates)
            {
                drop(spawn(Arc::clone(certificates).reread(signals)));
            }
            _ = self.ready.send(kernel);
            drop(self.ready);
            server.run(self.listeners, Arc::clone(&stop)).await?;
            if obeying.is_some() {
                // The second signal must be heard until the slowest thread has finished.
                stop.threads_left(1).await;
            }
            Ok(())
        })
    }
}

/// Tells the other threads of the end of this one, however it came: one alone is no daemon.
struct Ended(Arc<Stop>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.begin();
        self.0.thread_ended();
    }
}

/// Each idle connection has an op that waits, and each busy one has a few: there must be room for
/// the completions of all of them.
fn config(connections_max: usize) -> Config {
    /// What the kernel allows.
    const COMPLETION_ENTRIES_MAX: u32 = 65536;
    let wanted = u32::try_from(connections_max.saturating_mul(2)).unwrap_or(u32::MAX);
    let least = Config::default().completion_entries;
    let completion_entries = wanted.clamp(least, COMPLETION_ENTRIES_MAX);
    Config { completion_entries, ..Config::default() }
}

/// The certificate for the encrypted addresses, read before anything is served.
fn certificates(
    settings: &cli::Serve,
    addresses: &[SocketAddr],
) -> anyhow::Result<Option<Arc<Certificates>>> {
    if addresses.is_empty() {
        return Ok(None);
    }
    let (certificate, key) = match (&settings.cert, &settings.key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        _ if settings.self_signed => {
            let files = self_signed::provide(settings.state_dir.as_deref(), addresses)?;
            let shown = files.0.display();
            eprintln!(
                "ringwayd: the certificate for development is {shown}: trust it with curl --cacert"
            );
            files
        }
        _ => bail!("--tls-listen needs --cert and --key, or --self-signed"),
    };
    let clients = settings.client_ca.clone().map(|file| (file, settings.client_auth));
    let limit = Duration::from_secs(settings.limits.header_timeout_seconds);
    Certificates::read(Files { certificate, key, clients }, limit).map(Some)
}

/// Makes ready for files that come in.
fn uploads(settings: &cli::Serve, root: &Path) -> anyhow::Result<receive::Common> {
    let receive = &settings.receive;
    let mut addresses = settings.listen.iter().chain(&settings.tls_listen);
    let open = addresses.find(|address| !address.ip().is_loopback());
    let certificates = settings.client_ca.is_some();
    let asked = receive.write_tokens.is_some() || certificates;
    if let (Some(address), false, false) = (open, asked, receive.write_without_token) {
        bail!(
            "cannot let everybody write who reaches {address}: name a file of tokens with \
             --write-tokens, or the authorities of clients with --client-ca, or say \
             --write-without-token if that is meant"
        );
    }
    receive::Common::prepare(root, receive, certificates)
}

/// The folder to serve, resolved once: a link that is moved later is not followed.
fn root(given: &Path) -> anyhow::Result<PathBuf> {
    let shown = given.display();
    let root = given
        .canonicalize()
        .with_context(|| format!("cannot serve {shown}: name an existing folder with --root"))?;
    let metadata = root.metadata().with_context(|| format!("cannot look at {shown}"))?;
    if metadata.is_file() {
        bail!("cannot serve {shown}: it is a file; name the folder it is in with --root");
    }
    ensure!(metadata.is_dir(), "cannot serve {shown}: it is not a folder");
    Ok(root)
}

/// Reads the thresholds that were measured on this machine.
fn thresholds(path: &Path) -> anyhow::Result<Thresholds> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    serde_json::from_str(&text).with_context(|| {
        format!("{shown} does not hold thresholds: `ringway-bench calibrate` writes such a file")
    })
}

/// Raises the limit of descriptors as far as it goes, and says how many of them each thread may
/// spend on files that are only kept open: a quarter.
fn open_files_max(settings: &cli::Serve) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let allowed = allowed.unwrap_or(u64::MAX);
    let threads = settings.threads.get() as u64;
    let files_max = (allowed / 4 / threads).min(OPEN_FILES_MAX);
    let wanted = (settings.limits.max_connections.get() as u64 + files_max).saturating_mul(threads);
    if wanted > allowed {
        eprintln!(
            "ringwayd: {} connections on {threads} thread(s) may need {wanted} descriptors, and \
             {allowed} are allowed; further clients will wait: raise the hard limit (ulimit -Hn, \
             LimitNOFILE= in systemd)",
            settings.limits.max_connections
        );
    }
    usize::try_from(files_max).unwrap_or(usize::MAX)
}
