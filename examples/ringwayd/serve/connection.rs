//! One connection: idle without a buffer, then requests one after another, then its end.
//!
//! ```text
//!   accepted ──▶ receive ──▶ converse: parse, answer, the next one …
//!                  │  ▲           │ nothing unread        │ to be closed
//!                  ▼  │           ▼                       ▼
//!                 idle: a poll in the ring            close, linger or reset
//! ```
//!
//! The future of an idle connection is small: the conversation, with its desk, its request and its
//! transfer, is made when the first byte is there and gone when the last answer is.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway::CancelToken;
use ringway::runtime::net::Arrivals;
use ringway::runtime::yield_now;

use super::desk::{Desk, Incoming};
use super::exchange::{self, Ending};
use super::receive;
use super::seats::{Interrupt, Seat};
use super::server::Server;
use super::wire::Wire;
use crate::http::{self, Parsed, Status};

/// Requests that one client gets answered before the others have their turn.
const ANSWERED_IN_A_ROW_MAX: u32 = 16;
/// How long a client may take to read a last answer before the connection is closed.
const LINGER: Duration = Duration::from_secs(2);
/// What is thrown away of a client that still sends meanwhile, in bytes.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// A socket, who is at its other end, and the right to be served.
#[derive(Debug)]
pub(crate) struct Link<W> {
    pub(crate) stream: W,
    /// What comes on it between requests.
    pub(crate) arrivals: Arrivals,
    pub(crate) peer: SocketAddr,
    /// Who it is by its certificate.
    pub(crate) user: Option<Box<str>>,
    pub(crate) seat: Seat,
    /// The protocol under HTTP was broken, and that was told.
    pub(super) is_broken: bool,
}

impl<W: Wire> Link<W> {
    pub(crate) fn new(stream: W, peer: SocketAddr, user: Option<Box<str>>, seat: Seat) -> Self {
        let arrivals = stream.tcp().arrivals();
        Self { stream, arrivals, peer, user, seat, is_broken: false }
    }
}

/// What becomes of a connection after a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Everything is answered: wait for the next request.
    Idle,
    /// Close it. Nothing more is expected of the client.
    Close,
    /// Close it once the client has read the last answer, though it may still be sending: closing
    /// at once would reset the connection, and the reset would overtake the answer.
    Linger,
    /// Reset it, so that what was sent of a body cannot be taken for the whole.
    Reset,
}

/// Serves a connection to its end.
pub(crate) async fn run<W: Wire>(server: Rc<Server>, mut link: Link<W>) {
    // What is set here saves delays and memory of the kernel; a connection that refuses it is served
    // all the same.
    _ = link.stream.tcp().set_nodelay(true);
    _ = link.stream.tcp().set_unsent_low_water(server.unsent_bytes_max);
    let mut last_look = false;
    loop {
        let mut desk = server.desks.lend();
        // A client sends its first request with the handshake, mostly, so it is there already. Later
        // ones come after the answer to the one before: the poll of `idle` costs no call of its own.
        let received = desk.incoming.receive(&mut link.stream, server.head_limits.head_bytes_max);
        let after = match received {
            Ok(0) => break,
            Ok(_) => converse(&server, &mut link, &mut desk).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => After::Idle,
            Err(error) => {
                complain(&server, &mut link, &error);
                break;
            }
        };
        match after {
            After::Idle => {
                server.desks.take_back(desk);
                if last_look {
                    break;
                }
                match idle(&server, &mut link).await {
                    Ok(()) => {}
                    // A request may have come in the same moment.
                    Err(Some(Interrupt::Stopping)) => last_look = true,
                    Err(_) => break,
                }
            }
            After::Close => {
                server.desks.take_back(desk);
                break;
            }
            After::Linger => {
                Box::pin(linger(&server, &mut link, &mut desk.incoming)).await;
                server.desks.take_back(desk);
                return;
            }
            // A reset would overtake the alert, and the missing end tells of the truncation.
            After::Reset if link.is_broken => {
                server.desks.take_back(desk);
                break;
            }
            After::Reset => {
                _ = link.stream.tcp().set_linger(Some(Duration::ZERO));
                server.desks.take_back(desk);
                return;
            }
        }
    }
    if W::SAYS_ITS_END {
        link.seat.allow_until(Instant::now() + LINGER);
        // Whoever does not take it in time sees a truncation, and has every answer all the same.
        let told = Box::pin(link.seat.wait(link.stream.finish())).await;
        if link.is_broken && matches!(told, Ok(Ok(()))) {
            Box::pin(discard(&mut link)).await;
        }
    }
}

/// Tells who has broken the protocol under HTTP, and how, once; a connection that just broke is no news.
pub(super) fn complain<W: Wire>(server: &Server, link: &mut Link<W>, error: &io::Error) {
    if let (Some(breach), false) = (W::breach(error), link.is_broken) {
        link.is_broken = true;
        server.complaints.borrow_mut().tell(link.peer, "TLS was ended with", breach);
    }
}

/// Throws away what a client still sends that has broken the protocol: closing a socket with unread bytes
/// resets it, and the reset would overtake the alert.
async fn discard<W: Wire>(link: &mut Link<W>) {
    let (mut left, mut scratch) = (LINGER_BYTES_MAX, [0; 4096]);
    while left > 0 {
        match link.stream.tcp().try_recv(&mut scratch) {
            Ok(0) => return,
            Ok(received) => left = left.saturating_sub(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !matches!(link.seat.wait(link.stream.tcp().readable()).await, Ok(Ok(()))) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Waits for the first byte of a request; an error of the connection is `None`.
async fn idle<W: Wire>(server: &Server, link: &mut Link<W>) -> Result<(), Option<Interrupt>> {
    link.seat.allow_until(Instant::now() + server.times.idle);
    link.seat.wait_idle(link.stream.wait_readable(&mut link.arrivals)).await?.map_err(|_| None)
}

/// Answers what has been received, and what follows, until nothing is unread.
async fn converse<W: Wire>(server: &Rc<Server>, link: &mut Link<W>, desk: &mut Desk) -> After {
    let token = CancelToken::new();
    link.seat.transfers_by(Some(token.clone()));
    let after = converse_until(server, link, desk, &token).await;
    link.seat.transfers_by(None);
    after
}

async fn converse_until<W: Wire>(
    server: &Rc<Server>,
    link: &mut Link<W>,
    desk: &mut Desk,
    token: &CancelToken,
) -> After {
    let Desk { incoming, reply } = desk;
    let mut answered = 0u32;
    let mut began = Instant::now();
    link.seat.allow_until(began + server.times.head);
    loop {
        let consumed = match http::parse(incoming.unread(), &server.head_limits) {
            Parsed::Partial => match more(server, link, incoming).await {
                Ok(0) => return After::Close,
                Ok(_) => continue,
                Err(Some(Interrupt::Expired)) => {
                    let refusal = (Status::RequestTimeout, "The request did not come in time.");
                    return exchange::refuse(server, link, reply, began, refusal).await.into();
                }
                Err(_) => return After::Close,
            },
            Parsed::Bad(status, reason) => {
                let refusal = (status, reason);
                return exchange::refuse(server, link, reply, began, refusal).await.into();
            }
            Parsed::Complete { mut request, consumed } => {
                request.keep_alive &= !server.seats.stopping();
                let https_port = server.https_port.filter(|_| !W::IS_ENCRYPTED);
                if let Some(uploads) = &server.uploads
                    && https_port.is_none()
                    && receive::Order::is_in(&request)
                {
                    let certified = link.stream.certificate().is_some();
                    let order = receive::Order::of(&request, server, uploads, certified, began);
                    drop(request);
                    incoming.consume(consumed);
                    // The body goes past those of before: nobody is to be told of each piece of it.
                    link.arrivals = link.stream.tcp().arrivals();
                    let desk = (&mut *incoming, &mut *reply);
                    let answering = receive::answer(server, uploads, link, desk, token, order);
                    match Box::pin(answering).await {
                        Ending::KeepAlive { drain_bytes } => (0, drain_bytes),
                        ending => return ending.into(),
                    }
                } else {
                    let exchange = exchange::Exchange { server, token, began, request: &request };
                    let ending = match https_port {
                        Some(port) => exchange.redirect(link, reply, port).await,
                        None => exchange.answer(link, reply).await,
                    };
                    match ending {
                        Ending::KeepAlive { drain_bytes } => (consumed, drain_bytes),
                        ending => return ending.into(),
                    }
                }
            }
        };
        let (head_bytes, drain_bytes) = consumed;
        incoming.consume(head_bytes);
        if drain_bytes > 0 && !drain(server, link, incoming, drain_bytes).await {
            return After::Close;
        }
        if incoming.is_empty() {
            return After::Idle;
        }
        // The next request is there already, or a part of it.
        answered += 1;
        if answered.is_multiple_of(ANSWERED_IN_A_ROW_MAX) {
            yield_now().await;
        }
        began = Instant::now();
        link.seat.allow_until(began + server.times.head);
    }
}

/// Receives more of a head within the time that was allowed for all of it; 0 at the end of the
/// stream, and an error of the connection is `None`.
async fn more<W: Wire>(
    server: &Server,
    link: &mut Link<W>,
    incoming: &mut Incoming,
) -> Result<usize, Option<Interrupt>> {
    loop {
        match incoming.receive(&mut link.stream, server.head_limits.head_bytes_max) {
            Ok(received) => return Ok(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.seat
                    .wait(link.stream.wait_readable(&mut link.arrivals))
                    .await?
                    .map_err(|_| None)?;
            }
            Err(error) => {
                complain(server, link, &error);
                return Err(None);
            }
        }
    }
}

/// Throws away a request body; `false` if it does not come.
async fn drain<W: Wire>(
    server: &Server,
    link: &mut Link<W>,
    incoming: &mut Incoming,
    bytes: u64,
) -> bool {
    link.seat.allow_until(Instant::now() + server.times.head);
    let mut left = bytes;
    loop {
        let here = usize::try_from(left).unwrap_or(usize::MAX);
        left -= incoming.consume(here) as u64;
        if left == 0 {
            return true;
        }
        if !matches!(more(server, link, incoming).await, Ok(1..)) {
            return false;
        }
    }
}

/// Ends the answers, and reads what the client still sends until it has seen that.
async fn linger<W: Wire>(server: &Server, link: &mut Link<W>, incoming: &mut Incoming) {
    link.seat.allow_until(Instant::now() + LINGER);
    if !matches!(link.seat.wait(link.stream.finish()).await, Ok(Ok(()))) {
        return;
    }
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        incoming.consume(usize::MAX);
        match incoming.receive(&mut link.stream, 0) {
            Ok(0) => return,
            Ok(received) => left = left.saturating_sub(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !matches!(
                    link.seat.wait(link.stream.wait_readable(&mut link.arrivals)).await,
                    Ok(Ok(()))
                ) {
                    return;
                }
            }
            Err(error) => return complain(server, link, &error),
        }
    }
}

impl From<Ending> for After {
    fn from(ending: Ending) -> After {
        match ending {
            Ending::KeepAlive { .. } => After::Idle,
            Ending::Close => After::Close,
            Ending::Linger => After::Linger,
            Ending::Cut => After::Reset,
        }
    }
}
