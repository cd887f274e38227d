//! Attempts until a file is whole.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use ringway::receive::{Origin, Received};
use ringway::runtime::time;
use ringway::tls::TlsConnector;
use ringway::{Incoming, Limits, transfer_file};

use super::answer::{Answer, Asked, judge, strong_tag};
use super::chunked::Chunked;
use super::place::Part;
use crate::cli::get::Get;
use crate::client::digest::Sha256;
use crate::client::distrust;
use crate::client::hasher::Hasher;
use crate::client::outcome::{Delivered, Failure};
use crate::client::reply::Reply;
use crate::client::response::{Framing, Head, Parsed, parse};
use crate::client::retry::Verdict;
use crate::client::secret::Token;
use crate::client::show::{Show, Track};
use crate::client::url::Url;
use crate::client::wire::{self, Terms, Wire};

/// Places that are asked one after another, at most.
const REDIRECTS_MAX: u32 = 5;
/// Bytes that may wait unsent: only requests are sent.
const UNSENT_BYTES_MAX: u32 = 16 * 1024;

/// What all files of one run share.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) settings: Get,
    pub(crate) token: Option<Token>,
    /// What shakes hands, if anything is to be fetched over https.
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) hasher: Hasher,
}

/// What an attempt led to.
enum Step {
    Done(Delivered),
    /// Ask this one instead.
    Elsewhere(Url),
    /// The part was of another file, and is forgotten.
    Anew,
}

/// Fetches a file, with as many attempts as there may be, within its time.
pub(crate) async fn in_time(
    order: &Order,
    show: &Show,
    track: &Track,
    url: &Url,
    path: &Path,
) -> Result<Delivered, Failure> {
    let limit = order.settings.limits.attempts.whole();
    let fetched = time::timeout(limit, fetch(order, show, track, url, path)).await;
    fetched.unwrap_or(Err(Failure::OutOfTime(limit)))
}

async fn fetch(
    order: &Order,
    show: &Show,
    track: &Track,
    url: &Url,
    path: &Path,
) -> Result<Delivered, Failure> {
    let policy = order.settings.limits.attempts.policy();
    let mut part = Part::open(path, &url.to_string()).await?;
    let resumable = part.tag.is_some() && !order.settings.no_resume;
    if !resumable {
        part.begin_anew(&url.to_string(), None)?;
    }
    let (mut at, mut redirects, mut attempts) = (url.clone(), 0, 0);
    loop {
        let failure = match attempt(order, track, url, &at, &mut part).await {
            Ok(Step::Done(delivered)) => {
                part.finish().await?;
                return Ok(delivered);
            }
            Ok(Step::Elsewhere(next)) if redirects < REDIRECTS_MAX => {
                redirects += 1;
                at = next;
                continue;
            }
            Ok(Step::Elsewhere(_)) => return Err(Failure::Malformed("it redirects for ever")),
            Ok(Step::Anew) => Failure::Broken("its file is another one now".to_owned()),
            Err(failure) => failure,
        };
        attempts += 1;
        match policy.after(failure.remedy(), attempts, fastrand::f64()) {
            Verdict::GiveUp(_) => return Err(failure),
            Verdict::Wait(wait) => {
                show.retrying(track, &at, &failure, attempts, wait);
                time::sleep(wait).await;
            }
        }
    }
}

async fn attempt(
    order: &Order,
    track: &Track,
    url: &Url,
    at: &Url,
    part: &mut Part,
) -> Result<Step, Failure> {
    let limits = &order.settings.limits;
    let silence = limits.attempts.silence();
    let here = part.len()?;
    let tag = part.tag.clone().filter(|_| here > 0);
    let asked = tag.as_deref().map(|tag| Asked { offset: here, tag });
    let terms = Terms {
        connect_timeout: limits.attempts.connect_timeout(),
        unsent_bytes_max: UNSENT_BYTES_MAX,
        tls: order.tls.as_ref(),
    };
    let mut wire = wire::reach(at, terms).await?;
    // What was given for one host is not meant for another.
    let own = (&at.host, at.port) == (&url.host, url.port);
    let asking = time::timeout(silence, async {
        let sent = wire.send(question(order, at, asked, own).as_bytes()).await;
        sent.map_err(|error| distrust::of_stream(&error))?;
        head(&wire).await
    });
    let (head, given) = asking.await.map_err(|_| Failure::Silent(silence))??;
    let (framing, offset, total) = match judge(&head, asked)? {
        Answer::Whole(framing) => {
            part.begin_anew(&url.to_string(), strong_tag(&head))?;
            let total = if let Framing::Length(length) = framing { Some(length) } else { None };
            (framing, 0, total)
        }
        Answer::Rest(framing, total) => (framing, here, total),
        Answer::Complete => (Framing::None, here, Some(here)),
        Answer::Anew => {
            part.begin_anew(&url.to_string(), None)?;
            return Ok(Step::Anew);
        }
        Answer::Elsewhere(place) => return Ok(Step::Elsewhere(at.join(&place)?)),
        Answer::Refused => return Err(refused(head, &given)),
    };
    if total.is_some_and(|total| total > limits.max_file_bytes) {
        return Err(Failure::TooLong(limits.max_file_bytes));
    }
    track.begin(total.unwrap_or(0));
    let received = receive(order, track, &mut wire, part, (framing, offset, given)).await?;
    let verified = verify(order, part, &head, url).await?;
    let receipt = received.map(|received| received.to_string());
    Ok(Step::Done(Delivered { status: head.status, verified, receipt }))
}

/// The head of a GET.
fn question(order: &Order, at: &Url, asked: Option<Asked<'_>>, own: bool) -> String {
    let mut text = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ringwayd/{}\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nWant-Repr-Digest: sha-256=10\r\nConnection: close\r\n",
        at.target(),
        at.host_field(),
        env!("CARGO_PKG_VERSION"),
    );
    // Writing to a String does not fail.
    if let Some(Asked { offset, tag }) = asked {
        _ = write!(text, "Range: bytes={offset}-\r\nIf-Range: {tag}\r\n");
    }
    if let (Some(token), true) = (&order.token, own) {
        _ = write!(text, "Authorization: {}\r\n", token.field());
    }
    for header in order.settings.caller.header.iter().filter(|_| own) {
        _ = write!(text, "{}: {}\r\n", header.name, header.value);
    }
    text + "\r\n"
}

/// Receives the head of the final answer, and what came with it of the body.
async fn head(wire: &Wire) -> Result<(Head, Vec<u8>), Failure> {
    let ear = wire.ear();
    let mut received = Vec::new();
    let mut piece = vec![0; 4096];
    let mut interim = 0;
    loop {
        match parse(&received)? {
            Parsed::Complete(head, consumed) => {
                let rest = received.split_off(consumed);
                if !head.is_interim() {
                    return Ok((head, rest));
                }
                received = rest;
                interim += 1;
                if interim > 16 || head.status == 101 {
                    return Err(Failure::Malformed("it never comes to a final answer"));
                }
            }
            Parsed::Partial => match ear.receive(&mut piece).await {
                Ok(0) => {
                    return Err(Failure::Broken("it was closed without an answer".to_owned()));
                }
                Ok(len) => received.extend_from_slice(&piece[..len]),
                Err(error) => return Err(distrust::of_stream(&error)),
            },
        }
    }
}

/// Takes the body into the part.
async fn receive(
    order: &Order,
    track: &Track,
    wire: &mut Wire,
    part: &mut Part,
    (framing, offset, given): (Framing, u64, Vec<u8>),
) -> Result<Option<Received>, Failure> {
    let settings = &order.settings.limits;
    let silence = settings.attempts.silence();
    let mut chunks;
    let incoming = match framing {
        Framing::None => return Ok(None),
        // Bytes behind the body belong to nothing that was asked for.
        Framing::Length(length) => {
            let mut given = given;
            given.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            wire.body(Some(length)).after(given)
        }
        Framing::Close => wire.body(None).after(given),
        Framing::Chunked => {
            chunks = Chunked::new(wire.ear(), &given);
            Incoming::to_the_end(Origin::decoded(&mut chunks))
        }
    };
    let mut transfer =
        transfer_file(incoming.at_most(settings.max_file_bytes - offset), &mut part.file)
            .offset(offset)
            .limits(Limits::default().with_peer_timeout(silence))
            .on_progress(|at| track.advance(offset + at.written));
    if let Some(rate) = settings.attempts.rate_bytes_per_second {
        transfer = transfer.rate_limit(rate, (rate.get() / 10).max(16 * 1024));
    }
    transfer.await.map(Some).map_err(|error| Failure::from_receive(&error))
}

/// Compares the digest with the one that is asked for, or that the server tells.
async fn verify(order: &Order, part: &mut Part, head: &Head, url: &Url) -> Result<bool, Failure> {
    let told = Sha256::in_fields(head.values("repr-digest"));
    let Some(sent) = order.settings.sha256.or(told) else { return Ok(false) };
    let got = order.hasher.digest(&part.file, part.len()?).await;
    let got = got.map_err(|error| Failure::Disk(error.to_string()))?;
    if got == sent {
        return Ok(true);
    }
    // Going on with these bytes would never lead anywhere.
    part.begin_anew(&url.to_string(), None)?;
    Err(Failure::OtherDigest { sent, got })
}

fn refused(head: Head, given: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&given[..given.len().min(200)]).into_owned();
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let excerpt = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let reply = Reply { head, excerpt, is_empty: given.is_empty(), reusable: false };
    Failure::refused(&reply, SystemTime::now())
}
