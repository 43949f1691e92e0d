//! Counters of the API server, in Prometheus' text form.

use crate::hooks::{Body, Exchange, Handler, full};
use crate::request::RequestInfo;
use async_trait::async_trait;
use http::{HeaderValue, Response};
use parking_lot::Mutex;
use skep_api::Status;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

type Labels = (String, String, String, String, String);

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct Inner {
    totals: BTreeMap<(Labels, u16), u64>,
    durations: BTreeMap<Labels, Histogram>,
}

/// What `/metrics` shows.
#[derive(Default)]
pub struct Metrics {
    inner: Mutex<Inner>,
    /// Requests of other kinds than reading that are being answered.
    pub(crate) mutating: AtomicI64,
    /// Reading requests that are being answered.
    pub(crate) reading: AtomicI64,
    /// Requests that were refused for their number.
    pub(crate) dropped: AtomicU64,
    /// Watches that are open.
    pub(crate) watches: AtomicI64,
}

impl Metrics {
    /// Counts an answered request. Durations of watches are not kept.
    pub(crate) fn observe(&self, info: &RequestInfo, code: u16, took: Duration) {
        let text = |text: &str| text.to_owned();
        let labels = if info.is_resource && code != 404 {
            let verb = info.verb.to_uppercase();
            (verb, text(&info.group), text(&info.version), text(&info.resource), text(&info.subresource))
        } else {
            // Unknown paths must not make new series.
            (info.verb.to_uppercase(), String::new(), String::new(), String::new(), String::new())
        };
        let mut inner = self.inner.lock();
        *inner.totals.entry((labels.clone(), code)).or_default() += 1;
        if info.verb != "watch" {
            let seconds = took.as_secs_f64();
            let histogram = inner.durations.entry(labels).or_default();
            histogram.count += 1;
            histogram.sum += seconds;
            for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
                *bucket += u64::from(seconds <= bound);
            }
        }
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let inner = self.inner.lock();
        let mut out = String::new();
        let labels = |(verb, group, version, resource, subresource): &Labels| {
            format!(
                "group=\"{group}\",resource=\"{resource}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
            )
        };
        out.push_str(
            "# HELP apiserver_request_total Requests answered.\n# TYPE apiserver_request_total counter\n",
        );
        for ((of, code), count) in &inner.totals {
            let _ = writeln!(out, "apiserver_request_total{{code=\"{code}\",{}}} {count}", labels(of));
        }
        let name = "apiserver_request_duration_seconds";
        let _ = writeln!(out, "# HELP {name} Time to answer, in seconds.\n# TYPE {name} histogram");
        for (of, histogram) in &inner.durations {
            let of = labels(of);
            for (count, bound) in histogram.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{{of},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(out, "{name}_bucket{{{of},le=\"+Inf\"}} {}", histogram.count);
            let _ = writeln!(out, "{name}_sum{{{of}}} {}", histogram.sum);
            let _ = writeln!(out, "{name}_count{{{of}}} {}", histogram.count);
        }
        let name = "apiserver_current_inflight_requests";
        let _ = writeln!(out, "# HELP {name} Requests being answered.\n# TYPE {name} gauge");
        for (kind, gauge) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {}", gauge.load(Ordering::Relaxed));
        }
        let watches = self.watches.load(Ordering::Relaxed);
        let dropped = self.dropped.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# TYPE apiserver_longrunning_requests gauge\napiserver_longrunning_requests {watches}"
        );
        let _ = writeln!(
            out,
            "# TYPE apiserver_dropped_requests_total counter\napiserver_dropped_requests_total {dropped}"
        );
        out
    }
}

#[async_trait]
impl Handler for Metrics {
    async fn handle(&self, exchange: Exchange) -> Result<Response<Body>, Status> {
        if exchange.info.verb != "get" {
            return Err(Status::new(skep_api::Reason::MethodNotAllowed, "only GET is served here"));
        }
        let mut response = Response::new(full(self.text()));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        Ok(response)
    }
}

/// Counts while it lives.
pub(crate) struct Counted<'a>(pub(crate) &'a AtomicI64);

impl<'a> Counted<'a> {
    /// Counts one more, unless there are `most` already.
    pub(crate) fn enter(gauge: &'a AtomicI64, most: usize) -> Option<Self> {
        let counted = Counted(gauge);
        let before = gauge.fetch_add(1, Ordering::Relaxed);
        (before < most as i64).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_and_resource() {
        let metrics = Metrics::default();
        let info = RequestInfo::parse("GET", "/api/v1/pods", "");
        metrics.observe(&info, 200, Duration::from_millis(20));
        metrics.observe(&info, 200, Duration::from_secs(70));
        let text = metrics.text();
        let of = "group=\"\",resource=\"pods\",subresource=\"\",verb=\"LIST\",version=\"v1\"";
        assert!(text.contains(&format!("apiserver_request_total{{code=\"200\",{of}}} 2\n")), "{text}");
        assert!(text.contains(&format!("_bucket{{{of},le=\"0.025\"}} 1\n")));
        assert!(text.contains(&format!("_bucket{{{of},le=\"+Inf\"}} 2\n")));
    }

    #[test]
    fn gauges_come_back() {
        let gauge = AtomicI64::new(0);
        let one = Counted::enter(&gauge, 1).unwrap();
        assert!(Counted::enter(&gauge, 1).is_none());
        drop(one);
        assert!(Counted::enter(&gauge, 1).is_some());
        assert_eq!(gauge.load(Ordering::Relaxed), 0);
    }
}
