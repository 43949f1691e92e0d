//! What a node says of its dataplane: `kubectl skep status`, the port for the proxy's health, metrics.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skep_tests::{Output, TestCluster, objects};
use xtask::api::Kubeconfig;

/// kubectl with its plugin in the `PATH`.
fn skep(cluster: &TestCluster, kubeconfig: &Path, arguments: &[&str]) -> Result<Output> {
    let path = format!("{}:{}", cluster.layout.bin().display(), std::env::var("PATH")?);
    let kubeconfig = kubeconfig.to_str().context("a path")?;
    cluster.kubectl_in(
        &[("PATH", path.as_str()), ("KUBECONFIG", kubeconfig)],
        &[&["skep"], arguments].concat(),
        "",
    )
}

/// A kubeconfig for the account `default`.
fn account(cluster: &TestCluster) -> Result<PathBuf> {
    let admin = Kubeconfig::parse(&fs::read_to_string(cluster.config.kubeconfig())?)?;
    let token = cluster.kubectl(&["create", "token", "default"])?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {
            "server": admin.server, "certificate-authority-data": STANDARD.encode(&admin.authority)}}],
        "users": [{"name": "it", "user": {"token": token.trim()}}],
    });
    let path = cluster.config.dir.join("account.kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

fn report(cluster: &TestCluster) -> Result<Value> {
    let output = skep(cluster, &cluster.config.kubeconfig(), &["status", "-o", "json"])?;
    anyhow::ensure!(output.code == Some(0) && output.stderr.is_empty(), "{output:?}");
    let said: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(said["items"].as_array().map(Vec::len), Some(1), "{said}");
    Ok(said["items"][0].clone())
}

fn find<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    list.as_array().into_iter().flatten().find(|one| one["name"] == name).with_context(|| name.to_owned())
}

#[test]
fn a_node_says_what_is_in_force_and_what_is_not_to_whom_may_know() -> Result<()> {
    let cluster = TestCluster::start()?;
    cluster.serve("web", 2)?;
    let said = report(&cluster)?;
    assert_eq!((&said["node"], &said["problems"]), (&json!("node-1"), &json!([])), "{said}");
    assert_eq!(find(&said["programs"], "skep_connect4")?["attachedTo"], json!(["cgroup connect4"]));
    assert_eq!(find(&said["programs"], "skep_from_pod")?["attachedTo"].as_array().map(Vec::len), Some(2));
    let backends = find(&said["maps"], "BACKENDS")?;
    assert!(
        backends["entries"].as_u64() >= Some(4) && backends["maxEntries"].as_u64() > Some(1000),
        "{backends}"
    );
    assert_eq!(said["attachedPods"], 2);
    assert!(said["lastSync"]["backends"].as_u64() >= Some(4), "{said}");
    assert_eq!(said["endsSockets"], true, "this kernel lacks CONFIG_INET_DIAG_DESTROY");

    // Two Services claim an address: the second in order does not get it, and people are told.
    for name in ["one", "two"] {
        let mut service = objects::service(name);
        service["spec"]["externalIPs"] = json!(["192.0.2.77"]);
        cluster.create("/api/v1/namespaces/default/services", &service)?;
    }
    cluster.wait("the conflict to be told", || {
        report(&cluster).is_ok_and(|said| said["problems"].as_array().is_some_and(|list| list.len() == 2))
    })?;
    let table = skep(&cluster, &cluster.config.kubeconfig(), &["status", "node-1"])?.stdout;
    let line = table.lines().find(|line| line.contains("conflicts")).context(table.clone())?;
    assert!(line.contains("default/two 192.0.2.77:80"), "{line}");
    assert!(table.lines().any(|line| line.starts_with("node-1") && line.contains("CONNTRACK")), "{table}");
    cluster.kubectl(&["delete", "service", "one"])?;
    cluster.wait("the conflict to be over", || {
        report(&cluster).is_ok_and(|said| said["problems"] == json!([]))
    })?;

    // Who may not ask is told so.
    let account = account(&cluster)?;
    let refused = skep(&cluster, &account, &["status"])?;
    assert!(refused.code != Some(0) && refused.stderr.contains("forbidden"), "{refused:?}");
    let refused = skep(&cluster, &account, &["status", "node-1"])?;
    assert!(refused.code != Some(0) && refused.stdout.contains("forbidden"), "{refused:?}");
    let role = ["create", "clusterrole", "looks", "--verb=get,list", "--resource=nodes,nodes/proxy"];
    cluster.kubectl(&role)?;
    let binding =
        ["create", "clusterrolebinding", "looks", "--clusterrole=looks", "--serviceaccount=default:default"];
    cluster.kubectl(&binding)?;
    cluster.wait("the right to look", || {
        skep(&cluster, &account, &["status"])
            .is_ok_and(|o| o.code == Some(0) && o.stdout.contains("skep_connect4"))
    })?;

    let metrics = cluster.api.get("/api/v1/nodes/node-1/proxy/metrics")?;
    let metrics = String::from_utf8(metrics.body)?;
    for name in [
        "skep_dataplane_map_entries{map=\"CONNTRACK\"} ",
        "skep_dataplane_problems 0",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds ",
        "kubeproxy_sync_proxy_rules_duration_seconds_count ",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is not in\n{metrics}");
    }
    Ok(())
}

/// The status and the body that the port for the proxy's health answers.
fn ask(port: u16, path: &str) -> Result<(u16, Value)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, serde_json::from_str(body)?))
}

#[test]
fn load_balancers_are_told_whether_a_node_takes_traffic() -> Result<()> {
    let cluster = TestCluster::start()?;
    let port = cluster.config.nodes.first().context("a node")?.proxy_healthz_port;
    cluster.wait("the first synchronization", || {
        ask(port, "/healthz")
            .is_ok_and(|(status, body)| status == 200 && body["status"]["IPv4"]["healthy"] == true)
    })?;
    assert_eq!(ask(port, "/healthz")?.1["nodeEligible"], true);
    cluster.kubectl(&["taint", "node", "node-1", "ToBeDeletedByClusterAutoscaler=:PreferNoSchedule"])?;
    cluster.wait("the node to be passed over", || {
        ask(port, "/healthz").is_ok_and(|(status, body)| status == 503 && body["nodeEligible"] == false)
    })?;
    let (status, body) = ask(port, "/livez")?;
    assert_eq!((status, body.get("nodeEligible"), &body["healthy"]), (200, None, &json!(true)));
    Ok(())
}
