//! The DNS server's command line, and whether it answers.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::agent::credentials;
use super::config::{Config, Node};
use crate::kernel;
use crate::layout::Layout;
use crate::run::command;

/// A node's DNS server's command line.
///
/// # Errors
/// When there is no authority, or a directory cannot be made.
pub fn command_line(config: &Config, node: &Node, layout: &Layout) -> Result<Command> {
    let data = config.dns_data(node);
    fs::create_dir_all(&data)?;
    let mut dns = command(layout.bin().join("skep-dns"));
    dns.arg("--kubeconfig").arg(credentials(config, node, layout)?.join("dns.kubeconfig"));
    dns.arg("--data-dir").arg(&data);
    for ip in node.ips() {
        dns.args(["--bind-address", &ip.to_string()]);
    }
    for range in config.cluster_cidrs().split(',') {
        dns.args(["--cluster-cidr", range]);
    }
    dns.args(["--port", &config.dns_port.to_string(), "--http-port", &node.dns_http_port.to_string()]);
    Ok(dns)
}

/// Whether it knows the names of the cluster.
pub fn ready(config: &Config, node: &Node) -> bool {
    let target = (Ipv4Addr::LOCALHOST, node.dns_http_port).into();
    let ask = || skep_images::load::get(target, "/readyz", Duration::from_secs(1));
    let answer = kernel::in_netns(config.netns(node).as_deref(), ask);
    matches!(answer, Ok(Ok(answer)) if answer.status == 200)
}
