//! Figures in the text format of Prometheus, under the kubelet's names.

use super::figures::{Figures, Part};
use crate::core::probe::Kind;
use crate::prober::Counts;
use std::fmt::{Display, Write};

/// A text in Prometheus' format.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Begins the samples of one name.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let mut list = String::new();
        for (key, value) in labels {
            let comma = if list.is_empty() { "" } else { "," };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(list, "{comma}{key}=\"{value}\"");
        }
        let _ = match list.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{list}}} {value}"),
        };
    }

    /// A family of one sample without labels.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// What this process uses; of `/proc/self/stat` and `/proc/self/statm`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own {
    /// Processor time in seconds.
    pub cpu: f64,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl Own {
    /// Looks at this process.
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let field =
            |at: usize| after_name.split(' ').nth(at).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        // Fields 14 and 15 of the file, in ticks of a hundredth; pages of 4 KiB.
        Own { cpu: (field(11) + field(12)) as f64 / 100.0, resident: pages * 4096 }
    }
}

/// `/metrics`: of the agent itself.
pub fn agent(f: &Figures, own: Own) -> String {
    let mut out = Text::default();
    out.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    out.sample("kubelet_node_name", &[("node", &f.node.name)], 1);
    let help = "Number of pods that have a running pod sandbox";
    out.single("kubelet_running_pods", "gauge", help, f.sandboxes);
    let name = "kubelet_running_containers";
    out.family(name, "gauge", "Number of containers currently running");
    for (state, count) in &f.containers {
        out.sample(name, &[("container_state", state)], count);
    }
    let help = "Total user and system CPU time spent in seconds.";
    out.single("process_cpu_seconds_total", "counter", help, own.cpu);
    let help = "Resident memory size in bytes.";
    out.single("process_resident_memory_bytes", "gauge", help, own.resident);
    out.0
}

/// `/metrics/resource`: what autoscalers look at.
pub fn resource(f: &Figures) -> String {
    const CPU: &str = "container_cpu_usage_seconds_total";
    const MEMORY: &str = "container_memory_working_set_bytes";
    const BEGAN: &str = "container_start_time_seconds";
    let mut out = Text::default();
    let each = |out: &mut Text, name: &str, kind: &str, help: &str, value: &dyn Fn(&Part) -> Option<f64>| {
        out.family(name, kind, help);
        for pod in &f.pods {
            for one in &pod.containers {
                let labels = [("container", &*one.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
                if let Some(value) = value(one) {
                    out.sample(name, &labels, value);
                }
            }
        }
    };
    let help = "Cumulative cpu time consumed by the container in core-seconds";
    each(&mut out, CPU, "counter", help, &|c| Some(seconds(c.cpu_nanos)));
    let help = "Current working set of the container in bytes";
    each(&mut out, MEMORY, "gauge", help, &|c| Some(c.working_set as f64));
    let help = "Start time of the container since unix epoch in seconds";
    each(&mut out, BEGAN, "gauge", help, &|c| (c.began > 0).then_some(c.began as f64 / 1e9));
    let help = "Cumulative cpu time consumed by the node in core-seconds";
    out.single("node_cpu_usage_seconds_total", "counter", help, seconds(f.node.usage.cpu_nanos));
    let help = "Current working set of the node in bytes";
    out.single("node_memory_working_set_bytes", "gauge", help, f.node.usage.working_set);
    let name = "pod_cpu_usage_seconds_total";
    out.family(name, "counter", "Cumulative cpu time consumed by the pod in core-seconds");
    for pod in &f.pods {
        let sum = pod.containers.iter().map(|c| c.cpu_nanos).sum();
        out.sample(name, &[("namespace", &pod.namespace), ("pod", &pod.name)], seconds(sum));
    }
    let name = "pod_memory_working_set_bytes";
    out.family(name, "gauge", "Current working set of the pod in bytes");
    for pod in &f.pods {
        let sum: u64 = pod.containers.iter().map(|c| c.working_set).sum();
        out.sample(name, &[("namespace", &pod.namespace), ("pod", &pod.name)], sum);
    }
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    out.single("resource_scrape_error", "gauge", help, u8::from(f.incomplete));
    out.0
}

/// `/metrics/cadvisor`: the containers, and the machine.
pub fn cadvisor(f: &Figures) -> String {
    let mut out = Text::default();
    type Value = fn(&Part) -> f64;
    let families: [(&str, &str, &str, Value); 6] = [
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |c| {
            seconds(c.cpu_nanos)
        }),
        (
            "container_memory_usage_bytes",
            "gauge",
            "Current memory usage in bytes, including all memory.",
            |c| c.memory as f64,
        ),
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |c| {
            c.working_set as f64
        }),
        ("container_memory_rss", "gauge", "Size of RSS in bytes.", |c| c.rss as f64),
        ("container_fs_usage_bytes", "gauge", "Number of bytes that are consumed by the container.", |c| {
            c.written as f64
        }),
        (
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds.",
            |c| c.began as f64 / 1e9,
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for pod in &f.pods {
            for one in &pod.containers {
                let labels = [
                    ("container", &*one.name),
                    ("image", &*one.image),
                    ("name", &*one.id),
                    ("namespace", &*pod.namespace),
                    ("pod", &*pod.name),
                ];
                out.sample(name, &labels, value(one));
            }
        }
    }
    out.single("machine_cpu_cores", "gauge", "Number of logical CPU cores.", f.node.cores);
    out.single(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
        f.node.capacity,
    );
    out.0
}

/// `/metrics/probes`: how often which probe ended how.
pub fn probes(counts: &Counts) -> String {
    const NAME: &str = "prober_probe_total";
    let mut out = Text::default();
    let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    out.family(NAME, "counter", help);
    counts.each(|key, results| {
        for (result, count) in ["successful", "failed"].into_iter().zip(results) {
            if *count > 0 {
                let kind: Kind = key.kind;
                let labels = [
                    ("container", &*key.container),
                    ("namespace", &*key.namespace),
                    ("pod", &*key.pod),
                    ("pod_uid", &*key.uid),
                    ("probe_type", kind.as_str()),
                    ("result", result),
                ];
                out.sample(NAME, &labels, count);
            }
        }
    });
    out.0
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::sample;
    use super::*;
    use crate::core::observed::Outcome;
    use crate::prober::Key;

    /// Every line is a comment or a sample of the family that was announced last.
    fn check(text: &str) {
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
            } else if !line.starts_with("# HELP ") {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, family, "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn resources_of_nodes_pods_and_containers() {
        let text = resource(&sample());
        check(&text);
        for line in [
            r#"container_cpu_usage_seconds_total{container="a",namespace="d",pod="p"} 1.5"#,
            r#"container_start_time_seconds{container="a",namespace="d",pod="p"} 100"#,
            r#"pod_cpu_usage_seconds_total{namespace="d",pod="p"} 2"#,
            r#"pod_memory_working_set_bytes{namespace="d",pod="p"} 300"#,
            "node_memory_working_set_bytes 4000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains(r#"container_start_time_seconds{container="b""#), "it has not begun");
    }

    #[test]
    fn the_others_are_of_the_format_too() {
        let own = Own::now();
        assert!(own.resident > 0);
        let text = agent(&sample(), own);
        check(&text);
        assert!(text.contains("kubelet_running_containers{container_state=\"running\"} 1\n"), "{text}");
        check(&cadvisor(&sample()));
    }

    #[test]
    fn probes_are_counted_and_forgotten() {
        let counts = Counts::default();
        let key = |id: &str| Key {
            namespace: "d".into(),
            pod: "p\"q".into(),
            uid: "u".into(),
            container: "c".into(),
            id: id.into(),
            kind: Kind::Readiness,
        };
        counts.count(&key("1"), Outcome::Success);
        counts.count(&key("1"), Outcome::Success);
        counts.count(&key("1"), Outcome::Failure);
        let text = probes(&counts);
        check(&text);
        let line = r#"prober_probe_total{container="c",namespace="d",pod="p\"q",pod_uid="u",probe_type="Readiness",result="successful"} 2"#;
        assert!(text.contains(line), "{text}");
        counts.forget(&key("1"));
        assert!(!probes(&counts).contains("result="));
    }
}
