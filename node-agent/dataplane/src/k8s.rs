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

use crate::model::{Endpoint, Hint, Network, PortSpec, Protocol, ServiceSpec, ServiceView};

/// The label by which a slice names its Service (discovery/v1 `LabelServiceName`).
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The label of Services that another proxy serves (well-known labels of the API).
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// The annotation of Services whose backends are chosen by [`CONSISTENT_HASH`].
pub const SELECTION_ANNOTATION: &str = "skep.dev/backend-selection";
/// Its only value: a client's address chooses its backend, the same one on every node.
pub const CONSISTENT_HASH: &str = "consistent-hash";
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
    annotations: Option<BTreeMap<String, String>>,
}

/// What is read of a Service (core/v1).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Whose Service it is.
    pub metadata: Metadata,
    spec: ServiceFields,
    status: ServiceStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
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
    external_traffic_policy: Option<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    load_balancer_source_ranges: Option<Vec<String>>,
    health_check_node_port: Option<i32>,
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
    /// For a Service, the port on every node; absent or zero if there is none.
    #[serde(rename = "nodePort")]
    node_port: Option<i32>,
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
    hints: Option<Hints>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hints {
    for_zones: Option<Vec<Named>>,
    for_nodes: Option<Vec<Named>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
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

    fn node_port(&self) -> Option<u16> {
        self.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
    }
}

/// Where the view is taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// The node's zone (label `topology.kubernetes.io/zone`); empty if it has none.
    pub zone: &'a str,
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

    /// The addresses of its load balancer that packets carry when they reach a node; those of mode `Proxy` are not.
    fn load_balancer_ips(&self) -> Vec<IpAddr> {
        let ingress = self.status.load_balancer.ingress.iter().flatten();
        let vips = ingress.filter(|i| i.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
        addresses(vips.filter_map(|i| i.ip.as_ref()))
    }

    /// Who may reach those addresses. A network that holds everybody says the same as none, for its family.
    fn source_ranges(&self) -> Vec<Network> {
        let listed = self.spec.load_balancer_source_ranges.iter().flatten();
        let all: Vec<Network> = listed.filter_map(|text| Network::parse(text)).collect();
        let open = |family: bool| all.iter().any(|n| n.prefix == 0 && n.addr.is_ipv4() == family);
        let (v4, v6) = (open(true), open(false));
        all.into_iter().filter(|n| if n.addr.is_ipv4() { !v4 } else { !v6 }).collect()
    }

    /// Its ports.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.spec.ports.iter().flatten()
    }
}

/// The view that these objects make, seen from a node. Objects that carry no virtual address (headless, `ExternalName`),
/// those that are another proxy's, and values that cannot be read are left out: the API server refuses to store such
/// values, and one bad object must not hold up the others.
pub fn view<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    place: Place<'_>,
) -> ServiceView {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|l| l.get(SERVICE_NAME_LABEL)) else { continue };
        by_service.entry((&slice.metadata.namespace, name)).or_default().push(slice);
    }
    let services = services.into_iter().filter_map(|service| {
        let key = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
        spec(service, by_service.get(&key).map_or(&[][..], Vec::as_slice), place)
    });
    ServiceView { services: services.collect(), ..ServiceView::default() }
}

fn spec(service: &Service, slices: &[&EndpointSlice], place: Place<'_>) -> Option<ServiceSpec> {
    let cluster_ips = service.addresses();
    let labels = service.metadata.labels.as_ref();
    let annotations = service.metadata.annotations.as_ref();
    if cluster_ips.is_empty() || labels.is_some_and(|l| l.contains_key(OTHER_PROXY_LABEL)) {
        return None;
    }
    let spec = &service.spec;
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok()).unwrap_or(AFFINITY_SECONDS)
    });
    let external_ips = addresses(spec.external_ips.iter().flatten());
    let balanced = spec.r#type.as_deref() == Some("LoadBalancer");
    let reached_from_outside =
        balanced || spec.r#type.as_deref() == Some("NodePort") || !external_ips.is_empty();
    let external_local = reached_from_outside && spec.external_traffic_policy.as_deref() == Some("Local");
    Some(ServiceSpec {
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
        cluster_ips,
        external_ips,
        load_balancer_ips: service.load_balancer_ips(),
        source_ranges: service.source_ranges(),
        ports: service.ports().filter_map(|p| port(p, slices, place)).collect(),
        affinity_seconds,
        consistent: annotations
            .and_then(|a| a.get(SELECTION_ANNOTATION))
            .is_some_and(|value| value == CONSISTENT_HASH),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local,
        health_check_port: spec
            .health_check_node_port
            .and_then(|p| u16::try_from(p).ok())
            .filter(|p| *p != 0 && balanced && external_local),
    })
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|ip| ip.parse().ok()).collect()
}

fn port(port: &Port, slices: &[&EndpointSlice], place: Place<'_>) -> Option<PortSpec> {
    let protocol = Protocol::from_api(port.protocol.as_deref())?;
    let number = port.number()?;
    let mut found: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type.as_deref() != Some("FQDN")) {
        let same = |p: &&Port| {
            p.name() == port.name() && Protocol::from_api(p.protocol.as_deref()) == Some(protocol)
        };
        for target in slice.ports.iter().flatten().filter(same).filter_map(Port::number) {
            for one in slice.endpoints.iter().flatten().filter_map(|e| endpoint(e, target, place)) {
                let known = found.entry((one.addr, one.port)).or_insert_with(|| one.clone());
                if one.ready && !known.ready {
                    *known = one;
                }
            }
        }
    }
    let mut endpoints: Vec<Endpoint> = found.into_values().collect();
    endpoints.sort();
    let node_port = port.node_port();
    Some(PortSpec { name: port.name().to_owned(), protocol, port: number, node_port, endpoints })
}

/// The first address of an endpoint; the API says that consumers use no other (discovery/v1
/// `Endpoint.addresses`).
fn endpoint(endpoint: &SliceEndpoint, port: u16, place: Place<'_>) -> Option<Endpoint> {
    let addr = endpoint.addresses.as_ref()?.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Some(Endpoint {
        addr,
        port,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        local: endpoint.node_name.as_deref() == Some(place.node),
        node_hint: hint(endpoint, |hints| hints.for_nodes.as_ref(), place.node),
        zone_hint: hint(endpoint, |hints| hints.for_zones.as_ref(), place.zone),
    })
}

/// Whether an endpoint is meant for the place of this name; an empty list says nothing.
fn hint(endpoint: &SliceEndpoint, list: fn(&Hints) -> Option<&Vec<Named>>, here: &str) -> Hint {
    match endpoint.hints.as_ref().and_then(list) {
        Some(named) if named.iter().any(|n| n.name == here) => Hint::Here,
        Some(named) if !named.is_empty() => Hint::Elsewhere,
        _ => Hint::Absent,
    }
}

#[cfg(test)]
#[path = "k8s_tests.rs"]
mod tests;
