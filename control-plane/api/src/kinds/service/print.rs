//! What `kubectl get services` shows.

use crate::kinds::columns::{age, label_text, name};
use crate::resource::Column;
use crate::table::{self, column, wide};
use crate::validation::At;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn columns() -> Vec<Column> {
    vec![
        name(),
        column("Type", "string", "How the Service is reached."),
        column("Cluster-IP", "string", "Address within the cluster."),
        column("External-IP", "string", "Addresses from outside."),
        column("Port(s)", "string", "Ports, with node ports behind them, and protocols."),
        age(),
        wide("Selector", "string", "Labels of the pods behind the Service."),
    ]
}

pub(super) fn cells(service: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let root = At::root(service);
    let spec = root.get("spec");
    let or_none = |text: String| -> Value { if text.is_empty() { "<none>".into() } else { text.into() } };
    let first = spec.get("clusterIPs").texts().next().unwrap_or_default().to_owned();
    vec![
        table::name(service),
        spec.get("type").text().into(),
        or_none(first),
        external_ip(&root, &spec).into(),
        or_none(ports(&spec)),
        table::age(service, now),
        label_text(&spec.get("selector")),
    ]
}

fn external_ip(root: &At<'_, '_>, spec: &At<'_, '_>) -> String {
    let own: Vec<&str> = spec.get("externalIPs").texts().collect();
    let or = |list: Vec<String>, other: &str| if list.is_empty() { other.to_owned() } else { list.join(",") };
    let own = own.into_iter().map(str::to_owned);
    match spec.get("type").text() {
        "ClusterIP" | "NodePort" => or(own.collect(), "<none>"),
        "LoadBalancer" => {
            let status = root.get("status");
            let balancer = status.get("loadBalancer");
            let ingress = balancer.get("ingress");
            let given: BTreeSet<String> = ingress
                .items()
                .map(|e| [e.get("ip").text(), e.get("hostname").text()].map(str::to_owned))
                .filter_map(|names| names.into_iter().find(|name| !name.is_empty()))
                .collect();
            or(given.into_iter().chain(own).collect(), "<pending>")
        }
        "ExternalName" => spec.get("externalName").text().to_owned(),
        _ => "<unknown>".into(),
    }
}

fn ports(spec: &At<'_, '_>) -> String {
    let text = |port: At<'_, '_>| {
        let number = |field: &'static str| port.get(field).int().unwrap_or(0);
        let protocol = port.get("protocol").text().to_owned();
        match number("nodePort") {
            0 => format!("{}/{protocol}", number("port")),
            node => format!("{}:{node}/{protocol}", number("port")),
        }
    };
    spec.get("ports").items().map(text).collect::<Vec<_>>().join(",")
}
