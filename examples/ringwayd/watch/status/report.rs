//! How things stand, as JSON and as text. Pure.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::watch::ledger::{Delivery, Ledger};

/// Dead letters and files on their way that are named, at most; all are counted.
const NAMED_MAX: usize = 1000;

/// What is known of a receiver besides the ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) to: String,
    /// Files and bytes that have arrived since the start.
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) bytes_per_second: u64,
    pub(super) last_error: Option<String>,
}

/// Counts by receiver.
#[derive(Clone, Default)]
struct Count {
    queued: u64,
    queued_bytes: u64,
    sending: Vec<String>,
    delivered: u64,
    given_up: u64,
}

/// Everything, for receivers in the order of the ledger's.
pub(super) fn report(ledger: &Ledger, figures: &[Figures]) -> Value {
    let mut counts = vec![Count::default(); figures.len()];
    let (mut dead, mut files) = (Vec::new(), 0u64);
    for (_, row, deliveries) in ledger.files() {
        files += 1;
        for (place, delivery) in deliveries.iter().enumerate().take(counts.len()) {
            let count = &mut counts[place];
            match delivery {
                Delivery::Queued { .. } => {
                    count.queued += 1;
                    count.queued_bytes += row.stamp.len;
                }
                Delivery::Sending { .. } => {
                    count.sending.push(String::from_utf8_lossy(&row.path).into_owned());
                }
                Delivery::Delivered => count.delivered += 1,
                Delivery::GivenUp { attempts, why } => {
                    count.given_up += 1;
                    if dead.len() < NAMED_MAX {
                        dead.push(json!({
                            "file": String::from_utf8_lossy(&row.path), "to": figures[place].to,
                            "attempts": attempts, "error": why,
                        }));
                    }
                }
            }
        }
    }
    let receivers: Vec<Value> = figures
        .iter()
        .zip(counts)
        .map(|(figures, count)| {
            json!({
                "to": figures.to, "queued": count.queued, "queued_bytes": count.queued_bytes,
                "sending": count.sending, "delivered": count.delivered,
                "given_up": count.given_up, "files_since_start": figures.files,
                "bytes_since_start": figures.bytes, "bytes_per_second": figures.bytes_per_second,
                "last_error": figures.last_error,
            })
        })
        .collect();
    json!({ "files": files, "receivers": receivers, "dead_letters": dead })
}

/// The same for people.
pub(super) fn text(answer: &Value) -> String {
    let mut text = String::new();
    let state = if answer["running"] == true { "running" } else { "not running" };
    let folder = answer["folder"].as_str().unwrap_or_default();
    // Writing to a String does not fail.
    _ = writeln!(text, "{folder}: {} files, {state}", answer["files"]);
    if let Some(error) = answer["journal_error"].as_str() {
        _ = writeln!(text, "{error}");
    }
    if let Some(count) = answer["retried"].as_u64() {
        _ = writeln!(text, "queued again: {count}");
    }
    for receiver in answer["receivers"].as_array().into_iter().flatten() {
        _ = writeln!(
            text,
            "{}: {} queued ({} bytes), {} on the way, {} delivered, {} given up, {} bytes/s",
            receiver["to"].as_str().unwrap_or_default(),
            receiver["queued"],
            receiver["queued_bytes"],
            receiver["sending"].as_array().map_or(0, Vec::len),
            receiver["delivered"],
            receiver["given_up"],
            receiver["bytes_per_second"],
        );
        if let Some(error) = receiver["last_error"].as_str() {
            _ = writeln!(text, "    last: {error}");
        }
    }
    for dead in answer["dead_letters"].as_array().into_iter().flatten() {
        _ = writeln!(
            text,
            "given up: {} to {} after {} attempts: {}",
            dead["file"].as_str().unwrap_or_default(),
            dead["to"].as_str().unwrap_or_default(),
            dead["attempts"],
            dead["error"].as_str().unwrap_or_default(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::ledger::{Ended, ReceiverId, Stamp};

    #[test]
    fn a_report_counts_by_receiver_and_names_what_was_given_up() {
        let mut ledger = Ledger::new(vec![ReceiverId(0), ReceiverId(1)]);
        let stamp = Stamp { inode: 1, len: 10, modified: 0, changed: 0 };
        for path in ["a", "b", "c"] {
            ledger.seen(path.as_bytes(), stamp, 0);
        }
        let (job, _) = ledger.begin(0).unwrap();
        ledger.ended(job.id, 0, Ended::Delivered(None));
        let (job, _) = ledger.begin(0).unwrap();
        ledger.ended(job.id, 0, Ended::GivenUp("it answered 403".to_owned()));
        ledger.begin(0).unwrap();
        let figures = ["x", "y"].map(|to| Figures { to: to.to_owned(), ..Figures::default() });
        let mut answer = report(&ledger, &figures);
        let x = &answer["receivers"][0];
        assert_eq!(
            (&x["delivered"], &x["given_up"], &x["queued"]),
            (&1.into(), &1.into(), &0.into())
        );
        assert_eq!(x["sending"], json!(["c"]));
        assert_eq!(answer["receivers"][1]["queued_bytes"], 30);
        assert_eq!(answer["dead_letters"][0]["file"], "b");
        answer["folder"] = json!("/in");
        let text = text(&answer);
        assert!(text.starts_with("/in: 3 files, not running\nx: 0 queued (0 bytes), 1 on the way"));
        assert!(text.contains("given up: b to x after 1 attempts: it answered 403"), "{text}");
    }
}
