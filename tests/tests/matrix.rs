//! Every kind of Service, from everywhere, under every policy, with real sockets on three nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_images::load::Outcome;
use skep_tests::matrix::{self, Case, FAR, Family, From, HOLDER, Kind, NEAR, Policy, Protocol, Seen};
use skep_tests::{TestCluster, objects};
use xtask::cluster::lan;
use xtask::run::{captured, command};

const SERVICES: &str = "/api/v1/namespaces/default/services";
/// Requests of a case: enough that none of three backends is passed over but once in 10^10 cases.
const REQUESTS: u64 = 60;
/// Requests that nobody may answer.
const IN_VAIN: u64 = 2;
/// The port of the node that leads to one pod.
const HOST_PORT: u16 = 8081;

/// A Service of the cluster: what is told apart of those that cases ask.
type Key = (Kind, Family, Policy, bool);

fn key(case: &Case) -> Key {
    (case.kind, case.family, case.policy, case.affinity)
}

/// The cluster, who is in it, and where each Service is.
struct Matrix {
    cluster: TestCluster,
    outside: PathBuf,
    pods: BTreeMap<&'static str, Value>,
    nodes: Vec<Value>,
    services: BTreeMap<Key, Value>,
}

fn is_of(family: Family, address: &str) -> bool {
    (family == Family::V6) == address.contains(':')
}

/// The address of this family in a list of objects that have one each.
fn address(list: &Value, field: &str, family: Family) -> Result<String> {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().filter_map(|one| one[field].as_str()).find(|address| is_of(family, address));
    found.map(str::to_owned).with_context(|| format!("no {family:?} address in {list}"))
}

fn bound(cluster: &TestCluster, name: &str, node: usize, mut pod: Value) -> Result<Value> {
    pod["spec"]["nodeName"] = cluster.node(node)?.name.as_str().into();
    cluster.create("/api/v1/namespaces/default/pods", &pod)?;
    cluster.wait_pod_ready(name)
}

/// The addresses of the Service of this number that come from elsewhere: of ranges that are kept for examples.
fn foreign(kind: Kind, family: Family, number: usize) -> String {
    match (kind, family) {
        (Kind::LoadBalancer, Family::V4) => format!("198.51.100.{number}"),
        (_, Family::V4) => format!("203.0.113.{number}"),
        (Kind::LoadBalancer, Family::V6) => format!("2001:db8:1::{number:x}"),
        (_, Family::V6) => format!("2001:db8:2::{number:x}"),
    }
}

fn service(key: Key, number: usize) -> Value {
    let (kind, family, policy, affinity) = key;
    let mut service = objects::service(&format!("service-{number}"));
    service["spec"]["selector"] = json!({"app": "web"});
    service["spec"]["ipFamilies"] = json!([if family == Family::V6 { "IPv6" } else { "IPv4" }]);
    service["spec"]["sessionAffinity"] = if affinity { "ClientIP" } else { "None" }.into();
    let policy = if policy == Policy::Local { "Local" } else { "Cluster" };
    let (name, value) = match kind {
        Kind::ClusterIp => ("internalTrafficPolicy", policy),
        _ => ("externalTrafficPolicy", policy),
    };
    service["spec"][name] = value.into();
    match kind {
        Kind::NodePort => service["spec"]["type"] = "NodePort".into(),
        Kind::LoadBalancer => service["spec"]["type"] = "LoadBalancer".into(),
        Kind::ExternalIp => service["spec"]["externalIPs"] = json!([foreign(kind, family, number)]),
        Kind::ClusterIp | Kind::HostPort => {}
    }
    service
}

impl Matrix {
    fn start(cases: &[Case]) -> Result<Self> {
        let cluster = TestCluster::start_nodes(3)?;
        let outside = lan::stranger(&cluster.config)?;
        let mut pods = BTreeMap::new();
        for (name, node) in [(NEAR[0], 1), (NEAR[1], 1), (FAR, 2)] {
            let mut pod = objects::pod(name, &["serve", "--port", "8080"], "Always");
            pod["metadata"]["labels"]["app"] = "web".into();
            pods.insert(name, bound(&cluster, name, node, pod)?);
        }
        let mut holder = objects::pod(HOLDER, &["serve", "--port", "8080"], "Always");
        let port =
            |protocol: &str| json!({"containerPort": 8080, "hostPort": HOST_PORT, "protocol": protocol});
        holder["spec"]["containers"][0]["ports"] = json!([port("TCP"), port("UDP")]);
        pods.insert(HOLDER, bound(&cluster, HOLDER, 1, holder)?);
        for (name, node) in [("client-1", 1), ("client-3", 3)] {
            let pod = objects::pod(name, &["serve", "--port", "8080"], "Always");
            pods.insert(name, bound(&cluster, name, node, pod)?);
        }
        let nodes = (1..=3).map(|number| {
            let path = format!("/api/v1/nodes/{}", cluster.node(number)?.name);
            cluster.api.get(&path)?.success()
        });
        let nodes = nodes.collect::<Result<_>>()?;
        let mut matrix = Matrix { cluster, outside, pods, nodes, services: BTreeMap::new() };
        matrix.make_services(cases)?;
        Ok(matrix)
    }

    fn make_services(&mut self, cases: &[Case]) -> Result<()> {
        let keys: BTreeSet<Key> = cases.iter().filter(|case| case.kind != Kind::HostPort).map(key).collect();
        for (number, key) in keys.into_iter().enumerate() {
            let mut made = self.cluster.create(SERVICES, &service(key, number + 1))?;
            if key.0 == Kind::LoadBalancer {
                let ingress = json!([{"ip": foreign(key.0, key.1, number + 1)}]);
                let path = format!("{SERVICES}/service-{}/status", number + 1);
                let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
                made = self.cluster.api.merge(&path, &status)?.success()?;
            }
            self.services.insert(key, made);
        }
        for number in 1..=self.services.len() {
            self.cluster.wait_endpoints(&format!("service-{number}"), 3)?;
        }
        // Whoever knows a Service that came after all of them knows them.
        let mut last = objects::service("last");
        last["spec"]["selector"] = json!({"app": "web"});
        let last = self.cluster.create(SERVICES, &last)?;
        let last = format!("{}:80", last["spec"]["clusterIP"].as_str().context("a Service without address")?);
        self.cluster.wait_endpoints("last", 3)?;
        for node in 1..=3 {
            let ask = || self.cluster.load_from_node(node, &[&last, "--requests", "1"]);
            self.cluster.wait("every node to know every Service", || ask().is_ok_and(|o| o.failed == 0))?;
        }
        // Nobody tells the world where these addresses are; here the first node is said to have them.
        for (key, service) in &self.services {
            if matches!(key.0, Kind::ClusterIp | Kind::LoadBalancer | Kind::ExternalIp) {
                let to = Self::frontend(*key, service)?;
                let words = format!("route replace {to} via {}", self.node_address(1, key.1)?);
                self.outside("ip", &words.split(' ').collect::<Vec<_>>(), |ip| captured(ip).map(drop))?;
            }
        }
        Ok(())
    }

    /// A Service's own address.
    fn frontend(key: Key, service: &Value) -> Result<String> {
        match key.0 {
            Kind::LoadBalancer => address(&service["status"]["loadBalancer"]["ingress"], "ip", key.1),
            kind => {
                let field = if kind == Kind::ExternalIp { "externalIPs" } else { "clusterIPs" };
                let first = service["spec"][field][0].as_str();
                first.map(str::to_owned).with_context(|| format!("no {field} in {service}"))
            }
        }
    }

    fn node_address(&self, number: usize, family: Family) -> Result<String> {
        address(&self.nodes[number - 1]["status"]["addresses"], "address", family)
    }

    fn pod_address(&self, name: &str, family: Family) -> Result<String> {
        address(&self.pods[name]["status"]["podIPs"], "ip", family)
    }

    /// Where a case's requests go.
    fn target(&self, case: &Case) -> Result<String> {
        let (ip, port) = match case.kind {
            Kind::HostPort => (self.node_address(1, case.family)?, u64::from(HOST_PORT)),
            kind => {
                let service = self.services.get(&key(case)).context("a Service that was not made")?;
                let name = if case.protocol == Protocol::Udp { "UDP" } else { "TCP" };
                let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
                let port = ports.iter().find(|port| port["protocol"] == name).context("a Service's port")?;
                match kind {
                    Kind::NodePort => (
                        self.node_address(1, case.family)?,
                        port["nodePort"].as_u64().context("a node port")?,
                    ),
                    _ => (Self::frontend(key(case), service)?, 80),
                }
            }
        };
        Ok(if case.family == Family::V6 { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
    }

    /// Runs a program outside of the cluster.
    fn outside<T>(
        &self,
        program: impl AsRef<Path>,
        arguments: &[&str],
        run: impl FnOnce(&mut std::process::Command) -> Result<T>,
    ) -> Result<T> {
        let mut outer = command("nsenter");
        outer.arg(format!("--net={}", self.outside.display())).arg(program.as_ref()).args(arguments);
        run(&mut outer)
    }

    fn ask(&self, case: &Case, requests: u64) -> Result<Outcome> {
        let (target, requests) = (self.target(case)?, requests.to_string());
        let timeout = if requests == IN_VAIN.to_string() { "800" } else { "5000" };
        let mut words = vec![target.as_str(), "--path", "/whence", "--requests", &requests];
        words.extend(["--timeout-ms", timeout]);
        if case.protocol == Protocol::Udp {
            words.push("--udp");
            // Both kinds of datagram sockets, each in half of the cases.
            words.extend(case.affinity.then_some("--unconnected"));
        }
        let said = |output: &[u8], errors: &[u8]| {
            serde_json::from_slice(output).with_context(|| String::from_utf8_lossy(errors).into_owned())
        };
        match case.from {
            From::Host => self.cluster.load_from_node(1, &words),
            From::Outside => {
                let words = [&["load"], &words[..]].concat();
                self.outside(self.cluster.demo_program(), &words, |client| {
                    let output = client.output()?;
                    said(&output.stdout, &output.stderr)
                })
            }
            From::SameNode | From::OtherNode => {
                let pod = if case.from == From::SameNode { "client-1" } else { "client-3" };
                let words = [&["exec", pod, "--", "/skep-demo", "load"], &words[..]].concat();
                let output = self.cluster.kubectl_with(&words, "")?;
                said(output.stdout.as_bytes(), output.stderr.as_bytes())
            }
        }
    }

    fn client_address(&self, case: &Case) -> Result<String> {
        match case.from {
            From::SameNode => self.pod_address("client-1", case.family),
            From::OtherNode => self.pod_address("client-3", case.family),
            From::Host => self.node_address(1, case.family),
            From::Outside => Ok(self.cluster.config.lan.context("a network")?.stranger().to_string()),
        }
    }

    /// Runs a case: nobody who may not answers, everybody who must does, and each sees whom it should.
    fn check(&self, case: &Case) -> Result<()> {
        let eligible = case.eligible();
        if eligible.is_empty() {
            let outcome = self.ask(case, IN_VAIN)?;
            ensure!((outcome.failed, outcome.answers()) == (IN_VAIN, 0), "somebody answers: {outcome:?}");
            return Ok(());
        }
        let outcome = self.ask(case, REQUESTS)?;
        ensure!((outcome.failed, outcome.answers()) == (0, REQUESTS), "requests failed: {outcome:?}");
        let mut allowed = BTreeSet::new();
        for backend in eligible {
            let client = match case.seen_by(backend) {
                Seen::Client => self.client_address(case)?,
                Seen::Node(number) => self.node_address(number, case.family)?,
            };
            allowed.insert(format!("{backend} {client}"));
        }
        let answered: BTreeSet<String> = outcome.answered.into_keys().collect();
        if case.affinity {
            ensure!(answered.len() == 1 && answered.is_subset(&allowed), "{answered:?}, one of {allowed:?}");
        } else {
            ensure!(answered == allowed, "{answered:?}, not {allowed:?}");
        }
        Ok(())
    }
}

#[test]
fn every_kind_of_service_is_reached_from_everywhere_under_every_policy() -> Result<()> {
    let all = matrix::all();
    let cases = if skep_tests::sample((0, 1)) == 1 { all } else { matrix::pairwise(&all) };
    let matrix = Matrix::start(&cases)?;
    let mut faults = Vec::new();
    for case in &cases {
        if let Err(error) = matrix.check(case) {
            faults.push(format!("{case}: {error:#}"));
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
    Ok(())
}
