//! From Service and EndpointSlice objects to [`ServiceView`].
//!
//! Facts: a slice belongs to the Service its label `kubernetes.io/service-name` names (discovery/v1); a port
//! of a slice belongs to the Service port of the same name, both empty for the only port (core/v1
//! `ServicePort.name`); an absent `ready` is true, an absent `serving` is what `ready` is, an absent
//! `terminating` is false (discovery/v1 `EndpointConditions`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

use crate::model::{Endpoint, PortSpec, Protocol, ServiceSpec, ServiceView};

/// The label by which a slice names its Service (discovery/v1 `LabelServiceName`).
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The timeout of ClientIP affinity when none is given (core/v1 `DefaultClientIPServiceAffinitySeconds`).
const AFFINITY_SECONDS: u32 = 10_800;

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
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        by_service.entry((namespace, name)).or_default().push(slice);
    }
    let services = services.into_iter().filter_map(|service| {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref()?;
        let slices = by_service.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
        spec(service, namespace, name, slices, node)
    });
    ServiceView { services: services.collect() }
}

fn spec(
    service: &Service,
    namespace: &str,
    name: &str,
    slices: &[&EndpointSlice],
    node: &str,
) -> Option<ServiceSpec> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let listed = spec.cluster_ips.iter().flatten();
    let mut cluster_ips: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    if cluster_ips.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten().filter_map(|p| port(p, slices, node)).collect();
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok()).unwrap_or(AFFINITY_SECONDS)
    });
    Some(ServiceSpec {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        cluster_ips,
        ports,
        affinity_seconds,
        local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
    })
}

fn port(port: &ServicePort, slices: &[&EndpointSlice], node: &str) -> Option<PortSpec> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = Protocol::from_api(port.protocol.as_deref())?;
    let mut endpoints = Vec::new();
    for slice in slices.iter().filter(|s| s.address_type != "FQDN") {
        for slice_port in slice.ports.iter().flatten() {
            if slice_port.name.as_deref().unwrap_or_default() != name
                || Protocol::from_api(slice_port.protocol.as_deref()) != Some(protocol)
            {
                continue;
            }
            let Some(number) = slice_port.port.and_then(|p| u16::try_from(p).ok()) else { continue };
            endpoints.extend(slice.endpoints.iter().flatten().filter_map(|e| endpoint(e, number, node)));
        }
    }
    Some(PortSpec { name: name.to_owned(), protocol, port: u16::try_from(port.port).ok()?, endpoints })
}

/// The first address of an endpoint; the API says that consumers use no other (discovery/v1
/// `Endpoint.addresses`).
fn endpoint(endpoint: &SliceEndpoint, port: u16, node: &str) -> Option<Endpoint> {
    let addr = endpoint.addresses.first()?.parse().ok()?;
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
    use k8s_openapi::api::core::v1::ServiceSpec as ApiSpec;
    use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointPort};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn meta(name: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.into()), namespace: Some("ns".into()), ..ObjectMeta::default() }
    }

    fn service(ips: &[&str], ports: &[(&str, Option<&str>, i32)]) -> Service {
        let ports = ports.iter().map(|(name, protocol, port)| ServicePort {
            name: (!name.is_empty()).then(|| (*name).to_owned()),
            protocol: protocol.map(str::to_owned),
            port: *port,
            ..ServicePort::default()
        });
        Service {
            metadata: meta("web"),
            spec: Some(ApiSpec {
                cluster_ips: Some(ips.iter().map(|s| (*s).to_owned()).collect()),
                ports: Some(ports.collect()),
                ..ApiSpec::default()
            }),
            ..Service::default()
        }
    }

    fn slice(name: &str, ports: &[(&str, i32)], endpoints: &[(&str, Option<bool>, &str)]) -> EndpointSlice {
        let mut metadata = meta(name);
        metadata.labels = Some([(SERVICE_NAME_LABEL.to_owned(), "web".to_owned())].into());
        EndpointSlice {
            metadata,
            address_type: "IPv4".into(),
            ports: Some(
                ports
                    .iter()
                    .map(|(name, port)| EndpointPort {
                        name: Some((*name).to_owned()),
                        port: Some(*port),
                        protocol: Some("TCP".into()),
                        ..EndpointPort::default()
                    })
                    .collect(),
            ),
            endpoints: Some(
                endpoints
                    .iter()
                    .map(|(addr, ready, node)| SliceEndpoint {
                        addresses: vec![(*addr).to_owned()],
                        conditions: Some(EndpointConditions {
                            ready: *ready,
                            ..EndpointConditions::default()
                        }),
                        node_name: Some((*node).to_owned()),
                        ..SliceEndpoint::default()
                    })
                    .collect(),
            ),
        }
    }

    #[test]
    fn slices_meet_their_service_port_by_name() {
        let svc = service(&["10.96.0.5"], &[("http", None, 80), ("admin", Some("TCP"), 81)]);
        let slices = [
            slice("web-a", &[("http", 8080), ("admin", 9090)], &[("10.244.0.1", Some(true), "n1")]),
            slice("web-b", &[("http", 8081)], &[("10.244.1.1", None, "n2")]),
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
        let mut s = slice("web-a", &[("", 1)], &[("10.244.0.1", Some(false), "n1")]);
        let svc = service(&["10.96.0.5"], &[("", None, 80)]);
        let e = &view([&svc], [&s], "n1").services[0].ports[0].endpoints[0];
        assert!(!e.ready && !e.serving && !e.terminating);
        s.endpoints.as_mut().unwrap()[0].conditions = None;
        let e = &view([&svc], [&s], "n1").services[0].ports[0].endpoints[0];
        assert!(e.ready && e.serving && !e.terminating);
    }

    #[test]
    fn headless_and_external_services_have_no_row() {
        assert!(view([&service(&["None"], &[("", None, 80)])], [], "n1").services.is_empty());
        let mut external = service(&["10.96.0.5"], &[]);
        external.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
        assert!(view([&external], [], "n1").services.is_empty());
    }

    #[test]
    fn a_slice_of_another_namespace_is_anothers() {
        let svc = service(&["10.96.0.5"], &[("", None, 80)]);
        let mut s = slice("web-a", &[("", 1)], &[("10.244.0.1", None, "n1")]);
        s.metadata.namespace = Some("elsewhere".into());
        assert!(view([&svc], [&s], "n1").services[0].ports[0].endpoints.is_empty());
    }

    #[test]
    fn affinity_has_the_apis_default_timeout() {
        let mut svc = service(&["10.96.0.5"], &[("", None, 80)]);
        svc.spec.as_mut().unwrap().session_affinity = Some("ClientIP".into());
        assert_eq!(view([&svc], [], "n1").services[0].affinity_seconds, Some(10_800));
    }
}
