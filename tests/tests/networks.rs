//! Nodes on two networks, with a router between them that knows of no pods: the tunnel between nodes.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use skep_tests::reach::{Server, demo_on, node_reaches, on};
use skep_tests::{Snapshot, TestCluster, objects};

/// Bytes of a request that no packet of any network here holds at once.
const LONG: usize = 6_000;

/// A demo server's Service.
fn service(cluster: &TestCluster, server: &Server) -> Result<SocketAddr> {
    let service = cluster.create("/api/v1/namespaces/default/services", &objects::service(&server.name))?;
    let service = service["spec"]["clusterIP"].as_str().context("a Service without clusterIP")?;
    Ok(SocketAddr::new(service.parse()?, 80))
}

#[test]
fn nodes_on_two_networks_reach_each_others_pods() -> Result<()> {
    let before = Snapshot::take();
    let cluster = TestCluster::start_nodes_apart(2, 2)?;
    let (a, b) = (cluster.node(1)?.ip.octets(), cluster.node(2)?.ip.octets());
    assert_ne!(a[..3], b[..3], "the nodes are on one network");
    let servers = [Server::start(&cluster, 1, |_| ())?, Server::start(&cluster, 2, |_| ())?];
    for (from, to) in [(&servers[0], &servers[1]), (&servers[1], &servers[0])] {
        through(&cluster, from, to)
            .with_context(|| format!("from node {} to node {}", from.node, to.node))?;
    }
    agents_may_be_dead(&cluster, &servers)?;
    assert_eq!(cluster.stop(), Vec::<String>::new());
    assert_eq!(before.added_since(), Vec::<String>::new());
    Ok(())
}

fn through(cluster: &TestCluster, from: &Server, to: &Server) -> Result<()> {
    let service = service(cluster, to)?;
    // The other node's agent may hear of the Service a moment later.
    let asked = || from.run(cluster, &["get", &service.to_string()]);
    cluster.wait("the Service on the other node", || asked().is_ok())?;
    for target in to.targets().chain([service]) {
        from.reaches(cluster, target, &[&to.name])?;
    }
    for (own, target) in from.ips.iter().zip(to.targets()) {
        // Pods see each other's own addresses, in requests longer than a packet of the tunnel too.
        let long = format!("/peer?{}", "x".repeat(LONG));
        let peer = from.run(cluster, &["get", &target.to_string(), &long])?;
        assert_eq!(peer.trim(), own.to_string(), "an address was translated between pods");
        // A node is seen as the address of its end of the tunnel, to which the way back is the tunnel as well.
        let peer: IpAddr = demo_on(cluster, from.node, &format!("get {target} {long}"))?.trim().parse()?;
        let end = on(cluster, from.node, "ip", "addr show dev skep-vxlan")?;
        assert!(end.contains(&format!(" {peer}/")), "{peer} is not of {end}");
    }
    let link = on(cluster, from.node, "ip", "link show dev skep-vxlan")?;
    let uplink = on(cluster, from.node, "ip", "link show dev eth0")?;
    let mtu = |shown: &str| -> Option<u32> { shown.split("mtu ").nth(1)?.split(' ').next()?.parse().ok() };
    assert_eq!(mtu(&link).map(|mtu| mtu + 50), mtu(&uplink), "{link}\n{uplink}");
    Ok(())
}

/// The tunnel is the kernel's: it stays when no agent is there, and the next agent mends what was lost of it.
fn agents_may_be_dead(cluster: &TestCluster, servers: &[Server; 2]) -> Result<()> {
    for number in [1, 2] {
        cluster.kill_on(number, "skep-agent")?;
    }
    let over =
        || servers[1].targets().try_for_each(|target| node_reaches(cluster, 1, target, &[&servers[1].name]));
    over()?;
    on(cluster, 1, "ip", "link del skep-vxlan")?;
    assert!(over().is_err(), "there is another way to the pods");
    for number in [1, 2] {
        cluster.start_agent_on(number)?;
    }
    cluster.wait("the tunnel to be mended", || over().is_ok())
}
