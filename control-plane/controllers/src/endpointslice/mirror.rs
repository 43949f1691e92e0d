//! Which EndpointSlices mirror Endpoints that somebody else has written, decided from these and the slices there are.

use super::plan::{Group, Plan, Slice, alike, group_of, identity};
use crate::subsets::{MAX, read, repack};
use crate::views::controller_reference;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

pub(super) const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
const SERVICE: &str = "kubernetes.io/service-name";
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that say how the Endpoints were written, not what they are.
const OWN_ANNOTATIONS: &[&str] =
    &["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

/// What is to be done, and what cannot be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Mirror {
    pub(super) plan: Plan,
    /// Addresses that are none.
    pub(super) invalid: usize,
    /// Addresses beyond what a slice holds, and those that are none.
    pub(super) skipped: usize,
}

/// Whether Endpoints are to be mirrored: they are no lock, and nobody has said not to.
pub(super) fn wanted(endpoints: &Value) -> bool {
    let meta = &endpoints["metadata"];
    meta["labels"][SKIP] != "true" && meta["annotations"].get(LEADER).is_none()
}

/// Decides: one slice for each subset and family.
pub(super) fn mirror(endpoints: &Value, slices: &[Slice]) -> Mirror {
    let mut out = Mirror::default();
    let mut wanted: BTreeMap<Group, BTreeMap<String, Value>> = BTreeMap::new();
    for subset in repack(&read(endpoints)) {
        let ports = Value::from(subset.ports.iter().map(port).collect::<Vec<Value>>()).to_string();
        let all = subset.ready.iter().map(|a| (a, true)).chain(subset.not_ready.iter().map(|a| (a, false)));
        let mut room = MAX;
        for (address, ready) in all {
            if room == 0 {
                out.skipped += 1;
                continue;
            }
            match endpoint(address, ready) {
                Some((family, endpoint)) => {
                    room -= 1;
                    wanted
                        .entry((family.to_owned(), ports.clone()))
                        .or_default()
                        .insert(identity(&endpoint), endpoint);
                }
                None => {
                    out.invalid += 1;
                    out.skipped += 1;
                }
            }
        }
    }
    let mut present: HashMap<Group, Vec<&Slice>> = HashMap::new();
    for slice in slices {
        present.entry(group_of(&slice.tree)).or_default().push(slice);
    }
    for (group, addresses) in wanted {
        let new = slice(endpoints, &group, addresses.into_values().collect());
        let mut there = present.remove(&group).unwrap_or_default().into_iter();
        match there.next() {
            None => out.plan.create.push(new),
            Some(old) if same(&old.tree, &new) => {}
            Some(old) => out.plan.update.push((old.name.clone(), changed(&old.tree, &new))),
        }
        out.plan.delete.extend(there.map(|slice| slice.name.clone()));
    }
    out.plan.delete.extend(present.into_values().flatten().map(|slice| slice.name.clone()));
    out.plan.delete.sort();
    out
}

/// A port as slices have it: its name is never left out.
fn port(port: &Value) -> Value {
    let mut out = port.clone();
    if out["name"].is_null() {
        out["name"] = "".into();
    }
    out
}

/// The family of an address and its endpoint; none where it is no address.
fn endpoint(address: &Value, ready: bool) -> Option<(&'static str, Value)> {
    let ip: IpAddr = address["ip"].as_str()?.parse().ok()?;
    let mut out = json!({"addresses": [ip.to_string()], "conditions": {"ready": ready}});
    for key in ["targetRef", "nodeName", "hostname"] {
        if let Some(value) = address.get(key).filter(|v| !v.is_null() && **v != "") {
            out[key] = value.clone();
        }
    }
    Some((if ip.is_ipv4() { "IPv4" } else { "IPv6" }, out))
}

fn slice(endpoints: &Value, (family, ports): &Group, addresses: Vec<Value>) -> Value {
    let meta = &endpoints["metadata"];
    let text = |key: &str| meta[key].as_str().unwrap_or_default();
    let map = |key: &str| meta[key].as_object().cloned().unwrap_or_default();
    let mut labels = map("labels");
    labels.insert(SERVICE.into(), text("name").into());
    labels.insert(MANAGER.into(), MANAGED_BY.into());
    let annotations: Map<String, Value> =
        map("annotations").into_iter().filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str())).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", text("name")), "namespace": text("namespace"),
            "labels": labels, "annotations": annotations,
            "ownerReferences": [controller_reference("v1", "Endpoints", text("name"), text("uid"))],
        },
        "addressType": family,
        "ports": serde_json::from_str::<Value>(ports).unwrap_or_default(),
        "endpoints": addresses,
    })
}

/// What a slice says that this controller decides.
fn same(old: &Value, new: &Value) -> bool {
    let addresses = |tree: &Value| -> BTreeMap<String, Value> {
        let all = tree["endpoints"].as_array().into_iter().flatten();
        all.map(|endpoint| (identity(endpoint), endpoint.clone())).collect()
    };
    let empty = |v: &Value| v.is_null() || v.as_object().is_some_and(Map::is_empty);
    let annotations = |tree: &Value| Some(tree["metadata"]["annotations"].clone()).filter(|v| !empty(v));
    let owner = |tree: &Value| tree["metadata"]["ownerReferences"][0]["uid"].clone();
    addresses(old) == addresses(new)
        && alike(&old["ports"], &new["ports"])
        && old["metadata"]["labels"] == new["metadata"]["labels"]
        && annotations(old) == annotations(new)
        && owner(old) == owner(new)
}

/// The old object with what the new one says.
fn changed(old: &Value, new: &Value) -> Value {
    let mut out = old.clone();
    for key in ["endpoints", "ports"] {
        out[key] = new[key].clone();
    }
    for key in ["labels", "annotations", "ownerReferences"] {
        out["metadata"][key] = new["metadata"][key].clone();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(subsets: Value) -> Value {
        json!({
            "metadata": {"name": "s", "namespace": "d", "uid": "u", "labels": {"l": "1"}, "annotations": {
                "a": "1", "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}},
            "subsets": subsets,
        })
    }

    fn one(ips: &[&str], port: u16) -> Value {
        let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"addresses": addresses, "ports": [{"port": port, "protocol": "TCP"}]})
    }

    fn made(mirror: &Mirror) -> Vec<Slice> {
        let all = mirror.plan.create.iter().enumerate();
        all.map(|(n, tree)| Slice { name: format!("s-{n}"), tree: tree.clone() }).collect()
    }

    #[test]
    fn a_slice_has_what_the_endpoints_have() {
        let mirror = mirror(&endpoints(json!([one(&["10.1.2.3"], 80)])), &[]);
        let [slice] = mirror.plan.create.as_slice() else { panic!("{mirror:?}") };
        assert_eq!(slice["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
        assert_eq!(slice["endpoints"], json!([{"addresses": ["10.1.2.3"], "conditions": {"ready": true}}]));
        assert_eq!(slice["addressType"], "IPv4");
        assert_eq!(
            slice["metadata"]["labels"],
            json!({"l": "1", "kubernetes.io/service-name": "s", "endpointslice.kubernetes.io/managed-by": MANAGED_BY})
        );
        assert_eq!(slice["metadata"]["annotations"], json!({"a": "1"}));
        assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
        assert_eq!((mirror.invalid, mirror.skipped), (0, 0));
    }

    #[test]
    fn families_and_ports_have_their_own_slices() {
        let both = endpoints(json!([one(&["10.1.2.3", "fd00::1", "wrong"], 80), one(&["10.1.2.4"], 81)]));
        let first = mirror(&both, &[]);
        let kinds: Vec<(&str, i64)> = first
            .plan
            .create
            .iter()
            .map(|s| (s["addressType"].as_str().unwrap(), s["ports"][0]["port"].as_i64().unwrap()))
            .collect();
        assert_eq!(kinds, [("IPv4", 80), ("IPv4", 81), ("IPv6", 80)]);
        assert_eq!((first.invalid, first.skipped), (1, 1));
        let together = endpoints(json!([one(&["10.1.2.3"], 80), one(&["10.1.2.3"], 81)]));
        assert_eq!(mirror(&together, &[]).plan.create.len(), 1, "the ports of one address are one subset");
    }

    #[test]
    fn nothing_is_written_where_nothing_changed() {
        let all = endpoints(json!([one(&["10.1.2.3", "10.1.2.4"], 80)]));
        let slices = made(&mirror(&all, &[]));
        assert_eq!(mirror(&all, &slices), Mirror::default());
        let turned = endpoints(json!([one(&["10.1.2.4", "10.1.2.3"], 80)]));
        assert_eq!(mirror(&turned, &slices), Mirror::default());
    }

    #[test]
    fn changes_are_written_to_the_slice_there_is() {
        let slices = made(&mirror(&endpoints(json!([one(&["10.1.2.3"], 80)])), &[]));
        let next = mirror(&endpoints(json!([one(&["10.2.3.4"], 80)])), &slices);
        assert_eq!(next.plan.update[0].1["endpoints"][0]["addresses"], json!(["10.2.3.4"]));
        assert!(next.plan.create.is_empty() && next.plan.delete.is_empty());
        let mut labelled = endpoints(json!([one(&["10.1.2.3"], 80)]));
        labelled["metadata"]["labels"]["m"] = "2".into();
        assert_eq!(mirror(&labelled, &slices).plan.update[0].1["metadata"]["labels"]["m"], "2");
        let twice = [slices[0].clone(), Slice { name: "z".into(), ..slices[0].clone() }];
        let again = mirror(&endpoints(json!([one(&["10.1.2.3"], 80)])), &twice);
        assert_eq!(again.plan, Plan { delete: vec!["z".into()], ..Plan::default() });
        assert_eq!(mirror(&endpoints(json!([])), &slices).plan.delete, ["s-0"]);
    }

    #[test]
    fn a_slice_holds_a_thousand_and_the_ready_first() {
        let ips: Vec<String> = (0..1005).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
        let address = |ip: &String| json!({"ip": ip});
        let subset = json!({
            "notReadyAddresses": ips[..10].iter().map(address).collect::<Vec<_>>(),
            "addresses": ips[10..].iter().map(address).collect::<Vec<_>>(),
            "ports": [{"port": 80, "protocol": "TCP"}],
        });
        let mirror = mirror(&endpoints(json!([subset])), &[]);
        let all = mirror.plan.create[0]["endpoints"].as_array().unwrap();
        let ready = all.iter().filter(|e| e["conditions"]["ready"] == true).count();
        assert_eq!((all.len(), ready, mirror.skipped, mirror.invalid), (1000, 995, 5, 0));
    }

    #[test]
    fn locks_and_those_that_ask_for_it_are_not_mirrored() {
        assert!(wanted(&endpoints(json!([]))));
        assert!(!wanted(&json!({"metadata": {"labels": {SKIP: "true"}}})));
        assert!(!wanted(&json!({"metadata": {"annotations": {LEADER: "{}"}}})));
    }
}
