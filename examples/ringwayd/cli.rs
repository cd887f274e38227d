//! The command line of `ringwayd`.

pub(crate) mod client;
pub(crate) mod get;
pub(crate) mod push;
pub(crate) mod receive;
pub(crate) mod watch;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::access_log::LogFormat;
use crate::privileges::Identity;

/// Pushes files over the network with io_uring, and copies as little as the kernel allows.
#[derive(Debug, Parser)]
#[command(name = "ringwayd", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    /// File of settings: a table for each command, a key for each of its options, with `_` for `-`.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the daemon is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves the files below a folder over HTTP.
    Serve(Serve),
    /// Pushes files to HTTP servers by PUT, to many at once.
    ///
    /// Exit status: 0 everything arrived; 1 nothing was begun; 2 the command line is wrong; otherwise
    /// what all failures have in common: 3 a file, 4 no connection, 5 the connection broke, 6 refused,
    /// 7 other bytes arrived, 8 out of time, 9 interrupted, 10 a limit of this host, 12 no TLS with
    /// it, 20 several of these.
    #[command(verbatim_doc_comment)]
    Push(push::Push),
    /// Pushes what appears in a folder to HTTP servers, and remembers over a kill what is to be done.
    ///
    /// Exit status: 0 it was ended in order; 1 it could not begin or go on; 2 the command line is wrong.
    #[command(mut_arg("files", |files| files.hide(true)), verbatim_doc_comment)]
    Watch(watch::Watch),
    /// Tells what `watch` has to do, has done and has given up, whether it runs or not.
    Status(watch::Status),
    /// Fetches files from HTTP servers, and goes on where an earlier attempt or run stopped.
    ///
    /// Exit status: as for `push`, and 11 what came could not be kept.
    Get(get::Get),
    /// Tells what this kernel and these limits allow, and what to change and how.
    ///
    /// Exit status: 0 all is well; 3 it works, and could be faster or hold more; 1 it does not work.
    Doctor(crate::doctor::Doctor),
    /// Looks at a file of settings, and says what is wrong with it.
    Check(crate::config::Check),
}

/// The settings of `ringwayd serve`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// The folder whose files are served; nothing outside of it can be reached.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) root: PathBuf,

    /// Address and port to listen on; can be given several times, port 0 takes a free one. With
    /// --tls-listen there is no default.
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 1..,
        default_value = "127.0.0.1:8080",
        default_value_if("tls_listen", ArgPredicate::IsPresent, None)
    )]
    pub(crate) listen: Vec<SocketAddr>,

    /// Address and port to listen on for HTTPS (TLS 1.3 and 1.2), likewise.
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    pub(crate) tls_listen: Vec<SocketAddr>,

    /// Sends who comes to --listen to the first address of --tls-listen (308) instead of serving it.
    #[arg(long, requires = "listen", requires = "tls_listen")]
    pub(crate) redirect_to_https: bool,

    /// PEM file of the certificate, with those that lead from it to a known one; read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "key", requires = "tls_listen")]
    pub(crate) cert: Option<PathBuf>,

    /// PEM file of its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// PEM file of authorities: clients are asked for a certificate that one of them has signed, which may
    /// then write as a token may; read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub(crate) client_ca: Option<PathBuf>,

    /// Whether a client without a certificate is served all the same.
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t = ClientAuth::Required)]
    pub(crate) client_auth: ClientAuth,

    /// Makes a certificate for development, and keeps it in the state folder.
    #[arg(long, conflicts_with = "cert", requires = "tls_listen")]
    pub(crate) self_signed: bool,

    /// The state folder; without it ~/.local/state/ringwayd.
    #[arg(long, value_name = "DIR", requires = "self_signed")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Address and port for `/health` and `/metrics` (Prometheus); not told to anybody if not given.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<SocketAddr>,

    /// Threads, each with a ring of its own.
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) threads: NonZeroUsize,

    /// Form of the access log on standard output.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Serves files and folders whose name begins with a dot too; they answer 404 otherwise.
    #[arg(long)]
    pub(crate) hidden: bool,

    /// Where one way of sending becomes cheaper than another on this machine, as JSON; written by
    /// `ringway-bench calibrate`.
    #[arg(long, value_name = "FILE")]
    pub(crate) thresholds: Option<PathBuf>,

    /// Becomes this user, and this group if one is named, once it is bound and has read its keys;
    /// needs root. What SIGHUP reads again, this user must be able to read.
    #[arg(long, value_name = "NAME[:GROUP]")]
    pub(crate) user: Option<Identity>,

    #[command(flatten)]
    pub(crate) receive: receive::Receive,

    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// What becomes of clients without a certificate, where one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuth {
    /// There is no TLS with them.
    Required,
    /// They may read, and write only with a token.
    Optional,
}

/// What one client, and all clients of a thread together, may take.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Connections that are served at once, per thread; further ones wait.
    #[arg(long, value_name = "COUNT", default_value = "16384")]
    pub(crate) max_connections: NonZeroUsize,

    /// Seconds from the first byte of a request to the end of its head.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    pub(crate) header_timeout_seconds: u64,

    /// Seconds that a connection may wait for its next request.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) idle_timeout_seconds: u64,

    /// Seconds without progress, after which a client that does not read is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) send_timeout_seconds: u64,

    /// Seconds that running responses may take to finish after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    pub(crate) drain_timeout_seconds: u64,

    /// Bytes of a request head, from 1024 to 1048576; the worst case of memory per connection that
    /// is sending one.
    #[arg(long, value_name = "BYTES", default_value_t = 16384, value_parser = header_bytes())]
    pub(crate) max_header_bytes: usize,

    /// Bytes that may wait in the kernel for a client that does not take them, from 16384 to
    /// 1073741824 (`TCP_NOTSENT_LOWAT`); what is on its way to the client comes on top.
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, value_parser = unsent_bytes())]
    pub(crate) max_unsent_bytes: u32,
}

/// From one second to one day: a timeout of zero would refuse everybody.
fn seconds() -> clap::builder::RangedU64ValueParser<u64> {
    clap::builder::RangedU64ValueParser::new().range(1..=86_400)
}

/// Large enough for what a browser sends, small enough to be multiplied by the connections.
fn header_bytes() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1024..=1024 * 1024)
}

/// Below the least of these, each wake-up would bring only a few segments on their way.
fn unsent_bytes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(16384..=1 << 30)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn serve(arguments: &[&str]) -> Result<Serve, clap::Error> {
        let all = ["ringwayd", "serve"].iter().chain(arguments);
        CommandLine::try_parse_from(all).map(|line| match line.command {
            Command::Serve(serve) => serve,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let serve = serve(&[]).unwrap();
        assert_eq!(serve.root, PathBuf::from("."));
        assert_eq!(serve.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(serve.threads.get(), 1);
        assert_eq!(serve.log_format, LogFormat::Text);
        assert!(!serve.hidden);
        assert_eq!(serve.limits.max_connections.get(), 16384);
        assert_eq!(serve.limits.header_timeout_seconds, 10);
        assert_eq!(serve.limits.idle_timeout_seconds, 60);
        assert_eq!(serve.limits.send_timeout_seconds, 60);
        assert_eq!(serve.limits.drain_timeout_seconds, 30);
        assert_eq!(serve.limits.max_header_bytes, 16384);
        assert_eq!(serve.limits.max_unsent_bytes, 1_048_576);
    }

    #[test]
    fn several_addresses() {
        let both = ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()];
        assert_eq!(serve(&["--listen", "127.0.0.1:80", "[::1]:80"]).unwrap().listen, both);
        let twice = ["--listen", "127.0.0.1:80", "--listen", "[::1]:80", "--log-format", "json"];
        assert_eq!(serve(&twice).unwrap().listen, both);
    }

    #[test]
    fn encryption_replaces_the_default_address_and_needs_a_certificate() {
        let tls = serve(&["--tls-listen", "[::1]:443", "--self-signed"]).unwrap();
        assert!(tls.listen.is_empty() && tls.self_signed && tls.tls_listen.len() == 1);
        let both = serve(&["--listen", "[::1]:80", "--tls-listen", "[::1]:443", "--self-signed"]);
        assert_eq!(both.unwrap().listen.len(), 1);
        let all = ["--listen", "[::1]:80", "--tls-listen", "[::1]:443", "--self-signed"];
        let redirecting = serve(&[&all[..], &["--redirect-to-https"]].concat());
        assert!(redirecting.unwrap().redirect_to_https);
        for arguments in [
            &["--tls-listen", "[::1]:443", "--cert", "a"][..],
            &["--tls-listen", "[::1]:443", "--key", "a"],
            &["--tls-listen", "[::1]:443", "--self-signed", "--cert", "a", "--key", "b"],
            &["--cert", "a", "--key", "b"],
            &["--self-signed"],
            &["--tls-listen", "[::1]:443", "--state-dir", "."],
            &["--tls-listen", "[::1]:443", "--self-signed", "--redirect-to-https"],
            &["--listen", "[::1]:80", "--redirect-to-https"],
        ] {
            assert!(serve(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn senseless_values_are_refused() {
        for arguments in [
            ["--threads", "0"],
            ["--idle-timeout-seconds", "0"],
            ["--max-header-bytes", "10"],
            ["--max-connections", "0"],
            ["--max-unsent-bytes", "4096"],
            ["--listen", "localhost"],
            ["--log-format", "xml"],
        ] {
            assert!(serve(&arguments).is_err(), "{arguments:?}");
        }
    }
}
