//! The settings of `ringwayd push`.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::seconds;
use crate::client::url::{BadUrl, Url};

/// What is pushed, where to, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Push {
    /// The files to push.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Where each file goes, by HTTP PUT; a URL that ends in `/` takes the name of the file.
    #[arg(long, value_name = "URL", num_args = 1..)]
    pub(crate) to: Vec<Url>,

    /// File with a bearer token for all receivers; over http it travels in the clear.
    #[arg(long, value_name = "FILE", conflicts_with = "token_variable")]
    pub(crate) token_file: Option<PathBuf>,

    /// Variable of the environment that holds a bearer token for all receivers.
    #[arg(long, value_name = "NAME")]
    pub(crate) token_variable: Option<String>,

    /// A further field of each request, such as `If-None-Match: *`; can be given several times.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<Header>,

    /// Sends no digest, which saves reading each file once more, and checks none.
    #[arg(long)]
    pub(crate) no_digest: bool,

    /// How to tell what happens: bars on a terminal, JSON lines elsewhere.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,

    #[command(flatten)]
    pub(crate) limits: PushLimits,
}

/// What one receiver, and all of them together, may take.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct PushLimits {
    /// Seconds to resolve a name, and then to connect to each of its addresses.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    pub(crate) connect_timeout_seconds: u64,

    /// Seconds without progress, after which a receiver that takes nothing, or that has everything
    /// and does not answer, is given up for this attempt.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) idle_timeout_seconds: u64,

    /// Seconds for one file to one receiver with all attempts and waits.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = week())]
    pub(crate) whole_timeout_seconds: u64,

    /// From this length on, a receiver is asked whether it wants the body (`Expect: 100-continue`).
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    pub(crate) expect_min_bytes: u64,

    /// Milliseconds to wait for its answer before the body is sent all the same, up to a minute.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = milliseconds())]
    pub(crate) expect_timeout_milliseconds: u64,

    /// Attempts after the first, for what may succeed later, up to 1000.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = retries())]
    pub(crate) retries: u32,

    /// Milliseconds of the first wait, up to a minute; it doubles with each attempt, and a random
    /// half of it is left out.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = milliseconds())]
    pub(crate) retry_wait_milliseconds: u64,

    /// Seconds of the longest wait; a receiver that asks for more (`Retry-After`) is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub(crate) retry_wait_max_seconds: u64,

    /// Bytes per second that each receiver is sent at most; unlimited if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate_bytes_per_second: Option<NonZeroU64>,

    /// Bytes per second that all receivers together are sent at most; unlimited if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) total_rate_bytes_per_second: Option<NonZeroU64>,

    /// Bytes that may wait in the kernel for a receiver that does not take them, from 16384 to
    /// 1073741824 (`TCP_NOTSENT_LOWAT`).
    #[arg(long, value_name = "BYTES", default_value_t = 131_072, value_parser = super::unsent_bytes())]
    pub(crate) max_unsent_bytes: u32,
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
    use clap::Parser;

    use super::*;
    use crate::cli::{Command, CommandLine};

    fn push(arguments: &[&str]) -> Result<Push, clap::Error> {
        let all = ["ringwayd", "push"].iter().chain(arguments);
        CommandLine::try_parse_from(all).map(|line| match line.command {
            Command::Push(push) => push,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn files_and_receivers_stand_side_by_side() {
        let push = push(&["a", "b", "--to", "http://x/", "http://y/z"]).unwrap();
        assert_eq!(push.files, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(push.to.len(), 2);
        assert_eq!((push.limits.retries, push.limits.expect_min_bytes), (5, 1 << 20));
        assert_eq!(push.limits.total_rate_bytes_per_second, None);
    }

    #[test]
    fn senseless_values_are_refused() {
        for arguments in [
            ["--to", "x"],
            ["--header", "Host: x"],
            ["--header", "Authorization: Bearer x"],
            ["--header", "no field"],
            ["--header", "a b: x"],
            ["--rate-bytes-per-second", "0"],
            ["--retries", "1001"],
            ["--idle-timeout-seconds", "0"],
        ] {
            assert!(push(&arguments).is_err(), "{arguments:?}");
        }
        assert!(push(&["--token-file", "a", "--token-variable", "B"]).is_err());
    }

    #[test]
    fn values_of_fields_are_not_shown() {
        let header: Header = "X-Key: secret".parse().unwrap();
        assert_eq!(header.value, "secret");
        assert!(!format!("{header:?}").contains("secret"));
    }
}
