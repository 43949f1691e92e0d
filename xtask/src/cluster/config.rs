//! What a cluster is called and where its parts lie.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::lan::Lan;
use crate::kernel;

/// A cluster on this machine. Kept as `cluster.json` in its directory, so that every later command finds the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Name; part of pins, cgroups and paths below `/run`.
    pub name: String,
    /// Directory with data, logs and credentials.
    pub dir: PathBuf,
    /// Address under which nodes, pods and people reach the API server.
    pub server_ip: Ipv4Addr,
    /// Port of the API server.
    pub secure_port: u16,
    /// IPv4 addresses of pods.
    pub cluster_cidr: String,
    /// IPv4 addresses of Services.
    pub service_cidr: String,
    /// What it has of IPv6 beside that; nothing on a kernel without.
    #[serde(default)]
    pub ipv6: Option<Ipv6>,
    /// Port of the DNS servers on their nodes.
    pub dns_port: u16,
    /// The network that joins nodes with network namespaces of their own, or the first of them. Without one, the only node
    /// is the machine.
    pub lan: Option<Lan>,
    /// How many networks there are, one after the other from `lan` on.
    #[serde(default = "one")]
    pub networks: u8,
    /// Its nodes, at least one.
    pub nodes: Vec<Node>,
}

/// What a cluster of both families has of IPv6: ranges of unique local addresses (RFC 4193).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6 {
    /// Addresses of pods.
    pub cluster_cidr: String,
    /// Addresses of Services.
    pub service_cidr: String,
}

impl Ipv6 {
    /// The ranges of every cluster that is told nothing else, where the kernel has IPv6.
    fn default_ranges() -> Option<Self> {
        kernel::has_ipv6().then(|| Ipv6 {
            cluster_cidr: "fd00:10:244::/56".to_owned(),
            service_cidr: "fd00:10:96::/112".to_owned(),
        })
    }
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the node and of its object.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its IPv6 address, where it has one.
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    /// Port of the agent's kubelet API.
    pub agent_port: u16,
    /// Port of the agent's health endpoint, on loopback.
    pub healthz_port: u16,
    /// Port of the DNS server's health endpoint, on loopback.
    pub dns_http_port: u16,
    /// Port of the proxy's health endpoint, on every address.
    #[serde(default = "proxy_healthz_port")]
    pub proxy_healthz_port: u16,
    /// The network that it is on, counted from 0.
    #[serde(default)]
    pub network: u8,
}

/// As clusters have it that were brought up before it could be chosen.
const fn proxy_healthz_port() -> u16 {
    10256
}

const fn one() -> u8 {
    1
}

impl Node {
    fn numbered(number: u8, ip: Ipv4Addr, ip6: Option<Ipv6Addr>) -> Self {
        Node {
            name: format!("node-{number}"),
            ip,
            ip6,
            agent_port: 10250,
            healthz_port: 10248,
            dns_http_port: 9153,
            proxy_healthz_port: proxy_healthz_port(),
            network: 0,
        }
    }

    /// Its addresses, IPv4 first.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.ip)].into_iter().chain(self.ip6.map(IpAddr::V6))
    }

    /// The same as programs are told them: with commas between.
    #[must_use]
    pub fn ip_list(&self) -> String {
        self.ips().map(|ip| ip.to_string()).collect::<Vec<_>>().join(",")
    }
}

impl Config {
    /// The cluster `up` makes in `dir` when nothing else is asked for: its one node is the machine itself.
    ///
    /// # Errors
    /// When `dir` cannot be made absolute.
    pub fn new(dir: &Path) -> Result<Self> {
        let ip = own_address();
        let ipv6 = Ipv6::default_ranges();
        let ip6 = ipv6.as_ref().and_then(|_| own_ipv6_address());
        Ok(Config {
            name: "skep".to_owned(),
            dir: std::path::absolute(dir)?,
            server_ip: ip,
            secure_port: 6443,
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            ipv6,
            dns_port: 10053,
            lan: None,
            networks: 1,
            nodes: vec![Node::numbered(1, ip, ip6)],
        })
    }

    /// The same cluster with `agents` nodes in network namespaces, joined by `lan` and the networks after it: the first node
    /// on the first, the second on the second, and so on round.
    ///
    /// # Errors
    /// When `agents` is zero or more than a network has addresses for, or there are more networks than nodes.
    pub fn with_agents(self, agents: u8, lan: Lan, networks: u8) -> Result<Self> {
        ensure!(
            (1..=Lan::NODES).contains(&agents),
            "--agents {agents}: a cluster on one machine has 1 to {} nodes",
            Lan::NODES
        );
        ensure!(
            (1..=agents).contains(&networks),
            "--networks {networks}: {agents} nodes can be on 1 to {agents} networks"
        );
        let node = |number: u8| {
            let network = (number - 1) % networks;
            let lan = lan.nth(network);
            let ip6 = self.ipv6.as_ref().map(|_| lan.node6(number));
            Node { network, ..Node::numbered(number, lan.node(number), ip6) }
        };
        let nodes = (1..=agents).map(node).collect();
        Ok(Config { server_ip: lan.machine(), lan: Some(lan), networks, nodes, ..self })
    }

    /// The node with this name, or with this number counted from 1.
    ///
    /// # Errors
    /// When there is none; the message names those there are.
    pub fn node(&self, which: &str) -> Result<&Node> {
        let number = which.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let named = self.nodes.iter().find(|node| node.name == which);
        named.or_else(|| self.nodes.get(number?)).with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("no node {which}: this cluster has {} (by name, or by number from 1)", names.join(", "))
        })
    }

    /// Reads the cluster of a directory; `None` when there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let file = std::path::absolute(dir)?.join("cluster.json");
        match fs::read(&file) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{}", file.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{}", file.display())),
        }
    }

    /// The cluster of a directory that must have one.
    ///
    /// # Errors
    /// When there is none.
    pub fn existing(dir: &Path) -> Result<Self> {
        match Self::load(dir)? {
            Some(config) => Ok(config),
            None => bail!("no cluster in {}: bring one up with `cargo xtask up`", dir.display()),
        }
    }

    /// Writes it to its directory.
    ///
    /// # Errors
    /// When that fails.
    pub fn save(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("{}", self.dir.display()))?;
        let file = self.dir.join("cluster.json");
        fs::write(&file, serde_json::to_vec_pretty(self)?).with_context(|| format!("{}", file.display()))
    }

    /// What does not outlive a boot: sockets, containerd's state, network namespaces.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/skep").join(&self.name)
    }

    /// The part of [`Config::run_dir`] that belongs to a node.
    #[must_use]
    pub fn node_run(&self, node: &Node) -> PathBuf {
        self.run_dir().join(&node.name)
    }

    /// The part of the cluster's directory that belongs to a node.
    #[must_use]
    pub fn node_dir(&self, node: &Node) -> PathBuf {
        self.dir.join("nodes").join(&node.name)
    }

    /// The file that stands for a node's network namespace; `None` when it is the machine's own.
    #[must_use]
    pub fn netns(&self, node: &Node) -> Option<PathBuf> {
        self.lan.map(|_| self.run_dir().join("netns").join(&node.name))
    }

    /// The node's cgroup, below the root of every hierarchy; `None` when it is the root itself.
    #[must_use]
    pub fn cgroup(&self, node: &Node) -> Option<PathBuf> {
        self.lan.map(|_| Path::new("skep").join(&self.name).join(&node.name))
    }

    /// A node's containerd's socket.
    #[must_use]
    pub fn containerd_socket(&self, node: &Node) -> PathBuf {
        self.node_run(node).join("containerd.sock")
    }

    /// A node's agent's socket for skep-cni.
    #[must_use]
    pub fn cni_socket(&self, node: &Node) -> PathBuf {
        self.node_run(node).join("cni.sock")
    }

    /// Where the eBPF objects of this cluster are pinned.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/skep").join(&self.name)
    }

    /// Kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// The server's data directory.
    #[must_use]
    pub fn server_data(&self) -> PathBuf {
        self.dir.join("server")
    }

    /// A node's agent's data directory.
    #[must_use]
    pub fn agent_data(&self, node: &Node) -> PathBuf {
        self.node_dir(node).join("agent")
    }

    /// A node's DNS server's data directory.
    #[must_use]
    pub fn dns_data(&self, node: &Node) -> PathBuf {
        self.node_dir(node).join("dns")
    }

    /// Address of the cluster's DNS: the tenth of the Service range, as the server has it.
    ///
    /// # Errors
    /// The range is none.
    pub fn cluster_dns(&self) -> Result<Ipv4Addr> {
        let base = self.service_cidr.split('/').next().unwrap_or_default();
        let base: Ipv4Addr = base.parse().with_context(|| format!("Service range {}", self.service_cidr))?;
        Ok(Ipv4Addr::from(u32::from(base) + 10))
    }

    /// Pod addresses of all its families, as programs are told them.
    #[must_use]
    pub fn cluster_cidrs(&self) -> String {
        both(&self.cluster_cidr, self.ipv6.as_ref().map(|ipv6| &ipv6.cluster_cidr))
    }

    /// Service addresses of all its families, as programs are told them.
    #[must_use]
    pub fn service_cidrs(&self) -> String {
        both(&self.service_cidr, self.ipv6.as_ref().map(|ipv6| &ipv6.service_cidr))
    }

    /// A process's log.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{process}.log"))
    }

    /// The file that names a process.
    #[must_use]
    pub fn pid_file(&self, process: &str) -> PathBuf {
        self.dir.join("pids").join(process)
    }

    /// Base URL of the API server as nodes reach it.
    #[must_use]
    pub fn server_url(&self) -> String {
        format!("https://{}:{}", self.server_ip, self.secure_port)
    }
}

fn both(v4: &str, v6: Option<&String>) -> String {
    v6.map_or_else(|| v4.to_owned(), |v6| format!("{v4},{v6}"))
}

/// The address that this machine has towards another. Nothing is sent.
fn toward(any: IpAddr, other: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// This machine's address towards the default route; loopback when it has none.
#[must_use]
pub fn own_address() -> Ipv4Addr {
    // An address reserved for documentation: it lies behind the default route on every machine.
    match toward(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(198, 51, 100, 1).into()) {
        Some(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// The same for IPv6; none where there is no such route.
fn own_ipv6_address() -> Option<Ipv6Addr> {
    let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    match toward(Ipv6Addr::UNSPECIFIED.into(), documentation.into()) {
        Some(IpAddr::V6(address)) if !address.is_loopback() && !address.is_unicast_link_local() => {
            Some(address)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_cluster_is_found_again() {
        let dir = std::env::temp_dir().join(format!("skep-xtask-config-{}", std::process::id()));
        assert_eq!(Config::load(&dir).unwrap(), None);
        assert!(Config::existing(&dir).unwrap_err().to_string().contains("cargo xtask up"));
        let config = Config { name: "other".into(), ..Config::new(&dir).unwrap() };
        config.save().unwrap();
        assert_eq!(Config::load(&dir).unwrap(), Some(config));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn nodes_are_found_by_name_and_by_number() {
        let machine = Config::new(Path::new("/a")).unwrap();
        assert_eq!(machine.node("1").unwrap(), machine.node("node-1").unwrap());
        assert_eq!((machine.netns(&machine.nodes[0]), machine.cgroup(&machine.nodes[0])), (None, None));
        assert!(machine.node("0").is_err() && machine.node("2").is_err());
        let lan: Lan = "10.245.7.0/24".parse().unwrap();
        let two = machine.clone().with_agents(2, lan, 1).unwrap();
        assert_eq!(two.node("2").unwrap(), &two.nodes[1]);
        assert!(two.node("node-3").unwrap_err().to_string().contains("node-1, node-2"));
        assert_ne!(two.nodes[0].ip, two.nodes[1].ip);
        let four = Config { ipv6: None, ..machine.clone() }.with_agents(1, lan, 1).unwrap();
        assert_eq!(four.nodes[0].ip_list(), "10.245.7.1");
        assert_eq!(four.cluster_cidrs(), "10.244.0.0/16");
        let ranges = Ipv6 { cluster_cidr: "fd00::/56".into(), service_cidr: "fd01::/112".into() };
        let dual = Config { ipv6: Some(ranges), ..machine.clone() }.with_agents(2, lan, 1).unwrap();
        assert_eq!(dual.nodes[1].ip_list(), "10.245.7.2,fd00:10:245:7::2");
        assert_eq!(dual.service_cidrs(), "10.96.0.0/16,fd01::/112");
        let apart = machine.clone().with_agents(3, lan, 2).unwrap();
        let ips: Vec<String> = apart.nodes.iter().map(|node| node.ip.to_string()).collect();
        assert_eq!(ips, ["10.245.7.1", "10.245.8.2", "10.245.7.3"]);
        for networks in [0, 3] {
            assert!(machine.clone().with_agents(2, lan, networks).is_err(), "{networks}");
        }
        for agents in [0, 201, 255] {
            assert!(machine.clone().with_agents(agents, lan, 1).is_err(), "{agents}");
        }
    }
}
