//! Both families of addresses: pods, nodes and Services have one of each, and are reached at either.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_tests::reach::{Server, agents_mend_routes, demo_on, node_reaches, strings};
use skep_tests::{Snapshot, TestCluster, objects};

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// The one address of each family, IPv4 first, as the primary one of a cluster whose first range is that.
fn both(list: Vec<String>) -> Result<[IpAddr; 2]> {
    let all: Vec<IpAddr> = list.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?;
    match *all.as_slice() {
        [a, b] if a.is_ipv4() && b.is_ipv6() => Ok([a, b]),
        _ => anyhow::bail!("not one address of each family: {list:?}"),
    }
}

/// A server of the Services of this test.
fn serve(cluster: &TestCluster, node: usize) -> Result<Server> {
    let server = Server::start(cluster, node, |pod| pod["metadata"]["labels"] = json!({"app": "both"}))?;
    both(server.ips.iter().map(ToString::to_string).collect())?;
    let pod = cluster.api.get(&format!("/api/v1/namespaces/default/pods/{}", server.name))?.success()?;
    let hosts = strings(&pod["status"]["hostIPs"], "ip");
    ensure!(hosts == cluster.node(node)?.ips().map(|ip| ip.to_string()).collect::<Vec<_>>(), "{pod}");
    Ok(server)
}

/// A pod is told both its addresses, the primary one first.
fn pods_know_their_own(cluster: &TestCluster) -> Result<()> {
    let mut pod = objects::pod("knows", &["resolve", "$(IPS)"], "Never");
    let field = json!({"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}});
    pod["spec"]["containers"][0]["env"] = json!([field]);
    cluster.create("/api/v1/namespaces/default/pods", &pod)?;
    let path = "/api/v1/namespaces/default/pods/knows";
    let mut said = String::new();
    cluster.wait("the pod to say its addresses", || {
        let log = cluster.api.get(&format!("{path}/log")).ok().filter(|answer| answer.status == 200);
        said = log.map(|log| String::from_utf8_lossy(&log.body).into_owned()).unwrap_or_default();
        said.contains('!')
    })?;
    let pod = cluster.api.get(path)?.success()?;
    let ips = both(strings(&pod["status"]["podIPs"], "ip"))?;
    assert!(said.starts_with(&format!("{},{} ", ips[0], ips[1])), "{said}");
    Ok(())
}

fn service(cluster: &TestCluster, name: &str, policy: Option<&str>) -> Result<Value> {
    let mut service = objects::service(name);
    service["spec"]["selector"] = json!({"app": "both"});
    if let Some(policy) = policy {
        service["spec"]["ipFamilyPolicy"] = policy.into();
    }
    cluster.create(SERVICES, &service)
}

#[test]
fn both_families_lead_to_pods_and_services_on_two_nodes() -> Result<()> {
    let before = Snapshot::take();
    let cluster = TestCluster::start_nodes(2)?;
    if cluster.config.ipv6.is_none() {
        // A kernel without IPv6 has clusters of IPv4, which the other tests show.
        return Ok(());
    }
    nodes_have_both(&cluster)?;
    let servers = [serve(&cluster, 1)?, serve(&cluster, 2)?];
    for (from, to) in [(0, 1), (1, 0), (0, 0)] {
        pods_reach_each_other(&cluster, &servers[from], &servers[to])?;
    }
    pods_know_their_own(&cluster)?;
    one_family_comes_and_goes(&cluster)?;
    services_have_both(&cluster, &servers)?;
    agents_may_be_dead(&cluster, &servers)?;
    assert_eq!(cluster.stop(), Vec::<String>::new());
    assert_eq!(before.added_since(), Vec::<String>::new());
    Ok(())
}

fn nodes_have_both(cluster: &TestCluster) -> Result<()> {
    let nodes = cluster.api.list("/api/v1/nodes")?;
    let mut ranges = Vec::new();
    for node in &nodes {
        let addresses = node["status"]["addresses"].as_array().context("addresses")?;
        let internal = addresses.iter().filter(|address| address["type"] == "InternalIP").cloned();
        both(strings(&Value::from_iter(internal), "address"))?;
        let own = strings(&node["spec"]["podCIDRs"], "");
        ensure!(
            own.len() == 2 && own[1].ends_with("::/64") && node["spec"]["podCIDR"] == own[0].as_str(),
            "{node}"
        );
        ranges.extend(own);
    }
    ranges.sort();
    ranges.dedup();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    Ok(())
}

/// Nobody's address is translated between pods, nor between a node and a pod.
fn pods_reach_each_other(cluster: &TestCluster, from: &Server, to: &Server) -> Result<()> {
    for (own, target) in from.ips.iter().zip(to.targets()) {
        from.reaches(cluster, target, &[&to.name])?;
        let peer = from.run(cluster, &["get", &target.to_string(), "/peer"])?;
        assert_eq!(peer.trim(), own.to_string(), "an address was translated between pods");
        let peer = demo_on(cluster, from.node, &format!("get {target} /peer"))?;
        let node = cluster.node(from.node)?;
        assert!(node.ips().any(|own| own.to_string() == peer.trim()), "{peer} is not {}", node.ip_list());
    }
    Ok(())
}

/// A Service has one family until it asks for both, gets the second address beside the first, and gives it back.
fn one_family_comes_and_goes(cluster: &TestCluster) -> Result<()> {
    let created = service(cluster, "single", None)?;
    let first = strings(&created["spec"]["clusterIPs"], "");
    assert_eq!(created["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4"]));
    cluster.wait_endpoints("single", 2)?;
    let patch = |policy: &str| {
        let patch = json!({"spec": {"ipFamilyPolicy": policy}}).to_string();
        cluster.kubectl(&["patch", "service", "single", "--type=merge", "-p", &patch])?;
        cluster.api.get(&format!("{SERVICES}/single"))?.success()
    };
    let wider = patch("RequireDualStack")?;
    let [v4, v6] = both(strings(&wider["spec"]["clusterIPs"], ""))?;
    assert_eq!(first, [v4.to_string()]);
    cluster.wait_endpoints("single", 4)?;
    cluster.wait("the second address to lead somewhere", || {
        cluster.load_from_node(1, &[&format!("[{v6}]:80"), "--requests", "1"]).is_ok_and(|o| o.failed == 0)
    })?;
    let address = |ip: IpAddr| cluster.api.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}"));
    assert_eq!(address(v6)?.success()?["spec"]["parentRef"]["name"], "single");
    let narrower = patch("SingleStack")?;
    assert_eq!(strings(&narrower["spec"]["clusterIPs"], ""), first);
    assert_eq!(narrower["spec"]["ipFamilies"], json!(["IPv4"]));
    cluster.wait_endpoints("single", 2)?;
    assert_eq!((address(v4)?.status, address(v6)?.status), (200, 404));
    Ok(())
}

/// A Service of both families from pods and nodes, by address and by name.
fn services_have_both(cluster: &TestCluster, servers: &[Server; 2]) -> Result<()> {
    let created = service(cluster, "both", Some("PreferDualStack"))?;
    let ips = both(strings(&created["spec"]["clusterIPs"], ""))?;
    cluster.wait_endpoints("both", 4)?;
    let names = servers.each_ref().map(|server| server.name.as_str());
    for ip in ips {
        let target = SocketAddr::new(ip, 80);
        for server in servers {
            let get = || server.run(cluster, &["get", &target.to_string()]);
            cluster.wait("the Service on every node", || get().is_ok())?;
            server.reaches(cluster, target, &names)?;
        }
    }
    let mut headless = objects::service("head");
    headless["spec"]["selector"] = json!({"app": "both"});
    headless["spec"]["clusterIP"] = "None".into();
    headless["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    cluster.create(SERVICES, &headless)?;
    // Names are answered to pods and to the node itself, and to nobody else.
    for (name, addresses) in
        [("both", ips.to_vec()), ("head", servers.iter().flat_map(|s| s.ips.clone()).collect())]
    {
        let mut said = String::new();
        let told = cluster.wait("a name to lead to addresses of both families", || {
            said = servers[0].run(cluster, &["resolve", name]).unwrap_or_default();
            addresses.iter().all(|ip| {
                said.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == ip.to_string())
            })
        });
        told.with_context(|| format!("{name} is said to be {said}, not {addresses:?}"))?;
    }
    Ok(())
}

/// Routes of both families stay when no agent is there, and the next agent mends what was lost.
fn agents_may_be_dead(cluster: &TestCluster, servers: &[Server; 2]) -> Result<()> {
    let ranges = &cluster.config.ipv6.as_ref().context("no IPv6")?.cluster_cidr;
    for number in [1, 2] {
        cluster.kill_on(number, "skep-agent")?;
    }
    let target = servers[1].targets().nth(1).context("a pod without IPv6")?;
    let over_v6 = || node_reaches(cluster, 1, target, &[&servers[1].name]);
    over_v6()?;
    let lost = format!("via {}", cluster.node(2)?.ip6.context("a node without IPv6")?);
    let begin = ranges.trim_end_matches("::/56");
    let (stale, foreign) = (format!("{begin}:c8::/64"), format!("{begin}:c9::/64"));
    agents_mend_routes(cluster, ["-6", ranges], &lost, [&stale, &foreign])?;
    over_v6()
}
