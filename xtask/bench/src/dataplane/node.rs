//! A node with two pods, in network namespaces of their own: one pod serves, the other asks.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::netns::Netns;
use crate::rules::{self, CLIENT, SERVER};
use crate::worker::{Metric, Sample, Worker};

/// The wires of the two pods, as the node names them.
pub(crate) const WIRES: [(&str, Ipv4Addr); 2] = [("client", CLIENT), ("server", SERVER)];

/// A node.
pub(crate) struct Node {
    client: Worker,
    _server: Worker,
    _pods: [Netns; 2],
    /// Its own namespace.
    pub(crate) netns: Netns,
}

impl Node {
    /// A node that forwards and translates nothing. Its pods are in `cgroup`, if it has one.
    pub(crate) fn new(cgroup: Option<&Path>) -> Result<Self> {
        let (netns, pods) = (Netns::new()?, [Netns::new()?, Netns::new()?]);
        netns.run(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
        for (pod, (name, address)) in pods.iter().zip(WIRES) {
            netns.wire(name, pod, address)?;
        }
        let server = Worker::start("serve", &pods[1], cgroup)?;
        let client = Worker::start("ask", &pods[0], cgroup)?;
        Ok(Node { client, _server: server, _pods: pods, netns })
    }

    /// Takes one sample from the asking pod.
    pub(crate) fn sample(&mut self, metric: Metric, to: Ipv4Addr, window: Duration) -> Result<Sample> {
        self.client.sample(metric, to, window)
    }
}

/// Whose rules a node without Skep has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The iptables mode, by the older tool and kernel part.
    IptablesLegacy,
    /// The iptables mode, kept by the kernel as nftables rules.
    IptablesNft,
    /// The nftables mode.
    Nftables,
}

impl Written {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::IptablesLegacy, Self::IptablesNft, Self::Nftables];

    /// The words for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::IptablesLegacy => "iptables (legacy)",
            Self::IptablesNft => "iptables (nft)",
            Self::Nftables => "nftables",
        }
    }

    /// Replaces the rules of a node by those for so many Services.
    pub(crate) fn load(self, netns: &Netns, services: usize) -> Result<()> {
        match self {
            Self::IptablesLegacy => {
                netns.feed(&mut Command::new("iptables-legacy-restore"), &rules::iptables(services))
            }
            Self::IptablesNft => {
                netns.feed(&mut Command::new("iptables-nft-restore"), &rules::iptables(services))
            }
            Self::Nftables => {
                let text = format!(
                    "table ip kube-proxy {{ }}\ndelete table ip kube-proxy\n{}",
                    rules::nftables(services)
                );
                netns.feed(Command::new("nft").args(["-f", "-"]), &text)
            }
        }
    }
}
