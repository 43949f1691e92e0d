//! Which EndpointSlices a Service should have, decided from the Service, its pods and the slices it has.

use crate::services::{Service, addresses, target_ref};
use crate::views::{Pod, controller_reference};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// `maxEndpointsPerSlice`.
const MAX: usize = 100;
pub(super) const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

/// A slice that is there.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) name: String,
    pub(super) tree: Value,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<Value>,
    pub(super) update: Vec<(String, Value)>,
    pub(super) delete: Vec<String>,
}

/// The zone of a node, where it has one.
pub(super) type Zones = HashMap<String, String>;

/// One group of endpoints: a family and a set of ports.
type Group = (String, String);

/// Decides. Endpoints stay in the slice they are in; what has room is filled before a slice is added.
pub(super) fn plan(service: &Service, pods: &[Pod], slices: &[Slice], zones: &Zones) -> Plan {
    let mut out = Plan::default();
    if service.selector().is_none() {
        return out; // its endpoints are somebody else's, and those that were ours stay, as upstream leaves them
    }
    let wanted = wanted(service, pods, zones);
    let mut left = wanted.clone();
    let mut kept: Vec<(&Slice, Group, Vec<Value>)> = Vec::new();
    for slice in slices {
        let group = group_of(&slice.tree);
        let Some(mine) = left.get_mut(&group) else {
            out.delete.push(slice.name.clone());
            continue;
        };
        let present = slice.tree["endpoints"].as_array().into_iter().flatten();
        let stay: Vec<Value> = present.filter_map(|old| mine.remove(&identity(old))).collect();
        kept.push((slice, group, stay));
    }
    for (group, missing) in left {
        let mut missing: Vec<Value> = missing.into_values().collect();
        for (_, _, endpoints) in kept.iter_mut().filter(|(_, g, _)| *g == group) {
            let room = MAX.saturating_sub(endpoints.len()).min(missing.len());
            endpoints.extend(missing.drain(..room));
        }
        for chunk in missing.chunks(MAX) {
            out.create.push(slice(service, &group, chunk.to_vec()));
        }
    }
    let mut filled: HashMap<Group, bool> = HashMap::new();
    for (old, group, endpoints) in kept {
        let any = filled.entry(group.clone()).or_insert(false);
        // An empty slice stays only as the placeholder of a Service without endpoints.
        let placeholder = wanted.get(&group).is_some_and(BTreeMap::is_empty) && !*any;
        if endpoints.is_empty() && !placeholder {
            out.delete.push(old.name.clone());
            continue;
        }
        *any = true;
        let new = slice(service, &group, endpoints);
        let same = ["endpoints", "ports", "addressType"].iter().all(|key| alike(&old.tree[*key], &new[*key]))
            && old.tree["metadata"]["labels"] == new["metadata"]["labels"];
        if !same {
            let mut tree = old.tree.clone();
            for key in ["endpoints", "ports"] {
                tree[key] = new[key].clone();
            }
            tree["metadata"]["labels"] = new["metadata"]["labels"].clone();
            out.update.push((old.name.clone(), tree));
        }
    }
    for (group, endpoints) in &wanted {
        let there = filled.get(group).copied().unwrap_or(false);
        if endpoints.is_empty() && !there {
            out.create.push(slice(service, group, Vec::new()));
        }
    }
    out
}

/// The endpoints that should be, by family and ports; a family without any has an empty group.
fn wanted(service: &Service, pods: &[Pod], zones: &Zones) -> BTreeMap<Group, BTreeMap<String, Value>> {
    let mut out: BTreeMap<Group, BTreeMap<String, Value>> = BTreeMap::new();
    let families: Vec<String> = match service.spec.ip_families.as_slice() {
        [] => vec!["IPv4".into()],
        families => families.to_vec(),
    };
    for family in families {
        let mut any = false;
        for pod in pods.iter().filter(|p| service.selects(&p.meta().labels) && !p.is_finished()) {
            let addresses = addresses(pod, &family);
            if addresses.is_empty() {
                continue;
            }
            any = true;
            let endpoint = endpoint(service, pod, &addresses, zones);
            let ports = Value::from(service.ports_of(pod)).to_string();
            out.entry((family.clone(), ports)).or_default().insert(identity(&endpoint), endpoint);
        }
        if !any {
            out.entry((family, "[]".into())).or_default();
        }
    }
    out
}

fn endpoint(service: &Service, pod: &Pod, addresses: &[String], zones: &Zones) -> Value {
    let (serving, terminating) = (pod.is_ready(), pod.meta().deleting());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let mut out = json!({
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_ref(pod),
    });
    if !pod.spec.node_name.is_empty() {
        out["nodeName"] = pod.spec.node_name.as_str().into();
    }
    if let Some(zone) = zones.get(&pod.spec.node_name) {
        out["zone"] = zone.as_str().into();
    }
    if let Some(hostname) = service.hostname(pod) {
        out["hostname"] = hostname.into();
    }
    out
}

/// What makes an endpoint the same one: its pod and its addresses.
fn identity(endpoint: &Value) -> String {
    format!("{}|{}", endpoint["targetRef"]["uid"].as_str().unwrap_or_default(), endpoint["addresses"])
}

fn group_of(slice: &Value) -> Group {
    let family = slice["addressType"].as_str().unwrap_or_default().to_owned();
    let ports = slice["ports"].as_array().cloned().unwrap_or_default();
    (family, Value::from(ports).to_string())
}

/// Equal, where an absent or null list is an empty one.
fn alike(a: &Value, b: &Value) -> bool {
    let empty = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
    a == b || (empty(a) && empty(b))
}

fn slice(service: &Service, (family, ports): &Group, endpoints: Vec<Value>) -> Value {
    let meta = &service.metadata;
    let mut labels = service.labels();
    labels.insert("kubernetes.io/service-name".into(), (*meta.name).into());
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), MANAGED_BY.into());
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", meta.name), "namespace": meta.namespace, "labels": labels,
            "ownerReferences": [controller_reference("v1", "Service", &meta.name, &meta.uid)],
        },
        "addressType": family,
        "ports": serde_json::from_str::<Value>(ports).unwrap_or_default(),
        "endpoints": endpoints,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(extra: &[(&str, Value)]) -> Service {
        let mut spec = json!({
            "selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web"}],
        });
        for (key, value) in extra {
            spec[*key] = value.clone();
        }
        let meta = json!({"name": "s", "namespace": "d", "uid": "u", "labels": {"l": "1"}});
        serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    fn pod(n: usize, ready: bool, deleting: bool) -> Pod {
        let mut value = json!({
            "metadata": {"name": format!("p{n}"), "namespace": "d", "uid": format!("u{n}"), "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "web", "protocol": "TCP", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": format!("10.244.{}.{}", n / 250, n % 250)}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        });
        if deleting {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(value).unwrap()
    }

    fn made(plan: &Plan) -> Vec<Slice> {
        let named = plan.create.iter().enumerate();
        named.map(|(n, tree)| Slice { name: format!("s-{n}"), tree: tree.clone() }).collect()
    }

    #[test]
    fn conditions_follow_readiness_and_deletion() {
        let pods = [pod(1, true, false), pod(2, false, false), pod(3, true, true)];
        let plan = plan(&service(&[]), &pods, &[], &Zones::from([("n1".into(), "z".into())]));
        let slice = &plan.create[0];
        let conditions: Vec<_> =
            slice["endpoints"].as_array().unwrap().iter().map(|e| &e["conditions"]).collect();
        assert_eq!(
            conditions,
            [
                &json!({"ready": true, "serving": true, "terminating": false}),
                &json!({"ready": false, "serving": false, "terminating": false}),
                &json!({"ready": false, "serving": true, "terminating": true}),
            ]
        );
        assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
        assert_eq!(slice["endpoints"][0]["zone"], "z");
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "s");
        let open = service(&[("publishNotReadyAddresses", true.into())]);
        let plan = super::plan(&open, &pods, &[], &Zones::new());
        assert_eq!(plan.create[0]["endpoints"][1]["conditions"]["ready"], true);
    }

    #[test]
    fn nothing_is_written_where_nothing_changed() {
        let pods = [pod(1, true, false)];
        let first = plan(&service(&[]), &pods, &[], &Zones::new());
        assert_eq!(plan(&service(&[]), &pods, &made(&first), &Zones::new()), Plan::default());
        let empty = plan(&service(&[]), &[], &[], &Zones::new());
        assert_eq!(empty.create.len(), 1, "a Service without pods has one empty slice");
        assert_eq!(plan(&service(&[]), &[], &made(&empty), &Zones::new()), Plan::default());
    }

    #[test]
    fn slices_are_filled_and_endpoints_stay_where_they_are() {
        let pods: Vec<Pod> = (0..250).map(|n| pod(n, true, false)).collect();
        let first = plan(&service(&[]), &pods, &[], &Zones::new());
        assert_eq!(
            first.create.iter().map(|s| s["endpoints"].as_array().unwrap().len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        let slices = made(&first);
        // One pod goes and two come: one slice loses one and is filled again, another takes the rest.
        let mut changed = pods[1..].to_vec();
        changed.extend([pod(300, true, false), pod(301, true, false)]);
        let second = plan(&service(&[]), &changed, &slices, &Zones::new());
        assert!(second.create.is_empty() && second.delete.is_empty());
        assert!(second.update.len() <= 2, "{} slices written", second.update.len());
    }

    #[test]
    fn the_last_pod_leaves_a_placeholder() {
        let first = plan(&service(&[]), &[pod(1, true, false)], &[], &Zones::new());
        let second = plan(&service(&[]), &[], &made(&first), &Zones::new());
        assert_eq!(second.create.len(), 1);
        assert_eq!(second.delete, ["s-0"]);
    }

    #[test]
    fn without_a_selector_the_slices_are_somebody_elses() {
        let none = service(&[("selector", Value::Null)]);
        assert_eq!(plan(&none, &[pod(1, true, false)], &[], &Zones::new()), Plan::default());
    }
}
