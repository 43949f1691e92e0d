//! What a cluster is called and where its parts lie.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::lan::Lan;

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
    /// Addresses of pods.
    pub cluster_cidr: String,
    /// Addresses of Services.
    pub service_cidr: String,
    /// Port of the DNS servers on their nodes.
    pub dns_port: u16,
    /// The network that joins nodes with network namespaces of their own. Without one, the only node is the machine.
    pub lan: Option<Lan>,
    /// Its nodes, at least one.
    pub nodes: Vec<Node>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the node and of its object.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Port of the agent's kubelet API.
    pub agent_port: u16,
    /// Port of the agent's health endpoint, on loopback.
    pub healthz_port: u16,
    /// Port of the DNS server's health endpoint, on loopback.
    pub dns_http_port: u16,
    /// Port of the proxy's health endpoint, on every address.
    #[serde(default = "proxy_healthz_port")]
    pub proxy_healthz_port: u16,
}

/// As clusters have it that were brought up before it could be chosen.
const fn proxy_healthz_port() -> u16 {
    10256
}

impl Node {
    fn numbered(number: u8, ip: Ipv4Addr) -> Self {
        Node {
            name: format!("node-{number}"),
            ip,
            agent_port: 10250,
            healthz_port: 10248,
            dns_http_port: 9153,
            proxy_healthz_port: proxy_healthz_port(),
        }
    }
}

impl Config {
    /// The cluster `up` makes in `dir` when nothing else is asked for: its one node is the machine itself.
    ///
    /// # Errors
    /// When `dir` cannot be made absolute.
    pub fn new(dir: &Path) -> Result<Self> {
        let ip = own_address();
        Ok(Config {
            name: "skep".to_owned(),
            dir: std::path::absolute(dir)?,
            server_ip: ip,
            secure_port: 6443,
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            dns_port: 10053,
            lan: None,
            nodes: vec![Node::numbered(1, ip)],
        })
    }

    /// The same cluster with `agents` nodes in network namespaces, joined by `lan`.
    ///
    /// # Errors
    /// When `agents` is zero or more than the network has addresses for.
    pub fn with_agents(self, agents: u8, lan: Lan) -> Result<Self> {
        ensure!(
            (1..=Lan::NODES).contains(&agents),
            "--agents {agents}: a cluster on one machine has 1 to {} nodes",
            Lan::NODES
        );
        let nodes = (1..=agents).map(|number| Node::numbered(number, lan.node(number))).collect();
        Ok(Config { server_ip: lan.machine(), lan: Some(lan), nodes, ..self })
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

/// This machine's address towards the default route; loopback when it has none. Nothing is sent.
#[must_use]
pub fn own_address() -> Ipv4Addr {
    let toward_default = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address reserved for documentation: it lies behind the default route on every machine.
        socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match toward_default() {
        Ok(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::LOCALHOST,
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
        let two = machine.clone().with_agents(2, lan).unwrap();
        assert_eq!(two.node("2").unwrap(), &two.nodes[1]);
        assert!(two.node("node-3").unwrap_err().to_string().contains("node-1, node-2"));
        assert_ne!(two.nodes[0].ip, two.nodes[1].ip);
        for agents in [0, 201, 255] {
            assert!(machine.clone().with_agents(agents, lan).is_err(), "{agents}");
        }
    }
}
