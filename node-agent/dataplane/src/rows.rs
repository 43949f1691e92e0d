//! From the wanted Services to front ends and the sets of backends behind them. Pure.
//!
//! All front ends of one Service port and one address family share a set, so that its backends are there once, and a
//! client that stays with one of them stays whichever address it asks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_abi::service::flags;
use skep_abi::{Addr, ServiceKey};

use crate::maglev;
use crate::model::{Endpoint, HostPort, Network, PortSpec, Protocol, ServiceSpec, ServiceView};
use crate::orphans::{Kept, keeps};

/// A place that a set sends to: address, port in network byte order, whether it is on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub(crate) addr: Addr,
    pub(crate) port: u16,
    pub(crate) local: bool,
}

/// What is told apart among the front ends of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    pub(crate) flags: u32,
}

/// A set of backends with the front ends that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub(crate) fronts: Vec<(ServiceKey, Front)>,
    pub(crate) affinity_seconds: u32,
    /// In the order of their slots, see [`skep_abi::Service`].
    pub(crate) targets: Vec<Target>,
    pub(crate) local_count: u32,
    pub(crate) cluster_start: u32,
    /// Networks that may reach the restricted ones of the front ends: the address, and how many of its 128 bits count.
    pub(crate) ranges: BTreeSet<(Addr, u8)>,
    /// The protocol, and the endpoints that keep the sockets connected to them: address, and port in network byte order.
    pub(crate) kept: (u8, Kept),
}

impl Set {
    /// Its front ends.
    pub fn keys(&self) -> impl Iterator<Item = ServiceKey> + '_ {
        self.fronts.iter().map(|(key, _)| *key)
    }
}

/// The sets of a view. Where two Services claim a front end, the first by namespace and name has it, and Services have
/// theirs before pods have ports of the node; the other is named in the second result.
#[must_use]
pub fn sets(view: &ServiceView) -> (Vec<Set>, Vec<String>) {
    let mut services: Vec<_> = view.services.iter().collect();
    services.sort_by_key(|s| (&s.namespace, &s.name));
    let mut claims = Claims::default();
    let mut sets = Vec::new();
    for service in services {
        for port in &service.ports {
            for v4 in [true, false] {
                let mut set = of_port(service, port, v4);
                claims.take(&mut set, (&service.namespace, &service.name), port.protocol);
                if !set.fronts.is_empty() {
                    sets.push(set);
                }
            }
        }
    }
    let mut host_ports: Vec<_> = view.host_ports.iter().collect();
    host_ports.sort();
    for port in host_ports {
        let mut set = of_host_port(port);
        claims.take(&mut set, (&port.namespace, &port.name), port.protocol);
        if !set.fronts.is_empty() {
            sets.push(set);
        }
    }
    (sets, claims.conflicts)
}

/// Who has which front end.
#[derive(Default)]
struct Claims {
    taken: BTreeSet<ServiceKey>,
    conflicts: Vec<String>,
}

impl Claims {
    /// Leaves a set those of its front ends that nobody has.
    fn take(&mut self, set: &mut Set, (namespace, name): (&str, &str), protocol: Protocol) {
        let mut own = BTreeSet::new();
        set.fronts.retain(|(key, _)| {
            if !own.insert(*key) {
                return false; // the Service names the address twice
            }
            if self.taken.insert(*key) {
                return true;
            }
            let (ip, port) = (IpAddr::from(key.addr), u16::from_be(key.port));
            self.conflicts.push(format!("{namespace}/{name} {ip}:{port} {protocol:?}"));
            false
        });
    }
}

/// The address that stands for every address of the node.
fn any(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn of_port(service: &ServiceSpec, port: &PortSpec, v4: bool) -> Set {
    let mut set = Set { affinity_seconds: service.affinity_seconds.unwrap_or(0), ..Set::default() };
    let key = |ip: IpAddr, port: u16, protocol: Protocol| {
        ServiceKey::new(Addr::from(ip), port.to_be(), protocol.number())
    };
    let of_family =
        |ips: &[IpAddr]| -> Vec<IpAddr> { ips.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect() };
    let cluster_ips = of_family(&service.cluster_ips);
    if cluster_ips.is_empty() {
        return set;
    }
    let ranges: BTreeSet<(Addr, u8)> =
        service.source_ranges.iter().filter(|n| n.addr.is_ipv4() == v4).map(range).collect();
    let internal = if service.internal_local { flags::LOCAL_ONLY } else { 0 };
    let external = if service.external_local { flags::LOCAL_FROM_OUTSIDE } else { 0 };
    let balanced = external | if ranges.is_empty() { 0 } else { flags::RESTRICTED };
    let mut front = |ip: IpAddr, number: u16, flags: u32| {
        set.fronts.push((key(ip, number, port.protocol), Front { flags }));
    };
    cluster_ips.into_iter().for_each(|ip| front(ip, port.port, internal));
    of_family(&service.load_balancer_ips).into_iter().for_each(|ip| front(ip, port.port, balanced));
    of_family(&service.external_ips).into_iter().for_each(|ip| front(ip, port.port, external));
    if let Some(number) = port.node_port {
        front(any(v4), number, external);
    }
    set.ranges = ranges;
    targets(&mut set, port, v4);
    if service.consistent {
        set.fronts.iter_mut().for_each(|(_, front)| front.flags |= flags::CONSISTENT);
        hashed(&mut set, service.internal_local || service.external_local);
    }
    set
}

/// Makes a table of each of the two stretches; of the `Local` policy's only where a policy is that.
fn hashed(set: &mut Set, asks_local: bool) {
    let table = |targets: &[Target]| -> Vec<Target> {
        let names: Vec<(Addr, u16)> = targets.iter().map(|t| (t.addr, t.port)).collect();
        maglev::table(&names).into_iter().map(|i| targets[i]).collect()
    };
    let local = if asks_local { table(&set.targets[..set.local_count as usize]) } else { Vec::new() };
    let cluster = table(&set.targets[set.cluster_start as usize..]);
    set.local_count = local.len() as u32;
    // On a node that has all of the backends both are the same.
    set.cluster_start = if local == cluster { 0 } else { set.local_count };
    set.targets = if local == cluster { cluster } else { [local, cluster].concat() };
}

/// The slots of a set in their order, and the stretches of the two policies.
fn targets(set: &mut Set, port: &PortSpec, v4: bool) {
    let of_family = |e: &&Endpoint| e.addr.is_ipv4() == v4;
    let target = |e: &Endpoint| Target { addr: Addr::from(e.addr), port: e.port.to_be(), local: e.local };
    let local: BTreeSet<Target> = port.local().filter(of_family).map(target).collect();
    let cluster: BTreeSet<Target> = port.cluster().filter(of_family).map(target).collect();
    set.targets.extend(local.difference(&cluster));
    set.cluster_start = set.targets.len() as u32;
    set.targets.extend(local.intersection(&cluster));
    set.local_count = set.targets.len() as u32;
    set.targets.extend(cluster.difference(&local));
    let kept = port.endpoints.iter().filter(of_family).filter(|e| keeps(port.protocol, e)).map(target);
    let kept: BTreeSet<(Addr, u16)> = kept.map(|t| (t.addr, t.port)).collect();
    set.kept = (port.protocol.number(), kept.into_iter().collect());
}

fn range(network: &Network) -> (Addr, u8) {
    let addr = Addr::from(network.addr);
    // The map looks at whole keys of 128 bits, in which an IPv4 address is the last quarter.
    let bits = if network.addr.is_ipv4() { 96 + network.prefix } else { network.prefix };
    (addr, bits)
}

fn of_host_port(port: &HostPort) -> Set {
    let v4 = port.addr.is_ipv4();
    let ip = port.host_ip.filter(|ip| !ip.is_unspecified()).unwrap_or(any(v4));
    let key = ServiceKey::new(Addr::from(ip), port.host_port.to_be(), port.protocol.number());
    if ip.is_ipv4() != v4 {
        return Set::default();
    }
    Set {
        fronts: vec![(key, Front { flags: 0 })],
        targets: vec![Target { addr: Addr::from(port.addr), port: port.port.to_be(), local: true }],
        local_count: 1,
        kept: (port.protocol.number(), vec![(Addr::from(port.addr), port.port.to_be())]),
        ..Set::default()
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
