//! The agent's command line and credentials.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::config::{Config, Node};
use super::program::cgroup_root;
use crate::layout::Layout;
use crate::run::{captured, command};

/// The directory of a node's credentials, which come from the cluster's own authority.
///
/// # Errors
/// When there is no authority.
pub fn credentials(config: &Config, node: &Node, layout: &Layout) -> Result<PathBuf> {
    let credentials = config.node_dir(node).join("credentials");
    let all = ["kubeconfig", "dns.kubeconfig"];
    if !all.iter().all(|name| credentials.join(name).exists()) {
        let mut issue = command(layout.bin().join("skep-server"));
        issue.arg("node-credentials").arg("--data-dir").arg(config.server_data());
        issue.args(["--node-name", &node.name, "--node-ip", &node.ip_list()]);
        issue.args(["--server", &config.server_url()]).arg("--out").arg(&credentials);
        captured(&mut issue)?;
    }
    Ok(credentials)
}

/// A node's agent's command line.
///
/// # Errors
/// When there is no authority, or a directory cannot be made.
pub fn command_line(config: &Config, node: &Node, layout: &Layout) -> Result<Command> {
    let dir = config.node_dir(node);
    let credentials = credentials(config, node, layout)?;
    let bin = layout.bin();
    let data = config.agent_data(node);
    fs::create_dir_all(&data)?;
    let mut agent = command(bin.join("skep-agent"));
    agent.arg("--kubeconfig").arg(credentials.join("kubeconfig"));
    agent.args(["--node-name", &node.name, "--node-ip", &node.ip_list()]);
    agent.arg("--data-dir").arg(&data);
    let socket = config.containerd_socket(node);
    agent.arg("--container-runtime-endpoint").arg(format!("unix://{}", socket.display()));
    if let Some(root) = cgroup_root(config, node)? {
        agent.arg("--cgroup-root").arg(root);
    }
    agent.arg("--bpf-object").arg(bin.join("skep-ebpf.o"));
    agent.args(["--bpffs", "/sys/fs/bpf", "--cluster-name", &config.name]);
    agent.args(["--cluster-cidr", &config.cluster_cidrs()]);
    agent.args(["--service-cluster-ip-range", &config.service_cidrs()]);
    agent.args(["--cluster-dns", &config.cluster_dns()?.to_string()]);
    agent.arg("--tls-cert-file").arg(credentials.join("tls.crt"));
    agent.arg("--tls-private-key-file").arg(credentials.join("tls.key"));
    agent.arg("--client-ca-file").arg(credentials.join("ca.crt"));
    agent.arg("--cni-socket").arg(config.cni_socket(node));
    agent.arg("--cni-conf-dir").arg(dir.join("cni/net.d")).arg("--cni-bin-dir").arg(dir.join("cni/bin"));
    let (port, health) = (node.agent_port.to_string(), node.healthz_port.to_string());
    agent.args(["--port", &port, "--healthz-port", &health]);
    agent.args(["--proxy-healthz-port", &node.proxy_healthz_port.to_string()]);
    Ok(agent)
}
