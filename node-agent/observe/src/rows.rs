//! A reading as one row a pod.

use std::collections::BTreeMap;

use skep_abi::Traffic;
use skep_dataplane::{Counters, DropReason};

/// What one pod sent, received and lost, over all of its interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRow {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Bytes and packets in both directions, seen from the pod: `rx` is what it received.
    pub traffic: Traffic,
    /// Packets dropped: by reason, and whether they were on their way to the pod.
    pub drops: BTreeMap<(DropReason, bool), u64>,
}

/// One row a pod, by namespace, name and UID. Interfaces of the same pod are added up.
#[must_use]
pub fn rows(counters: &Counters) -> Vec<PodRow> {
    let mut by_pod: BTreeMap<(&str, &str, &str), PodRow> = BTreeMap::new();
    for one in &counters.pods {
        let pod = &one.pod;
        let row = by_pod.entry((&pod.namespace, &pod.name, &pod.uid)).or_insert_with(|| PodRow {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ..PodRow::default()
        });
        row.traffic = row.traffic.plus(one.traffic);
        for drops in &one.drops {
            *row.drops.entry((drops.reason, drops.inbound)).or_default() += drops.packets;
        }
    }
    by_pod.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_dataplane::{Drops, PodAttachment, PodTraffic};

    #[test]
    fn interfaces_of_one_pod_make_one_row() {
        let on = |ifindex, uid: &str, bytes| PodTraffic {
            pod: PodAttachment {
                ifindex,
                addresses: vec![],
                uid: uid.into(),
                namespace: "default".into(),
                name: "web".into(),
            },
            traffic: Traffic { rx_packets: 1, rx_bytes: bytes, tx_packets: 2, tx_bytes: 2 * bytes },
            drops: vec![Drops { reason: DropReason::Malformed, inbound: false, packets: 1, bytes: 9 }],
        };
        let counters =
            Counters { pods: vec![on(3, "a", 10), on(4, "a", 5), on(5, "b", 1)], node_drops: vec![] };
        let rows = rows(&counters);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].traffic, Traffic { rx_packets: 2, rx_bytes: 15, tx_packets: 4, tx_bytes: 30 });
        assert_eq!(rows[0].drops, BTreeMap::from([((DropReason::Malformed, false), 2)]));
        assert_eq!(rows[1].traffic.rx_bytes, 1);
    }
}
