//! Gives each node its range of pod addresses.

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed_self, work};
use serde_json::{Value, json};
use skep_client::{Client, Collection, Informer, Patch, Recorder, WriteOptions};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Where ranges are cut from: `10.244.0.0/16` into `/24`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    base: u32,
    prefix: u8,
    node_prefix: u8,
}

impl Ranges {
    /// Parses the cluster's range; none where it is none, or smaller than a node's.
    pub(crate) fn parse(cidr: &str, node_prefix: u8) -> Option<Self> {
        let (address, prefix) = cidr.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        if prefix > node_prefix || node_prefix > 32 || prefix == 0 {
            return None;
        }
        let base = u32::from(address) & (u32::MAX << (32 - u32::from(prefix)));
        Some(Ranges { base, prefix, node_prefix })
    }

    /// The first range that nobody has.
    pub(crate) fn free(&self, taken: &BTreeSet<String>) -> Option<String> {
        let count = 1u64 << (self.node_prefix - self.prefix);
        (0..count).map(|n| self.range(n)).find(|range| !taken.contains(range))
    }

    fn range(&self, n: u64) -> String {
        let step = u32::try_from(n << (32 - self.node_prefix)).unwrap_or(0);
        format!("{}/{}", Ipv4Addr::from(self.base | step), self.node_prefix)
    }
}

struct Controller {
    client: Arc<dyn Client>,
    nodes: Informer,
    ranges: Ranges,
    events: Recorder,
    /// Given out, and perhaps not in the view yet. One at a time gives ranges out.
    given: Mutex<BTreeSet<String>>,
}

/// Starts the controller; without a usable range it says so and gives none.
pub(crate) fn start(context: &Context) {
    let config = &context.config;
    let Some(ranges) = Ranges::parse(&config.cluster_cidr, config.node_cidr_mask) else {
        tracing::error!(
            cidr = config.cluster_cidr,
            "nodes get no pod addresses: --cluster-cidr is not an IPv4 range that holds a /{}",
            config.node_cidr_mask
        );
        return;
    };
    let client = context.client("node-controller");
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), "cidrAllocator", ""),
        client,
        nodes: context.informers.nodes.clone(),
        ranges,
        given: Mutex::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.nodes, &queue);
    work("node-ipam", &queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn range_of(node: &Value) -> Option<String> {
    node.pointer("/spec/podCIDR").and_then(Value::as_str).filter(|c| !c.is_empty()).map(str::to_owned)
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let mut given = self.given.lock().await;
        let Some(node) = self.nodes.get("", &key.name) else {
            // Its range is free again once no node in the view has it.
            let present: BTreeSet<String> =
                self.nodes.list().iter().filter_map(|n| range_of(&n.value())).collect();
            given.retain(|range| present.contains(range));
            return Ok(None);
        };
        if range_of(&node.value()).is_some() || node.meta().deleting() {
            return Ok(None);
        }
        let mut taken: BTreeSet<String> =
            self.nodes.list().iter().filter_map(|n| range_of(&n.value())).collect();
        taken.extend(given.iter().cloned());
        let Some(range) = self.ranges.free(&taken) else {
            let about = crate::views::reference("v1", "Node", &node);
            self.events.normal(
                &about,
                "CIDRNotAvailable",
                format!("Node {} status is now: CIDRNotAvailable", key.name),
            );
            return Ok(Some(std::time::Duration::from_secs(60)));
        };
        let patch = json!({
            "metadata": {"uid": node.meta().uid, "resourceVersion": node.revision().to_string()},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
        });
        let target = Collection::core("nodes").object(&*key.name);
        self.client.patch(&target, &Patch::Merge(patch), &WriteOptions::default()).await?;
        given.insert(range);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_in_order_and_given_once() {
        let ranges = Ranges::parse("10.244.0.0/16", 24).unwrap();
        let mut taken = BTreeSet::new();
        for n in 0..256 {
            let range = ranges.free(&taken).unwrap();
            assert_eq!(range, format!("10.244.{n}.0/24"));
            taken.insert(range);
        }
        assert_eq!(ranges.free(&taken), None);
        taken.remove("10.244.7.0/24");
        assert_eq!(ranges.free(&taken).as_deref(), Some("10.244.7.0/24"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["", "10.244.0.0", "10.244.0.0/25", "x/16", "fd00::/48", "10.0.0.0/0"] {
            assert_eq!(Ranges::parse(bad, 24), None, "{bad}");
        }
    }
}
