//! Command line of the agent.

use clap::Parser;
use skep_dataplane::{Ipv4Cidr, Ipv6Cidr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// The node agent of a Skep cluster: runs the pods bound to its node and routes their traffic in eBPF.
#[derive(Debug, Clone, Parser)]
#[command(name = "skep-agent", version)]
pub(crate) struct Flags {
    /// Credentials and address of the API server.
    #[arg(long)]
    pub(crate) kubeconfig: PathBuf,
    /// Name of the node.
    #[arg(long)]
    pub(crate) node_name: String,
    /// Address of the node, or one of each family with a comma between them, the IPv4 one first.
    #[arg(long, value_name = "IP[,IP]")]
    pub(crate) node_ip: NodeIps,
    /// Directory for pods, logs and addresses.
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// The container runtime.
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    pub(crate) container_runtime_endpoint: String,
    /// What belongs to this node of the cgroup2 mount; the whole mount by default.
    #[arg(long)]
    pub(crate) cgroup_root: Option<PathBuf>,
    /// The eBPF object.
    #[arg(long)]
    pub(crate) bpf_object: PathBuf,
    /// Where bpffs is mounted.
    #[arg(long, default_value = "/sys/fs/bpf")]
    pub(crate) bpffs: PathBuf,
    /// Name of the cluster, under which programs are pinned.
    #[arg(long, default_value = "skep")]
    pub(crate) cluster_name: String,
    /// Addresses of all pods: a range, or one of each family with a comma between them.
    #[arg(long, value_name = "CIDR[,CIDR]", default_value = "10.244.0.0/16")]
    pub(crate) cluster_cidr: Ranges,
    /// Addresses of Services: a range, or one of each family.
    #[arg(long, value_name = "CIDR[,CIDR]", default_value = "10.96.0.0/16")]
    pub(crate) service_cluster_ip_range: Ranges,
    /// Certificate of the agent's server.
    #[arg(long)]
    pub(crate) tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long)]
    pub(crate) tls_private_key_file: PathBuf,
    /// Authority that signs the certificates of those who may ask the agent.
    #[arg(long)]
    pub(crate) client_ca_file: PathBuf,
    /// Socket for skep-cni.
    #[arg(long, default_value = "/run/skep/cni.sock")]
    pub(crate) cni_socket: PathBuf,
    /// Where the runtime reads network configurations.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub(crate) cni_conf_dir: PathBuf,
    /// Where the runtime finds network plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub(crate) cni_bin_dir: PathBuf,
    /// Addresses of the cluster's DNS.
    #[arg(long)]
    pub(crate) cluster_dns: Vec<String>,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Port of the agent's server.
    #[arg(long, default_value_t = 10250)]
    pub(crate) port: u16,
    /// Port of the health endpoint on 127.0.0.1.
    #[arg(long, default_value_t = 10248)]
    pub(crate) healthz_port: u16,
    /// Port on which this node says whether it takes traffic for Services (kube-proxy's own), on every address.
    #[arg(long, default_value_t = 10256)]
    pub(crate) proxy_healthz_port: u16,
    /// Interface to the network outside; that of the default route by default.
    #[arg(long)]
    pub(crate) uplink: Option<String>,
    /// Used hundredths of the disk from which on images that nobody uses are removed; 100 for never.
    #[arg(long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_high_threshold: u8,
    /// Used hundredths down to which they are removed.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_low_threshold: u8,
    /// More log; may be repeated.
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The node's addresses. Other nodes, pods and the API server reach it at the IPv4 one, where nothing asks for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeIps {
    /// IPv4.
    pub(crate) v4: Ipv4Addr,
    /// IPv6, where the node has both.
    pub(crate) v6: Option<Ipv6Addr>,
}

impl NodeIps {
    /// All of them, as the Node object and pods on the node's network show them.
    pub(crate) fn shown(&self) -> Vec<String> {
        std::iter::once(self.v4.to_string()).chain(self.v6.map(|ip| ip.to_string())).collect()
    }
}

impl FromStr for NodeIps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all: Result<Vec<IpAddr>, _> = text.split(',').map(|ip| ip.trim().parse()).collect();
        match all.as_deref() {
            Ok([IpAddr::V4(v4)]) => Ok(Self { v4: *v4, v6: None }),
            Ok([IpAddr::V4(v4), IpAddr::V6(v6)]) => Ok(Self { v4: *v4, v6: Some(*v6) }),
            _ => Err(format!("{text:?} is no address such as 192.0.2.1, nor 192.0.2.1,2001:db8::1")),
        }
    }
}

/// A range of IPv4 addresses, and one of IPv6 in a cluster of both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// IPv4.
    pub(crate) v4: Ipv4Cidr,
    /// IPv6.
    pub(crate) v6: Option<Ipv6Cidr>,
}

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all: Vec<&str> = text.split(',').map(str::trim).collect();
        let bad =
            || format!("{text:?} is no range such as 10.244.0.0/16, nor 10.244.0.0/16,fd00:10:244::/56");
        // In either order: which family is the default is for the API server to know.
        let both = |v4: &str, v6: &str| Some(Self { v4: v4.parse().ok()?, v6: Some(v6.parse().ok()?) });
        match all.as_slice() {
            [v4] => Ok(Self { v4: v4.parse().map_err(|_| bad())?, v6: None }),
            [a, b] => both(a, b).or_else(|| both(b, a)).ok_or_else(bad),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn ranges_and_addresses_are_one_a_family() {
        Flags::command().debug_assert();
        let both: Ranges = "10.244.0.0/16,fd00:10:244::/56".parse().unwrap();
        assert_eq!(Ok(both), "fd00:10:244::/56, 10.244.0.0/16".parse());
        assert_eq!((both.v4.prefix, both.v6.map(|range| range.prefix)), (16, Some(56)));
        assert_eq!("10.0.0.0/8".parse::<Ranges>().unwrap().v6, None);
        for bad in
            ["", "fd00::/56", "10.0.0.0/8,10.1.0.0/16", "10.0.0.0/8,", "10.0.0.0/8,fd00::/56,fd01::/56"]
        {
            assert!(bad.parse::<Ranges>().unwrap_err().contains("is no range such as"), "{bad}");
        }
        let node: NodeIps = "10.0.0.1, fd00::1".parse().unwrap();
        assert_eq!(node.shown(), ["10.0.0.1", "fd00::1"]);
        assert_eq!("10.0.0.1".parse::<NodeIps>().unwrap().shown(), ["10.0.0.1"]);
        for bad in ["", "fd00::1", "fd00::1,10.0.0.1", "10.0.0.1,10.0.0.2", "10.0.0.1,"] {
            assert!(bad.parse::<NodeIps>().unwrap_err().contains("is no address such as"), "{bad}");
        }
    }
}
