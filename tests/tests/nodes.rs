//! Several nodes on one machine: pods and Services across them, and nothing left of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_images::load::{Outcome, get};
use skep_tests::{Snapshot, TestCluster, objects};
use xtask::cluster::program::on_node;
use xtask::cluster::up;
use xtask::run::{command, text};

/// Requests of one kind from one place to another.
const REQUESTS: u64 = 30;

/// A demo server that is bound to a node, with a Service in front of it.
struct Server {
    node: usize,
    name: String,
    ip: String,
    service: String,
}

fn serve(cluster: &TestCluster, node: usize) -> Result<Server> {
    let name = format!("on-{node}");
    let mut pod = objects::pod(&name, &["serve", "--port", "8080"], "Always");
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": cluster.node(node)?.name});
    cluster.create("/api/v1/namespaces/default/pods", &pod)?;
    let service = cluster.create("/api/v1/namespaces/default/services", &objects::service(&name))?;
    let service = service["spec"]["clusterIP"].as_str().context("a Service without clusterIP")?;
    let pod = cluster.wait_pod_ready(&name)?;
    cluster.wait_endpoints(&name, 1)?;
    let ip = pod["status"]["podIP"].as_str().context("a pod without address")?.to_owned();
    ensure!(pod["spec"]["nodeName"] == cluster.node(node)?.name.as_str(), "{pod}");
    Ok(Server { node, name, ip, service: format!("{service}:80") })
}

/// What a program in a server's pod says.
fn in_pod(cluster: &TestCluster, server: &Server, arguments: &[&str]) -> Result<String> {
    let begin = ["exec", &server.name, "--", "/skep-demo"];
    cluster.kubectl(&[&begin[..], arguments].concat())
}

/// Asks `to`, by pod address and by Service, over TCP and UDP, by `ask`; every answer must come from it.
fn all_ways(who: &str, to: &Server, ask: impl Fn(&[&str]) -> Result<Outcome>) -> Result<()> {
    let modes: [&[&str]; 3] = [&[], &["--udp"], &["--udp", "--unconnected"]];
    for target in [format!("{}:8080", to.ip), to.service.clone()] {
        for mode in modes {
            let requests = REQUESTS.to_string();
            let outcome = ask(&[&["load", &target, "--requests", &requests][..], mode].concat())?;
            let answered = outcome.answered.get(&to.name).copied();
            ensure!(
                (answered, outcome.failed) == (Some(REQUESTS), 0),
                "{who} to {target} {mode:?} on node {}: {outcome:?}",
                to.node
            );
        }
    }
    Ok(())
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

fn across(cluster: &TestCluster, from: &Server, to: &Server) -> Result<()> {
    // The other node's agent may hear of the Service a moment later.
    let services = || in_pod(cluster, from, &["get", &to.service]);
    cluster.wait("the Service on the other node", || services().is_ok())?;
    all_ways("pod", to, |words| Ok(serde_json::from_str(&in_pod(cluster, from, words)?)?))?;
    all_ways("node", to, |words| cluster.load_from_node(from.node, words.get(1..).unwrap_or_default()))?;
    // Pods see each other's own addresses, and nodes'.
    let peer = in_pod(cluster, from, &["get", &format!("{}:8080", to.ip), "/peer"])?;
    assert_eq!(peer.trim(), from.ip, "an address was translated between pods");
    let mut ask = command(cluster.demo_program());
    ask.args(["get", &format!("{}:8080", to.ip), "/peer"]);
    let node = cluster.node(from.node)?;
    assert_eq!(text(&mut on_node(&cluster.config, node, &ask))?.trim(), node.ip.to_string());
    Ok(())
}

/// What kubectl and the server do for people: logs, exec (as above), the proxy; and pods asked from the machine.
fn from_the_machine(cluster: &TestCluster, servers: &[Server]) -> Result<()> {
    for server in servers {
        let log = cluster.kubectl(&["logs", &server.name])?;
        assert!(log.starts_with(&format!("{} serves on ", server.name)), "{log}");
        let path = format!("/api/v1/namespaces/default/pods/{}:8080/proxy/", server.name);
        assert_eq!(cluster.kubectl(&["get", "--raw", &path])?.trim(), server.name);
        let answer = get(format!("{}:8080", server.ip).parse()?, "/", Duration::from_secs(5))?;
        assert_eq!(answer.body.trim(), server.name);
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
        let on = |program: &str, arguments: &[&str]| {
            let mut inner = command(program);
            inner.args(arguments);
            text(&mut on_node(&cluster.config, node, &inner))
        };
        assert_eq!(on("cat", &["/proc/sys/kernel/hostname"])?.trim(), node.name);
        let cgroup = format!("/skep/{}/{}/host", cluster.config.name, node.name);
        let cgroups = on("cat", &["/proc/self/cgroup"])?;
        assert!(cgroups.lines().all(|line| line.ends_with(&cgroup)), "{cgroups}");
        links.push(on("readlink", &["/proc/self/ns/net"])?);
        let out = on("ip", &["route", "get", "198.51.100.1"])?;
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
fn agents_may_be_dead(cluster: &TestCluster, servers: &[Server]) -> Result<()> {
    for number in [1, 2] {
        cluster.kill_on(number, "skep-agent")?;
    }
    for (from, to) in [(1, &servers[1]), (2, &servers[0])] {
        all_ways("node", to, |words| cluster.load_from_node(from, words.get(1..).unwrap_or_default()))?;
    }
    // While nobody looks: a route of a node that is no more, another program's route, and one that got lost.
    let network = cluster.config.cluster_cidr.trim_end_matches("0.0/16");
    let (stale, foreign) = (format!("{network}200.0/24"), format!("{network}201.0/24"));
    let ip = |words: &str| {
        let mut ip = command("ip");
        ip.args(words.split(' '));
        text(&mut on_node(&cluster.config, cluster.node(1)?, &ip))
    };
    let lost = format!("via {}", cluster.node(2)?.ip);
    let routes = || ip(&format!("route show root {}", cluster.config.cluster_cidr));
    assert!(routes()?.contains(&lost), "{}", routes()?);
    ip(&format!("route add unreachable {stale} proto 83"))?;
    ip(&format!("route add unreachable {foreign}"))?;
    ip(&format!("route flush root {} {lost}", cluster.config.cluster_cidr))?;
    assert!(!routes()?.contains(&lost), "{}", routes()?);
    for number in [1, 2] {
        cluster.start_agent_on(number)?;
    }
    cluster.wait("the routes to be mended", || {
        routes().is_ok_and(|routes| routes.contains(&lost) && !routes.contains(&stale))
    })?;
    assert!(routes()?.contains(&foreign), "{}", routes()?);
    all_ways("node", &servers[1], |words| cluster.load_from_node(1, words.get(1..).unwrap_or_default()))?;
    cluster.wait("the agents to be back", || {
        servers.iter().all(|server| in_pod(cluster, server, &["get", "127.0.0.1:8080"]).is_ok())
    })
}
