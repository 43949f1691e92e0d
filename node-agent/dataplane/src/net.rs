//! What is to be known of the uplink and of the node's own addresses.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use skep_abi::config::flags;
use skep_abi::masquerade::port_range;
use skep_abi::{Addr, NodeAddr};

use crate::attach::has_tcx;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::sys;

/// ARP hardware type of Ethernet (`ARPHRD_ETHER`).
const ARPHRD_ETHER: u16 = 1;
/// ARP hardware type of the loopback interface (`ARPHRD_LOOPBACK`), which carries Ethernet headers too.
const ARPHRD_LOOPBACK: u16 = 772;
/// Where the kernel's ephemeral ports lie; the file belongs to the reader's network namespace.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The kernel's own default range, used when the file cannot be read.
const DEFAULT_RANGE: (u16, u16) = (32_768, 60_999);

/// What the programs are told about this node.
pub(crate) fn kernel_config(config: &Config) -> Result<skep_abi::Config> {
    let filters = if has_tcx(config.tc) { 0 } else { flags::CLSACT };
    let mut out = skep_abi::Config {
        cluster_cidr: config.cluster_cidr.into(),
        service_cidr: config.service_cidr.into(),
        cluster_cidr6: config.cluster_cidr6.map(Into::into).unwrap_or_default(),
        service_cidr6: config.service_cidr6.map(Into::into).unwrap_or_default(),
        flags: flags::REDIRECT_PEER | flags::PER_PACKET_SERVICES | filters,
        // Before Linux 5.14 it cannot be asked; then node ports are not met on loopback addresses.
        netns_cookie: sys::netns_cookie().unwrap_or(0),
        ..skep_abi::Config::default()
    };
    let Some(name) = &config.uplink else { return Ok(out) };
    let missing = |reason: &str| Error::Interface { name: name.clone(), reason: reason.to_owned() };
    out.uplink_ifindex = if_nametoindex(name.as_str()).map_err(|e| missing(&e.to_string()))?;
    let mut ethernet = false;
    let (mut first, mut first6) = (None, None);
    for entry in getifaddrs().map_err(|e| missing(&e.to_string()))? {
        if entry.interface_name != *name {
            continue;
        }
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            ethernet = matches!(link.hatype(), ARPHRD_ETHER | ARPHRD_LOOPBACK);
        } else if let Some(v4) = address.as_sockaddr_in() {
            first.get_or_insert(v4.ip());
        } else if let Some(v6) = address.as_sockaddr_in6()
            && reaches(v6.ip().into())
        {
            first6.get_or_insert(v6.ip());
        }
    }
    let addr: Ipv4Addr =
        config.node_addr.or(first).ok_or_else(|| missing("it has no IPv4 address to masquerade with"))?;
    out.node_addr = u32::from_ne_bytes(addr.octets());
    let has_v6 = config.cluster_cidr6.is_some() || config.service_cidr6.is_some();
    out.node_addr6 = config.node_addr6.or(first6.filter(|_| has_v6)).map(Addr::from).unwrap_or_default();
    out.uplink_l2_len = if ethernet { skep_abi::packet::ETH_LEN } else { 0 };
    let text = fs::read_to_string(PORT_RANGE).unwrap_or_default();
    let (low, high) = parse_range(&text).unwrap_or(DEFAULT_RANGE);
    (out.masquerade_port_min, out.masquerade_port_max) = port_range(low, high);
    Ok(out)
}

/// The addresses by which others reach this node: those of its interfaces, but for loopback ones and link-local ones, such
/// as the gateway that every pod has.
pub(crate) fn node_addresses() -> Result<BTreeMap<Addr, NodeAddr>> {
    let failed = |reason: String| Error::Interface { name: "all".to_owned(), reason };
    let mut found = BTreeMap::new();
    for entry in getifaddrs().map_err(|e| failed(e.to_string()))? {
        let Some(address) = entry.address else { continue };
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip()));
        let Some(ip) = v4.or(v6).filter(|ip| reaches(*ip)) else { continue };
        let ifindex = if_nametoindex(entry.interface_name.as_str()).unwrap_or(0);
        found.insert(Addr::from(ip), NodeAddr { ifindex, reserved: 0 });
    }
    Ok(found)
}

fn reaches(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_unspecified() && !link_local
}

/// Two numbers separated by white space.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next()?, words.next()?) {
        (Ok(low), Ok(high)) if low <= high => Some((low, high)),
        _ => None,
    }
}

/// The name of an interface of this network namespace.
pub(crate) fn interface_name(ifindex: u32) -> Option<String> {
    nix::net::if_::if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_reach_are_the_nodes() {
        for ip in ["192.0.2.10", "10.0.0.1", "fd00::1"] {
            assert!(reaches(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.1", "169.254.1.1", "fe80::1", "::1", "0.0.0.0"] {
            assert!(!reaches(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn the_kernels_file_is_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(parse_range("5\n"), None);
        assert_eq!(parse_range("9 3"), None);
    }
}
