//! The settings that `push` and `get` have in common: who calls, what it trusts, how long it tries.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::seconds;
use crate::client::retry::Policy;
use crate::client::url::{BadUrl, Url};

/// Who calls, and how it tells what happens.
#[derive(Args, Clone, Debug)]
pub(crate) struct Caller {
    /// File with a bearer token for each server that is named; over http it travels in the clear.
    #[arg(long, value_name = "FILE", conflicts_with = "token_variable")]
    pub(crate) token_file: Option<PathBuf>,

    /// Variable of the environment that holds a bearer token.
    #[arg(long, value_name = "NAME")]
    pub(crate) token_variable: Option<String>,

    /// A further field of each request, such as `If-None-Match: *`; can be given several times.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<Header>,

    /// How to tell what happens: bars on a terminal, JSON lines elsewhere.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,
}

/// Whom a client believes to be who, over https.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub(crate) struct Trust {
    /// PEM file of the authorities whose certificates are trusted, instead of those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,

    /// PEM file of the certificate that is shown to a server that asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// PEM file of its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Trusts whoever answers: anybody on the way can read and change everything, tokens included.
    #[arg(long, conflicts_with = "cacert")]
    pub(crate) insecure_accept_any_certificate: bool,
}

/// How long, how often and how fast one file is tried.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Attempts {
    /// Seconds to resolve a name, then to connect to each of its addresses, and then to shake hands
    /// over https.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    pub(crate) connect_timeout_seconds: u64,

    /// Seconds without progress, after which a peer that takes nothing, sends nothing, or has
    /// everything and does not answer, is given up for this attempt.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) idle_timeout_seconds: u64,

    /// Seconds for one file and one peer with all attempts and waits.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = week())]
    pub(crate) whole_timeout_seconds: u64,

    /// Attempts after the first, for what may succeed later, up to 1000.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = retries())]
    pub(crate) retries: u32,

    /// Milliseconds of the first wait, up to a minute; it doubles with each attempt, and a random
    /// half of it is left out.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = milliseconds())]
    pub(crate) retry_wait_milliseconds: u64,

    /// Seconds of the longest wait; a peer that asks for more (`Retry-After`) is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) retry_wait_max_seconds: u64,

    /// Bytes per second that are moved at most for each peer; unlimited if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate_bytes_per_second: Option<NonZeroU64>,
}

impl Attempts {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds)
    }

    /// How long a peer may be silent.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds)
    }

    /// How long the whole may take.
    pub(crate) fn whole(&self) -> Duration {
        Duration::from_secs(self.whole_timeout_seconds)
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            retries: self.retries,
            wait: Duration::from_millis(self.retry_wait_milliseconds),
            wait_max: Duration::from_secs(self.retry_wait_max_seconds),
        }
    }
}

/// How progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// Bars if standard error is a terminal, JSON lines otherwise.
    Auto,
    /// A bar for each receiver on standard error.
    Bars,
    /// One JSON object per line on standard output.
    Json,
    /// Nothing; failures are told on standard error.
    None,
}

/// A field of a request, checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Fields that frame a request, so that a second one would make two of it.
const OWN_FIELDS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "expect",
    "repr-digest",
    "authorization",
    "upgrade",
];

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Header, String> {
        let (name, value) = text.split_once(':').ok_or("write it as `Name: value`")?;
        let field = http::HeaderName::from_bytes(name.as_bytes());
        let name = field.map_err(|_| format!("`{name}` is no name of a field"))?;
        if OWN_FIELDS.contains(&name.as_str()) {
            return Err(match name.as_str() {
                "authorization" => "give a token by --token-file or --token-variable".to_owned(),
                name => format!("`{name}` is set by the push itself"),
            });
        }
        let value = value.trim();
        http::HeaderValue::from_str(value).map_err(|_| "the value has control characters")?;
        Ok(Header { name: name.to_string(), value: value.to_owned() })
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a password of some kind.
        write!(f, "Header({}: …)", self.name)
    }
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Url, BadUrl> {
        Url::parse(text)
    }
}

/// Up to a week.
pub(super) fn week() -> clap::builder::RangedU64ValueParser<u64> {
    clap::builder::RangedU64ValueParser::new().range(1..=7 * 86_400)
}

/// Up to a minute.
pub(super) fn milliseconds() -> clap::builder::RangedU64ValueParser<u64> {
    clap::builder::RangedU64ValueParser::new().range(1..=60_000)
}

pub(super) fn retries() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_fields_are_not_shown() {
        let header: Header = "X-Key: secret".parse().unwrap();
        assert_eq!(header.value, "secret");
        assert!(!format!("{header:?}").contains("secret"));
    }
}
