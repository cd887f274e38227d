//! nginx: where it is, and its configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

const TEMPLATE: &str = include_str!("../../servers/nginx.conf");
const TLS_TEMPLATE: &str = include_str!("../../servers/nginx-tls.conf");

/// Where distributions put it, if the search path of this user does not say.
const USUAL_PLACES: &str = "/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin:/opt/homebrew/bin";

/// The program, if it is installed.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(USUAL_PLACES.split(':'));
    places.map(|place| Path::new(place).join("nginx")).find(|program| program.is_file())
}

/// What it says about itself: `nginx/1.22.1`.
pub(crate) fn version(program: &Path) -> Option<String> {
    let said = Command::new(program).arg("-v").stdin(Stdio::null()).output().ok()?.stderr;
    let said = String::from_utf8(said).ok()?;
    Some(said.trim().rsplit(": ").next()?.to_owned())
}

/// What the template leaves open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) tcp_nopush: bool,
    pub(crate) port: u16,
    /// Where it may write.
    pub(crate) directory: &'a Path,
    /// What it serves.
    pub(crate) root: &'a Path,
    /// Its worker stays root too, as the other servers do: the site may lie where others cannot read.
    pub(crate) as_root: bool,
    /// Over TLS, with the certificate in `directory`.
    pub(crate) tls: bool,
}

/// The configuration file.
///
/// # Errors
///
/// A path holds a character that means something in the configuration, or is not UTF-8.
pub(crate) fn configuration(settings: Settings<'_>) -> Result<String> {
    let path = |path: &Path| -> Result<String> {
        let text = path.to_string_lossy().into_owned();
        let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
        ensure!(text.chars().all(plain), "nginx would misread the path {text}");
        Ok(text)
    };
    let template = if settings.tls { TLS_TEMPLATE } else { TEMPLATE };
    let text = template
        .replace("@names@", "Names between at signs")
        .replace("@user@", if settings.as_root { "user root;" } else { "" })
        .replace("@tcp_nopush@", if settings.tcp_nopush { "on" } else { "off" })
        .replace("@port@", &settings.port.to_string())
        .replace("@directory@", &path(settings.directory)?)
        .replace("@root@", &path(settings.root)?);
    ensure!(!text.contains('@'), "the template has a name that nobody fills in");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(root: &str) -> Settings<'_> {
        Settings {
            tcp_nopush: true,
            port: 4711,
            directory: Path::new("/var/tmp/site"),
            root: Path::new(root),
            as_root: false,
            tls: false,
        }
    }

    #[test]
    fn everything_is_filled_in() {
        let text = configuration(settings("/var/tmp/site/root")).unwrap();
        assert!(text.contains("tcp_nopush on;") && text.contains("tcp_nodelay on;"));
        assert!(text.contains("listen 127.0.0.1:4711;"));
        assert!(text.contains("root /var/tmp/site/root;"));
        assert!(text.contains("access_log off;"));
        assert!(!text.contains("user root;"));
        let off = Settings { tcp_nopush: false, as_root: true, ..settings("/r") };
        let text = configuration(off).unwrap();
        assert!(text.contains("tcp_nopush off;") && text.contains("user root;"));
        let text = configuration(Settings { tls: true, ..settings("/r") }).unwrap();
        assert!(text.contains("ssl_certificate /var/tmp/site/certificate.pem;"));
    }

    #[test]
    fn paths_that_would_be_read_as_something_else_are_refused() {
        for root in ["/a b", "/a;b", "/a{", "/$a", "/\"", "/a@b"] {
            assert!(configuration(settings(root)).is_err(), "{root}");
        }
    }
}
