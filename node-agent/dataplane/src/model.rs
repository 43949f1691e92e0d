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
    /// Where it may lead.
    pub endpoints: Vec<Endpoint>,
}

/// One Service that has virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The virtual addresses, of either family. None for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// The ports.
    pub ports: Vec<PortSpec>,
    /// `sessionAffinity: ClientIP` and its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub local_only: bool,
}

/// Every Service of the cluster, as one consistent view. What is not in it is removed from the node, so it
/// is built only after the caches of Services **and** EndpointSlices hold their first complete list; an
/// agent that has not seen both keeps what the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// The Services.
    pub services: Vec<ServiceSpec>,
}

impl PortSpec {
    /// The endpoints that new connections may go to, by KEP-1669: the ready ones; if there are none, those
    /// that still serve while they terminate.
    pub fn usable(&self) -> impl Iterator<Item = &Endpoint> {
        let any_ready = self.endpoints.iter().any(|e| e.ready);
        self.endpoints.iter().filter(move |e| if any_ready { e.ready } else { e.serving && e.terminating })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8, ready: bool, serving: bool, terminating: bool) -> Endpoint {
        Endpoint {
            addr: IpAddr::from([10, 244, 0, last]),
            port: 80,
            ready,
            serving,
            terminating,
            local: true,
        }
    }

    fn usable(endpoints: Vec<Endpoint>) -> Vec<IpAddr> {
        let port = PortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, endpoints };
        port.usable().map(|e| e.addr).collect()
    }

    #[test]
    fn only_ready_endpoints_get_new_connections() {
        let got = usable(vec![
            endpoint(1, true, true, false),
            endpoint(2, false, false, false),
            endpoint(3, false, true, true),
        ]);
        assert_eq!(got, [IpAddr::from([10, 244, 0, 1])]);
    }

    #[test]
    fn terminating_endpoints_serve_when_they_are_the_last() {
        let got = usable(vec![
            endpoint(1, false, false, true),
            endpoint(2, false, false, false),
            endpoint(3, false, true, true),
        ]);
        assert_eq!(got, [IpAddr::from([10, 244, 0, 3])]);
        assert!(usable(vec![endpoint(2, false, true, false)]).is_empty());
    }
}
