//! What the eBPF programs counted, by pod, as the agent publishes it on `/metrics`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::config::Config;

/// Traffic of one pod, seen from the pod.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pod {
    /// Bytes it received.
    pub in_bytes: u64,
    /// Packets it received.
    pub in_packets: u64,
    /// Bytes it sent.
    pub out_bytes: u64,
    /// Packets it sent.
    pub out_packets: u64,
}

/// Picks a number of a pod.
type Field = fn(&mut Pod) -> &mut u64;

/// Which metric with which `direction` is which number.
const METRICS: &[(&str, &str, Field)] = &[
    ("skep_pod_network_bytes_total", "ingress", |pod| &mut pod.in_bytes),
    ("skep_pod_network_packets_total", "ingress", |pod| &mut pod.in_packets),
    ("skep_pod_network_bytes_total", "egress", |pod| &mut pod.out_bytes),
    ("skep_pod_network_packets_total", "egress", |pod| &mut pod.out_packets),
];

/// The pods of one namespace, by name.
///
/// # Errors
/// When the agent does not answer.
pub fn pods(config: &Config, namespace: &str) -> Result<BTreeMap<String, Pod>> {
    let url = format!("http://127.0.0.1:{}/metrics", config.healthz_port);
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let text = agent.get(&url).call().with_context(|| url.clone())?.body_mut().read_to_string()?;
    Ok(parse(&text, namespace))
}

fn parse(text: &str, namespace: &str) -> BTreeMap<String, Pod> {
    let mut pods = BTreeMap::<String, Pod>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some((metric, labels)) = series.split_once('{') else { continue };
        let label = |name: &str| {
            labels
                .trim_end_matches('}')
                .split(',')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        };
        let label = |name: &str| label(name).map(|(_, value)| value.trim_matches('"'));
        let (Some(pod), Some(direction)) = (label("pod"), label("direction")) else { continue };
        if label("namespace") != Some(namespace) {
            continue;
        }
        for (_, _, number) in METRICS.iter().filter(|(name, way, _)| *name == metric && *way == direction) {
            *number(pods.entry(pod.to_owned()).or_default()) += value.parse::<f64>().unwrap_or(0.0) as u64;
        }
    }
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_become_one_row_a_pod() {
        let text = "# HELP x y\n\
            skep_pod_network_bytes_total{namespace=\"demo\",pod=\"a\",direction=\"ingress\"} 120\n\
            skep_pod_network_packets_total{namespace=\"demo\",pod=\"a\",direction=\"egress\"} 3\n\
            skep_pod_network_bytes_total{namespace=\"other\",pod=\"a\",direction=\"ingress\"} 999\n\
            process_cpu_seconds_total 1.5\n";
        let expected = Pod { in_bytes: 120, out_packets: 3, ..Pod::default() };
        assert_eq!(parse(text, "demo"), BTreeMap::from([("a".to_owned(), expected)]));
    }
}
