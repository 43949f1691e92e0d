//! From the node's Pods to the ports of the node that lead to them (`hostPort`).
//!
//! Facts: a pod on the node's network has its ports already; init containers have none unless they run on beside the others
//! (`restartPolicy: Always`); an absent or unspecified `hostIP` means every address of the node (core/v1 `ContainerPort`);
//! a pod that has ended holds none.

use std::net::IpAddr;

use serde::Deserialize;

use crate::k8s::Metadata;
use crate::model::{HostPort, Protocol};

/// What is read of a Pod (core/v1).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    metadata: Metadata,
    spec: PodFields,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodFields {
    host_network: Option<bool>,
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerPort {
    container_port: i32,
    host_port: Option<i32>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

impl Pod {
    fn addresses(&self) -> Vec<IpAddr> {
        let all: Vec<IpAddr> =
            self.status.pod_ips.iter().flatten().filter_map(|p| p.ip.parse().ok()).collect();
        if all.is_empty() {
            self.status.pod_ip.iter().filter_map(|ip| ip.parse().ok()).collect()
        } else {
            all
        }
    }
}

/// The ports of these pods of the node.
pub fn host_ports<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Vec<HostPort> {
    let mut ports: Vec<HostPort> = pods.into_iter().flat_map(of_pod).collect();
    ports.sort();
    ports
}

fn of_pod(pod: &Pod) -> Vec<HostPort> {
    let ended = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if pod.spec.host_network == Some(true) || ended {
        return Vec::new();
    }
    let sidecars = pod.spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = pod.spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let addresses = pod.addresses();
    ports.flat_map(|port| addresses.iter().filter_map(|addr| of_port(pod, port, *addr))).collect()
}

fn of_port(pod: &Pod, port: &ContainerPort, addr: IpAddr) -> Option<HostPort> {
    let host_ip = match port.host_ip.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse::<IpAddr>().ok()?),
    };
    if host_ip.is_some_and(|ip| ip.is_ipv4() != addr.is_ipv4()) {
        return None;
    }
    Some(HostPort {
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
        host_port: port.host_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)?,
        protocol: Protocol::from_api(port.protocol.as_deref())?,
        addr,
        port: u16::try_from(port.container_port).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(spec: Value, status: Value) -> Vec<String> {
        let object = json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": spec, "status": status});
        let pod: Pod = serde_json::from_value(object).unwrap();
        let shown = |p: HostPort| {
            let host = p.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            format!("{host}:{}/{:?} -> {}:{}", p.host_port, p.protocol, p.addr, p.port)
        };
        host_ports([&pod]).into_iter().map(shown).collect()
    }

    fn running() -> Value {
        json!({"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}, {"ip": "fd00::5"}]})
    }

    fn one(port: Value) -> Value {
        json!({"containers": [{"name": "c", "ports": [port]}]})
    }

    #[test]
    fn addresses_and_protocols_are_told_apart() {
        let port =
            json!({"containerPort": 8080, "hostPort": 54323, "hostIP": "127.0.0.1", "protocol": "UDP"});
        assert_eq!(of(one(port), running()), ["127.0.0.1:54323/Udp -> 10.244.0.5:8080"]);
        for any in [json!(null), json!(""), json!("0.0.0.0")] {
            let port = json!({"containerPort": 80, "hostPort": 8080, "hostIP": any});
            assert_eq!(of(one(port), running())[0], "*:8080/Tcp -> 10.244.0.5:80");
        }
        let both = json!({"containerPort": 80, "hostPort": 8080});
        assert_eq!(of(one(both), running()).len(), 2, "one for each family");
    }

    #[test]
    fn what_holds_no_port_of_the_node_has_none() {
        let port = || json!({"containerPort": 80, "hostPort": 8080});
        assert!(of(one(json!({"containerPort": 80})), running()).is_empty());
        assert!(of(one(json!({"containerPort": 80, "hostPort": 0})), running()).is_empty());
        assert!(of(one(json!({"containerPort": 80, "hostPort": 70000})), running()).is_empty());
        assert!(of(one(port()), json!({"phase": "Pending"})).is_empty(), "it has no address yet");
        for phase in ["Succeeded", "Failed"] {
            assert!(of(one(port()), json!({"phase": phase, "podIP": "10.244.0.5"})).is_empty());
        }
        let mut spec = one(port());
        spec["hostNetwork"] = json!(true);
        assert!(of(spec, running()).is_empty());
    }

    #[test]
    fn only_init_containers_that_stay_count() {
        let init = |policy: Value| {
            let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
            json!({"containers": [], "initContainers": [{"restartPolicy": policy, "ports": ports}]})
        };
        assert_eq!(of(init(json!("Always")), json!({"podIP": "10.244.0.5"})).len(), 1);
        assert!(of(init(Value::Null), json!({"podIP": "10.244.0.5"})).is_empty());
    }
}
