//! Several nodes on one machine: pods and Services across them, and nothing left of them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use skep_images::load::get;
use skep_tests::reach::{Server, agents_mend_routes, demo_on, node_reaches, on};
use skep_tests::{Snapshot, TestCluster, objects};
use xtask::cluster::program::on_node;
use xtask::cluster::up;
use xtask::run::{command, text};

/// A demo server on a node, with a Service in front of it.
struct Served {
    server: Server,
    service: SocketAddr,
}

fn serve(cluster: &TestCluster, node: usize) -> Result<Served> {
    let server = Server::start(cluster, node, |_| ())?;
    let name = &server.name;
    let service = cluster.create("/api/v1/namespaces/default/services", &objects::service(name))?;
    let service = service["spec"]["clusterIP"].as_str().context("a Service without clusterIP")?;
    cluster.wait_endpoints(name, 1)?;
    let service = SocketAddr::new(service.parse()?, 80);
    Ok(Served { server, service })
}

impl Served {
    /// The pod's first address, and the Service.
    fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        self.server.targets().take(1).chain([self.service])
    }
}

#[test]
fn two_nodes_reach_each_other_and_nothing_stays_of_them() -> Result<()> {
    let before = Snapshot::take();
    let cluster = TestCluster::start_nodes(2)?;
    let servers = [serve(&cluster, 1)?, serve(&cluster, 2)?];
    for (from, to) in [(&servers[0], &servers[1]), (&servers[1], &servers[0])] {
        across(&cluster, from, to)?;
    }
    from_the_machine(&cluster, &servers)?;
    nodes_are_apart(&cluster)?;
    agents_may_be_dead(&cluster, &servers)?;

    let first = cluster.processes()?;
    up::up(&cluster.config, &cluster.layout)?;
    assert_eq!(cluster.processes()?, first, "a second up adopts");
    let added = before.added(&Snapshot::take());
    let expected =
        ["process", "pin", "cgroup", "mount", "interface", "network namespace", "eBPF program", "route"];
    for kind in expected {
        assert!(added.iter().any(|line| line.starts_with(kind)), "nodes add no {kind}? {added:?}");
    }
    assert!(
        !added.iter().any(|line| line.starts_with("ip_forward")),
        "the machine forwards nothing: {added:?}"
    );
    assert_eq!(cluster.stop(), Vec::<String>::new());
    assert_eq!(before.added_since(), Vec::<String>::new());
    Ok(())
}

fn across(cluster: &TestCluster, from: &Served, to: &Served) -> Result<()> {
    let (pod, name) = (&from.server, &to.server.name);
    // The other node's agent may hear of the Service a moment later.
    let services = || pod.run(cluster, &["get", &to.service.to_string()]);
    cluster.wait("the Service on the other node", || services().is_ok())?;
    for target in to.targets() {
        pod.reaches(cluster, target, &[name])?;
    }
    // Pods see each other's own addresses, and nodes'.
    let target = to.server.targets().next().context("an address")?;
    let peer = pod.run(cluster, &["get", &target.to_string(), "/peer"])?;
    assert_eq!(peer.trim(), pod.ips[0].to_string(), "an address was translated between pods");
    let peer = demo_on(cluster, pod.node, &format!("get {target} /peer"))?;
    assert_eq!(peer.trim(), cluster.node(pod.node)?.ip.to_string());
    Ok(())
}

/// What kubectl and the server do for people: logs, exec (as above), the proxy; and pods asked from the machine.
fn from_the_machine(cluster: &TestCluster, servers: &[Served]) -> Result<()> {
    for Served { server, .. } in servers {
        let log = cluster.kubectl(&["logs", &server.name])?;
        assert!(log.starts_with(&format!("{} serves on ", server.name)), "{log}");
        let path = format!("/api/v1/namespaces/default/pods/{}:8080/proxy/", server.name);
        assert_eq!(cluster.kubectl(&["get", "--raw", &path])?.trim(), server.name);
        for target in server.targets() {
            let answer = get(target, "/", Duration::from_secs(5))?;
            assert_eq!(answer.body.trim(), server.name);
        }
    }
    let nodes = cluster.api.list("/api/v1/nodes")?;
    let ready = |node: &Value| xtask::api::condition(node, "Ready") == Some("True");
    assert_eq!(nodes.iter().filter(|node| ready(node)).count(), 2, "{nodes:?}");
    let networks: Vec<_> = nodes.iter().map(|node| &node["spec"]["podCIDR"]).collect();
    assert_ne!(networks[0], networks[1]);
    Ok(())
}

/// A node has a name, a namespace and a cgroup of its own, and no way out of the machine.
fn nodes_are_apart(cluster: &TestCluster) -> Result<()> {
    let mut links = Vec::new();
    for number in [1, 2] {
        let node = cluster.node(number)?;
        let on = |program: &str, words: &str| on(cluster, number, program, words);
        assert_eq!(on("cat", "/proc/sys/kernel/hostname")?.trim(), node.name);
        let cgroup = format!("/skep/{}/{}/host", cluster.config.name, node.name);
        let cgroups = on("cat", "/proc/self/cgroup")?;
        assert!(cgroups.lines().all(|line| line.ends_with(&cgroup)), "{cgroups}");
        links.push(on("readlink", "/proc/self/ns/net")?);
        let out = on("ip", "route get 198.51.100.1")?;
        assert!(out.contains("dev eth0"), "Services need a route before translation: {out}");
        let mut outside = command(cluster.demo_program());
        outside.args(["get", "198.51.100.1:80", "--timeout-ms", "20000"]);
        let refused = on_node(&cluster.config, node, &outside).output()?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("No route to host"), "{said}");
    }
    links.push(text(command("readlink").arg("/proc/self/ns/net"))?);
    links.dedup();
    assert_eq!(links.len(), 3, "{links:?}");
    Ok(())
}

/// Routes are the kernel's: they stay when no agent is there, and the next agent takes them over.
fn agents_may_be_dead(cluster: &TestCluster, servers: &[Served]) -> Result<()> {
    for number in [1, 2] {
        cluster.kill_on(number, "skep-agent")?;
    }
    let over = |node: usize, to: &Served| {
        to.targets().try_for_each(|target| node_reaches(cluster, node, target, &[&to.server.name]))
    };
    for (from, to) in [(1, &servers[1]), (2, &servers[0])] {
        over(from, to)?;
    }
    // While nobody looks: a route of a node that is no more, another program's route, and one that got lost.
    let network = cluster.config.cluster_cidr.trim_end_matches("0.0/16");
    let (stale, foreign) = (format!("{network}200.0/24"), format!("{network}201.0/24"));
    let lost = format!("via {}", cluster.node(2)?.ip);
    agents_mend_routes(cluster, ["-4", &cluster.config.cluster_cidr], &lost, [&stale, &foreign])?;
    over(1, &servers[1])?;
    cluster.wait("the agents to be back", || {
        servers.iter().all(|served| served.server.run(cluster, &["get", "127.0.0.1:8080"]).is_ok())
    })
}
