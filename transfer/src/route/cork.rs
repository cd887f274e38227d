//! Whether a transfer holds back partial segments as long as it sends.
//!
//! `MSG_MORE` keeps the end of one call waiting, until the next acknowledgement: that sends what is pending
//! by the rules of the socket, a partial segment too (`tcp_data_snd_check`, `net/ipv4/tcp_input.c`). On a
//! short path acknowledgements come all the time, and a MiB leaves in 27 packets instead of 22. `TCP_CORK`
//! is a rule of the socket, so it holds against them.

use ringway_runtime::net::Corked;

use super::Run;
use crate::plan::SinkKind;

/// Corks the stream if that pays for what is left of the body.
pub(super) fn hold<'t>(run: &Run<'t>) -> Option<Corked<'t>> {
    // Over TLS it gains nothing: a batch of sealed records is as long as what is pending may be.
    let is_tcp = run.sink.facts().kind == SinkKind::Tcp;
    let left = match run.processing {
        // At most this: what will be kept is not known.
        Some(_) => run.body.facts.file_bytes,
        None => run.progress.remaining(),
    };
    // What is pending would wait as long as a rate limit pauses.
    let pauses = run.pace.is_some();
    let pays = is_tcp && !pauses && run.thresholds.holds_cork(left, || run.stream.is_paced());
    pays.then(|| run.stream.cork())
}
