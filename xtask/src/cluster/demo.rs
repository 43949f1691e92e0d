//! The demo: three replicas of a small HTTP server behind a ClusterIP Service, asked from inside a pod and from the host.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use skep_images::load::Outcome;

use super::config::Config;
use super::containerd::DEMO_IMAGE;
use super::program::on_node;
use super::traffic;
use crate::api::{Api, condition};
use crate::layout::Layout;
use crate::proc::until;
use crate::run::{command, shown};
use crate::ui::{Step, Table};

const NAMESPACE: &str = "demo";
const REPLICAS: usize = 3;
const REQUESTS: u64 = 300;
/// Longest wait for pods to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the demo showed.
#[derive(Debug)]
pub struct Shown {
    /// The Service's address and port.
    pub service: String,
    /// Answers to the client pod.
    pub from_pod: Outcome,
    /// Answers to the host.
    pub from_host: Outcome,
    /// Counted by the eBPF programs, by pod.
    pub traffic: BTreeMap<String, traffic::Pod>,
}

/// Applies the demo, asks its Service from a pod and from the host, and gives the counts.
///
/// # Errors
/// When pods do not start or a request gets no answer.
pub fn demo(config: &Config, layout: &Layout, api: &Api) -> Result<Shown> {
    let step = Step::begin(format!(
        "applying the demo: a Deployment of {REPLICAS} replicas and a ClusterIP Service"
    ));
    api.apply(
        "/api/v1/namespaces",
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    )?;
    api.apply(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"), &deployment())?;
    let service = api.apply(&format!("/api/v1/namespaces/{NAMESPACE}/services"), &service())?;
    let address = service["spec"]["clusterIP"].as_str().context("the Service has no clusterIP")?.to_owned();
    let service = format!("{address}:80");
    wait_replicas(api, &step)?;
    step.done(&format!("Service at {service}"));

    let step = Step::begin(format!("sending {REQUESTS} requests to the Service from a pod"));
    let from_pod = ask_from_pod(api, &service)?;
    step.done(&format!("{} answered", from_pod.answers()));

    let step = Step::begin(format!("sending {REQUESTS} requests to the Service from the host"));
    let from_host = ask_from_host(config, layout, &service)?;
    step.done(&format!("{} answered", from_host.answers()));
    for (who, outcome) in [("the client pod", &from_pod), ("the host", &from_host)] {
        ensure!(
            outcome.failed == 0 && outcome.answers() == REQUESTS,
            "of {REQUESTS} requests from {who}, {} got no answer: {:?}",
            REQUESTS - outcome.answers(),
            outcome.errors
        );
    }
    Ok(Shown { service, from_pod, from_host, traffic: traffic::pods(config, NAMESPACE)? })
}

impl Shown {
    /// The table.
    #[must_use]
    pub fn render(&self) -> String {
        let mut table = Table::new(&[
            "POD",
            "FROM POD",
            "FROM HOST",
            "IN BYTES",
            "IN PACKETS",
            "OUT BYTES",
            "OUT PACKETS",
        ]);
        let mut names: Vec<&String> = self.traffic.keys().collect();
        names.extend(self.from_pod.answered.keys().chain(self.from_host.answered.keys()));
        names.sort();
        names.dedup();
        for name in names {
            let count = |outcome: &Outcome| outcome.answered.get(name).copied().unwrap_or(0);
            let traffic = self.traffic.get(name).copied().unwrap_or_default();
            let numbers = [
                count(&self.from_pod),
                count(&self.from_host),
                traffic.in_bytes,
                traffic.in_packets,
                traffic.out_bytes,
                traffic.out_packets,
            ];
            table.row([name.clone()].into_iter().chain(numbers.map(|number| number.to_string())));
        }
        let total = [self.from_pod.answers(), self.from_host.answers()].map(|number| number.to_string());
        table.row(
            ["requests answered / sent".to_owned()]
                .into_iter()
                .chain(total.map(|all| format!("{all}/{REQUESTS}"))),
        );
        format!(
            "Requests to http://{} answered per backend pod; traffic per pod as the eBPF programs counted it:\n\n{}",
            self.service,
            table.render()
        )
    }
}

fn labels() -> Value {
    json!({"app": "demo"})
}

fn pod_name() -> Value {
    json!([{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "demo", "namespace": NAMESPACE, "labels": labels()},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels()},
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "demo", "image": DEMO_IMAGE, "imagePullPolicy": "IfNotPresent",
                        "args": ["serve", "--port", "8080"],
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "env": pod_name(),
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "demo", "namespace": NAMESPACE},
        "spec": {"selector": labels(), "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

fn wait_replicas(api: &Api, step: &Step) -> Result<()> {
    let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/demo");
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
    let mut seen = String::new();
    let ready = until(PATIENCE, || {
        let available = api.get(&deployment).and_then(|answer| answer.success());
        let available = available.map(|object| object["status"]["availableReplicas"].as_u64().unwrap_or(0));
        let endpoints = api.list(&slices).map(|slices| slices.iter().map(ready_endpoints).sum::<usize>());
        seen = format!(
            "{} available, {} ready endpoints",
            available.as_ref().unwrap_or(&0),
            endpoints.as_ref().unwrap_or(&0)
        );
        step.note(&seen);
        available.is_ok_and(|count| count == REPLICAS as u64)
            && endpoints.is_ok_and(|count| count == REPLICAS)
    });
    if !ready {
        bail!(
            "the demo's pods did not become ready ({seen}): see `kubectl -n {NAMESPACE} describe pods` and the logs"
        );
    }
    Ok(())
}

fn ready_endpoints(slice: &Value) -> usize {
    slice["endpoints"]
        .as_array()
        .map_or(0, |all| all.iter().filter(|e| e["conditions"]["ready"] != false).count())
}

fn ask_from_pod(api: &Api, service: &str) -> Result<Outcome> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let path = format!("{pods}/demo-client");
    api.delete(&format!("{path}?gracePeriodSeconds=0"))?;
    if !until(PATIENCE, || api.get(&path).is_ok_and(|answer| answer.status == 404)) {
        bail!("the client pod of an earlier demo does not go away");
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "demo-client", "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "client", "image": DEMO_IMAGE, "imagePullPolicy": "IfNotPresent",
                // It stays for a while, so that its own traffic is in the table too.
                "args": ["load", service, "--requests", REQUESTS.to_string(), "--stay-ms", "60000"],
            }],
        },
    });
    api.create(&pods, &pod)?.success()?;
    let mut outcome = None;
    let done = until(PATIENCE, || {
        let log = api.get(&format!("{path}/log")).ok().filter(|answer| answer.status == 200);
        outcome = log.and_then(|log| serde_json::from_slice::<Outcome>(&log.body).ok());
        outcome.is_some()
    });
    match outcome {
        Some(outcome) if done => Ok(outcome),
        _ => {
            let pod = api.get(&path)?.success()?;
            let phase = &pod["status"]["phase"];
            bail!("the client pod gave no result (phase {phase}, Ready {:?})", condition(&pod, "Ready"))
        }
    }
}

/// From outside of any pod, on the first node: Services have an address on nodes alone.
fn ask_from_host(config: &Config, layout: &Layout, service: &str) -> Result<Outcome> {
    let mut client = command(layout.bin().join("skep-demo"));
    client.args(["load", service, "--requests", &REQUESTS.to_string()]);
    let node = config.nodes.first().context("a cluster without nodes")?;
    let output = on_node(config, node, &client)
        .output()
        .with_context(|| format!("cannot start {}", shown(&client)))?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {}", shown(&client), String::from_utf8_lossy(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_sums_what_was_asked() {
        let outcome = |pairs: &[(&str, u64)]| Outcome {
            answered: pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
            ..Outcome::default()
        };
        let shown = Shown {
            service: "10.96.0.9:80".into(),
            from_pod: outcome(&[("demo-a", 100), ("demo-b", 200)]),
            from_host: outcome(&[("demo-b", 300)]),
            traffic: BTreeMap::from([(
                "demo-a".to_owned(),
                traffic::Pod { in_bytes: 7, ..Default::default() },
            )]),
        };
        let text = shown.render();
        let row = |name: &str| -> Vec<&str> {
            text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().skip(1).collect()
        };
        assert_eq!(row("demo-a"), ["100", "0", "7", "0", "0", "0"]);
        assert_eq!(row("demo-b"), ["200", "300", "0", "0", "0", "0"]);
        assert!(text.contains("300/300"));
    }

    #[test]
    fn an_endpoint_without_conditions_counts_as_ready() {
        let slice =
            json!({"endpoints": [{"conditions": {"ready": false}}, {"conditions": {"ready": true}}, {}]});
        assert_eq!(ready_endpoints(&slice), 2);
    }
}
