//! Names of the cluster, as pods and the host find them, whatever of it is dead.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};
use skep_tests::names::{Answer, over_tcp, over_udp};
use skep_tests::{TestCluster, objects};

/// Absolute, so that nobody outside is asked.
const NOTHING: &str = "nothing.default.svc.cluster.local.";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A pod with a name of its own below the headless Service `head`, and both.
fn named_pod(cluster: &TestCluster) -> Result<String> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "head"},
        "spec": {"clusterIP": "None", "selector": {"app": "first"}, "ports": [{"name": "http", "port": 8080}]},
    });
    cluster.create("/api/v1/namespaces/default/services", &service)?;
    let mut pod = objects::pod("first", &["serve", "--port", "8080"], "Always");
    pod["spec"]["hostname"] = "one".into();
    pod["spec"]["subdomain"] = "head".into();
    cluster.create("/api/v1/namespaces/default/pods", &pod)?;
    Ok(text(&cluster.wait_pod_ready("first")?["status"]["podIP"]))
}

/// What each name led to, of those that a pod printed as `NAME ADDRESS...` or `NAME ! ERROR`.
fn printed(log: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in log.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let all = found.entry(name.to_owned()).or_default();
        if all.last().is_none_or(|last| last != rest) {
            all.push(rest.to_owned());
        }
    }
    found
}

fn log(cluster: &TestCluster, pod: &str) -> Result<String> {
    let answer = cluster.api.get(&format!("/api/v1/namespaces/default/pods/{pod}/log"))?;
    anyhow::ensure!(answer.status == 200, "no log: {}", answer.status);
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// Asks over both transports, which must agree.
fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Result<Answer> {
    let answer = over_udp(server, name, kind)?;
    assert_eq!(over_tcp(server, name, kind)?, answer, "{name} {kind}");
    Ok(answer)
}

#[test]
fn names_lead_where_they_should_and_go_on_while_everything_else_is_dead() -> Result<()> {
    let cluster = TestCluster::start()?;
    let web = cluster.serve("web", 2)?;
    let web = web.split(':').next().context("an address")?.to_owned();
    let one = named_pod(&cluster)?;
    let alias = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"},
        "spec": {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"},
    });
    cluster.create("/api/v1/namespaces/default/services", &alias)?;
    let service = cluster.api.get("/api/v1/namespaces/kube-system/services/kube-dns")?.success()?;
    let server: SocketAddr = format!("{}:53", text(&service["spec"]["clusterIP"])).parse()?;
    assert!(server.to_string().ends_with(".0.10:53"), "{server}");
    let found = |name: &str, kind| ask(server, name, kind).map(|answer| answer.data);
    cluster.wait("every name to be known", || {
        found("one.head.default.svc.cluster.local", RecordType::A).is_ok_and(|data| data == [one.clone()])
            && found("alias.default.svc.cluster.local", RecordType::A).is_ok_and(|data| data.contains(&web))
    })?;

    // From a pod, by the C library and the pod's own resolv.conf.
    let known =
        ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "alias", "one.head"];
    let arguments = [&["resolve"], &known[..], &[NOTHING, "--every-ms", "50"]].concat();
    cluster.create("/api/v1/namespaces/default/pods", &objects::pod("asker", &arguments, "Never"))?;
    cluster.wait("the pod to have asked for everything", || {
        log(&cluster, "asker").is_ok_and(|log| printed(&log).len() > known.len())
    })?;
    // And a client that finds its servers by name.
    cluster.start_load("by-name", &["web:80", "--requests", "20"])?;
    assert_eq!(cluster.outcome("by-name")?.failed, 0);

    // From the host, over both transports.
    let kubernetes = found("kubernetes.default.svc.cluster.local", RecordType::A)?;
    let address = kubernetes.first().context("the API server has a name")?;
    let reverse: Vec<&str> = address.split('.').rev().collect();
    let reverse = found(&format!("{}.in-addr.arpa", reverse.join(".")), RecordType::PTR)?;
    assert_eq!(reverse, ["kubernetes.default.svc.cluster.local."]);
    assert_eq!(
        found("_http._tcp.head.default.svc.cluster.local", RecordType::SRV)?,
        ["0 100 8080 one.head.default.svc.cluster.local."]
    );
    let missing = ask(server, "nothing.default.svc.cluster.local", RecordType::A)?;
    assert_eq!(missing, Answer { code: ResponseCode::NXDomain, data: Vec::new() });

    // Neither agent nor server is needed.
    cluster.kill("skep-agent")?;
    thread::sleep(Duration::from_secs(2));
    assert_eq!(found("web.default.svc.cluster.local", RecordType::A)?, *std::slice::from_ref(&web));
    cluster.kill("skep-server")?;
    assert_eq!(found("web.default.svc.cluster.local", RecordType::A)?, *std::slice::from_ref(&web));
    thread::sleep(Duration::from_secs(1));
    cluster.start_server()?;
    cluster.start_agent()?;
    cluster.wait("the agent to be healthy", || cluster.agent_healthy())?;
    // An agent that has just begun may not have been told of its pods yet.
    cluster.wait("the agent to know the pod", || log(&cluster, "asker").is_ok())?;
    let seen = printed(&log(&cluster, "asker")?);
    for name in known {
        let expected = if name == "one.head" { &one } else { &web };
        assert_eq!(&seen[name], std::slice::from_ref(expected), "the pod always found {name}");
    }
    assert!(seen[NOTHING].iter().all(|led| led.starts_with('!')), "{seen:?}");

    // Nor the process that knew the names: the next one begins with what it wrote down, some seconds after it changed.
    let node = cluster.config.nodes.first().context("the cluster has a node")?;
    let written = cluster.config.dns_data(node).join("names.json");
    cluster.wait("the names to be on disk", || {
        std::fs::read_to_string(&written).is_ok_and(|names| names.contains(&one) && names.contains(&web))
    })?;
    cluster.kill("skep-server")?;
    cluster.kill("skep-dns")?;
    cluster.start_dns()?;
    assert_eq!(found("one.head.default.svc.cluster.local", RecordType::A)?, *std::slice::from_ref(&one));
    assert_eq!(found("web.default.svc.cluster.local", RecordType::A)?, *std::slice::from_ref(&web));
    cluster.start_server()?;

    // The names of now: what went while nobody watched is gone, what comes is there.
    cluster.api.delete("/api/v1/namespaces/default/services/alias")?.success()?;
    cluster.create("/api/v1/namespaces/default/services", &objects::service("late"))?;
    cluster.wait("the names to follow", || {
        let code = |name: &str| ask(server, name, RecordType::A).map(|answer| answer.code).ok();
        code("alias.default.svc.cluster.local") == Some(ResponseCode::NXDomain)
            && code("late.default.svc.cluster.local") == Some(ResponseCode::NoError)
    })?;
    Ok(())
}
