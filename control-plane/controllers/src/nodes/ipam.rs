//! Gives each node its range of pod addresses.

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed_self, work};
use serde_json::{Value, json};
use skep_client::{Client, Collection, Informer, Patch, Recorder, WriteOptions};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Where ranges of one family are cut from: `10.244.0.0/16` into `/24`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    base: u128,
    v4: bool,
    prefix: u8,
    node_prefix: u8,
}

/// A cluster's range has no more ranges for nodes than this (`maxSubnets` of upstream's allocator, as a power of two).
const MOST: u8 = 16;

impl Ranges {
    /// Parses a range of the cluster; none where it is none, smaller than a node's, or so large that nodes could not be told
    /// apart in it by 16 bits. `masks` are the lengths of a node's range in IPv4 and IPv6.
    pub(crate) fn parse(cidr: &str, masks: (u8, u8)) -> Option<Self> {
        let (address, prefix) = cidr.split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let (value, width, node_prefix) = match address {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32, masks.0),
            IpAddr::V6(ip) => (u128::from(ip), 128, masks.1),
        };
        if prefix == 0 || prefix > node_prefix || node_prefix > width || node_prefix - prefix > MOST {
            return None;
        }
        let base = value & (u128::MAX << (width - prefix));
        Some(Ranges { base, v4: address.is_ipv4(), prefix, node_prefix })
    }

    /// The ranges of a cluster, one of each family, as one text with a comma between them: the default family first.
    pub(crate) fn parse_all(cidrs: &str, masks: (u8, u8)) -> Option<Vec<Self>> {
        let all = cidrs.split(',').map(|cidr| Self::parse(cidr.trim(), masks)).collect::<Option<Vec<_>>>()?;
        let families = all.iter().map(|range| range.v4).collect::<BTreeSet<_>>().len();
        (families == all.len()).then_some(all)
    }

    /// The first range that nobody has.
    pub(crate) fn free(&self, taken: &BTreeSet<String>) -> Option<String> {
        let count = 1u128 << (self.node_prefix - self.prefix);
        (0..count).map(|n| self.range(n)).find(|range| !taken.contains(range))
    }

    fn range(&self, n: u128) -> String {
        if self.v4 {
            // The base and what is added have 32 bits.
            let ip =
                self.base as u32 | ((n as u32).checked_shl(32 - u32::from(self.node_prefix)).unwrap_or(0));
            return format!("{}/{}", Ipv4Addr::from(ip), self.node_prefix);
        }
        let ip = self.base | n.checked_shl(128 - u32::from(self.node_prefix)).unwrap_or(0);
        format!("{}/{}", Ipv6Addr::from(ip), self.node_prefix)
    }
}

struct Controller {
    client: Arc<dyn Client>,
    nodes: Informer,
    ranges: Vec<Ranges>,
    events: Recorder,
    /// Given out, and perhaps not in the view yet. One at a time gives ranges out.
    given: Mutex<BTreeSet<String>>,
}

/// Starts the controller; without a usable range it says so and gives none.
pub(crate) fn start(context: &Context) {
    let config = &context.config;
    let Some(ranges) = Ranges::parse_all(&config.cluster_cidr, config.node_cidr_masks) else {
        let (v4, v6) = config.node_cidr_masks;
        tracing::error!(
            cidr = config.cluster_cidr,
            "nodes get no pod addresses: --cluster-cidr is not one range, or one of each family, of up to {} nodes' of /{v4} \
             (IPv4) or /{v6} (IPv6)",
            1u32 << MOST,
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

/// The ranges that a node has.
fn ranges_of(node: &Value) -> Vec<String> {
    let list = node.pointer("/spec/podCIDRs").and_then(Value::as_array);
    let mut all: Vec<String> =
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if all.is_empty() {
        let one = node.pointer("/spec/podCIDR").and_then(Value::as_str).filter(|c| !c.is_empty());
        all.extend(one.map(str::to_owned));
    }
    all
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let mut given = self.given.lock().await;
        let Some(node) = self.nodes.get("", &key.name) else {
            // Its range is free again once no node in the view has it.
            let present = self.present();
            given.retain(|range| present.contains(range));
            return Ok(None);
        };
        if !ranges_of(&node.value()).is_empty() || node.meta().deleting() {
            return Ok(None);
        }
        let mut taken = self.present();
        taken.extend(given.iter().cloned());
        let free: Option<Vec<String>> = self.ranges.iter().map(|ranges| ranges.free(&taken)).collect();
        let Some(ranges) = free else {
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
            "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
        });
        let target = Collection::core("nodes").object(&*key.name);
        self.client.patch(&target, &Patch::Merge(patch), &WriteOptions::default()).await?;
        given.extend(ranges);
        Ok(None)
    }

    /// Everything that a node in the view has.
    fn present(&self) -> BTreeSet<String> {
        self.nodes.list().iter().flat_map(|node| ranges_of(&node.value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKS: (u8, u8) = (24, 64);

    #[test]
    fn ranges_are_cut_in_order_and_given_once() {
        let ranges = Ranges::parse("10.244.0.0/16", MASKS).unwrap();
        let mut taken = BTreeSet::new();
        for n in 0..256 {
            let range = ranges.free(&taken).unwrap();
            assert_eq!(range, format!("10.244.{n}.0/24"));
            taken.insert(range);
        }
        assert_eq!(ranges.free(&taken), None);
        taken.remove("10.244.7.0/24");
        assert_eq!(ranges.free(&taken).as_deref(), Some("10.244.7.0/24"));
        let one = Ranges::parse("10.1.2.0/24", MASKS).unwrap();
        assert_eq!(one.free(&BTreeSet::new()).as_deref(), Some("10.1.2.0/24"));
    }

    #[test]
    fn a_cluster_of_both_families_gives_a_range_of_each() {
        let both = Ranges::parse_all("10.244.0.0/16, fd00:10:244::/56", MASKS).unwrap();
        let cut = |taken: &[&str]| -> Vec<Option<String>> {
            let taken = taken.iter().map(|range| range.to_string()).collect();
            both.iter().map(|ranges| ranges.free(&taken)).collect()
        };
        assert_eq!(cut(&[]), [Some("10.244.0.0/24".into()), Some("fd00:10:244::/64".into())]);
        let second = cut(&["10.244.0.0/24", "fd00:10:244::/64"]);
        assert_eq!(second, [Some("10.244.1.0/24".into()), Some("fd00:10:244:1::/64".into())]);
        let all: BTreeSet<String> = (0..256).map(|n| both[1].range(n)).collect();
        assert_eq!((all.len(), both[1].free(&all)), (256, None));
    }

    #[test]
    fn a_node_has_the_ranges_of_its_list() {
        let node = json!({"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00::/64"]}});
        assert_eq!(ranges_of(&node), ["10.1.0.0/24", "fd00::/64"]);
        assert_eq!(ranges_of(&json!({"spec": {"podCIDR": "10.1.0.0/24"}})), ["10.1.0.0/24"]);
        assert_eq!(ranges_of(&json!({"spec": {}})), [""; 0]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["", "10.244.0.0", "10.244.0.0/25", "x/16", "fd00::/47", "fd00::/65", "10.0.0.0/0"] {
            assert_eq!(Ranges::parse(bad, MASKS), None, "{bad}");
        }
        for bad in ["", "10.244.0.0/16,10.245.0.0/16", "10.244.0.0/16,", "10.244.0.0/16,fd00::/48,fd01::/48"]
        {
            assert_eq!(Ranges::parse_all(bad, MASKS), None, "{bad}");
        }
    }
}
