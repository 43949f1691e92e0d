//! A node's report in the Prometheus text format: the dataplane under names of its own, and what kube-proxy tells too under
//! kube-proxy's names (both families are synchronized at once, so `ip_family` is left out).

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::prometheus::{head, sample};
use crate::report::NodeReport;

/// Durations, counted in buckets: 1 ms doubled up to 16 s, as kube-proxy's own for this purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Of each bucket, those that are in no smaller one.
    buckets: [u64; Histogram::BUCKETS],
    count: u64,
    seconds: f64,
}

impl Histogram {
    const BUCKETS: usize = 15;

    fn bound(bucket: usize) -> f64 {
        0.001 * f64::from(1_u32 << bucket)
    }

    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.seconds += seconds;
        let bucket = (0..Self::BUCKETS).find(|bucket| seconds <= Self::bound(*bucket));
        if let Some(bucket) = bucket.and_then(|bucket| self.buckets.get_mut(bucket)) {
            *bucket += 1;
        }
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut sum = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            sum += count;
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {sum}", Self::bound(bucket));
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {}", self.seconds, self.count);
    }
}

/// What kube-proxy tells of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyFigures {
    /// How long synchronizations took.
    pub syncs: Histogram,
    /// Seconds since the epoch of the last one that succeeded.
    pub last_sync: Option<f64>,
    /// Seconds since the epoch when one was last found necessary.
    pub last_queued: Option<f64>,
    /// Answers of `/healthz` with 200 and with 503.
    pub healthz: [u64; 2],
    /// The same of `/livez`.
    pub livez: [u64; 2],
}

/// All of it.
#[must_use]
pub fn node_metrics(report: &NodeReport, proxy: &ProxyFigures) -> String {
    let mut out = String::new();
    let gauge = |out: &mut String, name: &str, help: &str| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    };
    type OfMap = fn(&crate::MapReport) -> u64;
    let maps: [(&str, &str, OfMap); 3] = [
        ("skep_dataplane_map_entries", "Entries of an eBPF map.", |map| map.entries),
        ("skep_dataplane_map_max_entries", "Entries that an eBPF map can hold.", |map| map.max_entries),
        ("skep_dataplane_map_memory_bytes", "Kernel memory charged for an eBPF map.", |map| map.bytes),
    ];
    for (name, help, value) in maps {
        gauge(&mut out, name, help);
        for map in &report.maps {
            sample(&mut out, name, &[("map", &map.name)], value(map));
        }
    }
    const PROGRAM: &str = "skep_dataplane_program_attachments";
    gauge(&mut out, PROGRAM, "Places where an eBPF program is attached.");
    for program in &report.programs {
        let labels = [("program", program.name.as_str()), ("tag", &program.tag)];
        sample(&mut out, PROGRAM, &labels, program.attached_to.len() as u64);
    }
    let mut single = |name: &str, help: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            gauge(&mut out, name, help);
            let _ = writeln!(out, "{name} {value}");
        }
    };
    let sync = report.last_sync.as_ref();
    let name = "skep_dataplane_services";
    single(name, "Front ends in force.", sync.map(|s| &s.services as _));
    single("skep_dataplane_backends", "Backends in force.", sync.map(|s| &s.backends as _));
    let name = "skep_dataplane_problems";
    single(name, "Things that could not be applied.", Some(&report.problems.len()));
    let name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
    let help = "The last time proxy rules were successfully synced";
    single(name, help, proxy.last_sync.as_ref().map(|s| s as _));
    let name = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds";
    let help = "The last time a sync of proxy rules was queued";
    single(name, help, proxy.last_queued.as_ref().map(|s| s as _));
    let name = "kubeproxy_sync_proxy_rules_duration_seconds";
    proxy.syncs.write(&mut out, name, "SyncProxyRules latency in seconds");
    for (name, help, counts) in [
        ("kubeproxy_proxy_healthz_total", "Cumulative proxy healthz HTTP status", proxy.healthz),
        ("kubeproxy_proxy_livez_total", "Cumulative proxy livez HTTP status", proxy.livez),
    ] {
        head(&mut out, name, help);
        for (code, count) in ["200", "503"].into_iter().zip(counts) {
            sample(&mut out, name, &[("code", code)], count);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MapReport, ProgramReport, SyncReport};

    #[test]
    fn durations_are_counted_in_growing_buckets() {
        let mut histogram = Histogram::default();
        for millis in [0, 1, 3, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut out = String::new();
        histogram.write(&mut out, "x", "X.");
        for line in [
            "x_bucket{le=\"0.001\"} 2",
            "x_bucket{le=\"0.002\"} 2",
            "x_bucket{le=\"0.004\"} 3",
            "x_bucket{le=\"16.384\"} 3",
            "x_bucket{le=\"+Inf\"} 4",
            "x_sum 60.004",
            "x_count 4",
        ] {
            assert!(out.lines().any(|l| l == line), "{line} is not in\n{out}");
        }
    }

    #[test]
    fn a_report_is_written_sample_by_sample() {
        let report = NodeReport {
            maps: vec![MapReport { name: "CONNTRACK".into(), entries: 7, max_entries: 10, bytes: 4096 }],
            programs: vec![ProgramReport {
                name: "skep_connect4".into(),
                tag: "0f".into(),
                attached_to: vec!["cgroup connect4".into()],
                ..ProgramReport::default()
            }],
            last_sync: Some(SyncReport { services: 3, backends: 5, ..SyncReport::default() }),
            ..NodeReport::default()
        };
        let proxy = ProxyFigures { last_sync: Some(12.5), healthz: [2, 1], ..ProxyFigures::default() };
        let text = node_metrics(&report, &proxy);
        for line in [
            "# TYPE skep_dataplane_map_entries gauge",
            "skep_dataplane_map_entries{map=\"CONNTRACK\"} 7",
            "skep_dataplane_map_max_entries{map=\"CONNTRACK\"} 10",
            "skep_dataplane_map_memory_bytes{map=\"CONNTRACK\"} 4096",
            "skep_dataplane_program_attachments{program=\"skep_connect4\",tag=\"0f\"} 1",
            "skep_dataplane_services 3",
            "skep_dataplane_problems 0",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds 12.5",
            "kubeproxy_sync_proxy_rules_duration_seconds_count 0",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("last_queued"), "what never was is not told");
    }
}
