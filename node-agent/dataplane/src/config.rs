//! What an agent says about its node.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

/// An IPv4 network in CIDR notation, such as `10.244.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Cidr {
    /// The address before the slash.
    pub addr: Ipv4Addr,
    /// The prefix length, at most 32.
    pub prefix: u8,
}

impl FromStr for Ipv4Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Invalid(format!("{text:?} is not an IPv4 network such as 10.244.0.0/16"));
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if prefix > 32 {
            return Err(bad());
        }
        Ok(Self { addr: addr.parse().map_err(|_| bad())?, prefix })
    }
}

impl From<Ipv4Cidr> for skep_abi::Ipv4Net {
    fn from(net: Ipv4Cidr) -> Self {
        Self::new(net.addr, net.prefix)
    }
}

/// An IPv6 network in CIDR notation, such as `fd00:10:244::/56`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Cidr {
    /// The address before the slash.
    pub addr: Ipv6Addr,
    /// The prefix length, at most 128.
    pub prefix: u8,
}

impl FromStr for Ipv6Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Invalid(format!("{text:?} is not an IPv6 network such as fd00:10:244::/56"));
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let addr: Ipv6Addr = addr.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        // The form that stands for IPv4 is the tables' own way to hold that.
        if prefix > 128 || addr.to_ipv4_mapped().is_some() {
            return Err(bad());
        }
        Ok(Self { addr, prefix })
    }
}

impl From<Ipv6Cidr> for skep_abi::Ipv6Net {
    fn from(net: Ipv6Cidr) -> Self {
        Self::new(net.addr, net.prefix)
    }
}

/// How the dataplane of one node is set up. A node is a name, a network namespace and a cgroup: the calling
/// process must be in the node's network namespace.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster; part of the pins' path.
    pub cluster: String,
    /// Name of the node; part of the pins' path.
    pub node: String,
    /// Mount point of the BPF file system, usually `/sys/fs/bpf`. It is mounted there if it is not yet.
    pub bpffs: PathBuf,
    /// The cgroup (version 2) below which sockets belong to this node.
    pub cgroup_root: PathBuf,
    /// The eBPF object file.
    pub object: PathBuf,
    /// The network that all IPv4 pod addresses of the cluster come from.
    pub cluster_cidr: Ipv4Cidr,
    /// The network that IPv4 ClusterIPs come from.
    pub service_cidr: Ipv4Cidr,
    /// The network that all IPv6 pod addresses of the cluster come from. IPv6 packets are touched only where one of the
    /// three about IPv6 is set.
    pub cluster_cidr6: Option<Ipv6Cidr>,
    /// The network that IPv6 ClusterIPs come from.
    pub service_cidr6: Option<Ipv6Cidr>,
    /// Name of the interface that leads out of the cluster; without one nothing is masqueraded.
    pub uplink: Option<String>,
    /// The address that masqueraded packets carry; without one, the uplink's first IPv4 address.
    pub node_addr: Option<Ipv4Addr>,
    /// The same for IPv6; without one, the uplink's first address that is neither link-local nor loopback. Where it has none,
    /// nothing is masqueraded and no Service is met on the uplink over IPv6.
    pub node_addr6: Option<Ipv6Addr>,
    /// How programs are attached to interfaces.
    pub tc: TcMode,
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcMode {
    /// TCX links where the kernel has them (6.6), clsact filters below.
    #[default]
    Probe,
    /// clsact filters, whatever the kernel has.
    Clsact,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_strictly() {
        let net: Ipv4Cidr = "10.244.0.0/16".parse().unwrap();
        assert_eq!(net, Ipv4Cidr { addr: Ipv4Addr::new(10, 244, 0, 0), prefix: 16 });
        for bad in ["10.244.0.0", "10.244.0.0/33", "fd00::/8", "10.244.0/16", "10.244.0.0/-1", ""] {
            assert!(bad.parse::<Ipv4Cidr>().is_err(), "{bad}");
        }
        let net: Ipv6Cidr = "fd00:10:244::/56".parse().unwrap();
        assert_eq!(net, Ipv6Cidr { addr: "fd00:10:244::".parse().unwrap(), prefix: 56 });
        for bad in ["fd00::", "fd00::/129", "10.244.0.0/16", "::ffff:10.0.0.0/104", "fd00/8", ""] {
            assert!(bad.parse::<Ipv6Cidr>().is_err(), "{bad}");
        }
    }
}
