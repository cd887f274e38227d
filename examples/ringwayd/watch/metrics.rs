//! How a watch stands, for those who run it: `/health` and `/metrics`, in the form of `serve`.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::daemon::{Daemon, Meter};
use super::ledger::Backlog;
use super::spool::now_ms;
use crate::serve::admin::Account;

type Label = [(&'static str, String); 1];
type Counters = Family<Label, Counter>;
type Gauges = Family<Label, Gauge>;

impl Account for Daemon {
    fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("ringwayd_watch");
        let (seen, files) = (Counter::<u64>::default(), Gauge::<i64>::default());
        seen.inc_by(self.seen.get());
        registry.register("files_seen", "Versions of files that were queued", seen);
        files.set(signed(self.ledger.borrow().len() as u64));
        registry.register("files", "Files that are remembered", files);
        for (name, help, on) in [
            ("journal_failing", "1 while the journal cannot be written", self.is_held_up()),
            ("draining", "1 once the daemon is to end", self.is_stopping()),
        ] {
            let gauge = Gauge::<i64>::default();
            gauge.set(on.into());
            registry.register(name, help, gauge);
        }
        let table = Table::registered(&mut registry);
        let ledger = self.ledger.borrow();
        for (meter, (backlog, since)) in self.meters.iter().zip(ledger.backlogs()) {
            let lag = since.map_or(0, |since| now_ms().saturating_sub(since) / 1000);
            table.add(meter, backlog, lag);
        }
        drop(ledger);
        let mut text = String::new();
        // Writing to a String does not fail.
        _ = encode(&mut text, &registry);
        text
    }

    fn ailment(&self) -> Option<&'static str> {
        if self.is_stopping() {
            return Some("draining\n");
        }
        self.is_held_up().then_some("the journal cannot be written, and nothing new is begun\n")
    }
}

/// A column for each number, a row for each receiver.
#[derive(Default)]
struct Table {
    deliveries: Counters,
    delivered_bytes: Counters,
    retries: Counters,
    given_up: Counters,
    queued: Gauges,
    queued_bytes: Gauges,
    sending: Gauges,
    dead_letters: Gauges,
    bytes_per_second: Gauges,
    lag: Gauges,
}

impl Table {
    fn registered(registry: &mut Registry) -> Table {
        let table = Table::default();
        for (name, help, family) in [
            ("deliveries", "Files that have arrived", &table.deliveries),
            ("delivered_bytes", "Bytes of files that have arrived", &table.delivered_bytes),
            ("retries", "Attempts that failed and were followed by another", &table.retries),
            ("given_up", "Deliveries that became dead letters", &table.given_up),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in [
            ("queued", "Files that wait for their turn", &table.queued),
            ("queued_bytes", "Bytes of files that wait for their turn", &table.queued_bytes),
            ("sending", "Files that are on their way", &table.sending),
            ("dead_letters", "Deliveries that were given up", &table.dead_letters),
            ("bytes_per_second", "Bytes that went out in the last second", &table.bytes_per_second),
        ] {
            registry.register(name, help, family.clone());
        }
        let help = "How long the file waits that is on its way or is next";
        registry.register_with_unit("lag", help, Unit::Seconds, table.lag.clone());
        table
    }

    fn add(&self, meter: &Meter, backlog: &Backlog, lag: u64) {
        let to = [("to", meter.url.to_string())];
        for (family, count) in [
            (&self.deliveries, meter.files.get()),
            (&self.delivered_bytes, meter.bytes.get()),
            (&self.retries, meter.retries.get()),
            (&self.given_up, meter.given_up.get()),
        ] {
            family.get_or_create(&to).inc_by(count);
        }
        for (family, value) in [
            (&self.queued, backlog.queued()),
            (&self.queued_bytes, backlog.queued_bytes),
            (&self.sending, backlog.sending()),
            (&self.dead_letters, backlog.given_up),
            (&self.bytes_per_second, meter.bytes_per_second.get()),
            (&self.lag, lag),
        ] {
            family.get_or_create(&to).set(signed(value));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
