//! The settings of `ringwayd serve` for files that come in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Whether files are taken, from whom, and how large.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Receiving")]
pub(crate) struct Receive {
    /// Takes files by PUT, and puts them below the root.
    #[arg(long)]
    pub(crate) writable: bool,

    /// File of tokens that may write, one on each line; a client gives one as `Authorization: Bearer
    /// …`. Without it, and without --client-ca, everybody may write who can connect.
    #[arg(long, value_name = "FILE", requires = "writable")]
    pub(crate) write_tokens: Option<PathBuf>,

    /// Lets everybody write though it is not only this host that can connect.
    #[arg(long, requires = "writable", conflicts_with = "write_tokens")]
    pub(crate) write_without_token: bool,

    /// What happens to a file that has the name already.
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Overwrite::Always)]
    pub(crate) overwrite: Overwrite,

    /// The largest file that is taken: bytes, or with KiB, MiB, GiB, TiB, kB, MB, GB or TB.
    #[arg(long, value_name = "SIZE", default_value_t = Size(16 << 30))]
    pub(crate) max_body: Size,

    /// The least that a client must send in a second on average over ten, in the same units.
    #[arg(long, value_name = "SIZE", default_value_t = Size(1024))]
    pub(crate) min_receive_rate: Size,

    /// Seconds of silence, after which a client that does not send is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = super::seconds())]
    pub(crate) receive_timeout_seconds: u64,

    /// Answers before file and folder are on the disk (fsync(2)): faster, and a crash of the host
    /// may lose what was answered. A file is never seen in part all the same.
    #[arg(long, requires = "writable")]
    pub(crate) no_sync: bool,
}

/// What becomes of a file whose name is wanted for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overwrite {
    /// It is replaced, in one step.
    Always,
    /// It stays, and the other is refused (409).
    Never,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
            .unwrap_or((text, 1));
        let number: u64 = digits.parse().map_err(|_| {
            "say a whole number of bytes, or one with a unit: 500 MB, 16GiB".to_owned()
        })?;
        number.checked_mul(unit).map(Size).ok_or_else(|| "that is more than 64 bits".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            UNITS[..4].iter().rev().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit));
        match whole {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("7B", 7),
            ("16GiB", 16 << 30),
            ("500 MB", 500_000_000),
            ("3kB", 3000),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "GiB", "1.5GiB", "-1", "1 XB", "99999999TiB", "1G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(16 << 30).to_string(), "16GiB");
        assert_eq!(Size(1000).to_string(), "1000");
    }
}
