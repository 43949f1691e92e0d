//! Demo servers on certain nodes, and who reaches them in which way.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_images::load::Outcome;
use xtask::cluster::program::on_node;
use xtask::run::{command, text};

use crate::{TestCluster, objects};

/// Requests of one kind from one place to another.
const REQUESTS: u64 = 30;

/// A demo server in a pod that is bound to a node.
pub struct Server {
    /// The node's number.
    pub node: usize,
    /// The pod's name.
    pub name: String,
    /// The pod's addresses, the primary one first.
    pub ips: Vec<IpAddr>,
}

impl Server {
    /// Runs one on a node and waits until it is Ready; `change` has the pod before it is made.
    ///
    /// # Errors
    /// When it does not become so there.
    pub fn start(cluster: &TestCluster, node: usize, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let name = format!("on-{node}");
        let mut pod = objects::pod(&name, &["serve", "--port", "8080"], "Always");
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": cluster.node(node)?.name});
        change(&mut pod);
        cluster.create("/api/v1/namespaces/default/pods", &pod)?;
        let pod = cluster.wait_pod_ready(&name)?;
        ensure!(pod["spec"]["nodeName"] == cluster.node(node)?.name.as_str(), "{pod}");
        let shown = strings(&pod["status"]["podIPs"], "ip");
        let ips: Vec<IpAddr> = shown.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?;
        let first = ips.first().context("a pod without address")?;
        ensure!(pod["status"]["podIP"] == first.to_string(), "{pod}");
        Ok(Server { node, name, ips })
    }

    /// Where it listens, at each of its addresses.
    pub fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        self.ips.iter().map(|ip| SocketAddr::new(*ip, 8080))
    }

    /// What the demo program says in its pod.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, cluster: &TestCluster, arguments: &[&str]) -> Result<String> {
        cluster.kubectl(&[&["exec", &self.name, "--", "/skep-demo"], arguments].concat())
    }

    /// Asks `target` from its pod and from its node, over TCP and over UDP through connected and other sockets: every
    /// request is answered by one of `names`.
    ///
    /// # Errors
    /// When one is not.
    pub fn reaches(&self, cluster: &TestCluster, target: SocketAddr, names: &[&str]) -> Result<()> {
        let pod =
            |words: &[&str]| Ok(serde_json::from_str(&self.run(cluster, &[&["load"], words].concat())?)?);
        all_ways(target, names, pod).with_context(|| format!("from pod {}", self.name))?;
        node_reaches(cluster, self.node, target, names)
    }
}

/// The node's part of [`Server::reaches`].
///
/// # Errors
/// When a request is not answered.
pub fn node_reaches(cluster: &TestCluster, node: usize, target: SocketAddr, names: &[&str]) -> Result<()> {
    all_ways(target, names, |words| cluster.load_from_node(node, words))
        .with_context(|| format!("from node {node}"))
}

fn all_ways(target: SocketAddr, names: &[&str], ask: impl Fn(&[&str]) -> Result<Outcome>) -> Result<()> {
    let (target, requests) = (target.to_string(), REQUESTS.to_string());
    let modes: [&[&str]; 3] = [&[], &["--udp"], &["--udp", "--unconnected"]];
    for mode in modes {
        let outcome = ask(&[&[target.as_str(), "--requests", &requests], mode].concat())?;
        let answered: u64 = names.iter().filter_map(|name| outcome.answered.get(*name)).sum();
        ensure!((answered, outcome.failed) == (REQUESTS, 0), "{target} {mode:?}: {outcome:?}");
    }
    Ok(())
}

/// What a program says on a node, outside of any pod; `words` have spaces between.
///
/// # Errors
/// When it fails.
pub fn on(cluster: &TestCluster, node: usize, program: &str, words: &str) -> Result<String> {
    let mut inner = command(program);
    inner.args(words.split(' '));
    text(&mut on_node(&cluster.config, cluster.node(node)?, &inner))
}

/// What the demo program says there.
///
/// # Errors
/// When it fails.
pub fn demo_on(cluster: &TestCluster, node: usize, words: &str) -> Result<String> {
    on(cluster, node, &cluster.demo_program().display().to_string(), words)
}

/// Has two nodes' agents, which are dead, come back to node 1's routes as nobody keeps them: one through `lost` is gone, `stale` is
/// of a node that is no more, `foreign` another program's. `family` is that of `ip`, `-4` or `-6`.
///
/// # Errors
/// The route was not there, or the agents do not mend what is theirs.
///
/// # Panics
/// When they touch what is not theirs.
pub fn agents_mend_routes(
    cluster: &TestCluster,
    [family, range]: [&str; 2],
    lost: &str,
    [stale, foreign]: [&str; 2],
) -> Result<()> {
    let ip = |words: &str| on(cluster, 1, "ip", &format!("{family} {words}"));
    let routes = || ip(&format!("route show root {range}"));
    assert!(routes()?.contains(lost), "{}", routes()?);
    ip(&format!("route add unreachable {stale} proto 83"))?;
    ip(&format!("route add unreachable {foreign}"))?;
    ip(&format!("route flush root {range} {lost}"))?;
    assert!(!routes()?.contains(lost), "{}", routes()?);
    for number in [1, 2] {
        cluster.start_agent_on(number)?;
    }
    cluster.wait("the routes to be mended", || {
        routes().is_ok_and(|routes| routes.contains(lost) && !routes.contains(stale))
    })?;
    assert!(routes()?.contains(foreign), "{}", routes()?);
    Ok(())
}

/// A field of each item of a list, or with an empty `field` the items themselves.
#[must_use]
pub fn strings(list: &Value, field: &str) -> Vec<String> {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let one = |item: &Value| if field.is_empty() { item.clone() } else { item[field].clone() };
    all.iter().filter_map(|item| one(item).as_str().map(str::to_owned)).collect()
}
