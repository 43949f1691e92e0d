//! From a Service to one of its endpoints: by the object's ports and its EndpointSlices, as plain functions; and the one
//! place where they are looked up, for proxies and webhooks alike.

use super::target::{Named, Security, Target, list, text};
use crate::cache::Caches;
use serde_json::Value;
use skep_api::{GroupResource, Object, Status};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// One endpoint of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Backend {
    address: IpAddr,
    port: u16,
    /// Name of the pod behind it, where one is.
    pod: Option<String>,
}

/// The name of a Service's port of this number.
fn port_name(service: &Value, port: u16) -> Option<&str> {
    let found = list(service, "/spec/ports")
        .find(|p| p.get("port").and_then(Value::as_u64) == Some(u64::from(port)))?;
    Some(text(found, "/name"))
}

fn no_such_port(port: u16, service: &str) -> Status {
    Status::unavailable(format!("no service port {port} found for service {service:?}"))
}

fn nobody(service: &str) -> Status {
    Status::unavailable(format!("no endpoints available for service {service:?}"))
}

/// Ready endpoints of a Service's port by its name, those of the Service's first address family before others.
fn backends(service: &Value, slices: &[Value], port: &str) -> Vec<Backend> {
    let family = text(service, "/spec/ipFamilies/0");
    let mut sorted: Vec<&Value> = slices.iter().collect();
    sorted.sort_by_key(|slice| text(slice, "/addressType") != family);
    let mut found = Vec::new();
    for slice in sorted {
        let ports = list(slice, "/ports").filter(|p| text(p, "/name") == port);
        let numbers = ports.filter_map(|p| u16::try_from(p.get("port")?.as_u64()?).ok());
        for number in numbers {
            let ready = |e: &&Value| e.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
            for endpoint in list(slice, "/endpoints").filter(ready) {
                let Ok(address) = text(endpoint, "/addresses/0").parse() else { continue };
                let pod = text(endpoint, "/targetRef/name");
                let is_pod = text(endpoint, "/targetRef/kind") == "Pod" && !pod.is_empty();
                let pod = is_pod.then(|| pod.to_owned());
                found.push(Backend { address, port: number, pod });
            }
        }
    }
    found
}

/// The Services of the cluster, as something to dial.
pub struct Services {
    caches: Arc<Caches>,
    /// Whose turn it is, so that the endpoints of a Service are used alike.
    turn: AtomicUsize,
}

impl Services {
    /// Looks Services and EndpointSlices up in the watch caches.
    pub fn new(caches: Arc<Caches>) -> Self {
        Services { caches, turn: AtomicUsize::new(0) }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.caches.peek(&GroupResource::new("", "services"), namespace, name)
    }

    fn slices(&self, namespace: &str, name: &str) -> Vec<Value> {
        let resource = GroupResource::new("discovery.k8s.io", "endpointslices");
        let all = self.caches.peek_all(&resource, Some(namespace));
        let of = |o: &&Arc<Object>| o.meta().labels.get(SERVICE_LABEL).is_some_and(|v| **v == *name);
        all.iter().filter(of).map(|o| o.value()).collect()
    }

    fn choose(&self, mut found: Vec<Backend>) -> Option<Backend> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (!found.is_empty()).then(|| found.swap_remove(turn % found.len()))
    }

    /// An endpoint of a Service's port, for webhooks: TLS clients verify it as `NAME.NAMESPACE.svc`.
    ///
    /// 404 without the Service; 503 without such a port or a ready endpoint; 500 for a Service that has no endpoints of
    /// its own (`ExternalName`).
    pub fn address(&self, namespace: &str, name: &str, port: u16) -> Result<SocketAddr, Status> {
        let service = self
            .service(namespace, name)
            .ok_or_else(|| Status::not_found(&GroupResource::new("", "services"), name))?
            .value();
        let kind = text(&service, "/spec/type");
        if !matches!(kind, "" | "ClusterIP" | "NodePort" | "LoadBalancer") {
            return Err(Status::internal(format!("unsupported service type {kind:?}")));
        }
        let wanted = port_name(&service, port).ok_or_else(|| no_such_port(port, name))?;
        let found = backends(&service, &self.slices(namespace, name), wanted);
        let chosen = self.choose(found).ok_or_else(|| nobody(name))?;
        Ok(SocketAddr::new(chosen.address, chosen.port))
    }

    /// Where `services/ID/proxy` leads: a ready endpoint that is a pod of the namespace. `id` is `NAME`, `NAME:PORT` or
    /// `SCHEME:NAME:PORT` with a port's name or number.
    ///
    /// 400 for another form, 404 without the Service, 503 without the port or an endpoint.
    pub fn target(&self, namespace: &str, id: &str) -> Result<Target, Status> {
        let asked = Named::parse(id, "service")?;
        let number = asked.port.parse::<u16>().ok();
        let Some(service) = self.service(namespace, asked.name) else {
            // Whoever asks by a port's number is told of the Service, others of its endpoints, as upstream has it.
            let what = if number.is_some() { "services" } else { "endpoints" };
            return Err(Status::not_found(&GroupResource::new("", what), asked.name));
        };
        let service = service.value();
        let port = match number {
            Some(number) => port_name(&service, number).ok_or_else(|| no_such_port(number, asked.name))?,
            None => asked.port,
        };
        let slices = self.slices(namespace, asked.name);
        let none_at_all = slices.iter().all(|s| list(s, "/endpoints").next().is_none());
        if none_at_all {
            return Err(nobody(asked.name));
        }
        let mut found = backends(&service, &slices, port);
        found.retain(|backend| self.is_pod(namespace, backend));
        let chosen = self.choose(found).ok_or_else(|| nobody(id))?;
        let security = if asked.secure { Security::Unverified } else { Security::Plain };
        Ok(Target { host: chosen.address.to_string(), port: chosen.port, security })
    }

    /// Whether an endpoint is what it says: somebody who may write EndpointSlices must not send the server anywhere else.
    fn is_pod(&self, namespace: &str, backend: &Backend) -> bool {
        let Some(name) = &backend.pod else { return false };
        let Some(pod) = self.caches.peek(&GroupResource::new("", "pods"), namespace, name) else {
            return false;
        };
        let pod = pod.value();
        list(&pod, "/status/podIPs").any(|ip| text(ip, "/ip").parse() == Ok(backend.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service() -> Value {
        json!({"metadata": {"name": "s"}, "spec": {"ipFamilies": ["IPv4", "IPv6"],
            "ports": [{"name": "web", "port": 80}, {"name": "tls", "port": 443}]}})
    }

    #[test]
    fn ports_by_number() {
        assert_eq!(port_name(&service(), 443), Some("tls"));
        assert_eq!(port_name(&service(), 81), None);
        assert_eq!(port_name(&json!({"spec": {"ports": [{"port": 80}]}}), 80), Some(""));
    }

    #[test]
    fn ready_endpoints_of_the_port_and_family() {
        let slices = [
            json!({"addressType": "IPv6", "ports": [{"name": "web", "port": 8080}],
                "endpoints": [{"addresses": ["fd00::9"]}]}),
            json!({"addressType": "IPv4", "ports": [{"name": "web", "port": 8080}, {"name": "tls", "port": 8443}],
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                    {"addresses": ["10.0.0.3"], "conditions": {}}]}),
        ];
        let found = backends(&service(), &slices, "web");
        let told: Vec<String> = found.iter().map(|b| format!("{} {}", b.address, b.port)).collect();
        assert_eq!(told, ["10.0.0.1 8080", "10.0.0.3 8080", "fd00::9 8080"]);
        assert_eq!(found[0].pod.as_deref(), Some("a"));
        assert_eq!(backends(&service(), &slices, "tls")[0].port, 8443);
        assert!(backends(&service(), &slices, "").is_empty());
    }
}
