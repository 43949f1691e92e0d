//! What the eBPF programs counted, by pod, read from their pinned maps: no agent need be alive for it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

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

/// The pods of one namespace, by name.
///
/// # Errors
/// When the pins cannot be read.
pub fn pods(config: &Config, namespace: &str) -> Result<BTreeMap<String, Pod>> {
    let mut pods = BTreeMap::<String, Pod>::new();
    for node in &config.nodes {
        let counters =
            skep_dataplane::counters_from_pins(Path::new("/sys/fs/bpf"), &config.name, &node.name)?;
        for counted in counters.pods.iter().filter(|counted| counted.pod.namespace == namespace) {
            let (pod, traffic) = (pods.entry(counted.pod.name.clone()).or_default(), &counted.traffic);
            pod.in_bytes += traffic.rx_bytes;
            pod.in_packets += traffic.rx_packets;
            pod.out_bytes += traffic.tx_bytes;
            pod.out_packets += traffic.tx_packets;
        }
    }
    Ok(pods)
}
