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
pub(crate) struct Slice {
    pub(crate) name: String,
    pub(crate) tree: Value,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) create: Vec<Value>,
    pub(crate) update: Vec<(String, Value)>,
    pub(crate) delete: Vec<String>,
}

/// The nodes there are, each with its zone, where it has one.
pub(super) type Zones = HashMap<String, Option<String>>;

/// One group of endpoints: a family and a set of ports.
pub(super) type Group = (String, String);

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
        // One of a Service that had this name before, and which goes with it.
        if !owned(slice, service) {
            out.delete.push(slice.name.clone());
            continue;
        }
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

fn owned(slice: &Slice, service: &Service) -> bool {
    let owners = slice.tree.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner["uid"] == *service.metadata.uid && owner["kind"] == "Service")
}

/// Whether a pod's node is not known, so that it waits to become an endpoint.
pub(super) fn lost(service: &Service, pod: &Pod, zones: &Zones) -> bool {
    !service.spec.publish_not_ready_addresses && !zones.contains_key(&pod.spec.node_name)
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
            if addresses.is_empty() || lost(service, pod, zones) {
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
    let zone = zones.get(&pod.spec.node_name).and_then(Option::as_deref);
    if let Some(zone) = zone {
        out["zone"] = zone.into();
    }
    if let Some(hints) = hints(service, pod, zone).filter(|_| ready) {
        out["hints"] = hints;
    }
    if let Some(hostname) = service.hostname(pod) {
        out["hostname"] = hostname.into();
    }
    out
}

/// Where clients of a ready endpoint should be, if the Service keeps its traffic near (KEP-4444, KEP-3015).
fn hints(service: &Service, pod: &Pod, zone: Option<&str>) -> Option<Value> {
    let same_node = match service.spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let mut out = serde_json::Map::new();
    if let Some(zone) = zone {
        out.insert("forZones".into(), json!([{"name": zone}]));
    }
    if same_node && !pod.spec.node_name.is_empty() {
        out.insert("forNodes".into(), json!([{"name": pod.spec.node_name}]));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// What makes an endpoint the same one: its pod and its addresses.
pub(super) fn identity(endpoint: &Value) -> String {
    format!("{}|{}", endpoint["targetRef"]["uid"].as_str().unwrap_or_default(), endpoint["addresses"])
}

pub(super) fn group_of(slice: &Value) -> Group {
    let family = slice["addressType"].as_str().unwrap_or_default().to_owned();
    let ports = slice["ports"].as_array().cloned().unwrap_or_default();
    (family, Value::from(ports).to_string())
}

/// Equal, where an absent or null list is an empty one.
pub(super) fn alike(a: &Value, b: &Value) -> bool {
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

    /// The node of the pods, in no zone.
    fn nodes() -> Zones {
        Zones::from([("n1".into(), None)])
    }

    fn made(plan: &Plan) -> Vec<Slice> {
        let named = plan.create.iter().enumerate();
        named.map(|(n, tree)| Slice { name: format!("s-{n}"), tree: tree.clone() }).collect()
    }

    #[test]
    fn conditions_follow_readiness_and_deletion() {
        let pods = [pod(1, true, false), pod(2, false, false), pod(3, true, true)];
        let plan = plan(&service(&[]), &pods, &[], &Zones::from([("n1".into(), Some("z".into()))]));
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
        let plan = super::plan(&open, &pods, &[], &nodes());
        assert_eq!(plan.create[0]["endpoints"][1]["conditions"]["ready"], true);
    }

    #[test]
    fn nothing_is_written_where_nothing_changed() {
        let pods = [pod(1, true, false)];
        let first = plan(&service(&[]), &pods, &[], &nodes());
        assert_eq!(plan(&service(&[]), &pods, &made(&first), &nodes()), Plan::default());
        let empty = plan(&service(&[]), &[], &[], &nodes());
        assert_eq!(empty.create.len(), 1, "a Service without pods has one empty slice");
        assert_eq!(plan(&service(&[]), &[], &made(&empty), &nodes()), Plan::default());
    }

    #[test]
    fn slices_are_filled_and_endpoints_stay_where_they_are() {
        let pods: Vec<Pod> = (0..250).map(|n| pod(n, true, false)).collect();
        let first = plan(&service(&[]), &pods, &[], &nodes());
        assert_eq!(
            first.create.iter().map(|s| s["endpoints"].as_array().unwrap().len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        let slices = made(&first);
        // One pod goes and two come: one slice loses one and is filled again, another takes the rest.
        let mut changed = pods[1..].to_vec();
        changed.extend([pod(300, true, false), pod(301, true, false)]);
        let second = plan(&service(&[]), &changed, &slices, &nodes());
        assert!(second.create.is_empty() && second.delete.is_empty());
        assert!(second.update.len() <= 2, "{} slices written", second.update.len());
    }

    #[test]
    fn the_last_pod_leaves_a_placeholder() {
        let first = plan(&service(&[]), &[pod(1, true, false)], &[], &nodes());
        let second = plan(&service(&[]), &[], &made(&first), &nodes());
        assert_eq!(second.create.len(), 1);
        assert_eq!(second.delete, ["s-0"]);
    }

    #[test]
    fn a_pod_of_an_unknown_node_waits_unless_it_is_published_in_any_case() {
        let pods = [pod(1, true, false)];
        assert_eq!(plan(&service(&[]), &pods, &[], &Zones::new()).create[0]["endpoints"], json!([]));
        let open = service(&[("publishNotReadyAddresses", true.into())]);
        let plan = plan(&open, &pods, &[], &Zones::new());
        assert_eq!(plan.create[0]["endpoints"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn ready_endpoints_carry_hints_where_traffic_stays_near() {
        let pods = [pod(1, true, false), pod(2, false, false)];
        let zones = Zones::from([("n1".into(), Some("z".into()))]);
        let hints = |distribution: &str, zones: &Zones| {
            let plan = plan(&service(&[("trafficDistribution", distribution.into())]), &pods, &[], zones);
            let endpoints = plan.create[0]["endpoints"].as_array().unwrap().clone();
            assert_eq!(endpoints[1]["hints"], Value::Null);
            endpoints[0]["hints"].clone()
        };
        let zone = json!({"forZones": [{"name": "z"}]});
        assert_eq!(hints("PreferClose", &zones), zone);
        assert_eq!(hints("PreferSameZone", &zones), zone);
        assert_eq!(hints("PreferSameZone", &nodes()), Value::Null);
        let both = json!({"forZones": [{"name": "z"}], "forNodes": [{"name": "n1"}]});
        assert_eq!(hints("PreferSameNode", &zones), both);
        assert_eq!(hints("PreferSameNode", &nodes()), json!({"forNodes": [{"name": "n1"}]}));
        // Hints go when the wish does.
        let near = service(&[("trafficDistribution", "PreferClose".into())]);
        let first = plan(&near, &pods, &[], &zones);
        let second = plan(&service(&[]), &pods, &made(&first), &zones);
        assert_eq!(second.update[0].1["endpoints"][0]["hints"], Value::Null);
    }

    #[test]
    fn slices_of_an_earlier_service_of_the_name_go() {
        let pods = [pod(1, true, false)];
        let mut old = made(&plan(&service(&[]), &pods, &[], &nodes()));
        old[0].tree["metadata"]["ownerReferences"][0]["uid"] = "earlier".into();
        let second = plan(&service(&[]), &pods, &old, &nodes());
        assert_eq!((second.create.len(), second.delete), (1, vec!["s-0".to_owned()]));
    }

    #[test]
    fn without_a_selector_the_slices_are_somebody_elses() {
        let none = service(&[("selector", Value::Null)]);
        assert_eq!(plan(&none, &[pod(1, true, false)], &[], &nodes()), Plan::default());
    }
}
