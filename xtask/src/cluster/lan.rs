//! The networks of nodes that are not the machine itself: bridges in a namespace of their own (`lan`), to which every node's
//! namespace has one interface, to one of them. The machine has one to the first, so that server, kubectl and tests reach
//! nodes, and the pods of those on it. Between its bridges the namespace is a router, which knows of no pods.
//!
//! Nothing leaves the machine: the nodes' default route leads to the bridge, whose namespace answers that no other network
//! can be reached. (There must be one, for the kernel looks for a route before a packet's address is translated.)
//! In a cluster of both families all of this is so for IPv6 too.
//!
//! Every step may be done again, so that an `up` that was killed anywhere is made whole by the next.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::config::{Config, Node};
use crate::kernel;
use crate::run::{captured, command, text, which};

/// The routing protocol number that Skep's routes bear; agents use the same.
pub const ROUTES: &str = "83";
/// The bridges' namespace.
const BRIDGES: &str = "lan";
/// The first bridge, in it.
const BRIDGE: &str = "lan";
/// The machine's interface, as the bridge's namespace sees it.
const MACHINE: &str = "machine";
/// A node's interface, as the node sees it.
const UPLINK: &str = "eth0";

/// A network that nodes of one machine share: 256 addresses of IPv4, `10.245.3.0/24`, and beside them
/// `fd00:10:245:3::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lan([u8; 3]);

impl Lan {
    /// How many nodes it has addresses for.
    pub const NODES: u8 = 200;
    const STRANGER: u8 = 252;
    const GATEWAY: u8 = 253;
    const MACHINE: u8 = 254;

    /// The first of so many networks of 10.245.0.0/16, one after the other, that this machine has no route into.
    ///
    /// # Errors
    /// When there are none.
    pub fn free(networks: u8) -> Result<Self> {
        let routes = fs::read_to_string("/proc/net/route").context("/proc/net/route")?;
        // Not there on a kernel without IPv6.
        let routes6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
        let free = |lan: Lan| !lan.met_by(&routes) && !lan.met_by_ipv6(&routes6);
        let mut all = (0..=255 - networks.saturating_sub(1)).map(|third| Lan([10, 245, third]));
        all.find(|lan| (0..networks).all(|number| free(lan.nth(number))))
            .context("this machine has routes into all of 10.245.0.0/16: there is no place for nodes")
    }

    /// Whether a route of the kernel's table (`/proc/net/route`), the default route aside, leads into it.
    fn met_by(self, table: &str) -> bool {
        let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.swap_bytes());
        table.lines().skip(1).any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let at = |field: usize| fields.get(field).copied().and_then(word);
            let (Some(to), Some(mask)) = (at(1), at(7)) else { return false };
            let common = mask & 0xffff_ff00;
            mask != 0 && to & common == u32::from(self.host(0)) & common
        })
    }

    /// The same of `/proc/net/ipv6_route`: destination and length of its prefix in hexadecimal, and more.
    fn met_by_ipv6(self, table: &str) -> bool {
        let own = self.host6(0).to_bits();
        table.lines().any(|line| {
            let mut fields = line.split(' ');
            let mut hex = || u128::from_str_radix(fields.next()?, 16).ok();
            let (Some(to), Some(prefix)) = (hex(), hex()) else { return false };
            let common = u128::MAX.checked_shl(128 - prefix.min(64) as u32).unwrap_or(0);
            common != 0 && to & common == own & common
        })
    }

    /// The network that comes so many after it.
    #[must_use]
    pub fn nth(self, number: u8) -> Self {
        let [a, b, c] = self.0;
        Lan([a, b, c.wrapping_add(number)])
    }

    fn host(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }

    /// Its groups read like the numbers of the IPv4 network.
    fn host6(self, last: u8) -> Ipv6Addr {
        let group = |number: u8| {
            u16::from(number / 100) << 8 | u16::from(number / 10 % 10) << 4 | u16::from(number % 10)
        };
        let [a, b, c] = self.0.map(group);
        Ipv6Addr::new(0xfd00, a, b, c, 0, 0, 0, group(last))
    }

    /// The address of a node, counted from 1.
    #[must_use]
    pub fn node(self, number: u8) -> Ipv4Addr {
        self.host(number)
    }

    /// The IPv6 address of a node.
    #[must_use]
    pub fn node6(self, number: u8) -> Ipv6Addr {
        self.host6(number)
    }

    /// The bridge's own address, the nodes' default gateway.
    fn gateway(self) -> Ipv4Addr {
        self.host(Self::GATEWAY)
    }

    /// The network's prefix in each family of the cluster, with the address of host number `last`.
    fn addresses(self, config: &Config, last: u8) -> Vec<String> {
        let v6 = config.ipv6.as_ref().map(|_| format!("{}/64", self.host6(last)));
        [format!("{}/24", self.host(last))].into_iter().chain(v6).collect()
    }

    /// The address of a namespace that is no node.
    #[must_use]
    pub fn stranger(self) -> Ipv4Addr {
        self.host(Self::STRANGER)
    }

    /// The machine's address.
    #[must_use]
    pub fn machine(self) -> Ipv4Addr {
        self.host(Self::MACHINE)
    }
}

impl fmt::Display for Lan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/24", self.host(0))
    }
}

impl FromStr for Lan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let address =
            text.strip_suffix(".0/24").and_then(|begin| format!("{begin}.0").parse::<Ipv4Addr>().ok());
        let [a, b, c, _] =
            address.with_context(|| format!("{text:?} is no network like 10.245.0.0/24"))?.octets();
        Ok(Lan([a, b, c]))
    }
}

impl TryFrom<String> for Lan {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Lan> for String {
    fn from(lan: Lan) -> Self {
        lan.to_string()
    }
}

/// The machine's interface to the nodes of this cluster. Interface names have 15 characters at most.
#[must_use]
pub fn leg(config: &Config) -> String {
    format!("lan-{:.11}", config.name)
}

fn namespace(config: &Config) -> PathBuf {
    config.run_dir().join("netns").join(BRIDGES)
}

/// Gives an interface its addresses, and takes it up. Nobody else has them, so that they need not be tried out first.
fn join(run: &dyn Fn(&str) -> Command, interface: &str, addresses: &[String]) -> Result<()> {
    for address in addresses {
        let sure = if address.contains(':') { " nodad" } else { "" };
        captured(&mut run(&format!("addr replace {address} dev {interface}{sure}")))?;
    }
    captured(&mut run(&format!("link set {interface} up")))?;
    Ok(())
}

/// The bridge of a network, counted from 0.
fn bridge_of(network: u8) -> String {
    if network == 0 { BRIDGE.to_owned() } else { format!("{BRIDGE}-{network}") }
}

fn ip(words: &str) -> Command {
    let mut ip = command(which("ip").unwrap_or_else(|| "ip".into()));
    ip.args(words.split(' '));
    ip
}

fn ip_in(namespace: &Path, words: &str) -> Command {
    let mut ip = command("nsenter");
    ip.arg(format!("--net={}", namespace.display())).arg(which("ip").unwrap_or_else(|| "ip".into()));
    ip.args(words.split(' '));
    ip
}

/// Makes what of the network is missing: namespaces, cgroups, the bridge and the wires. Nothing where the only node is
/// the machine.
///
/// # Errors
/// When the kernel refuses.
pub fn make(config: &Config) -> Result<()> {
    let Some(lan) = config.lan else { return Ok(()) };
    let bridge = namespace(config);
    kernel::ensure_netns(&bridge)?;
    for network in 0..config.networks {
        let name = bridge_of(network);
        if captured(&mut ip_in(&bridge, &format!("link show {name}"))).is_err() {
            captured(&mut ip_in(&bridge, &format!("link add {name} type bridge")))?;
        }
        join(&|words| ip_in(&bridge, words), &name, &lan.nth(network).addresses(config, Lan::GATEWAY))?;
    }
    captured(&mut ip_in(&bridge, "route replace unreachable default"))?;
    // So that it answers for the networks that cannot be reached.
    kernel::in_netns(Some(&bridge), || kernel::set_sysctl("net/ipv4/ip_forward", "1"))??;
    if config.ipv6.is_some() {
        captured(&mut ip_in(&bridge, "-6 route replace unreachable default"))?;
        kernel::in_netns(Some(&bridge), || kernel::set_sysctl("net/ipv6/conf/all/forwarding", "1"))??;
    }
    let leg = leg(config);
    if captured(&mut ip(&format!("link show {leg}"))).is_err() {
        let peer = format!("peer name {MACHINE} netns {}", bridge.display());
        captured(&mut ip(&format!("link add {leg} type veth {peer}")))?;
    }
    join(&ip, &leg, &lan.addresses(config, Lan::MACHINE))?;
    for other in (1..config.networks).map(|network| lan.nth(network)) {
        captured(&mut ip(&format!("route replace {other} via {} dev {leg}", lan.gateway())))?;
    }
    captured(&mut ip_in(&bridge, &format!("link set {MACHINE} master {BRIDGE} up")))?;
    for node in &config.nodes {
        wire(config, node).with_context(|| format!("the network of {}", node.name))?;
    }
    Ok(())
}

/// Puts a network namespace on the same network that is no node: somebody outside of the cluster. It goes with the cluster;
/// gives the file that stands for it.
///
/// # Errors
/// When the only node is the machine, or the kernel refuses.
pub fn stranger(config: &Config) -> Result<PathBuf> {
    let lan = config.lan.context("a cluster whose only node is the machine has no network for strangers")?;
    let own = namespace(config).with_file_name("stranger");
    plug(config, 0, &own, "stranger", &lan.addresses(config, Lan::STRANGER))?;
    Ok(own)
}

fn wire(config: &Config, node: &Node) -> Result<()> {
    let Some(own) = config.netns(node) else { return Ok(()) };
    let prefixed = node.ips().map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 24 } else { 64 }));
    plug(config, node.network, &own, &node.name, &prefixed.collect::<Vec<_>>())
}

/// A wire from a namespace, which is made if it is missing, to the bridge of a network.
fn plug(config: &Config, network: u8, own: &Path, name: &str, addresses: &[String]) -> Result<()> {
    let Some(lan) = config.lan.map(|lan| lan.nth(network)) else { return Ok(()) };
    let bridge = namespace(config);
    kernel::ensure_netns(own)?;
    let end = format!("to-{name:.12}");
    if captured(&mut ip_in(&bridge, &format!("link show {end}"))).is_err() {
        let peer = format!("peer name {UPLINK} netns {}", own.display());
        captured(&mut ip_in(&bridge, &format!("link add {end} type veth {peer}")))?;
    }
    captured(&mut ip_in(&bridge, &format!("link set {end} master {} up", bridge_of(network))))?;
    captured(&mut ip_in(own, "link set lo up"))?;
    join(&|words| ip_in(own, words), UPLINK, addresses)?;
    captured(&mut ip_in(own, &format!("route replace default via {}", lan.gateway())))?;
    if config.ipv6.is_some() {
        captured(&mut ip_in(own, &format!("-6 route replace default via {}", lan.host6(Lan::GATEWAY))))?;
    }
    Ok(())
}

/// Leads the machine's packets for a node's pods, `pods` of any family, to that node, where both are on one network.
///
/// # Errors
/// When the kernel refuses.
pub fn route(config: &Config, node: &Node, pods: &str) -> Result<()> {
    let via = node.ips().find(|ip| ip.is_ipv6() == pods.contains(':'));
    if let Some(via) = via.filter(|_| config.lan.is_some() && node.network == 0) {
        let family = if via.is_ipv6() { "-6 " } else { "" };
        let words = format!("{family}route replace {pods} via {via} dev {} proto {ROUTES}", leg(config));
        captured(&mut ip(&words)).with_context(|| {
            format!("pods of {} cannot be reached from this machine: is there another cluster?", node.name)
        })?;
    }
    Ok(())
}

/// Takes away what the machine itself has of it: its interface and the routes to pods, an agent's own ones included.
/// Namespaces go when nothing holds them.
///
/// # Errors
/// When something stays.
pub fn remove(config: &Config) -> Result<()> {
    let leg = leg(config);
    if captured(&mut ip(&format!("link show {leg}"))).is_ok() {
        // It may have gone with its namespace in between.
        let _ = captured(&mut ip(&format!("link del {leg}")));
    }
    let v6 = config.ipv6.as_ref().map(|ipv6| ("-6 ", ipv6.cluster_cidr.as_str()));
    let mut left = String::new();
    for (family, pods) in [("", config.cluster_cidr.as_str())].into_iter().chain(v6) {
        let routes = format!("root {pods} proto {ROUTES}");
        let _ = captured(&mut ip(&format!("{family}route flush {routes}")));
        left += &text(&mut ip(&format!("{family}route show {routes}")))?;
    }
    if !left.trim().is_empty() {
        bail!("routes: {}", left.trim().replace('\n', ", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_as_it_is_written() {
        let lan: Lan = "10.245.3.0/24".parse().unwrap();
        assert_eq!(lan.to_string(), "10.245.3.0/24");
        assert_eq!(lan.node(2), Ipv4Addr::new(10, 245, 3, 2));
        assert_eq!(lan.nth(2).to_string(), "10.245.5.0/24");
        assert_eq!(lan.node6(12), "fd00:10:245:3::12".parse::<Ipv6Addr>().unwrap());
        assert!(![lan.stranger(), lan.gateway(), lan.machine()].contains(&lan.node(Lan::NODES)));
        for bad in ["10.245.3.1/24", "10.245.3.0/16", "10.245.0/24", ""] {
            assert!(bad.parse::<Lan>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_that_the_machine_has_routes_into_is_not_free() {
        let table = |destination: &str, mask: &str| {
            format!(
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t{destination}\t0\t1\t0\t0\t0\t{mask}\n"
            )
        };
        let lan: Lan = "10.245.3.0/24".parse().unwrap();
        for (destination, mask, meets) in [
            ("00000000", "00000000", false),
            ("0003F50A", "00FFFFFF", true),
            ("0004F50A", "00FFFFFF", false),
            ("0000F50A", "0000FFFF", true),
            ("0000000A", "000000FF", true),
            ("0703F50A", "FFFFFFFF", true),
            ("0000F40A", "0000FFFF", false),
        ] {
            assert_eq!(lan.met_by(&table(destination, mask)), meets, "{destination} {mask}");
        }
        for (destination, prefix, meets) in [
            ("00000000000000000000000000000000", "00", false),
            ("fd000010024500030000000000000000", "40", true),
            ("fd000010024500030000000000000007", "80", true),
            ("fd000010024500040000000000000000", "40", false),
            ("fd000010000000000000000000000000", "20", true),
            ("fe800000000000000000000000000000", "0a", false),
        ] {
            let line = format!("{destination} {prefix} {destination} 00 {destination} 00000400 1 0 1 eth0\n");
            assert_eq!(lan.met_by_ipv6(&line), meets, "{destination} {prefix}");
        }
    }
}
