//! Which routes a node wants, from the Node objects and its own addresses, and what that changes of those it has.
//!
//! Facts: `status.addresses` of type `InternalIP` is the address at which other nodes reach a node; `spec.podCIDRs` are the
//! addresses of its pods, one a family, and `spec.podCIDR` is the first of them (core/v1 `NodeSpec`, `NodeAddress`).

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: its family, its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Net {
    v6: bool,
    base: u128,
    prefix: u8,
}

impl Net {
    /// The network of this prefix length that an address is in; `None` beyond 32, or 128 for IPv6.
    pub(crate) fn of(ip: IpAddr, prefix: u8) -> Option<Self> {
        let width = width(ip);
        (prefix <= width).then(|| Self { v6: ip.is_ipv6(), base: number(ip) & mask(width, prefix), prefix })
    }

    /// Reads `a.b.c.d/n` or `a:b::/n`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (ip, prefix) = text.split_once('/')?;
        Self::of(ip.parse().ok()?, prefix.parse().ok()?)
    }

    /// Its first address.
    pub(crate) fn first(&self) -> IpAddr {
        match u32::try_from(self.base) {
            Ok(base) if !self.v6 => Ipv4Addr::from(base).into(),
            _ => Ipv6Addr::from(self.base).into(),
        }
    }

    /// Length of its prefix.
    pub(crate) fn prefix(&self) -> u8 {
        self.prefix
    }

    fn holds(&self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.v6 && number(ip) & mask(width(ip), self.prefix) == self.base
    }

    /// Whether all of `other` lies in it.
    pub(crate) fn covers(&self, other: &Net) -> bool {
        self.prefix <= other.prefix && self.holds(other.first())
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The bits of a prefix among `width`.
fn mask(width: u8, prefix: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(width - prefix)).unwrap_or(0)
}

/// What is read of a Node object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeView {
    name: String,
    ips: Vec<IpAddr>,
    pods: Vec<Net>,
}

impl NodeView {
    /// Reads a Node object.
    pub(crate) fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        let list = |value: &Value| -> Vec<Net> {
            let texts = value.as_array().map(Vec::as_slice).unwrap_or_default();
            texts.iter().filter_map(|net| Net::parse(net.as_str()?)).collect()
        };
        let mut pods = list(&spec["podCIDRs"]);
        if pods.is_empty() {
            pods.extend(spec["podCIDR"].as_str().and_then(Net::parse));
        }
        let addresses = object["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address["type"] == "InternalIP");
        let ips = internal.filter_map(|address| address["address"].as_str()?.parse().ok()).collect();
        Self { name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), ips, pods }
    }

    fn ipv4(&self) -> Option<Ipv4Addr> {
        self.ips.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
    }
}

/// An address of this node and the network that it reaches directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// Index of the interface.
    pub(crate) link: u32,
    /// The address.
    pub(crate) ip: IpAddr,
    /// Prefix length of its network.
    pub(crate) prefix: u8,
}

/// Where packets for a network go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nowhere: the sender hears so at once. The node's own network, in which every pod that is there has a narrower route.
    Nowhere,
    /// To another node on a network that both are in.
    Node {
        /// The other node's address.
        gateway: IpAddr,
        /// Index of the interface.
        link: u32,
    },
    /// Through the tunnel to another node, which is on no network that this node is in.
    Tunnel {
        /// The other node's IPv4 address.
        node: Ipv4Addr,
    },
}

/// What a node wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Routes, by destination.
    pub(crate) routes: BTreeMap<Net, Way>,
    /// Nodes whose pods have no way from here, with the reason.
    pub(crate) apart: BTreeMap<String, &'static str>,
    /// The node's own end of the tunnel.
    pub(crate) own: Own,
}

/// What the node itself is to the tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Its first IPv4 address; none before the node says one.
    pub(crate) ip: Option<Ipv4Addr>,
    /// The ranges of its pods.
    pub(crate) ranges: Vec<Net>,
}

impl Wanted {
    /// The nodes at the other ends of the tunnel.
    pub(crate) fn tunnelled(&self) -> BTreeSet<Ipv4Addr> {
        let node = |way: &Way| if let Way::Tunnel { node } = way { Some(*node) } else { None };
        self.routes.values().filter_map(node).collect()
    }
}

/// The routes that the node `own` wants. Destinations outside `cluster` (a network a family) are nobody's pods and get none;
/// where two nodes name the same addresses, they are the node's own, or else those of the first by name.
pub(crate) fn wanted(own: &str, nodes: &[NodeView], locals: &[Local], cluster: &[Net]) -> Wanted {
    let mut out = Wanted::default();
    let mut sorted: Vec<&NodeView> = nodes.iter().collect();
    sorted.sort_by_key(|node| (node.name != own, node.name.as_str()));
    for node in sorted {
        for &net in node.pods.iter().filter(|net| cluster.iter().any(|all| all.covers(net))) {
            if out.routes.keys().any(|taken| taken.covers(&net) || net.covers(taken)) {
                out.apart.insert(node.name.clone(), "another node has the same pod addresses");
                continue;
            }
            if node.name == own {
                out.own.ip = node.ipv4();
                out.own.ranges.push(net);
            }
            match if node.name == own { Ok(Way::Nowhere) } else { way_to(node, net, locals, cluster) } {
                Ok(way) => drop(out.routes.insert(net, way)),
                Err(why) => drop(out.apart.insert(node.name.clone(), why)),
            }
        }
    }
    out
}

/// The way to a node's pods in `net`: by way of the node's first address of that family, where this node is on a network with
/// it, else through the tunnel, which is IPv4.
fn way_to(node: &NodeView, net: Net, locals: &[Local], cluster: &[Net]) -> Result<Way, &'static str> {
    let gateway = node.ips.iter().copied().find(|ip| ip.is_ipv6() == net.v6);
    let is_own = |ip: IpAddr| locals.iter().any(|local| local.ip == ip);
    if let Some(gateway) = gateway.filter(|ip| !is_own(*ip)) {
        let reaches = |local: &&Local| Net::of(local.ip, local.prefix).is_some_and(|net| net.holds(gateway));
        // The narrowest network is the one that the kernel would take.
        if let Some(local) = locals.iter().filter(reaches).max_by_key(|local| local.prefix) {
            return Ok(Way::Node { gateway, link: local.link });
        }
    }
    let end = node.ipv4().ok_or("it has no internal IPv4 address")?;
    if is_own(end.into()) {
        return Err("its address is one of this node's own");
    }
    if cluster.iter().any(|all| all.holds(end.into())) {
        return Err("its address is one that pods have");
    }
    Ok(Way::Tunnel { node: end })
}

/// One change of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A route where none of ours is.
    Add(Net, Way),
    /// Another way for a route of ours.
    Replace(Net, Way),
    /// No route any more.
    Remove(Net),
}

/// What brings the routes `present` (all of them ours; `None` is a way that this agent would not choose) to those wanted.
/// What is new or goes another way comes first.
pub(crate) fn changes(present: &BTreeMap<Net, Option<Way>>, wanted: &BTreeMap<Net, Way>) -> Vec<Change> {
    let put = wanted.iter().filter_map(|(net, way)| match present.get(net) {
        None => Some(Change::Add(*net, *way)),
        Some(now) if *now == Some(*way) => None,
        Some(_) => Some(Change::Replace(*net, *way)),
    });
    let stay: BTreeSet<&Net> = wanted.keys().collect();
    let gone = present.keys().filter(|net| !stay.contains(net)).map(|net| Change::Remove(*net));
    put.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn net(text: &str) -> Net {
        Net::parse(text).unwrap()
    }

    fn node(name: &str, ip: &str, pods: &str) -> NodeView {
        NodeView::of(&json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": pods, "podCIDRs": [pods, "fd09::/64"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": "fd01::1"},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                {"type": "InternalIP", "address": ip},
                {"type": "InternalIP", "address": "192.0.2.99"},
            ]},
        }))
    }

    fn here() -> Vec<Local> {
        let local = |link, ip: &str, prefix| Local { link, ip: ip.parse().unwrap(), prefix };
        vec![
            local(1, "127.0.0.1", 8),
            local(2, "10.0.0.1", 24),
            local(2, "fd00:9::1", 64),
            local(3, "172.16.0.1", 12),
            local(4, "172.16.5.1", 24),
            local(5, "10.244.9.9", 32),
        ]
    }

    fn through(gateway: &str, link: u32) -> Way {
        Way::Node { gateway: gateway.parse().unwrap(), link }
    }

    fn tunnel(node: &str) -> Way {
        Way::Tunnel { node: node.parse().unwrap() }
    }

    fn plan(nodes: &[NodeView]) -> Wanted {
        wanted("a", nodes, &here(), &[net("10.244.0.0/16"), net("fd00:10:244::/56")])
    }

    #[test]
    fn networks_are_read_and_cover_each_other() {
        assert_eq!(net("10.244.3.7/24"), net("10.244.3.0/24"));
        assert!(net("0.0.0.0/0").covers(&net("10.0.0.0/8")) && net("10.0.0.0/8").covers(&net("10.0.0.0/8")));
        assert!(!net("10.244.1.0/24").covers(&net("10.244.0.0/16")));
        assert!(!net("10.244.1.0/24").covers(&net("10.244.2.0/25")));
        assert_eq!(net("fd00:1:2:3::9/56"), net("fd00:1:2::/56"));
        assert_eq!(net("fd00:1:2:3::9/56").first().to_string(), "fd00:1:2::");
        assert!(net("::/0").covers(&net("fd00::/64")) && net("fd00::9/128").covers(&net("fd00::9/128")));
        assert!(!net("::/0").covers(&net("10.0.0.0/8")) && !net("0.0.0.0/0").covers(&net("::/96")));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "fd00::", "10.0.0/8", "10.0.0.0/-1"] {
            assert_eq!(Net::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_other_node_is_reached_on_the_narrowest_common_network() {
        let nodes = [
            node("c", "172.16.5.3", "10.244.3.0/24"),
            node("a", "10.0.0.1", "10.244.1.0/24"),
            node("b", "10.0.0.2", "10.244.2.0/24"),
            node("d", "172.17.0.4", "10.244.4.0/24"),
        ];
        let found = plan(&nodes);
        let expected = BTreeMap::from([
            (net("10.244.1.0/24"), Way::Nowhere),
            (net("10.244.2.0/24"), through("10.0.0.2", 2)),
            (net("10.244.3.0/24"), through("172.16.5.3", 4)),
            (net("10.244.4.0/24"), through("172.17.0.4", 3)),
        ]);
        assert_eq!((&found.routes, &found.apart), (&expected, &BTreeMap::new()));
        assert_eq!(found.tunnelled(), BTreeSet::new());
    }

    #[test]
    fn pods_of_both_families_are_reached_by_addresses_of_theirs() {
        let dual = |name: &str, ips: &[&str], pods: &[&str]| {
            let addresses = ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
            NodeView::of(&json!({
                "metadata": {"name": name}, "spec": {"podCIDR": pods[0], "podCIDRs": pods},
                "status": {"addresses": addresses.collect::<Vec<_>>()},
            }))
        };
        let nodes = [
            dual("a", &["10.0.0.1", "fd00:9::1"], &["10.244.1.0/24", "fd00:10:244:1::/64"]),
            dual("b", &["10.0.0.2", "fd00:9::2"], &["10.244.2.0/24", "fd00:10:244:2::/64"]),
            dual("c", &["10.0.0.3"], &["10.244.3.0/24", "fd00:10:244:3::/64"]),
        ];
        let found = plan(&nodes);
        let expected = BTreeMap::from([
            (net("10.244.1.0/24"), Way::Nowhere),
            (net("10.244.2.0/24"), through("10.0.0.2", 2)),
            (net("10.244.3.0/24"), through("10.0.0.3", 2)),
            (net("fd00:10:244:1::/64"), Way::Nowhere),
            (net("fd00:10:244:2::/64"), through("fd00:9::2", 2)),
            // It has no IPv6 address.
            (net("fd00:10:244:3::/64"), tunnel("10.0.0.3")),
        ]);
        assert_eq!((found.routes, found.apart), (expected, BTreeMap::new()));
        let own = Own {
            ip: Some("10.0.0.1".parse().unwrap()),
            ranges: vec![net("10.244.1.0/24"), net("fd00:10:244:1::/64")],
        };
        assert_eq!(found.own, own);
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_named_and_gets_no_route() {
        for (ip, why) in [
            ("10.0.0.1", "its address is one of this node's own"),
            ("10.244.9.8", "its address is one that pods have"),
        ] {
            let found = plan(&[node("b", ip, "10.244.2.0/24")]);
            assert_eq!(found.apart, BTreeMap::from([("b".to_owned(), why)]), "{ip}");
            assert_eq!(found.routes, BTreeMap::new(), "{ip}");
        }
        let without = NodeView::of(&json!({"metadata": {"name": "b"}, "spec": {"podCIDR": "10.244.2.0/24"}}));
        assert_eq!(plan(&[without]).apart["b"], "it has no internal IPv4 address");
        let elsewhere = plan(&[node("b", "192.168.7.7", "10.244.2.0/24")]);
        assert_eq!(elsewhere.routes, BTreeMap::from([(net("10.244.2.0/24"), tunnel("192.168.7.7"))]));
        assert_eq!(elsewhere.tunnelled(), BTreeSet::from(["192.168.7.7".parse().unwrap()]));
        let no_pods = NodeView::of(&json!({"metadata": {"name": "b"}}));
        assert_eq!(plan(&[no_pods]), Wanted::default(), "no pods, nothing to reach");
    }

    #[test]
    fn nobody_takes_addresses_that_are_not_its_pods() {
        for pods in ["0.0.0.0/0", "10.0.0.0/24", "10.244.0.0/15", "10.96.0.0/16"] {
            assert_eq!(plan(&[node("b", "10.0.0.2", pods)]), Wanted::default(), "{pods}");
        }
        let found = plan(&[node("a", "10.0.0.1", "10.244.1.0/24"), node("0", "10.0.0.2", "10.244.0.0/16")]);
        assert_eq!(
            found.routes,
            BTreeMap::from([(net("10.244.1.0/24"), Way::Nowhere)]),
            "the node's own stay"
        );
        let both = [node("c", "10.0.0.3", "10.244.2.0/24"), node("b", "10.0.0.2", "10.244.2.0/24")];
        assert_eq!(plan(&both).routes, BTreeMap::from([(net("10.244.2.0/24"), through("10.0.0.2", 2))]));
        assert_eq!(plan(&both).apart["c"], "another node has the same pod addresses");
    }

    #[test]
    fn only_what_differs_changes() {
        let b = through("10.0.0.2", 2);
        let present = BTreeMap::from([
            (net("10.244.1.0/24"), Some(Way::Nowhere)),
            (net("10.244.2.0/24"), Some(through("10.0.0.9", 2))),
            (net("10.244.3.0/24"), None),
            (net("10.244.4.0/24"), Some(b)),
        ]);
        let wanted = BTreeMap::from([
            (net("10.244.1.0/24"), Way::Nowhere),
            (net("10.244.2.0/24"), b),
            (net("10.244.3.0/24"), b),
            (net("10.244.5.0/24"), b),
        ]);
        let expected = [
            Change::Replace(net("10.244.2.0/24"), b),
            Change::Replace(net("10.244.3.0/24"), b),
            Change::Add(net("10.244.5.0/24"), b),
            Change::Remove(net("10.244.4.0/24")),
        ];
        assert_eq!(changes(&present, &wanted), expected);
        let after = wanted.iter().map(|(net, way)| (*net, Some(*way))).collect();
        assert_eq!(changes(&after, &wanted), []);
    }
}
