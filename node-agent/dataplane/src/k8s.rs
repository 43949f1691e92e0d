//! From Service and EndpointSlice objects to [`ServiceView`].
//!
//! Facts: a slice belongs to the Service its label `kubernetes.io/service-name` names (discovery/v1); a port
//! of a slice belongs to the Service port of the same name, both empty for the only port (core/v1
//! `ServicePort.name`); an absent `ready` is true, an absent `serving` is what `ready` is, an absent
//! `terminating` is false (discovery/v1 `EndpointConditions`); while slices are rewritten an endpoint may
//! stand in two of them, and is ready when it is in one (discovery/v1 `EndpointSlice`).
//!
//! The structs hold only the fields that are read here, so that a cluster full of slices is cheap to decode.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::model::{Endpoint, PortSpec, Protocol, ServiceSpec, ServiceView};

/// The label by which a slice names its Service (discovery/v1 `LabelServiceName`).
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The timeout of ClientIP affinity when none is given (core/v1 `DefaultClientIPServiceAffinitySeconds`).
const AFFINITY_SECONDS: u32 = 10_800;

/// What is read of the metadata of either kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    labels: Option<BTreeMap<String, String>>,
}

/// What is read of a Service (core/v1).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Whose Service it is.
    pub metadata: Metadata,
    spec: ServiceFields,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceFields {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ports: Option<Vec<Port>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    internal_traffic_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<i64>,
}

/// A port of a Service or of a slice. Numbers are as wide as the API's; those that are no port are left out
/// when they are used, so that one bad port does not take its object along.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Name; absent or empty for the only port.
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`; absent means `TCP`.
    pub protocol: Option<String>,
    /// Port number.
    pub port: Option<i32>,
}

/// What is read of an EndpointSlice (discovery/v1).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Whose slice it is.
    pub metadata: Metadata,
    address_type: Option<String>,
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SliceEndpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Port {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn number(&self) -> Option<u16> {
        self.port.and_then(|p| u16::try_from(p).ok())
    }
}

impl Service {
    /// Its virtual addresses, the primary one first; none when it is headless or `ExternalName`.
    pub fn addresses(&self) -> Vec<IpAddr> {
        if self.spec.r#type.as_deref() == Some("ExternalName") {
            return Vec::new();
        }
        let listed = self.spec.cluster_ips.iter().flatten();
        let mut all: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        if all.is_empty() {
            all.extend(self.spec.cluster_ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        all
    }

    /// Its ports.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.spec.ports.iter().flatten()
    }
}

/// The view that these objects make, seen from the node named `node`. Objects that carry no virtual address
/// (headless, `ExternalName`) and values that cannot be read are left out: the API server refuses to store
/// such values, and one bad object must not hold up the others.
pub fn view<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node: &str,
) -> ServiceView {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|l| l.get(SERVICE_NAME_LABEL)) else { continue };
        by_service.entry((&slice.metadata.namespace, name)).or_default().push(slice);
    }
    let services = services.into_iter().filter_map(|service| {
        let key = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
        spec(service, by_service.get(&key).map_or(&[][..], Vec::as_slice), node)
    });
    ServiceView { services: services.collect() }
}

fn spec(service: &Service, slices: &[&EndpointSlice], node: &str) -> Option<ServiceSpec> {
    let cluster_ips = service.addresses();
    if cluster_ips.is_empty() {
        return None;
    }
    let spec = &service.spec;
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok()).unwrap_or(AFFINITY_SECONDS)
    });
    Some(ServiceSpec {
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
        cluster_ips,
        ports: service.ports().filter_map(|p| port(p, slices, node)).collect(),
        affinity_seconds,
        local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
    })
}

fn port(port: &Port, slices: &[&EndpointSlice], node: &str) -> Option<PortSpec> {
    let protocol = Protocol::from_api(port.protocol.as_deref())?;
    let number = port.number()?;
    let mut found: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type.as_deref() != Some("FQDN")) {
        let same = |p: &&Port| {
            p.name() == port.name() && Protocol::from_api(p.protocol.as_deref()) == Some(protocol)
        };
        for target in slice.ports.iter().flatten().filter(same).filter_map(Port::number) {
            for one in slice.endpoints.iter().flatten().filter_map(|e| endpoint(e, target, node)) {
                let known = found.entry((one.addr, one.port)).or_insert_with(|| one.clone());
                if one.ready && !known.ready {
                    *known = one;
                }
            }
        }
    }
    let mut endpoints: Vec<Endpoint> = found.into_values().collect();
    endpoints.sort();
    Some(PortSpec { name: port.name().to_owned(), protocol, port: number, endpoints })
}

/// The first address of an endpoint; the API says that consumers use no other (discovery/v1
/// `Endpoint.addresses`).
fn endpoint(endpoint: &SliceEndpoint, port: u16, node: &str) -> Option<Endpoint> {
    let addr = endpoint.addresses.as_ref()?.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Some(Endpoint {
        addr,
        port,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        local: endpoint.node_name.as_deref() == Some(node),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": spec})).unwrap()
    }

    fn slice(ports: Value, endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "web-a", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn only(ports: Value) -> Service {
        service(json!({"clusterIPs": ["10.96.0.5"], "ports": ports}))
    }

    fn first(service: &Service, slices: &[EndpointSlice]) -> Vec<Endpoint> {
        view([service], slices, "n1").services[0].ports[0].endpoints.clone()
    }

    #[test]
    fn slices_meet_their_service_port_by_name_and_protocol() {
        let svc =
            only(json!([{"name": "http", "port": 80}, {"name": "admin", "protocol": "TCP", "port": 81}]));
        let slices = [
            slice(
                json!([{"name": "http", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 8080},
                       {"name": "admin", "port": 9090, "protocol": "TCP"}]),
                json!([{"addresses": ["10.244.0.1"], "conditions": {"ready": true}, "nodeName": "n1"}]),
            ),
            slice(
                json!([{"name": "http", "port": 8081}]),
                json!([{"addresses": ["10.244.1.1"], "conditions": {}, "nodeName": "n2"}]),
            ),
        ];
        let view = view([&svc], &slices, "n1");
        let ports = &view.services[0].ports;
        let places = |i: usize| -> Vec<(String, u16, bool, bool)> {
            let list = ports[i].endpoints.iter();
            list.map(|e| (e.addr.to_string(), e.port, e.ready, e.local)).collect()
        };
        assert_eq!(
            places(0),
            [("10.244.0.1".to_owned(), 8080, true, true), ("10.244.1.1".to_owned(), 8081, true, false)]
        );
        assert_eq!(places(1), [("10.244.0.1".to_owned(), 9090, true, true)]);
    }

    #[test]
    fn conditions_have_their_defaults() {
        let svc = only(json!([{"port": 80}]));
        let with = |conditions: Value| {
            let endpoints = json!([{"addresses": ["10.244.0.1"], "conditions": conditions}]);
            let e = first(&svc, &[slice(json!([{"name": "", "port": 1}]), endpoints)])[0].clone();
            (e.ready, e.serving, e.terminating, e.local)
        };
        assert_eq!(with(json!({"ready": false})), (false, false, false, false));
        assert_eq!(with(Value::Null), (true, true, false, false));
        let ending = json!({"ready": false, "serving": true, "terminating": true});
        assert_eq!(with(ending), (false, true, true, false));
    }

    #[test]
    fn an_endpoint_in_two_slices_is_ready_when_it_is_in_one() {
        let svc = only(json!([{"port": 80}]));
        let with = |ready: bool| {
            let endpoints = json!([{"addresses": ["10.244.0.1"], "conditions": {"ready": ready}}]);
            slice(json!([{"port": 1}]), endpoints)
        };
        for order in [[with(true), with(false)], [with(false), with(true)]] {
            let got = first(&svc, &order);
            assert_eq!(got.len(), 1);
            assert!(got[0].ready);
        }
    }

    #[test]
    fn names_are_no_addresses() {
        let svc = only(json!([{"port": 80}]));
        let mut s = slice(json!([{"port": 1}]), json!([{"addresses": ["10.244.0.1"]}]));
        assert_eq!(first(&svc, &[s.clone()]).len(), 1);
        s.address_type = Some("FQDN".into());
        assert!(first(&svc, &[s]).is_empty());
    }

    #[test]
    fn headless_and_external_services_have_no_row() {
        for spec in [
            json!({"clusterIPs": ["None"], "clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"clusterIP": "None"}),
            json!({"type": "ExternalName", "clusterIP": "10.96.0.5"}),
            json!({"type": "ExternalName", "clusterIPs": ["10.96.0.5"]}),
        ] {
            assert!(view([&service(spec.clone())], [], "n1").services.is_empty(), "{spec}");
        }
        let single = service(json!({"clusterIP": "10.96.0.5"}));
        assert_eq!(view([&single], [], "n1").services[0].cluster_ips, single.addresses());
    }

    #[test]
    fn a_port_out_of_range_leaves_the_others() {
        let svc = only(json!([{"name": "a", "port": 70000}, {"name": "b", "port": 80}]));
        let view = view([&svc], [], "n1");
        assert_eq!(view.services[0].ports.iter().map(|p| p.port).collect::<Vec<_>>(), [80]);
    }

    #[test]
    fn a_slice_of_another_namespace_is_anothers() {
        let svc = only(json!([{"port": 80}]));
        let mut s = slice(json!([{"port": 1}]), json!([{"addresses": ["10.244.0.1"]}]));
        s.metadata.namespace = "elsewhere".into();
        assert!(first(&svc, &[s]).is_empty());
    }

    #[test]
    fn affinity_has_the_apis_default_timeout() {
        let affinity = |config: Value| {
            let svc = service(json!({"clusterIP": "10.96.0.5", "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": config}));
            view([&svc], [], "n1").services[0].affinity_seconds
        };
        assert_eq!(affinity(Value::Null), Some(10_800));
        assert_eq!(affinity(json!({"clientIP": {"timeoutSeconds": 7}})), Some(7));
    }
}
