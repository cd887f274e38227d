//! How a file arrived or why it did not, what that is good for, and what the exit status says of it.
//! Pure.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use ringway::TransferError;
use ringway::error::{Blame, ErrorKind};
use ringway::receive::{ReceiveError, ReceiveErrorKind};

use super::digest::Sha256;
use super::distrust;
use super::reply::Reply;
use super::response::Malformed;
use super::retry::{self, Remedy};

/// How a file arrived.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) status: u16,
    /// Both sides have said which bytes they have, and they are the same.
    pub(crate) verified: bool,
    /// The account of the transfer that brought it, if there was one.
    pub(crate) receipt: Option<String>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The name of the receiver has no address.
    Unresolved(String),
    /// No connection came about.
    Unreachable(String),
    /// It is not who it must be, or there is no TLS with it for another reason that stays.
    NoTls(String),
    /// The connection broke, or the receiver closed it.
    Broken(String),
    /// The receiver neither took nor said anything for so long.
    Silent(Duration),
    /// What it said is no HTTP.
    Malformed(&'static str),
    /// It said that all is well before it had all.
    AnsweredEarly { status: u16, sent: u64, total: u64 },
    /// It does not want the file, or not now.
    Refused { status: u16, excerpt: String, remedy: Remedy },
    /// It says that it has other bytes than were sent.
    OtherDigest { sent: Sha256, got: Sha256 },
    /// The file changed while it was pushed.
    SourceChanged(String),
    /// The file cannot be read.
    SourceUnreadable(String),
    /// A limit of this host, or a bug.
    Host(String),
    /// What came could not be kept.
    Disk(String),
    /// More came than may.
    TooLong(u64),
    /// The whole took longer than it may.
    OutOfTime(Duration),
    /// A signal came.
    Interrupted,
    /// The receiver could not be had for an earlier file, so it was not tried again.
    GivenUp,
}

/// What failures have in common, as the exit status tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Source = 3,
    Unreachable = 4,
    Broken = 5,
    Refused = 6,
    Digest = 7,
    Time = 8,
    Interrupted = 9,
    Host = 10,
    Disk = 11,
    Tls = 12,
}

/// The exit status if failures are of several kinds.
const MIXED: u8 = 20;

impl Failure {
    /// What a transfer that failed means here.
    pub(crate) fn from_transfer(error: &TransferError) -> Failure {
        if let Some(failure @ Failure::NoTls(_)) =
            distrust::tls_within(error).map(distrust::failure)
        {
            return failure;
        }
        match error.kind() {
            ErrorKind::Truncated(_) | ErrorKind::InvalidRange { .. } => {
                Failure::SourceChanged("it became shorter".to_owned())
            }
            ErrorKind::SourceUnreadable { .. } | ErrorKind::SourceNotRegular { .. } => {
                Failure::SourceUnreadable(error.kind().to_string())
            }
            ErrorKind::PeerTimedOut { waited: Some(waited) } => Failure::Silent(*waited),
            kind if error.blame() == Blame::Peer => {
                Failure::Broken(format!("{kind} after {} bytes", error.sent()))
            }
            kind => Failure::Host(format!("{kind}: {}", error.remedy())),
        }
    }

    /// What a body that did not come whole means here.
    pub(crate) fn from_receive(error: &ReceiveError) -> Failure {
        match error.kind() {
            ReceiveErrorKind::TooLong { most } => Failure::TooLong(*most),
            ReceiveErrorKind::PeerTimedOut { waited: Some(waited) } => Failure::Silent(*waited),
            ReceiveErrorKind::Malformed => Failure::Malformed("its body is framed wrongly"),
            ReceiveErrorKind::NoSpace { .. }
            | ReceiveErrorKind::QuotaExceeded { .. }
            | ReceiveErrorKind::FileTooLarge { .. }
            | ReceiveErrorKind::ReadOnly { .. }
            | ReceiveErrorKind::FileUnwritable { .. }
            | ReceiveErrorKind::NoOffsets { .. } => {
                Failure::Disk(format!("{}: {}", error.kind(), error.remedy()))
            }
            ReceiveErrorKind::ShortBody(_) => {
                Failure::Broken(format!("{} after {} bytes", error.kind(), error.received()))
            }
            kind if error.blame() == Blame::Peer => {
                Failure::Broken(format!("{kind} after {} bytes", error.received()))
            }
            kind => Failure::Host(format!("{kind}: {}", error.remedy())),
        }
    }

    /// What an answer means that is no success.
    pub(crate) fn refused(reply: &Reply, now: SystemTime) -> Failure {
        let status = reply.head.status;
        let mut remedy = retry::remedy(status, reply.head.field("retry-after"), now);
        if status == 400 && reply.head.field("want-repr-digest").is_some() {
            // What came was not what was sent (RFC 9530, section 4): the way is to blame.
            remedy = Remedy::Later;
        }
        let mut excerpt = reply.excerpt.clone();
        if let (300..=399, Some(place)) = (status, reply.head.field("location")) {
            // Not followed: what was given to one receiver is not meant for another.
            excerpt = format!("it is at {}", place.split('?').next().unwrap_or_default());
        }
        Failure::Refused { status, excerpt, remedy }
    }

    /// What trying again is good for.
    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Failure::Refused { remedy, .. } => *remedy,
            Failure::SourceUnreadable(_)
            | Failure::NoTls(_)
            | Failure::Disk(_)
            | Failure::TooLong(_)
            | Failure::OutOfTime(_)
            | Failure::Interrupted
            | Failure::GivenUp => Remedy::None,
            _ => Remedy::Later,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Failure::Unresolved(_) | Failure::Unreachable(_) | Failure::GivenUp => {
                Kind::Unreachable
            }
            Failure::NoTls(_) => Kind::Tls,
            Failure::Broken(_)
            | Failure::Silent(_)
            | Failure::Malformed(_)
            | Failure::AnsweredEarly { .. } => Kind::Broken,
            Failure::Refused { .. } => Kind::Refused,
            Failure::OtherDigest { .. } => Kind::Digest,
            Failure::SourceChanged(_) | Failure::SourceUnreadable(_) => Kind::Source,
            Failure::Host(_) => Kind::Host,
            Failure::Disk(_) | Failure::TooLong(_) => Kind::Disk,
            Failure::OutOfTime(_) => Kind::Time,
            Failure::Interrupted => Kind::Interrupted,
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Failure {
        Failure::Malformed(malformed.0)
    }
}

impl Kind {
    /// One word for a program.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Unreachable => "unreachable",
            Kind::Broken => "broken",
            Kind::Refused => "refused",
            Kind::Digest => "digest",
            Kind::Time => "time",
            Kind::Interrupted => "interrupted",
            Kind::Host => "host",
            Kind::Disk => "disk",
            Kind::Tls => "tls",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unresolved(why) => write!(f, "its name cannot be resolved: {why}"),
            Failure::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Failure::NoTls(why) => write!(f, "there is no TLS with it: {why}"),
            Failure::Broken(why) => write!(f, "the connection broke: {why}"),
            Failure::Silent(limit) => write!(f, "it neither took nor said anything for {limit:?}"),
            Failure::Malformed(why) => write!(f, "its answer cannot be understood: {why}"),
            Failure::AnsweredEarly { status, sent, total } => {
                write!(f, "it answered {status} when it had {sent} of {total} bytes at most")
            }
            Failure::Refused { status, excerpt, .. } if excerpt.is_empty() => {
                write!(f, "it answered {status}")
            }
            Failure::Refused { status, excerpt, .. } => {
                write!(f, "it answered {status}: {excerpt}")
            }
            Failure::OtherDigest { sent, got } => {
                write!(f, "it has other bytes: sha-256 {got} and not {sent}")
            }
            Failure::SourceChanged(how) => write!(f, "the file changed while it was pushed: {how}"),
            Failure::SourceUnreadable(why) => write!(f, "the file cannot be read: {why}"),
            Failure::Host(why) => write!(f, "this host does not allow it: {why}"),
            Failure::Disk(why) => write!(f, "what came could not be kept: {why}"),
            Failure::TooLong(most) => write!(f, "it has more than {most} bytes"),
            Failure::OutOfTime(limit) => write!(f, "it had not arrived after {limit:?}"),
            Failure::Interrupted => f.write_str("a signal ended the push"),
            Failure::GivenUp => f.write_str("the receiver was given up with an earlier file"),
        }
    }
}

/// What became of all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) delivered: Cell<u64>,
    pub(crate) failed: Cell<u64>,
    kinds: RefCell<BTreeSet<u8>>,
}

impl Tally {
    pub(crate) fn delivered(&self) {
        self.delivered.set(self.delivered.get() + 1);
    }

    pub(crate) fn failed(&self, kind: Kind) {
        self.failed.set(self.failed.get() + 1);
        self.kinds.borrow_mut().insert(kind as u8);
    }

    /// 0 if everything arrived, else what all failures have in common.
    pub(crate) fn exit_status(&self) -> u8 {
        let kinds = self.kinds.borrow();
        match (kinds.len(), kinds.first()) {
            (0, _) | (_, None) => 0,
            (1, Some(&kind)) => kind,
            _ => MIXED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_says_what_failed() {
        let tally = Tally::default();
        tally.delivered();
        assert_eq!(tally.exit_status(), 0);
        tally.failed(Kind::Refused);
        tally.failed(Kind::Refused);
        assert_eq!(tally.exit_status(), 6);
        tally.failed(Kind::Source);
        assert_eq!((tally.exit_status(), tally.failed.get()), (MIXED, 3));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_stays_is_not() {
        let unreadable = Failure::SourceUnreadable("gone".to_owned());
        for lasting in [unreadable, Failure::OutOfTime(Duration::ZERO), Failure::Interrupted] {
            assert_eq!(lasting.remedy(), Remedy::None, "{lasting}");
        }
        let digest = Sha256([1; 32]);
        for passing in [
            Failure::Unresolved(String::new()),
            Failure::Unreachable(String::new()),
            Failure::Broken(String::new()),
            Failure::Silent(Duration::ZERO),
            Failure::OtherDigest { sent: digest, got: digest },
            Failure::SourceChanged(String::new()),
        ] {
            assert_eq!(passing.remedy(), Remedy::Later, "{passing}");
        }
    }
}
