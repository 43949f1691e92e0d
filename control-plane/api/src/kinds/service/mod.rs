//! Services.

mod allocate;
mod families;
mod print;
mod validate;

use allocate::ips;
pub use allocate::{needs_cluster_ip, needs_health_check_port, needs_node_ports};
pub use families::families;

use crate::field::FieldError;
use crate::names::dns1123_label;
use crate::resource::{Column, Context, Strategy};
use crate::validation::At;
use serde_json::{Map, Value, json};

/// Seconds that a client stays with its backend (`DefaultClientIPServiceAffinitySeconds`).
const AFFINITY_SECONDS: i64 = 10_800;

/// Services. Families, addresses and node ports are given between preparing and validating, by who knows what the cluster
/// has ([`families()`]); what a client left out of an update comes from the stored object.
#[derive(Debug, Default)]
pub struct Service;

type Spec = Map<String, Value>;

/// The one word of a field, empty where there is none.
fn word<'a>(spec: &'a Map<String, Value>, field: &str) -> &'a str {
    spec.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_external(spec: &Map<String, Value>) -> bool {
    matches!(word(spec, "type"), "LoadBalancer" | "NodePort")
        || (word(spec, "type") == "ClusterIP"
            && spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty()))
}

impl Strategy for Service {
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        crate::kinds::warnings::service(new)
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        match word(spec, "sessionAffinity") {
            "None" => {
                spec.remove("sessionAffinityConfig");
            }
            "ClientIP" => {
                let seconds =
                    spec.get("sessionAffinityConfig").and_then(|c| c.pointer("/clientIP/timeoutSeconds"));
                if seconds.is_none_or(Value::is_null) {
                    let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
                    spec.insert("sessionAffinityConfig".into(), config);
                }
            }
            _ => {}
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(port) = port.as_object_mut() else { continue };
            let target = port.get("targetPort");
            if target.is_none_or(|t| t.is_null() || t == 0 || t == "") {
                let number = port.get("port").cloned().unwrap_or(0.into());
                port.insert("targetPort".into(), number);
            }
        }
        if is_external(spec) && word(spec, "externalTrafficPolicy").is_empty() {
            spec.insert("externalTrafficPolicy".into(), "Cluster".into());
        }
        let absent = |spec: &Map<String, Value>, field: &str| spec.get(field).is_none_or(Value::is_null);
        if absent(spec, "internalTrafficPolicy")
            && matches!(word(spec, "type"), "NodePort" | "LoadBalancer" | "ClusterIP")
        {
            spec.insert("internalTrafficPolicy".into(), "Cluster".into());
        }
        if word(spec, "type") == "LoadBalancer" {
            if absent(spec, "allocateLoadBalancerNodePorts") {
                spec.insert("allocateLoadBalancerNodePorts".into(), true.into());
            }
            let ingress = object.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
            for entry in ingress.into_iter().flatten().filter_map(Value::as_object_mut) {
                if !word(entry, "ip").is_empty() && absent(entry, "ipMode") {
                    entry.insert("ipMode".into(), "VIP".into());
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        object["status"] = json!({"loadBalancer": {}});
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            allocate::normalize(spec, None);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["status"]);
        let empty = Map::new();
        let before = old.get("spec").and_then(Value::as_object).unwrap_or(&empty);
        let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
        allocate::normalize(spec, Some(before));
        allocate::fill_in(spec, before);
        allocate::drop_what_the_type_has_not(spec, before);
        if word(spec, "type") != "LoadBalancer" {
            new["status"]["loadBalancer"] = json!({});
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::service(&At::root(object))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate::update(&At::root(new), &At::root(old))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validate::status(&At::root(new))
    }

    /// A label of any start since Kubernetes 1.36 (KEP-5311).
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        dns1123_label(name, prefix)
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        print::columns()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        print::cells(object, now)
    }
}

#[cfg(test)]
mod tests;
