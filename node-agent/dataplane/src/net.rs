//! What is to be known of the uplink.

use std::fs;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use skep_abi::config::flags;
use skep_abi::masquerade::port_range;

use crate::attach::has_tcx;
use crate::config::Config;
use crate::error::{Error, Result};

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
        flags: flags::REDIRECT_PEER | flags::PER_PACKET_SERVICES | filters,
        ..skep_abi::Config::default()
    };
    let Some(name) = &config.uplink else { return Ok(out) };
    let missing = |reason: &str| Error::Interface { name: name.clone(), reason: reason.to_owned() };
    out.uplink_ifindex = if_nametoindex(name.as_str()).map_err(|e| missing(&e.to_string()))?;
    let mut ethernet = false;
    let mut first = None;
    for entry in getifaddrs().map_err(|e| missing(&e.to_string()))? {
        if entry.interface_name != *name {
            continue;
        }
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            ethernet = matches!(link.hatype(), ARPHRD_ETHER | ARPHRD_LOOPBACK);
        } else if let Some(v4) = address.as_sockaddr_in() {
            first.get_or_insert(v4.ip());
        }
    }
    let addr: Ipv4Addr =
        config.node_addr.or(first).ok_or_else(|| missing("it has no IPv4 address to masquerade with"))?;
    out.node_addr = u32::from_ne_bytes(addr.octets());
    out.uplink_l2_len = if ethernet { skep_abi::packet::ETH_LEN } else { 0 };
    let text = fs::read_to_string(PORT_RANGE).unwrap_or_default();
    let (low, high) = parse_range(&text).unwrap_or(DEFAULT_RANGE);
    (out.masquerade_port_min, out.masquerade_port_max) = port_range(low, high);
    Ok(out)
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
    fn the_kernels_file_is_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(parse_range("5\n"), None);
        assert_eq!(parse_range("9 3"), None);
    }
}
