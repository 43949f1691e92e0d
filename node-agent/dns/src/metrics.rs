//! What is counted, in the Prometheus format.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Transports, as the label `proto` names them.
pub const TRANSPORTS: [&str; 2] = ["udp", "tcp"];
/// Types that are counted apart; all others together.
const TYPES: [RecordType; 7] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::SOA,
];
/// Codes that are counted apart; all others together.
const CODES: [ResponseCode; 6] = [
    ResponseCode::NoError,
    ResponseCode::NXDomain,
    ResponseCode::ServFail,
    ResponseCode::Refused,
    ResponseCode::FormErr,
    ResponseCode::NotImp,
];
/// What the label `rcode` calls them.
const CODE_NAMES: [&str; 7] = ["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "other"];
/// Upper bounds of the histogram, in microseconds.
const BOUNDS: [u64; 10] = [100, 250, 500, 1000, 4000, 16_000, 64_000, 256_000, 1_024_000, 4_096_000];

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The zone.
    Zone,
    /// Others, now or when the cache was filled.
    Others,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// All counters of the process.
#[derive(Default)]
pub struct Metrics {
    requests: [[AtomicU64; TYPES.len() + 1]; TRANSPORTS.len()],
    responses: [AtomicU64; CODE_NAMES.len()],
    durations: [Histogram; 2],
    /// Answers out of the cache.
    pub hits: AtomicU64,
    /// Questions that the cache had no answer to.
    pub misses: AtomicU64,
    /// Questions to other servers that none of them answered.
    pub unanswered: AtomicU64,
    /// Questions dropped because too many were under way.
    pub overloaded: AtomicU64,
    /// Questions of our own that came back to us.
    pub loops: AtomicU64,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Metrics {
    /// Counts one.
    pub fn count(&self, counter: &AtomicU64) {
        add(counter, 1);
    }

    /// Counts a question.
    pub fn request(&self, tcp: bool, kind: RecordType) {
        let row = TYPES.iter().position(|one| *one == kind).unwrap_or(TYPES.len());
        add(&self.requests[usize::from(tcp)][row], 1);
    }

    /// Counts an answer.
    pub fn response(&self, code: ResponseCode, by: By, took: Duration) {
        let row = CODES.iter().position(|one| *one == code).unwrap_or(CODES.len());
        add(&self.responses[row], 1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let histogram = &self.durations[usize::from(by == By::Others)];
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        add(&histogram.buckets[bucket], 1);
        add(&histogram.micros, micros);
    }

    /// All of it as text. `source` says where the zone comes from, `kept` how many answers the cache holds.
    pub fn render(&self, source: &str, kept: usize) -> String {
        let mut out = String::new();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        head(&mut out, "requests_total", "counter", "Questions.");
        for (proto, row) in TRANSPORTS.iter().zip(&self.requests) {
            let names = TYPES.iter().map(ToString::to_string).chain(["other".to_owned()]);
            for (kind, counter) in names.zip(row) {
                line(
                    &mut out,
                    "requests_total",
                    &format!("proto=\"{proto}\",type=\"{kind}\""),
                    read(counter),
                );
            }
        }
        head(&mut out, "responses_total", "counter", "Answers.");
        for (code, counter) in CODE_NAMES.iter().zip(&self.responses) {
            line(&mut out, "responses_total", &format!("rcode=\"{code}\""), read(counter));
        }
        head(&mut out, "request_duration_seconds", "histogram", "How long an answer took.");
        for (by, histogram) in ["zone", "forward"].iter().zip(&self.durations) {
            let mut sum = 0;
            for (index, bucket) in histogram.buckets.iter().enumerate() {
                sum += read(bucket);
                let bound = BOUNDS.get(index).map_or("+Inf".to_owned(), |b| (*b as f64 / 1e6).to_string());
                let labels = format!("by=\"{by}\",le=\"{bound}\"");
                line(&mut out, "request_duration_seconds_bucket", &labels, sum);
            }
            let seconds = read(&histogram.micros) as f64 / 1e6;
            let _ = writeln!(out, "skep_dns_request_duration_seconds_sum{{by=\"{by}\"}} {seconds}");
            line(&mut out, "request_duration_seconds_count", &format!("by=\"{by}\""), sum);
        }
        for (name, about, counter) in [
            ("cache_hits_total", "Answers out of the cache.", &self.hits),
            ("cache_misses_total", "Questions that the cache had no answer to.", &self.misses),
            ("forward_unanswered_total", "Questions that no other server answered.", &self.unanswered),
            (
                "forward_overloaded_total",
                "Questions dropped because too many were under way.",
                &self.overloaded,
            ),
            ("forward_loops_total", "Questions of our own that came back to us.", &self.loops),
        ] {
            head(&mut out, name, "counter", about);
            let _ = writeln!(out, "skep_dns_{name} {}", read(counter));
        }
        head(&mut out, "cache_entries", "gauge", "Answers in the cache.");
        let _ = writeln!(out, "skep_dns_cache_entries {kept}");
        head(&mut out, "view", "gauge", "Where the names of Services come from.");
        for one in ["nothing", "snapshot", "api"] {
            line(&mut out, "view", &format!("source=\"{one}\""), u64::from(one == source));
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, about: &str) {
    let _ = writeln!(out, "# HELP skep_dns_{name} {about}\n# TYPE skep_dns_{name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "skep_dns_{name}{{{labels}}} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.request(true, RecordType::SRV);
        metrics.request(false, RecordType::HTTPS);
        metrics.response(ResponseCode::NXDomain, By::Others, Duration::from_micros(300));
        metrics.count(&metrics.hits);
        let text = metrics.render("snapshot", 7);
        for line in [
            "skep_dns_requests_total{proto=\"tcp\",type=\"SRV\"} 1",
            "skep_dns_requests_total{proto=\"udp\",type=\"other\"} 1",
            "skep_dns_responses_total{rcode=\"NXDOMAIN\"} 1",
            "skep_dns_request_duration_seconds_bucket{by=\"forward\",le=\"0.00025\"} 0",
            "skep_dns_request_duration_seconds_bucket{by=\"forward\",le=\"0.0005\"} 1",
            "skep_dns_request_duration_seconds_bucket{by=\"forward\",le=\"+Inf\"} 1",
            "skep_dns_request_duration_seconds_sum{by=\"forward\"} 0.0003",
            "skep_dns_cache_hits_total 1",
            "skep_dns_cache_entries 7",
            "skep_dns_view{source=\"snapshot\"} 1",
            "skep_dns_view{source=\"api\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
