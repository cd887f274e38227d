//! The servers: what each is, whether it is here, and how it is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use super::broken::Fault;
use super::nginx;
use super::site::Site;
use crate::tls::Certificate;

/// A row of the table of servers.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// One line for the reader.
    pub(crate) about: &'static str,
    pub(crate) program: Program,
    /// Runs only when named: for the harness's own tests, or for one mode only.
    pub(crate) hidden: bool,
}

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Nginx { tcp_nopush: bool, tls: bool },
    Ringwayd { tls: bool },
    ServeDir { tls: bool },
    Filtering,
    Floor,
    Broken(Fault),
}

const fn shown(name: &'static str, about: &'static str, program: Program) -> Server {
    Server { name, about, program, hidden: false }
}

const fn hidden(name: &'static str, about: &'static str, fault: Fault) -> Server {
    Server { hidden: true, ..shown(name, about, Program::Broken(fault)) }
}

/// Every server, in the order of the tables.
pub(crate) const SERVERS: &[Server] = &[
    shown(
        "nginx-nopush-off",
        "nginx, one worker, sendfile, open_file_cache, no log, tcp_nopush off",
        Program::Nginx { tcp_nopush: false, tls: false },
    ),
    shown(
        "nginx-nopush-on",
        "nginx, one worker, sendfile, open_file_cache, no log, tcp_nopush on",
        Program::Nginx { tcp_nopush: true, tls: false },
    ),
    shown(
        "ringwayd",
        "ringwayd serve --threads 1 --log-format none",
        Program::Ringwayd { tls: false },
    ),
    shown(
        "servedir",
        "tower-http ServeDir on axum, one current_thread runtime, no log",
        Program::ServeDir { tls: false },
    ),
    Server {
        hidden: true,
        ..shown(
            "ringway-filter",
            "one loop of the library; the large file goes through a RecordFilter",
            Program::Filtering,
        )
    },
    hidden("right", "as simple as can be, and right", Fault::Nothing),
    hidden("broken-byte", "one byte of a body is wrong", Fault::WrongByte),
    hidden("broken-late", "right at first, then one byte is wrong", Fault::LateByte),
    hidden("broken-short", "one byte of a body is missing", Fault::Short),
    hidden("broken-long", "one byte too many after a body", Fault::Long),
    hidden("broken-length", "announces and sends a body that is too short", Fault::OtherLength),
    hidden("broken-status", "answers 500", Fault::Status),
    hidden("broken-stall", "stops for 50 ms, once in 400 answers", Fault::Stall),
    hidden("broken-leaves", "ends each connection after 20 answers", Fault::Leaves),
    hidden("broken-start", "ends before it listens", Fault::Start),
];

/// The same over TLS 1.3.
pub(crate) const TLS_SERVERS: &[Server] = &[
    shown(
        "nginx-tls",
        "nginx, one worker, ssl, session cache and tickets, open_file_cache, no log",
        Program::Nginx { tcp_nopush: true, tls: true },
    ),
    shown(
        "ringwayd-tls",
        "ringwayd serve --tls-listen --threads 1 --log-format none",
        Program::Ringwayd { tls: true },
    ),
    shown(
        "servedir-tls",
        "tower-http ServeDir on axum over tokio-rustls, one current_thread runtime, no log",
        Program::ServeDir { tls: true },
    ),
    shown(
        "sealed-loop",
        "no server: one connection at a time by a bare loop of preadv, sealing in place and send",
        Program::Floor,
    ),
];

impl Server {
    /// Whether it can have many connections, and many requests on each.
    pub(crate) fn is_a_server(&self) -> bool {
        self.program != Program::Floor
    }
}

/// The server of this name.
#[cfg(test)]
pub(crate) fn named(name: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.name == name)
}

/// A server that can be started.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) server: &'static Server,
    /// What it says its version is.
    pub(crate) version: String,
    binary: PathBuf,
}

impl Installed {
    /// Looks for `server`; `own` is this program, `ringwayd` where the daemon should be.
    ///
    /// # Errors
    ///
    /// Why it is not here: a gap in the table.
    pub(crate) fn find(
        server: &'static Server,
        own: &Path,
        ringwayd: &Path,
    ) -> Result<Self, String> {
        let (binary, version) = match server.program {
            Program::Nginx { .. } => {
                let program = nginx::find().ok_or("nginx is not installed")?;
                let version = nginx::version(&program);
                (program, version.ok_or("nginx cannot be executed")?)
            }
            Program::Ringwayd { .. } => (ringwayd.to_owned(), version_of(ringwayd)?),
            Program::ServeDir { .. } if cfg!(feature = "peers") => {
                (own.to_owned(), "axum 0.8, tower-http 0.7".to_owned())
            }
            Program::ServeDir { .. } => {
                return Err("this harness was built without --features peers".to_owned());
            }
            Program::Filtering | Program::Floor | Program::Broken(_) => {
                (own.to_owned(), env!("CARGO_PKG_VERSION").to_owned())
            }
        };
        Ok(Self { server, version, binary })
    }

    /// The command line that serves `site` on `port`.
    pub(crate) fn command_line(&self, site: &Site, port: u16) -> Result<Vec<OsString>> {
        let mut line: Vec<OsString> = vec![self.binary.clone().into()];
        let address = format!("127.0.0.1:{port}");
        let root: OsString = site.root().into();
        let certificate = Certificate::at(site.path());
        let serves = |line: &mut Vec<OsString>| {
            let (address, root) = (address.clone().into(), root.clone());
            line.extend(["--listen".into(), address, "--root".into(), root]);
        };
        match self.server.program {
            Program::Nginx { tcp_nopush, tls } => {
                let configuration = nginx::configuration(nginx::Settings {
                    tcp_nopush,
                    port,
                    directory: site.path(),
                    root: &site.root(),
                    as_root: rustix::process::geteuid().is_root(),
                    tls,
                })?;
                let path = site.path().join("nginx.conf");
                std::fs::write(&path, configuration)?;
                line.extend(["-e".into(), "stderr".into(), "-p".into(), site.path().into()]);
                line.extend(["-c".into(), path.into()]);
            }
            Program::Ringwayd { tls } => {
                line.push("serve".into());
                line.extend(["--threads", "1", "--log-format", "none"].map(Into::into));
                if tls {
                    line.extend(["--tls-listen".into(), address.clone().into()]);
                    line.extend(["--root".into(), root.clone()]);
                    line.extend(["--cert".into(), certificate.chain().into()]);
                    line.extend(["--key".into(), certificate.key().into()]);
                } else {
                    serves(&mut line);
                }
            }
            Program::ServeDir { tls } => {
                line.push("peer-servedir".into());
                serves(&mut line);
                if tls {
                    line.extend(["--certificate".into(), site.path().into()]);
                }
            }
            Program::Floor => {
                line.push("peer-floor".into());
                serves(&mut line);
                line.extend(["--certificate".into(), site.path().into()]);
            }
            Program::Filtering => {
                line.push("peer-filtering".into());
                serves(&mut line);
            }
            Program::Broken(fault) => {
                line.extend(["peer-broken".into(), "--fault".into(), fault.name().into()]);
                serves(&mut line);
            }
        }
        Ok(line)
    }

    /// Whether it has child processes, which it must be given the time to end.
    pub(crate) fn has_children(&self) -> bool {
        matches!(self.server.program, Program::Nginx { .. })
    }
}

fn version_of(program: &Path) -> Result<String, String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{} --version: {}", program.display(), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for server in SERVERS {
            assert_eq!(SERVERS.iter().filter(|other| other.name == server.name).count(), 1);
        }
    }

    #[test]
    fn daemon_that_is_not_there_is_a_gap_that_says_where_it_was_sought() {
        let server = named("ringwayd").unwrap();
        let own = std::env::current_exe().unwrap();
        let gap = Installed::find(server, &own, Path::new("/no/such/ringwayd")).unwrap_err();
        assert!(gap.contains("/no/such/ringwayd"), "{gap}");
    }
}
