//! One line per request on standard output, gathered so that a busy second costs few writes.
//!
//! Text lines begin like the combined format of Apache and nginx, so that the tools for those can
//! read them, and go on with what only this daemon knows:
//!
//! ```text
//! 192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] "GET /a HTTP/1.1" 200 1024 "-" "curl/8"
//!     route=splice mode=hybrid reason="-" duration_ms=1.250 outcome=complete       (all one line)
//! ```

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use crate::http::{Date, DateCache};

/// How lines are written, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// The combined format, and the route behind it.
    Text,
    /// One JSON object per line.
    Json,
    /// Nothing, at no cost.
    None,
}

/// One request, as the log tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// When the response ended.
    pub(crate) at: SystemTime,
    /// The client; none for a Unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// Who it is, if it has shown a certificate.
    pub(crate) user: Option<&'a str>,
    /// The request line; none if it could not be read.
    pub(crate) request: Option<RequestLine<'a>>,
    pub(crate) status: u16,
    /// Bytes of body that the socket accepted, without the head.
    pub(crate) body_bytes: u64,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
    /// The route of the transfer and its mode, as the receipt names them.
    pub(crate) route: Option<&'a str>,
    pub(crate) mode: Option<&'a str>,
    /// Why this route and not the first choice.
    pub(crate) reason: Option<&'a str>,
    /// From the first byte of the request to the last of the response.
    pub(crate) duration: Duration,
    /// The kind of error that cut the response short; none if it is complete.
    pub(crate) error: Option<&'a str>,
}

/// The first line of a request, in the client's words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) version: &'a str,
}

/// Gathers lines and hands them on in one write.
///
/// Each thread has its own. Lines that cannot be written are kept up to a bound and dropped past
/// it: a reader of the log that dies or stalls must cost lines, never memory or requests. A sink in
/// blocking mode does block the thread while its reader stalls; only a non-blocking one is bounded
/// in time too.
#[derive(Debug)]
pub(crate) struct AccessLog<W: Write> {
    format: LogFormat,
    sink: W,
    lines: Vec<u8>,
    dates: DateCache,
    lost_lines: u64,
}

impl<W: Write> AccessLog<W> {
    /// Lines are written once there are this many bytes of them, and whenever the caller says.
    const FLUSH_BYTES: usize = 32 * 1024;
    /// Bytes of lines that wait at most for a sink that takes none.
    const KEPT_BYTES_MAX: usize = 1024 * 1024;

    /// A log onto `sink`, for example [`io::stdout`]; takes no memory before the first line.
    pub(crate) fn new(format: LogFormat, sink: W) -> AccessLog<W> {
        AccessLog { format, sink, lines: Vec::new(), dates: DateCache::new(), lost_lines: 0 }
    }

    /// Adds a line. Only a full buffer makes this write.
    pub(crate) fn record(&mut self, entry: &Entry<'_>) {
        if self.format == LogFormat::None {
            return;
        }
        if self.lines.len() >= Self::KEPT_BYTES_MAX {
            self.lost_lines += 1;
            return;
        }
        let date = self.dates.at(entry.at);
        match self.format {
            LogFormat::Text => write_text(&mut self.lines, entry, date),
            LogFormat::Json => write_json(&mut self.lines, entry, date),
            LogFormat::None => {}
        }
        if self.lines.len() > Self::FLUSH_BYTES {
            self.flush();
        }
    }

    /// Writes what has gathered; to be called once per second or when the loop has nothing to do.
    pub(crate) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let mut written = 0;
        while written < self.lines.len() {
            match self.sink.write(&self.lines[written..]) {
                Ok(0) => break,
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // The sink is gone, and waiting for it would keep these lines for ever.
                    self.lost_lines += count_lines(&self.lines[written..]);
                    written = self.lines.len();
                }
            }
        }
        self.lines.drain(..written);
        // Bytes that the sink holds back stay there until the next flush; there is nobody to tell.
        _ = self.sink.flush();
    }

    /// Whether the sink has taken every line.
    pub(crate) fn is_flushed(&self) -> bool {
        self.lines.is_empty()
    }

    /// Counts the lines that were not taken as lost: there is no time left to wait.
    pub(crate) fn give_up(&mut self) {
        self.lost_lines += count_lines(&self.lines);
        self.lines.clear();
    }

    /// Where the lines go.
    pub(crate) fn sink(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Lines that the sink did not take.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.lost_lines
    }
}

impl<W: Write> Drop for AccessLog<W> {
    fn drop(&mut self) {
        self.flush();
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

fn write_text(out: &mut Vec<u8>, entry: &Entry<'_>, date: &Date) {
    match entry.peer {
        Some(peer) => append(out, format_args!("{}", peer.ip())),
        None => out.extend_from_slice(b"unix:"),
    }
    // `Sun, 06 Nov 1994 08:49:37 GMT` holds all that the combined format wants, in another order.
    let text = date.text();
    out.extend_from_slice(b" - ");
    push_escaped(out, entry.user.unwrap_or("-").as_bytes());
    out.extend_from_slice(b" [");
    for (part, end) in [(5..7, b'/'), (8..11, b'/'), (12..16, b':'), (17..25, b' ')] {
        out.extend_from_slice(&text[part]);
        out.push(end);
    }
    out.extend_from_slice(b"+0000] \"");
    match entry.request {
        Some(line) => {
            push_escaped(out, line.method.as_bytes());
            out.push(b' ');
            push_escaped(out, line.target.as_bytes());
            out.push(b' ');
            push_escaped(out, line.version.as_bytes());
        }
        None => out.push(b'-'),
    }
    append(out, format_args!("\" {} {} ", entry.status, entry.body_bytes));
    push_quoted(out, entry.referer);
    out.push(b' ');
    push_quoted(out, entry.user_agent);
    for (name, token) in [(" route=", entry.route), (" mode=", entry.mode)] {
        out.extend_from_slice(name.as_bytes());
        push_escaped(out, token.unwrap_or("-").as_bytes());
    }
    out.extend_from_slice(b" reason=");
    push_quoted(out, entry.reason.map(str::as_bytes));
    append(out, format_args!(" duration_ms={} outcome=", Milliseconds(entry.duration)));
    push_escaped(out, entry.error.unwrap_or("complete").as_bytes());
    out.push(b'\n');
}

fn push_quoted(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(b'"');
    push_escaped(out, value.unwrap_or(b"-"));
    out.push(b'"');
}

/// Lets through what is visible ASCII and cannot end a quoted string; the rest becomes `\xHH`, so
/// that no client can begin a line of its own or speak to the terminal of whoever reads the log.
fn push_escaped(out: &mut Vec<u8>, mut bytes: &[u8]) {
    let special = |byte: &u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
    while let Some(at) = bytes.iter().position(special) {
        out.extend_from_slice(&bytes[..at]);
        append(out, format_args!("\\x{:02X}", bytes[at]));
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

fn write_json(out: &mut Vec<u8>, entry: &Entry<'_>, date: &Date) {
    out.extend_from_slice(b"{\"time\":\"");
    push_rfc3339(out, date, entry.at);
    out.extend_from_slice(b"\",\"peer\":");
    match entry.peer {
        Some(peer) => append(out, format_args!("\"{peer}\"")),
        None => out.extend_from_slice(b"null"),
    }
    push_member(out, "user", entry.user);
    push_member(out, "method", entry.request.map(|line| line.method));
    push_member(out, "target", entry.request.map(|line| line.target));
    push_member(out, "version", entry.request.map(|line| line.version));
    let Entry { status, body_bytes, .. } = entry;
    append(out, format_args!(",\"status\":{status},\"body_bytes\":{body_bytes}"));
    push_member(out, "referer", entry.referer.map(String::from_utf8_lossy).as_deref());
    push_member(out, "user_agent", entry.user_agent.map(String::from_utf8_lossy).as_deref());
    push_member(out, "route", entry.route);
    push_member(out, "mode", entry.mode);
    push_member(out, "reason", entry.reason);
    append(out, format_args!(",\"duration_ms\":{}", Milliseconds(entry.duration)));
    push_member(out, "error", entry.error);
    out.extend_from_slice(b"}\n");
}

/// `,"name":"value"`, or `null` if there is none.
fn push_member(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    append(out, format_args!(",\"{name}\":"));
    // A string is always valid JSON, and a Vec refuses no byte.
    _ = serde_json::to_writer(out, &value);
}

/// `1994-11-06T08:49:37.250Z`, from the same text as everything else.
fn push_rfc3339(out: &mut Vec<u8>, date: &Date, at: SystemTime) {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let text = date.text();
    let month = MONTHS.chunks(3).position(|name| name == &text[8..11]).unwrap_or(0) + 1;
    out.extend_from_slice(&text[12..16]);
    append(out, format_args!("-{month:02}-"));
    out.extend_from_slice(&text[5..7]);
    out.push(b'T');
    out.extend_from_slice(&text[17..25]);
    let milliseconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    append(out, format_args!(".{milliseconds:03}Z"));
}

/// A duration in milliseconds with three decimals.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let microseconds = self.0.as_micros();
        write!(f, "{}.{:03}", microseconds / 1000, microseconds % 1000)
    }
}

/// Formats in place; a Vec refuses no byte.
fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes `room` bytes, then says that it would block, or fails for good.
    #[derive(Default)]
    struct Sink {
        taken: Vec<u8>,
        room: usize,
        gone: bool,
    }

    impl Write for &mut Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let bytes = &bytes[..bytes.len().min(self.room)];
            self.room -= bytes.len();
            self.taken.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn entry() -> Entry<'static> {
        Entry {
            at: UNIX_EPOCH + Duration::from_millis(784_111_777_250),
            peer: Some("192.0.2.7:5000".parse().unwrap()),
            user: None,
            request: Some(RequestLine { method: "GET", target: "/a", version: "HTTP/1.1" }),
            status: 200,
            body_bytes: 1024,
            referer: None,
            user_agent: Some(b"curl/8"),
            route: Some("splice"),
            mode: Some("hybrid"),
            reason: None,
            duration: Duration::from_micros(1250),
            error: None,
        }
    }

    fn line(format: LogFormat, entry: &Entry<'_>) -> String {
        let mut lines = Vec::new();
        let mut log = AccessLog::new(format, &mut lines);
        log.record(entry);
        drop(log);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn text_line() {
        assert_eq!(
            line(LogFormat::Text, &entry()),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a HTTP/1.1\" 200 1024 \"-\" \
             \"curl/8\" route=splice mode=hybrid reason=\"-\" duration_ms=1.250 outcome=complete\n"
        );
        let unreadable = Entry { request: None, peer: None, error: Some("reset"), ..entry() };
        let unreadable = line(LogFormat::Text, &unreadable);
        assert!(unreadable.starts_with("unix: - - ["), "{unreadable}");
        let forged = Entry { user_agent: Some(b"a\"\\\n\xC3\x1b b"), ..entry() };
        assert!(line(LogFormat::Text, &forged).contains(r#" "a\x22\x5C\x0A\xC3\x1B b" "#));
        assert!(unreadable.contains(" \"-\" 200 ") && unreadable.ends_with("outcome=reset\n"));
    }

    #[test]
    fn json_line() {
        assert_eq!(
            line(LogFormat::Json, &entry()),
            "{\"time\":\"1994-11-06T08:49:37.250Z\",\"peer\":\"192.0.2.7:5000\",\"user\":null,\"method\":\"GET\",\
             \"target\":\"/a\",\"version\":\"HTTP/1.1\",\"status\":200,\"body_bytes\":1024,\
             \"referer\":null,\"user_agent\":\"curl/8\",\"route\":\"splice\",\"mode\":\"hybrid\",\
             \"reason\":null,\"duration_ms\":1.250,\"error\":null}\n"
        );
    }

    #[test]
    fn no_format_does_nothing() {
        assert_eq!(line(LogFormat::None, &entry()), "");
    }

    #[test]
    fn lines_gather_until_they_fill_the_buffer() {
        let mut sink = Sink { room: usize::MAX, ..Sink::default() };
        let mut log = AccessLog::new(LogFormat::Text, &mut sink);
        while log.lines.len() <= 32 * 1024 - 200 {
            log.record(&entry());
            assert!(log.sink.taken.is_empty());
        }
        for _ in 0..2 {
            log.record(&entry());
        }
        assert!(log.sink.taken.len() > 32 * 1024);
    }

    #[test]
    fn stalled_reader_costs_lines_and_not_memory() {
        let mut sink = Sink { room: 10, ..Sink::default() };
        let mut log = AccessLog::new(LogFormat::Text, &mut sink);
        for _ in 0..10_000 {
            log.record(&entry());
        }
        assert!(log.lines.len() < 1024 * 1024 + 1024);
        let lost = log.lost_lines();
        assert!(lost > 0);
        log.sink.room = usize::MAX;
        log.flush();
        assert_eq!(count_lines(&log.sink.taken) + lost, 10_000);
        assert!(log.lines.is_empty());
    }

    #[test]
    fn dead_reader_is_counted() {
        let mut sink = Sink { gone: true, ..Sink::default() };
        let mut log = AccessLog::new(LogFormat::Text, &mut sink);
        log.record(&entry());
        log.flush();
        assert_eq!(log.lost_lines(), 1);
        assert!(log.lines.is_empty());
    }

    proptest! {
        #[test]
        fn no_client_can_forge_a_line(
            target: String,
            agent in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let request = Some(RequestLine { method: "GET", target: &target, version: "HTTP/1.1" });
            let entry = Entry { request, user_agent: Some(&agent), ..entry() };
            let text = line(LogFormat::Text, &entry);
            let mut inside = text.strip_suffix('\n').unwrap().bytes();
            prop_assert!(inside.all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(text.matches('"').count(), 8);

            let json = line(LogFormat::Json, &entry);
            prop_assert_eq!(json.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["target"].as_str(), Some(&target[..]));
        }
    }
}
