//! What a cluster is called and where its parts lie.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// A cluster on this machine. Kept as `cluster.json` in its directory, so that every later command finds the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Name; part of pins, cgroups and paths below `/run`.
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Directory with data, logs and credentials.
    pub dir: PathBuf,
    /// Address of the node.
    pub node_ip: Ipv4Addr,
    /// Port of the API server.
    pub secure_port: u16,
    /// Port of the agent's kubelet API.
    pub agent_port: u16,
    /// Port of the agent's health endpoint, on loopback.
    pub healthz_port: u16,
    /// Addresses of pods.
    pub cluster_cidr: String,
    /// Addresses of Services.
    pub service_cidr: String,
}

impl Config {
    /// The cluster `up` makes in `dir` when nothing else is asked for.
    ///
    /// # Errors
    /// When `dir` cannot be made absolute.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Config {
            name: "skep".to_owned(),
            node: "node-1".to_owned(),
            dir: std::path::absolute(dir)?,
            node_ip: own_address(),
            secure_port: 6443,
            agent_port: 10250,
            healthz_port: 10248,
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
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

    /// containerd's socket.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.run_dir().join("containerd.sock")
    }

    /// The agent's socket for skep-cni.
    #[must_use]
    pub fn cni_socket(&self) -> PathBuf {
        self.run_dir().join("cni.sock")
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

    /// The agent's data directory.
    #[must_use]
    pub fn agent_data(&self) -> PathBuf {
        self.dir.join("agent")
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

    /// Base URL of the API server as the node reaches it.
    #[must_use]
    pub fn server_url(&self) -> String {
        format!("https://{}:{}", self.node_ip, self.secure_port)
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
}
