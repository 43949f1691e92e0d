//! What the Service and its slices should be, decided from the nodes there are.

use super::ClusterDns;
use crate::endpointslice::{MANAGER, Plan, SERVICE, Slice, ZONE};
use crate::views::controller_reference;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) const NAMESPACE: &str = "kube-system";
/// As every client and every tool has known it since the server behind it had that name.
pub(super) const NAME: &str = "kube-dns";
pub(super) const MANAGED_BY: &str = "cluster-dns-controller.skep";
/// As the deployment of CoreDNS has them.
const LABELS: [(&str, &str); 3] =
    [("k8s-app", NAME), ("kubernetes.io/cluster-service", "true"), ("kubernetes.io/name", "CoreDNS")];
/// As many endpoints are in a slice at most as upstream's controller puts there.
const MAX: usize = 100;

/// What endpoints need of a node. Whether it is ready is no matter: its server outlives its agent, and nobody else asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    name: String,
    uid: String,
    zone: Option<String>,
    addresses: Vec<IpAddr>,
}

/// What becomes of the Service.
#[derive(Debug, PartialEq)]
pub(super) enum ServiceStep {
    Leave,
    Create(Value),
    Update(Value),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) service: ServiceStep,
    /// What a person should know.
    pub(super) complaint: Option<String>,
    pub(super) slices: Plan,
}

impl Node {
    /// Reads a node; none where it has no address that an endpoint can have.
    pub(super) fn of(node: &Value) -> Option<Self> {
        let text = |pointer: &str| Some(node.pointer(pointer)?.as_str()?.to_owned());
        let all = node.pointer("/status/addresses").and_then(Value::as_array);
        let internal = all.into_iter().flatten().filter(|address| address["type"] == "InternalIP");
        let parsed = internal.filter_map(|address| address["address"].as_str()?.parse::<IpAddr>().ok());
        // From a pod an address of the loopback interface leads to the pod.
        let addresses: Vec<IpAddr> = parsed.filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect();
        let zone = node.pointer("/metadata/labels").and_then(|labels| labels.get(ZONE));
        let zone = zone.and_then(Value::as_str).map(str::to_owned);
        let (name, uid) = (text("/metadata/name")?, text("/metadata/uid")?);
        (!addresses.is_empty()).then_some(Node { name, uid, zone, addresses })
    }

    /// The endpoint of a family.
    fn endpoint(&self, family: &str) -> Option<Value> {
        let address = self.addresses.iter().find(|ip| ip.is_ipv4() == (family == "IPv4"))?;
        let mut out = json!({
            "addresses": [address.to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": self.name,
            "targetRef": {"kind": "Node", "name": self.name, "uid": self.uid},
        });
        if let Some(zone) = &self.zone {
            out["zone"] = zone.as_str().into();
        }
        Some(out)
    }
}

fn service_ports(dns: &ClusterDns) -> Value {
    json!([
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": dns.port},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": dns.port},
    ])
}

fn service(dns: &ClusterDns) -> Value {
    let labels: BTreeMap<&str, &str> = LABELS.into();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": dns.address.to_string(), "internalTrafficPolicy": "Local",
            "ports": service_ports(dns),
        },
    })
}

/// The Service as it should be, where it is otherwise. What else people wrote into it stays.
fn repaired(dns: &ClusterDns, have: &Value) -> Option<Value> {
    let mut tree = have.clone();
    for (key, value) in LABELS {
        tree["metadata"]["labels"][key] = value.into();
    }
    tree["spec"]["internalTrafficPolicy"] = "Local".into();
    let wanted = service_ports(dns);
    let said = |port: &Value| ["name", "port", "protocol", "targetPort"].map(|key| port[key].clone());
    let all = |ports: &Value| -> Vec<_> { ports.as_array().into_iter().flatten().map(said).collect() };
    if all(&tree["spec"]["ports"]) != all(&wanted) {
        tree["spec"]["ports"] = wanted;
    }
    (tree != *have).then_some(tree)
}

/// Decides.
pub(super) fn plan(dns: &ClusterDns, have: Option<&Value>, slices: &[Slice], nodes: &[Node]) -> Step {
    let mut out = Step { service: ServiceStep::Leave, complaint: None, slices: Plan::default() };
    let Some(have) = have else {
        out.service = ServiceStep::Create(service(dns));
        return out;
    };
    let selects = have.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|s| !s.is_empty());
    if selects {
        out.complaint = Some(format!(
            "the Service {NAMESPACE}/{NAME} selects pods, so that it is left to them; start skep-server with --cluster-dns= \
             to say so, or delete the Service to get it back"
        ));
        out.slices.delete = slices.iter().map(|slice| slice.name.clone()).collect();
        return out;
    }
    if let Some(tree) = repaired(dns, have) {
        out.service = ServiceStep::Update(tree);
    }
    let address = have["spec"]["clusterIP"].as_str().unwrap_or_default();
    if address != dns.address.to_string() {
        out.complaint = Some(format!(
            "the Service {NAMESPACE}/{NAME} has the address {address} and not {}, which cannot be changed in place: delete it \
             and it comes back with that",
            dns.address
        ));
    }
    let listed = have.pointer("/spec/ipFamilies").and_then(Value::as_array);
    let mut families: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    if families.is_empty() {
        families.push(if dns.address.is_ipv4() { "IPv4" } else { "IPv6" });
    }
    let foreign = slices.iter().filter(|s| !families.iter().any(|family| s.tree["addressType"] == *family));
    out.slices.delete.extend(foreign.map(|slice| slice.name.clone()));
    for family in families {
        let of_family: Vec<&Slice> = slices.iter().filter(|s| s.tree["addressType"] == family).collect();
        arrange(dns, have, family, &of_family, nodes, &mut out.slices);
    }
    out
}

/// Keeps endpoints in the slices they are in, and fills up what has room before a slice is added.
fn arrange(
    dns: &ClusterDns,
    service: &Value,
    family: &str,
    slices: &[&Slice],
    nodes: &[Node],
    out: &mut Plan,
) {
    let mut missing: BTreeMap<&str, Value> =
        nodes.iter().filter_map(|node| Some((node.name.as_str(), node.endpoint(family)?))).collect();
    let mut kept: Vec<(&Slice, Vec<Value>)> = Vec::new();
    for slice in slices {
        let present = slice.tree["endpoints"].as_array().into_iter().flatten();
        let stay = present.filter_map(|old| missing.remove(old["nodeName"].as_str()?));
        kept.push((slice, stay.take(MAX).collect()));
    }
    let mut missing: Vec<Value> = missing.into_values().collect();
    for (_, endpoints) in &mut kept {
        let room = MAX.saturating_sub(endpoints.len()).min(missing.len());
        endpoints.extend(missing.drain(..room));
    }
    for (old, endpoints) in kept {
        if endpoints.is_empty() {
            out.delete.push(old.name.clone());
            continue;
        }
        let new = slice(dns, service, family, endpoints);
        let same = ["endpoints", "ports"].iter().all(|key| old.tree[*key] == new[*key])
            && ["labels", "ownerReferences"].iter().all(|k| old.tree["metadata"][*k] == new["metadata"][*k]);
        if !same {
            let mut tree = old.tree.clone();
            for key in ["endpoints", "ports"] {
                tree[key] = new[key].clone();
            }
            for key in ["labels", "ownerReferences"] {
                tree["metadata"][key] = new["metadata"][key].clone();
            }
            out.update.push((old.name.clone(), tree));
        }
    }
    out.create.extend(missing.chunks(MAX).map(|chunk| slice(dns, service, family, chunk.to_vec())));
}

fn slice(dns: &ClusterDns, service: &Value, family: &str, endpoints: Vec<Value>) -> Value {
    let mut labels: BTreeMap<&str, &str> = LABELS.into();
    labels.extend([(SERVICE, NAME), (MANAGER, MANAGED_BY)]);
    let uid = service.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{NAME}-"), "namespace": NAMESPACE, "labels": labels,
            "ownerReferences": [controller_reference("v1", "Service", NAME, uid)],
        },
        "addressType": family,
        "ports": [
            {"name": "dns", "port": dns.port, "protocol": "UDP"},
            {"name": "dns-tcp", "port": dns.port, "protocol": "TCP"},
        ],
        "endpoints": endpoints,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns() -> ClusterDns {
        ClusterDns { address: "10.96.0.10".parse().unwrap(), port: 10053 }
    }

    fn node(number: usize) -> Value {
        json!({
            "metadata": {"name": format!("n{number:03}"), "uid": format!("u{number}"),
                "labels": {"topology.kubernetes.io/zone": "a"}},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n"},
                {"type": "InternalIP", "address": format!("192.0.2.{number}")},
                {"type": "InternalIP", "address": format!("2001:db8::{number}")}]},
        })
    }

    fn nodes(numbers: impl IntoIterator<Item = usize>) -> Vec<Node> {
        numbers.into_iter().map(|number| Node::of(&node(number)).unwrap()).collect()
    }

    /// The Service as the server gives it back.
    fn stored() -> Value {
        let mut tree = service(&dns());
        tree["metadata"]["uid"] = "s1".into();
        tree["spec"]["ipFamilies"] = json!(["IPv4"]);
        tree["spec"]["sessionAffinity"] = "None".into();
        tree
    }

    fn made(plan: &Step) -> Vec<Slice> {
        let named = plan.slices.create.iter().enumerate();
        named.map(|(n, tree)| Slice { name: format!("s-{n}"), tree: tree.clone() }).collect()
    }

    fn sizes(trees: &[Value]) -> Vec<usize> {
        trees.iter().map(|tree| tree["endpoints"].as_array().unwrap().len()).collect()
    }

    #[test]
    fn the_service_comes_first_and_is_brought_back() {
        let first = plan(&dns(), None, &[], &nodes([1]));
        assert_eq!(first.service, ServiceStep::Create(service(&dns())));
        assert!(first.slices.create.is_empty(), "slices name the Service's uid");
        assert_eq!(plan(&dns(), Some(&stored()), &[], &[]).service, ServiceStep::Leave);

        let mut bent = stored();
        bent["spec"]["internalTrafficPolicy"] = "Cluster".into();
        bent["spec"]["ports"].as_array_mut().unwrap().pop();
        bent["metadata"]["labels"] = json!({"mine": "too"});
        bent["metadata"]["annotations"] = json!({"a": "b"});
        let ServiceStep::Update(tree) = plan(&dns(), Some(&bent), &[], &[]).service else { panic!() };
        assert_eq!(tree["spec"], stored()["spec"]);
        assert_eq!(tree["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(tree["metadata"]["labels"]["k8s-app"], "kube-dns");
        assert_eq!(tree["metadata"]["labels"]["mine"], "too");
    }

    #[test]
    fn a_service_of_others_is_left_to_them() {
        let slices = made(&plan(&dns(), Some(&stored()), &[], &nodes([1])));
        let mut theirs = stored();
        theirs["spec"]["selector"] = json!({"k8s-app": "kube-dns"});
        let plan = plan(&dns(), Some(&theirs), &slices, &nodes([1]));
        assert_eq!((plan.service, plan.slices.delete), (ServiceStep::Leave, vec!["s-0".to_owned()]));
        assert!(plan.complaint.unwrap().contains("--cluster-dns="));
    }

    #[test]
    fn another_address_is_told_and_the_slices_are_kept() {
        let mut other = stored();
        other["spec"]["clusterIP"] = "10.96.0.99".into();
        let plan = plan(&dns(), Some(&other), &[], &nodes([1]));
        assert_eq!((plan.service, plan.slices.create.len()), (ServiceStep::Leave, 1));
        assert!(plan.complaint.unwrap().contains("10.96.0.99"));
    }

    #[test]
    fn every_node_is_an_endpoint_of_its_own() {
        let plan = plan(&dns(), Some(&stored()), &[], &nodes([1, 2]));
        let slice = &plan.slices.create[0];
        assert_eq!(slice["addressType"], "IPv4");
        assert_eq!(slice["endpoints"][1]["addresses"], json!(["192.0.2.2"]));
        assert_eq!(slice["endpoints"][1]["nodeName"], "n002");
        assert_eq!(slice["endpoints"][1]["zone"], "a");
        assert_eq!(slice["ports"][0], json!({"name": "dns", "port": 10053, "protocol": "UDP"}));
        assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "s1");
        let loopback = json!({"metadata": {"name": "l", "uid": "l"},
            "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}});
        assert_eq!(Node::of(&loopback), None);
        assert_eq!(Node::of(&json!({"metadata": {"name": "x", "uid": "x"}})), None);
    }

    #[test]
    fn a_service_of_both_families_has_slices_of_both() {
        let mut dual = stored();
        dual["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        let both = plan(&dns(), Some(&dual), &[], &nodes([1]));
        assert_eq!(both.slices.create[1]["endpoints"][0]["addresses"], json!(["2001:db8::1"]));
        let one = plan(&dns(), Some(&stored()), &made(&both), &nodes([1]));
        assert_eq!((one.slices.delete, one.slices.update.len()), (vec!["s-1".to_owned()], 0));
    }

    #[test]
    fn endpoints_stay_where_they_are() {
        let first = plan(&dns(), Some(&stored()), &[], &nodes(0..250));
        assert_eq!(sizes(&first.slices.create), [100, 100, 50]);
        let slices = made(&first);
        let same = plan(&dns(), Some(&stored()), &slices, &nodes(0..250));
        assert!(
            same.slices.create.is_empty() && same.slices.update.is_empty() && same.slices.delete.is_empty()
        );
        // A node goes from the first slice and one comes: it takes that place.
        let changed = plan(&dns(), Some(&stored()), &slices, &nodes((1..250).chain([250])));
        assert_eq!(changed.slices.update.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["s-0"]);
        assert!(changed.slices.create.is_empty() && changed.slices.delete.is_empty());
        let none = plan(&dns(), Some(&stored()), &slices, &[]);
        assert_eq!(none.slices.delete.len(), 3);
        let moved = ClusterDns { port: 5353, ..dns() };
        assert_eq!(plan(&moved, Some(&stored()), &slices, &nodes(0..250)).slices.update.len(), 3);
    }
}
