//! The Prometheus text format, version 0.0.4.

use std::fmt::Write as _;

use skep_dataplane::Counters;

use crate::rows::{PodRow, rows};

/// The media type of what [`prometheus`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One family of counters: its name, what it says, and the value of a pod.
struct Family {
    name: &'static str,
    help: &'static str,
    value: fn(&PodRow) -> u64,
}

const FAMILIES: [Family; 4] = [
    Family {
        name: "skep_pod_receive_bytes_total",
        help: "Bytes delivered to the pod, Ethernet headers included.",
        value: |row| row.traffic.rx_bytes,
    },
    Family {
        name: "skep_pod_receive_packets_total",
        help: "Packets delivered to the pod.",
        value: |row| row.traffic.rx_packets,
    },
    Family {
        name: "skep_pod_transmit_bytes_total",
        help: "Bytes sent by the pod, Ethernet headers included.",
        value: |row| row.traffic.tx_bytes,
    },
    Family {
        name: "skep_pod_transmit_packets_total",
        help: "Packets sent by the pod.",
        value: |row| row.traffic.tx_packets,
    },
];

/// A reading in the text format: four families of traffic, then drops of pods and of the node.
#[must_use]
pub fn prometheus(counters: &Counters) -> String {
    let rows = rows(counters);
    let mut out = String::new();
    for family in &FAMILIES {
        head(&mut out, family.name, family.help);
        for row in &rows {
            sample(&mut out, family.name, &pod_labels(row), (family.value)(row));
        }
    }
    const POD_DROPS: &str = "skep_pod_drop_packets_total";
    head(
        &mut out,
        POD_DROPS,
        "Packets of the pod that were dropped, by reason and direction seen from the pod.",
    );
    for row in &rows {
        for ((reason, inbound), packets) in &row.drops {
            let mut labels = pod_labels(row);
            labels.extend([("reason", reason.name()), ("direction", direction(*inbound))]);
            sample(&mut out, POD_DROPS, &labels, *packets);
        }
    }
    const NODE_DROPS: &str = "skep_node_drop_packets_total";
    head(&mut out, NODE_DROPS, "Packets dropped on the uplink, and connections refused at the socket.");
    for (ifindex, drops) in &counters.node_drops {
        let place = if *ifindex == 0 { "socket" } else { "uplink" };
        let labels =
            [("place", place), ("reason", drops.reason.name()), ("direction", direction(drops.inbound))];
        sample(&mut out, NODE_DROPS, &labels, drops.packets);
    }
    out
}

fn pod_labels(row: &PodRow) -> Vec<(&'static str, &str)> {
    vec![("namespace", &row.namespace), ("pod", &row.name), ("uid", &row.uid)]
}

const fn direction(inbound: bool) -> &'static str {
    if inbound { "receive" } else { "transmit" }
}

/// Begins a family of counters.
pub(crate) fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
}

/// One sample with its labels.
pub(crate) fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    out.push_str(name);
    out.push('{');
    for (index, (label, text)) in labels.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{label}=\"{}\"", escaped(text));
    }
    let _ = writeln!(out, "}} {value}");
}

/// Backslash, quote and line feed, as the format wants them.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::Traffic;
    use skep_dataplane::{DropReason, Drops, PodAttachment, PodTraffic};

    #[test]
    fn a_reading_is_written_sample_by_sample() {
        let drops = Drops { reason: DropReason::NoPort, inbound: false, packets: 3, bytes: 180 };
        let counters = Counters {
            pods: vec![PodTraffic {
                pod: PodAttachment {
                    ifindex: 7,
                    addresses: vec![],
                    uid: "u1".into(),
                    namespace: "default".into(),
                    name: "web\"0".into(),
                },
                traffic: Traffic { rx_packets: 1, rx_bytes: 66, tx_packets: 2, tx_bytes: 132 },
                drops: vec![drops],
            }],
            node_drops: vec![(0, Drops { reason: DropReason::NoBackend, packets: 4, ..drops }), (2, drops)],
        };
        let text = prometheus(&counters);
        for line in [
            "# TYPE skep_pod_receive_bytes_total counter",
            r#"skep_pod_receive_bytes_total{namespace="default",pod="web\"0",uid="u1"} 66"#,
            r#"skep_pod_transmit_packets_total{namespace="default",pod="web\"0",uid="u1"} 2"#,
            r#"skep_pod_drop_packets_total{namespace="default",pod="web\"0",uid="u1",reason="no_masquerade_port",direction="transmit"} 3"#,
            r#"skep_node_drop_packets_total{place="socket",reason="no_backend",direction="transmit"} 4"#,
            r#"skep_node_drop_packets_total{place="uplink",reason="no_masquerade_port",direction="transmit"} 3"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with('\n'));
    }
}
