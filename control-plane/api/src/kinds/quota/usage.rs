//! What an object uses of the things that quotas count (`pkg/quota/v1/evaluator/core`).

use crate::kinds::pod::amounts::{Amounts, Part, effective};
use crate::quantity::{Quantity, QuantityFormat};
use crate::resource::GroupResource;
use crate::validation::At;
use crate::validation::resources::{is_extended, quantity};
use serde_json::Value;

/// What a name of a resource ends in that counts for one storage class.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const COMPUTE: &[&str] = &["cpu", "memory", "ephemeral-storage"];

fn ones(number: i64) -> Quantity {
    Quantity::new(number, QuantityFormat::DecimalSi)
}

/// `count/pods`, `count/deployments.apps`.
fn count_name(resource: &GroupResource) -> String {
    format!("count/{resource}")
}

/// The kind of a resource that is counted by more than its number.
fn core(resource: &GroupResource) -> &str {
    if resource.group.is_empty() { &resource.resource } else { "" }
}

/// Whether quotas take no notice of a resource at all.
pub fn is_ignored(resource: &GroupResource) -> bool {
    core(resource) == "events"
}

/// Whether a name in a quota is about objects of a resource.
pub fn tracks(resource: &GroupResource, name: &str) -> bool {
    if name == count_name(resource) {
        return true;
    }
    match core(resource) {
        "pods" => {
            let compute = |name: &str| COMPUTE.contains(&name);
            let prefixed =
                ["requests.", "limits."].iter().any(|prefix| name.strip_prefix(prefix).is_some_and(compute));
            let device =
                name.starts_with("requests.") && name.contains('/') && !name.contains("kubernetes.io/");
            let pages = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
            name == "pods" || compute(name) || prefixed || device || pages
        }
        "services" => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        "persistentvolumeclaims" => {
            let of_claims = |name: &str| matches!(name, "persistentvolumeclaims" | "requests.storage");
            of_claims(name) || name.split_once(OF_CLASS).is_some_and(|(_, rest)| of_claims(rest))
        }
        plural @ ("configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => name == plural,
        _ => false,
    }
}

/// What an object uses. A pod that has ended, or should have by now, uses nothing but its place in the store.
pub fn usage(resource: &GroupResource, object: &Value, now: jiff::Timestamp) -> Amounts {
    let mut used = Amounts::from([(count_name(resource), ones(1))]);
    match core(resource) {
        "pods" => pod(&mut used, object, now),
        "services" => service(&mut used, object),
        "persistentvolumeclaims" => claim(&mut used, object),
        plural @ ("configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => {
            used.insert(plural.to_owned(), ones(1));
        }
        _ => {}
    }
    used
}

/// Whether a pod still counts.
fn is_alive(pod: &At<'_, '_>, now: jiff::Timestamp) -> bool {
    let (metadata, status) = (pod.get("metadata"), pod.get("status"));
    if matches!(status.get("phase").text(), "Failed" | "Succeeded") {
        return false;
    }
    let going = metadata.get("deletionTimestamp").text().parse::<jiff::Timestamp>();
    match (going, metadata.get("deletionGracePeriodSeconds").int()) {
        (Ok(at), Some(grace)) => now.as_second() <= at.as_second().saturating_add(grace),
        _ => true,
    }
}

fn pod(used: &mut Amounts, object: &Value, now: jiff::Timestamp) {
    if !is_alive(&At::root(object), now) {
        return;
    }
    used.extend(compute(&effective(object, Part::Requests), &effective(object, Part::Limits)));
}

/// Requests and limits under the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), ones(1))]);
    for (name, amount) in requests {
        let plain = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        if plain {
            used.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    let limited = limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str()));
    used.extend(limited.map(|(name, amount)| (format!("limits.{name}"), *amount)));
    used
}

/// What each container must say where a quota counts it (a mistake that is kept): the resource, and the containers that lack
/// it. A pod that is given resources as a whole must not.
pub fn unsaid(pod: &Value, tracked: &[&str]) -> Vec<(String, Vec<String>)> {
    let root = At::root(pod);
    let spec = root.get("spec");
    let whole = spec.get("resources");
    if !whole.get("requests").is_empty() || !whole.get("limits").is_empty() {
        return Vec::new();
    }
    let mut missing = Vec::new();
    for name in ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"] {
        if !tracked.contains(&name) {
            continue;
        }
        let (part, resource) = match name.split_once('.') {
            Some((part, resource)) => (part, resource),
            None => ("requests", name),
        };
        let lists = [spec.get("containers"), spec.get("initContainers")];
        let lacking = lists.iter().flat_map(|list| list.items()).filter(|container| {
            let resources = container.get("resources");
            !resources.get(part).get(resource).present()
        });
        let mut containers: Vec<String> = lacking.map(|c| c.get("name").text().to_owned()).collect();
        containers.sort();
        containers.dedup();
        if !containers.is_empty() {
            missing.push((name.to_owned(), containers));
        }
    }
    missing
}

fn service(used: &mut Amounts, object: &Value) {
    let root = At::root(object);
    let spec = root.get("spec");
    let ports = spec.get("ports");
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    let (node_ports, balancers) = match spec.get("type").text() {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if allocate.present() && !allocate.is_true() => {
            (ports.items().filter(|port| !port.get("nodePort").is_empty()).count(), 1)
        }
        "LoadBalancer" => (ports.len(), 1),
        _ => (0, 0),
    };
    used.insert("services".into(), ones(1));
    used.insert("services.nodeports".into(), ones(node_ports as i64));
    used.insert("services.loadbalancers".into(), ones(balancers));
}

fn claim(used: &mut Amounts, object: &Value) {
    let root = At::root(object);
    let class = crate::kinds::volume::class_of(object);
    let mut put = |name: &str, amount: Quantity| {
        used.insert(name.to_owned(), amount);
        if !class.is_empty() {
            used.insert(format!("{class}{OF_CLASS}{name}"), amount);
        }
    };
    put("persistentvolumeclaims", ones(1));
    let (spec, status) = (root.get("spec"), root.get("status"));
    let resources = spec.get("resources");
    let asked = quantity(resources.get("requests").get("storage").value());
    let given = quantity(status.get("allocatedResources").get("storage").value());
    // A claim whose growth was given up on still has what was begun.
    if let Some(asked) = asked {
        let most = given.map_or(asked, |given| asked.max(given));
        // Whole bytes, as the status of a quota must have them.
        put("requests.storage", Quantity::new(most.value(), most.format()));
    }
}
