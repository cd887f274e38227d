//! Numbers in the text that Prometheus reads. Pure.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Reading;

/// Labels with their values.
type Labels = Vec<(&'static str, String)>;

/// All numbers of all threads.
pub(super) fn metrics(readings: &[Reading], draining: bool) -> String {
    let mut registry = Registry::with_prefix("ringwayd");
    let (requests, bodies, failures) = (
        Family::<Labels, Counter>::default(),
        Family::<Labels, Counter>::default(),
        Family::<Labels, Counter>::default(),
    );
    let (bytes, connections, drain) = (Counter::<u64>::default(), gauge(0), gauge(draining.into()));
    registry.register("requests", "Requests that were answered", requests.clone());
    registry.register("body_bytes", "Bytes of bodies that sockets accepted", bytes.clone());
    registry.register("bodies", "Bodies by the route that they took", bodies.clone());
    registry.register("failures", "Answers that are not complete", failures.clone());
    registry.register("connections", "Connections that are open", connections.clone());
    registry.register("draining", "1 once the daemon is to end", drain);
    for reading in readings {
        bytes.inc_by(reading.body_bytes);
        connections.inc_by(signed(reading.connections));
        for (status, count) in &reading.statuses {
            requests.get_or_create(&vec![("status", status.to_string())]).inc_by(*count);
        }
        for ((route, mode), count) in &reading.routes {
            let labels = vec![("route", (*route).to_owned()), ("mode", (*mode).to_owned())];
            bodies.get_or_create(&labels).inc_by(*count);
        }
        for (kind, count) in &reading.failures {
            failures.get_or_create(&vec![("kind", (*kind).to_owned())]).inc_by(*count);
        }
    }
    uploads(readings, &mut registry);
    runtime(readings, &mut registry);
    let mut text = String::new();
    // Writing to a String does not fail.
    _ = encode(&mut text, &registry);
    text
}

/// What has come in.
fn uploads(readings: &[Reading], registry: &mut Registry) {
    let (taken, refused) =
        (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
    let bytes = Counter::<u64>::default();
    let seconds = Counter::<f64, AtomicU64>::default();
    registry.register("uploads", "Bodies that were received, by their route", taken.clone());
    registry.register("upload_bytes", "Bytes of bodies that were written", bytes.clone());
    registry.register("upload_seconds", "Time that receiving them took", seconds.clone());
    registry.register("uploads_refused", "Uploads that were refused", refused.clone());
    for Reading { uploads, .. } in readings {
        bytes.inc_by(uploads.bytes);
        seconds.inc_by(uploads.seconds);
        for ((route, mode), count) in &uploads.taken {
            let labels = vec![("route", (*route).to_owned()), ("mode", (*mode).to_owned())];
            taken.get_or_create(&labels).inc_by(*count);
        }
        for (reason, count) in &uploads.refused {
            refused.get_or_create(&vec![("reason", (*reason).to_owned())]).inc_by(*count);
        }
    }
}

/// The counters of the rings. Some of them go down again, so all are gauges here.
fn runtime(readings: &[Reading], registry: &mut Registry) {
    let names = readings.first().map(|first| first.stats.each().map(|(name, _)| name));
    for (place, name) in names.into_iter().flatten().enumerate() {
        let family = Family::<Labels, Gauge>::default();
        for (thread, reading) in readings.iter().enumerate() {
            let value = reading.stats.each().nth(place).map_or(0, |(_, value)| value);
            let labels = vec![("thread", thread.to_string())];
            family.get_or_create(&labels).set(signed(value));
        }
        let help = format!("The counter {name} of the ring of a thread");
        registry.register(format!("runtime_{name}"), help, family);
    }
}

fn gauge(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::admin::meters::Uploads;

    #[test]
    fn numbers_of_all_threads_are_added_and_those_of_rings_are_kept_apart() {
        let one = Reading {
            body_bytes: 10,
            connections: 1,
            statuses: vec![(200, 2)],
            routes: vec![(("splice", "inline"), 2)],
            failures: vec![("peer-closed", 1)],
            uploads: Uploads {
                bytes: 7,
                seconds: 0.5,
                taken: vec![(("copy", "hybrid"), 3)],
                refused: vec![("too-large", 1)],
            },
            ..Reading::default()
        };
        let text = metrics(&[one.clone(), one], true);
        for line in [
            "ringwayd_requests_total{status=\"200\"} 4\n",
            "ringwayd_body_bytes_total 20\n",
            "ringwayd_bodies_total{route=\"splice\",mode=\"inline\"} 4\n",
            "ringwayd_failures_total{kind=\"peer-closed\"} 2\n",
            "ringwayd_uploads_total{route=\"copy\",mode=\"hybrid\"} 6\n",
            "ringwayd_upload_bytes_total 14\n",
            "ringwayd_upload_seconds_total 1.0\n",
            "ringwayd_uploads_refused_total{reason=\"too-large\"} 2\n",
            "ringwayd_connections 2\n",
            "ringwayd_draining 1\n",
            "ringwayd_runtime_enters{thread=\"1\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
