//! What a Service is given and keeps: addresses and node ports
//! (`pkg/registry/core/service/storage`).

use super::{Spec, is_external, word};
use crate::kinds::{keep_keys, same_key};
use serde_json::{Value, json};

/// Whether a Service gets cluster addresses (a headless one gets `None` by its own wish).
pub fn needs_cluster_ip(spec: &Spec) -> bool {
    word(spec, "type") != "ExternalName"
}

/// Whether the ports of a Service get node ports.
pub fn needs_node_ports(spec: &Spec) -> bool {
    match word(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

/// Whether the ports of a Service may have node ports, given or asked for.
fn may_have_node_ports(spec: &Spec) -> bool {
    matches!(word(spec, "type"), "NodePort" | "LoadBalancer")
}

/// Whether a Service gets a node port for health checks.
pub fn needs_health_check_port(spec: &Spec) -> bool {
    word(spec, "type") == "LoadBalancer" && word(spec, "externalTrafficPolicy") == "Local"
}

pub(super) fn ips(spec: &Spec) -> &[Value] {
    spec.get("clusterIPs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Brings `clusterIP` and `clusterIPs` together, guessing what a client meant that knows but one of them.
pub(super) fn normalize(spec: &mut Spec, before: Option<&Spec>) {
    let ip = word(spec, "clusterIP").to_owned();
    let Some(before) = before else {
        if !ip.is_empty() && ips(spec).is_empty() {
            spec.insert("clusterIPs".into(), json!([ip]));
        }
        return;
    };
    let was = word(before, "clusterIP");
    if !ips(before).is_empty() && ips(spec).is_empty() && ip == was {
        spec.insert("clusterIPs".into(), ips(before).into());
    }
    if ip != was && ips(spec) == ips(before) {
        if ip.is_empty() {
            spec.remove("clusterIPs");
        } else {
            spec.insert("clusterIPs".into(), json!([ip]));
        }
    }
}

/// What was given and is left out of an update is filled in, so that a client need not read before it writes.
pub(super) fn fill_in(spec: &mut Spec, before: &Spec) {
    if needs_cluster_ip(before) && needs_cluster_ip(spec) {
        if word(spec, "clusterIP").is_empty() {
            keep_keys(spec, before, &["clusterIP"]);
        }
        if ips(spec).is_empty() {
            keep_keys(spec, before, &["clusterIPs"]);
        }
    }
    if needs_node_ports(before) && needs_node_ports(spec) {
        node_ports(spec, before);
    }
    let zero = |spec: &Spec| spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0) == 0;
    if needs_health_check_port(before) && needs_health_check_port(spec) && zero(spec) {
        keep_keys(spec, before, &["healthCheckNodePort"]);
    }
}

fn ports(spec: &Spec) -> impl Iterator<Item = &Spec> {
    spec.get("ports").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn node_port(port: &Spec) -> i64 {
    port.get("nodePort").and_then(Value::as_i64).unwrap_or(0)
}

/// Ports keep their node ports by name, unless another port has taken them.
fn node_ports(spec: &mut Spec, before: &Spec) {
    let taken: Vec<i64> = ports(spec).map(node_port).filter(|p| *p != 0).collect();
    let list = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in list.into_iter().flatten().filter_map(Value::as_object_mut) {
        if node_port(port) != 0 {
            continue;
        }
        let name = word(port, "name");
        let was = ports(before).filter(|p| word(p, "name") == name).last().map_or(0, node_port);
        if was != 0 && !taken.contains(&was) {
            port.insert("nodePort".into(), was.into());
        }
    }
}

/// Another type does without what the old one was given, where the client did not change it himself.
pub(super) fn drop_what_the_type_has_not(spec: &mut Spec, before: &Spec) {
    if needs_cluster_ip(before) && !needs_cluster_ip(spec) {
        if same_key(spec, before, "clusterIP") && same_key(spec, before, "clusterIPs") {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        drop_same(spec, before, "ipFamilies");
        drop_same(spec, before, "ipFamilyPolicy");
    }
    if may_have_node_ports(before) && !may_have_node_ports(spec) {
        // Ports may go and change meanwhile, as long as no number is new.
        let had: Vec<i64> = ports(before).map(node_port).collect();
        let none_new = ports(spec).map(node_port).all(|port| port == 0 || had.contains(&port));
        let list = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in list.into_iter().flatten().filter_map(Value::as_object_mut).filter(|_| none_new) {
            port.remove("nodePort");
        }
    }
    if needs_health_check_port(before) && !needs_health_check_port(spec) {
        drop_same(spec, before, "healthCheckNodePort");
    }
    if word(before, "type") == "LoadBalancer" && word(spec, "type") != "LoadBalancer" {
        drop_same(spec, before, "allocateLoadBalancerNodePorts");
        drop_same(spec, before, "loadBalancerClass");
    }
    if is_external(before) && !is_external(spec) {
        drop_same(spec, before, "externalTrafficPolicy");
    }
}

fn drop_same(spec: &mut Spec, before: &Spec, field: &str) {
    if same_key(spec, before, field) {
        spec.remove(field);
    }
}
