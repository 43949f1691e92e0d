//! Facts that EndpointSlices and Endpoints share: what a Service selects and which ports its pods answer on.

use crate::views::Pod;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_api::Meta;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
pub(crate) const CONTROL_PLANE: &[&str] =
    &["kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"];

/// What the endpoint controllers read of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Service {
    pub(crate) metadata: Meta,
    pub(crate) spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) selector: Option<BTreeMap<String, String>>,
    pub(crate) ports: Vec<ServicePort>,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    pub(crate) ip_families: Vec<String>,
    pub(crate) publish_not_ready_addresses: bool,
    pub(crate) traffic_distribution: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: u16,
    pub(crate) target_port: Value,
    pub(crate) app_protocol: Option<String>,
}

impl Service {
    /// The selector, where this controller finds the endpoints; a Service without one has its own.
    pub(crate) fn selector(&self) -> Option<&BTreeMap<String, String>> {
        self.spec.selector.as_ref().filter(|s| !s.is_empty() && self.spec.kind != "ExternalName")
    }

    pub(crate) fn selects(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.selector()
            .is_some_and(|s| s.iter().all(|(k, v)| labels.get(k.as_str()).is_some_and(|l| **l == **v)))
    }

    /// The family that Endpoints are of: the Service's first, or that of its address.
    pub(crate) fn family(&self) -> &str {
        let by_address = || if self.spec.cluster_ip.contains(':') { "IPv6" } else { "IPv4" };
        self.spec.ip_families.first().map_or_else(by_address, String::as_str)
    }

    pub(crate) fn headless(&self) -> bool {
        self.spec.cluster_ip.is_empty() || self.spec.cluster_ip == "None"
    }

    /// The Service's labels, as its endpoint objects carry them.
    pub(crate) fn labels(&self) -> serde_json::Map<String, Value> {
        let own =
            self.metadata.labels.iter().filter(|(k, _)| !CONTROL_PLANE.contains(&&***k) && ***k != *HEADLESS);
        let mut out: serde_json::Map<String, Value> =
            own.map(|(k, v)| (k.to_string(), (**v).into())).collect();
        if self.headless() {
            out.insert(HEADLESS.into(), "".into());
        }
        out
    }

    /// Whether the pod's own name is to be an answer of the Service's DNS.
    pub(crate) fn hostname<'p>(&self, pod: &'p Pod) -> Option<&'p str> {
        let spec = &pod.spec;
        let named = !spec.hostname.is_empty() && *spec.subdomain == *self.metadata.name;
        named.then_some(spec.hostname.as_str())
    }

    /// The ports on which a pod answers: those of the Service that the pod has.
    pub(crate) fn ports_of(&self, pod: &Pod) -> Vec<Value> {
        self.spec
            .ports
            .iter()
            .filter_map(|port| Some((port, target(port, pod)?)))
            .map(|(p, n)| p.endpoint(n))
            .collect()
    }
}

impl ServicePort {
    fn endpoint(&self, number: u16) -> Value {
        let mut out = json!({"name": self.name, "port": number, "protocol": self.protocol});
        if let Some(app) = &self.app_protocol {
            out["appProtocol"] = app.as_str().into();
        }
        out
    }
}

/// The number of a target port: its own, or that of the pod's port of the name and protocol.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        Value::Number(n) => {
            n.as_u64().and_then(|n| u16::try_from(n).ok()).map(|n| if n == 0 { port.port } else { n })
        }
        Value::String(name) => pod
            .long_running()
            .flat_map(|c| &c.ports)
            .find(|p| p.name == *name && p.protocol == port.protocol)
            .map(|p| p.container_port),
        _ => Some(port.port),
    }
}

/// The pod's addresses of a family (`IPv4`, `IPv6`).
pub(crate) fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let of_family = |text: &str| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    };
    let status = &pod.status;
    let all = status.pod_ips.iter().map(|ip| &ip.ip);
    let mut out: Vec<String> = all.filter(|ip| of_family(ip)).cloned().collect();
    if out.is_empty() && of_family(&status.pod_ip) {
        out.push(status.pod_ip.clone());
    }
    out
}

/// What a reference from an endpoint to its pod looks like.
pub(crate) fn target_ref(pod: &Pod) -> Value {
    let meta = pod.meta();
    json!({"kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid})
}
