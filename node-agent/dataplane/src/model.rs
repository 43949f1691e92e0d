//! What the node is asked to route, as plain values: Services, their ports and where those end.

use std::net::IpAddr;

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the API's default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP; accepted in objects, not carried by the socket hooks.
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => skep_abi::proto::TCP,
            Self::Udp => skep_abi::proto::UDP,
            Self::Sctp => skep_abi::proto::SCTP,
        }
    }

    /// The protocol of an API field; absent means TCP (core/v1 `ServicePort.protocol`).
    #[must_use]
    pub fn from_api(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

/// For whom an endpoint is meant, as the hints of its slice say it (discovery/v1 `EndpointHints`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// The slice does not say.
    #[default]
    Absent,
    /// For this node, or this node's zone.
    Here,
    /// For others alone.
    Elsewhere,
}

/// One place that a Service port may lead to, as an EndpointSlice says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The pod's (or other target's) address.
    pub addr: IpAddr,
    /// Its port, which a named target port may make different for each endpoint.
    pub port: u16,
    /// Condition `ready`; absent in the API means true.
    pub ready: bool,
    /// Condition `serving`; absent in the API means the same as `ready`.
    pub serving: bool,
    /// Condition `terminating`; absent in the API means false.
    pub terminating: bool,
    /// Whether it runs on this node.
    pub local: bool,
    /// The nodes it is meant for.
    pub node_hint: Hint,
    /// The zones it is meant for.
    pub zone_hint: Hint,
}

impl Endpoint {
    /// A ready endpoint without hints.
    #[must_use]
    pub const fn ready(addr: IpAddr, port: u16, local: bool) -> Self {
        Self {
            addr,
            port,
            ready: true,
            serving: true,
            terminating: false,
            local,
            node_hint: Hint::Absent,
            zone_hint: Hint::Absent,
        }
    }

    const fn last_resort(&self) -> bool {
        self.serving && self.terminating
    }
}

/// One port of a Service with its endpoints, ready or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The port's name; empty for the only port of a Service.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the virtual address.
    pub port: u16,
    /// The port on every address of every node.
    pub node_port: Option<u16>,
    /// Where it may lead.
    pub endpoints: Vec<Endpoint>,
}

/// A network in CIDR notation, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// The address before the slash.
    pub addr: IpAddr,
    /// The prefix length.
    pub prefix: u8,
}

impl Network {
    /// A network out of text such as `192.0.2.0/24`, with or without white space around.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (addr, prefix) = text.trim().split_once('/')?;
        let (addr, prefix): (IpAddr, u8) = (addr.parse().ok()?, prefix.parse().ok()?);
        (prefix <= if addr.is_ipv4() { 32 } else { 128 }).then_some(Self { addr, prefix })
    }
}

/// One Service that has virtual addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The virtual addresses, of either family. None for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses that others lead to the nodes (`externalIPs`).
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that leave the packet's destination as it is (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may connect to those; everybody when there is none.
    pub source_ranges: Vec<Network>,
    /// The ports.
    pub ports: Vec<PortSpec>,
    /// `sessionAffinity: ClientIP` and its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    /// A client's address chooses its backend, the same one on every node, as long as the backends stay.
    pub consistent: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// The port on which load balancers ask whether this node has endpoints.
    pub health_check_port: Option<u16>,
}

/// Every Service of the cluster, as one consistent view. What is not in it is removed from the node, so it
/// is built only after the caches of Services **and** EndpointSlices hold their first complete list; an
/// agent that has not seen both keeps what the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// The Services.
    pub services: Vec<ServiceSpec>,
    /// Ports of this node that lead to single pods of it.
    pub host_ports: Vec<HostPort>,
}

/// A port of this node that leads to a port of one of its pods (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The node's address; none for all of them.
    pub host_ip: Option<IpAddr>,
    /// The port there.
    pub host_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The pod's address.
    pub addr: IpAddr,
    /// The port there.
    pub port: u16,
}

impl PortSpec {
    /// The endpoints that a `Cluster` policy sends new connections to: the ready ones, of those the ones meant for this node
    /// or zone if every one says for whom it is; if none is ready, those that still serve while they terminate (KEP-1669).
    pub fn cluster(&self) -> impl Iterator<Item = &Endpoint> {
        let any_ready = self.endpoints.iter().any(|e| e.ready);
        let hint = self.preferred();
        self.endpoints.iter().filter(move |e| match (any_ready, hint) {
            (true, Some(hint)) => e.ready && hint(e) == Hint::Here,
            (true, None) => e.ready,
            (false, _) => e.last_resort(),
        })
    }

    /// The endpoints that a `Local` policy sends new connections to: those of this node that are ready, or if none is, that
    /// still serve while they terminate.
    pub fn local(&self) -> impl Iterator<Item = &Endpoint> {
        let any_ready = self.endpoints.iter().any(|e| e.local && e.ready);
        self.endpoints.iter().filter(move |e| e.local && if any_ready { e.ready } else { e.last_resort() })
    }

    /// Which hint to go by: that for nodes, else that for zones, but only if every ready endpoint has it and one of them is
    /// for here; so a client is never left without an endpoint by hints that are half written.
    fn preferred(&self) -> Option<fn(&Endpoint) -> Hint> {
        let hints: [fn(&Endpoint) -> Hint; 2] = [|e| e.node_hint, |e| e.zone_hint];
        hints.into_iter().find(|hint| {
            let mut here = false;
            let ready = self.endpoints.iter().filter(|e| e.ready);
            let all = ready.map(hint).all(|h| {
                here |= h == Hint::Here;
                h != Hint::Absent
            });
            all && here
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8, ready: bool, serving: bool, terminating: bool) -> Endpoint {
        Endpoint {
            ready,
            serving,
            terminating,
            ..Endpoint::ready(IpAddr::from([10, 244, 0, last]), 80, last.is_multiple_of(2))
        }
    }

    fn hinted(last: u8, node_hint: Hint, zone_hint: Hint) -> Endpoint {
        Endpoint { node_hint, zone_hint, ..endpoint(last, true, true, false) }
    }

    fn port(endpoints: Vec<Endpoint>) -> PortSpec {
        PortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None, endpoints }
    }

    fn last(list: impl Iterator<Item = impl std::borrow::Borrow<Endpoint>>) -> Vec<u8> {
        let last = |addr| match addr {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        list.map(|e| last(e.borrow().addr)).collect()
    }

    #[test]
    fn only_ready_endpoints_get_new_connections() {
        let port = port(vec![
            endpoint(1, true, true, false),
            endpoint(2, false, false, false),
            endpoint(3, false, true, true),
        ]);
        assert_eq!(last(port.cluster()), [1]);
    }

    #[test]
    fn terminating_endpoints_serve_when_they_are_the_last() {
        let all = port(vec![
            endpoint(1, false, false, true),
            endpoint(2, false, false, false),
            endpoint(3, false, true, true),
        ]);
        assert_eq!(last(all.cluster()), [3]);
        assert!(last(port(vec![endpoint(2, false, true, false)]).cluster()).is_empty());
    }

    #[test]
    fn each_policy_falls_back_for_itself() {
        let port = port(vec![endpoint(1, true, true, false), endpoint(2, false, true, true)]);
        assert_eq!((last(port.cluster()), last(port.local())), (vec![1], vec![2]));
    }

    #[test]
    fn hints_count_when_all_have_them_and_one_is_for_here() {
        use Hint::{Absent, Elsewhere, Here};
        let cluster = |endpoints| last(port(endpoints).cluster());
        assert_eq!(cluster(vec![hinted(1, Here, Absent), hinted(3, Elsewhere, Absent)]), [1]);
        assert_eq!(cluster(vec![hinted(1, Absent, Here), hinted(3, Absent, Elsewhere)]), [1]);
        assert_eq!(
            cluster(vec![hinted(1, Here, Absent), hinted(3, Absent, Absent)]),
            [1, 3],
            "one says nothing"
        );
        assert_eq!(
            cluster(vec![hinted(1, Elsewhere, Here), hinted(3, Elsewhere, Elsewhere)]),
            [1],
            "zone instead"
        );
        assert_eq!(cluster(vec![hinted(1, Elsewhere, Elsewhere)]), [1], "none is for here");
        let unready = Endpoint { ready: false, ..hinted(5, Absent, Absent) };
        assert_eq!(cluster(vec![hinted(1, Here, Absent), hinted(3, Elsewhere, Absent), unready]), [1]);
    }

    #[test]
    fn a_local_policy_looks_at_no_hint() {
        let here = hinted(2, Hint::Elsewhere, Hint::Absent);
        let there = hinted(1, Hint::Here, Hint::Absent);
        let port = port(vec![here, there]);
        assert_eq!((last(port.cluster()), last(port.local())), (vec![1], vec![2]));
    }

    #[test]
    fn networks_are_read_with_white_space_and_checked() {
        let net = Network::parse(" 192.0.2.0/24 ").unwrap();
        assert_eq!((net.addr, net.prefix), (IpAddr::from([192, 0, 2, 0]), 24));
        assert!(Network::parse("fd00::/64").is_some());
        for bad in ["192.0.2.0", "192.0.2.0/33", "fd00::/129", "x/8", ""] {
            assert!(Network::parse(bad).is_none(), "{bad}");
        }
    }
}
