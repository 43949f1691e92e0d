//! From the informers of Services and EndpointSlices to the dataplane's view and to what environments show.

use serde::de::DeserializeOwned;
use skep_client::Informer;
use skep_dataplane::ServiceView;
use skep_dataplane::k8s::{self, EndpointSlice, Service};
use skep_pods::core::env;

fn decode<T: DeserializeOwned>(informer: &Informer) -> Vec<T> {
    informer.list().iter().filter_map(|o| o.decode().ok()).collect()
}

/// What the dataplane is asked to route, as the API stands now.
pub(crate) fn view(services: &Informer, slices: &Informer, node: &str) -> ServiceView {
    k8s::view(&decode::<Service>(services), &decode::<EndpointSlice>(slices), node)
}

/// Services as the environments of containers show them.
pub(crate) fn environment(services: &Informer) -> Vec<env::ServiceView> {
    decode(services).into_iter().filter_map(shown).collect()
}

fn shown(service: Service) -> Option<env::ServiceView> {
    let ip = service.addresses().first()?.to_string();
    let ports = service.ports().filter_map(|p| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((p.name.clone().unwrap_or_default(), protocol, p.port?))
    });
    let ports = ports.collect();
    Some(env::ServiceView { namespace: service.metadata.namespace, name: service.metadata.name, ip, ports })
}
