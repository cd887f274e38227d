//! An address for those who run the daemon: health for a load balancer, numbers for Prometheus.
//!
//! ```text
//! thread 1: Meters ─┐ once a second
//! thread 2: Meters ─┼──────────────▶ Board ──▶ GET /metrics   (numbers of a second ago, at most)
//! thread n: Meters ─┘                          GET /health    200, or 503 while it drains
//! ```

mod meters;
mod text;

use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ringway::runtime::net::{Half, TcpListener, TcpStream};
use ringway::runtime::{spawn, time};

pub(crate) use self::meters::{Answered, Meters, Reading, Uploaded};
use super::desk::Desks;
use crate::http::{self, Date, HeadLimits, Parsed, Status};

/// Those who ask at the same time, at most; further ones are turned away.
const GUESTS_MAX: usize = 16;
/// How long one may take for question and answer.
const GUEST_TIME: Duration = Duration::from_secs(5);
/// Bytes of a question.
const HEAD_BYTES_MAX: usize = 4096;
/// What Prometheus 3 asks for, and what is written here.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where all threads leave their numbers.
#[derive(Debug)]
pub(crate) struct Board {
    readings: Mutex<Vec<Reading>>,
    draining: AtomicBool,
}

impl Board {
    pub(crate) fn new(threads: usize) -> Arc<Board> {
        let readings = Mutex::new(vec![Reading::default(); threads]);
        Arc::new(Board { readings, draining: AtomicBool::new(false) })
    }

    /// Replaces the numbers of one thread.
    pub(crate) fn post(&self, thread: usize, reading: Reading) {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = readings.get_mut(thread) {
            *place = reading;
        }
    }

    /// From now on nobody new should be sent here.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn text(&self) -> String {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        text::metrics(&readings, self.is_draining())
    }
}

/// Who is asked at the address.
pub(crate) trait Account {
    /// The numbers now, as OpenMetrics text.
    fn metrics(&self) -> String;

    /// Why nobody should count on it now, if there is a reason.
    fn ailment(&self) -> Option<&'static str>;
}

impl Account for Board {
    fn metrics(&self) -> String {
        self.text()
    }

    fn ailment(&self) -> Option<&'static str> {
        self.is_draining().then_some("draining\n")
    }
}

/// Answers as long as the ring lives, also while the daemon drains.
pub(crate) async fn answer_all<A: Account + 'static>(
    listener: TcpListener,
    account: impl Deref<Target = A> + Clone + 'static,
) {
    let guests = Rc::new(Cell::new(0usize));
    while let Ok(stream) = listener.accept().await {
        if guests.get() >= GUESTS_MAX {
            continue;
        }
        guests.set(guests.get() + 1);
        let (account, guests) = (account.clone(), Rc::clone(&guests));
        drop(spawn(async move {
            // Who is too slow is not waited for, and who is gone needs no answer.
            _ = time::timeout(GUEST_TIME, answer(stream, &*account)).await;
            guests.set(guests.get() - 1);
        }));
    }
}

async fn answer(mut stream: TcpStream, account: &impl Account) -> io::Result<()> {
    let desks = Desks::default();
    let mut desk = desks.lend();
    let limits = HeadLimits::for_head_bytes(HEAD_BYTES_MAX);
    loop {
        let reply = match http::parse(desk.incoming.unread(), &limits) {
            Parsed::Partial => None,
            Parsed::Bad(status, reason) => Some(write(status, "text/plain", reason)),
            Parsed::Complete { request, .. } => {
                Some(reply(request.method_text, request.target, account))
            }
        };
        if let Some(reply) = reply {
            stream.write_all(reply.as_bytes()).await?;
            return stream.shutdown(Half::Write);
        }
        stream.readable().await?;
        match desk.incoming.receive(&mut stream, HEAD_BYTES_MAX) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

fn reply(method: &str, target: &str, account: &impl Account) -> String {
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET", "/metrics") => write(Status::Ok, METRICS_TYPE, &account.metrics()),
        ("GET", "/health") => match account.ailment() {
            Some(why) => write(Status::ServiceUnavailable, "text/plain", why),
            None => write(Status::Ok, "text/plain", "ok\n"),
        },
        ("GET", _) => write(Status::NotFound, "text/plain", "ask for /metrics or /health\n"),
        _ => write(Status::MethodNotAllowed, "text/plain", "ask by GET\n"),
    }
}

fn write(status: Status, content_type: &str, text: &str) -> String {
    let second = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let date = Date::from_second(second.as_secs());
    let code = ::http::StatusCode::from_u16(status.code()).unwrap_or_default();
    let reason = code.canonical_reason().unwrap_or_default();
    format!(
        "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        status.code(),
        reason,
        String::from_utf8_lossy(date.text()),
        text.len()
    )
}
