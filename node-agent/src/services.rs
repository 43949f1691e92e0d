//! From Services and EndpointSlices to the dataplane's view and to what environments show.

use serde::Deserialize;
use skep_client::Informer;
use skep_dataplane::{Endpoint, PortSpec, Protocol, ServiceSpec, ServiceView};
use skep_pods::core::env;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug, Deserialize, Default)]
struct Service {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceFields,
}

#[derive(Debug, Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ServiceFields {
    #[serde(default)]
    r#type: String,
    #[serde(default, rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(default, rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    #[serde(default)]
    session_affinity: Option<String>,
    #[serde(default)]
    session_affinity_config: Option<AffinityConfig>,
    #[serde(default)]
    internal_traffic_policy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AffinityConfig {
    #[serde(default, rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    #[serde(default)]
    timeout_seconds: Option<u32>,
}

#[derive(Debug, Deserialize, Clone)]
struct Port {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    #[serde(default)]
    node_name: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
struct Conditions {
    #[serde(default)]
    ready: Option<bool>,
    #[serde(default)]
    serving: Option<bool>,
    #[serde(default)]
    terminating: Option<bool>,
}

impl ServiceFields {
    fn addresses(&self) -> Vec<IpAddr> {
        if self.r#type == "ExternalName" {
            return Vec::new();
        }
        let list = self.cluster_ips.clone().unwrap_or_default();
        let all = if list.is_empty() { self.cluster_ip.iter().cloned().collect() } else { list };
        all.iter().filter_map(|ip| ip.parse().ok()).collect()
    }
}

/// Label of an EndpointSlice that names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

fn endpoints(slices: &[&Slice], port: &Port, node: &str) -> Vec<Endpoint> {
    let mut out: Vec<Endpoint> = Vec::new();
    let name = port.name.clone().unwrap_or_default();
    for s in slices {
        let target = s.ports.iter().flatten().find(|p| {
            p.name.clone().unwrap_or_default() == name
                && Protocol::from_api(p.protocol.as_deref()) == Protocol::from_api(port.protocol.as_deref())
        });
        let Some(target) = target.and_then(|p| p.port) else { continue };
        for e in s.endpoints.iter().flatten() {
            let Some(addr) = e.addresses.first().and_then(|a| a.parse().ok()) else { continue };
            // Absent means ready, and serving is what ready is (API rule of discovery.k8s.io/v1).
            let ready = e.conditions.ready.unwrap_or(true);
            let one = Endpoint {
                addr,
                port: target,
                ready,
                serving: e.conditions.serving.unwrap_or(ready),
                terminating: e.conditions.terminating.unwrap_or(false),
                local: e.node_name.as_deref() == Some(node),
            };
            match out.iter_mut().find(|o| o.addr == addr && o.port == target) {
                // The same endpoint in two slices while they are rewritten: ready wins.
                Some(o) if one.ready && !o.ready => *o = one,
                Some(_) => {}
                None => out.push(one),
            }
        }
    }
    out.sort();
    out
}

/// What the dataplane is asked to route, as the API stands now.
pub(crate) fn view(services: &Informer, slices: &Informer, node: &str) -> ServiceView {
    let all: Vec<Slice> = slices.list().iter().filter_map(|o| o.decode().ok()).collect();
    let mut by_service: BTreeMap<(&str, &str), Vec<&Slice>> = BTreeMap::new();
    for s in &all {
        if let Some(name) = s.metadata.labels.get(SERVICE_LABEL) {
            by_service.entry((&s.metadata.namespace, name)).or_default().push(s);
        }
    }
    let mut out = Vec::new();
    for s in services.list().iter().filter_map(|o| o.decode::<Service>().ok()) {
        let cluster_ips = s.spec.addresses();
        if cluster_ips.is_empty() {
            continue;
        }
        let own = by_service
            .get(&(s.metadata.namespace.as_str(), s.metadata.name.as_str()))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let ports = s
            .spec
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                Some(PortSpec {
                    name: p.name.clone().unwrap_or_default(),
                    protocol: Protocol::from_api(p.protocol.as_deref())?,
                    port: p.port?,
                    endpoints: endpoints(own, p, node),
                })
            })
            .collect();
        let affinity = (s.spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            s.spec
                .session_affinity_config
                .as_ref()
                .and_then(|c| c.client_ip.as_ref())
                .and_then(|c| c.timeout_seconds)
                .unwrap_or(10800)
        });
        out.push(ServiceSpec {
            namespace: s.metadata.namespace,
            name: s.metadata.name,
            cluster_ips,
            ports,
            affinity_seconds: affinity,
            local_only: s.spec.internal_traffic_policy.as_deref() == Some("Local"),
        });
    }
    ServiceView { services: out }
}

/// Services as the environments of containers show them.
pub(crate) fn environment(services: &Informer) -> Vec<env::ServiceView> {
    services
        .list()
        .iter()
        .filter_map(|o| o.decode::<Service>().ok())
        .filter_map(|s| {
            let ip = s.spec.addresses().first()?.to_string();
            let ports = s
                .spec
                .ports
                .iter()
                .flatten()
                .filter_map(|p| {
                    let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
                    Some((p.name.clone().unwrap_or_default(), protocol, i32::from(p.port?)))
                })
                .collect();
            Some(env::ServiceView { namespace: s.metadata.namespace, name: s.metadata.name, ip, ports })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(text: &str) -> Slice {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn endpoints_follow_the_port_by_name_and_the_api_defaults() {
        let one = slice(
            r#"{"metadata":{"name":"a"},"ports":[{"name":"web","port":8080,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"}],
                "endpoints":[{"addresses":["10.0.0.1"],"conditions":{},"nodeName":"n1"},
                             {"addresses":["10.0.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true}}]}"#,
        );
        let two = slice(
            r#"{"metadata":{"name":"b"},"ports":[{"name":"web","port":8080}],
                "endpoints":[{"addresses":["10.0.0.2"],"conditions":{"ready":true}}]}"#,
        );
        let port = Port { name: Some("web".into()), protocol: None, port: Some(80) };
        let got = endpoints(&[&one], &port, "n1");
        assert_eq!(got.len(), 2);
        assert!(got[0].ready && got[0].local && got[0].port == 8080);
        assert!(!got[1].ready && got[1].serving && got[1].terminating && !got[1].local);
        let merged = endpoints(&[&one, &two], &port, "n1");
        assert_eq!(merged.len(), 2);
        assert!(merged[1].ready, "ready in one slice is ready");
        let none = Port { name: Some("x".into()), protocol: None, port: Some(80) };
        assert!(endpoints(&[&one], &none, "n1").is_empty());
    }

    #[test]
    fn headless_and_external_services_have_no_address() {
        let s: Service = serde_json::from_str(r#"{"spec":{"clusterIP":"None"}}"#).unwrap();
        assert!(s.spec.addresses().is_empty());
        let s: Service =
            serde_json::from_str(r#"{"spec":{"type":"ExternalName","clusterIP":"10.0.0.1"}}"#).unwrap();
        assert!(s.spec.addresses().is_empty());
    }
}
