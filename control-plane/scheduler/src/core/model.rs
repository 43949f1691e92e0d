//! What scheduling reads of pods and nodes, in the form it computes with.

use super::claims::Needs;
use super::resources::{Resources, pod_request};
use serde::Deserialize;
use serde_json::Value;
use skep_api::Meta;
use skep_api::selector::{NodeTerm, Requirement};
use skep_api::taint::{Taint, Toleration};
use skep_api::{LabelSelector, Object, ObjectError};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The condition of a pod that goes for the sake of others …
pub const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// … and its reason where the scheduler needs room.
pub const PREEMPTED: &str = "PreemptionByScheduler";

/// Labels, as objects carry them.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// A pod as the scheduler sees it.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Namespace, name, uid, labels.
    pub meta: Meta,
    /// Where it is bound, empty while it is not.
    pub node: String,
    /// What it asks for.
    pub request: Resources,
    /// Host ports it takes: address, protocol, port.
    pub host_ports: Vec<HostPort>,
    /// What it puts up with.
    pub tolerations: Vec<Toleration>,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// Terms of which one must match; none where there is no such affinity.
    pub required_terms: Option<Vec<NodeTerm>>,
    /// Terms that are good to match, with their weights.
    pub preferred_terms: Vec<(i64, NodeTerm)>,
    /// `spec.topologySpreadConstraints`.
    pub spread: Vec<Spread>,
    /// Pods it must be near to.
    pub affinity: Vec<PodTerm>,
    /// Pods it must not be near to.
    pub anti_affinity: Vec<PodTerm>,
    /// Pods it should be near to (weight above zero) or away from (below).
    pub preferred_affinity: Vec<(i64, PodTerm)>,
    /// `spec.priority`; higher goes first.
    pub priority: i64,
    /// `spec.schedulerName`.
    pub scheduler: String,
    /// Gates that are still closed.
    pub gated: bool,
    /// Finished pods take nothing.
    pub finished: bool,
    /// `spec.preemptionPolicy` is not `Never`.
    pub preempts: bool,
    /// `status.nominatedNodeName`, empty where no room was made for it.
    pub nominated: String,
    /// `status.startTime` in seconds; none while it has not started.
    pub started: Option<i64>,
    /// It is going since room was needed for another pod.
    pub preempted: bool,
    /// Names of its claims.
    pub claims: Vec<String>,
    /// What these ask for; filled in when the pod is tried.
    pub needs: Needs,
    /// Those of its claims that no other pod may use (`ReadWriteOncePod`); filled in when the pod is tried.
    pub exclusive: Vec<String>,
    /// Labels of its namespace; filled in when the pod is tried.
    pub namespace_labels: Arc<Labels>,
}

/// A host port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let any = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The largest difference allowed between domains.
    pub max_skew: i64,
    /// The node label that makes a domain.
    pub topology_key: String,
    /// `DoNotSchedule`, as opposed to `ScheduleAnyway`.
    pub hard: bool,
    /// Which pods count.
    pub selector: LabelSelector,
    /// Fewer domains than this count as an empty one.
    pub min_domains: Option<usize>,
    /// `nodeAffinityPolicy: Honor`: only nodes that the pod's node affinity allows count.
    pub honor_affinity: bool,
    /// `nodeTaintsPolicy: Honor`: only nodes whose taints the pod tolerates count.
    pub honor_taints: bool,
}

/// A term of inter-pod affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTerm {
    /// Which pods.
    pub selector: LabelSelector,
    /// In which namespaces; none is all.
    pub namespaces: Option<Vec<String>>,
    /// And in which besides, by their labels.
    pub by_labels: Option<LabelSelector>,
    /// What "near" means: nodes with the same value of this label.
    pub topology_key: String,
}

impl PodTerm {
    /// Whether a pod is one the term speaks of.
    pub fn selects(&self, pod: &Pod) -> bool {
        let named = self.namespaces.as_ref().is_none_or(|n| n.iter().any(|ns| **ns == *pod.meta.namespace));
        let inside = named || self.by_labels.as_ref().is_some_and(|s| s.matches(&pod.namespace_labels));
        inside && self.selector.matches(&pod.meta.labels)
    }

    /// Whether a pod may be one the term speaks of, whatever the labels of namespaces are.
    fn may_select(&self, pod: &Pod) -> bool {
        self.selector.matches(&pod.meta.labels) && (self.by_labels.is_some() || self.selects(pod))
    }
}

/// A node as the scheduler sees it, without its pods.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// What pods may take in all.
    pub allocatable: Resources,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeTree {
    metadata: Meta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeSpec {
    taints: Option<Vec<Taint>>,
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeStatus {
    allocatable: BTreeMap<String, String>,
}

impl Node {
    /// Reads a node.
    pub fn read(object: &Object) -> Result<Self, ObjectError> {
        let tree: NodeTree = object.decode()?;
        Ok(Node {
            name: tree.metadata.name.to_string(),
            labels: tree.metadata.labels,
            taints: tree.spec.taints.unwrap_or_default(),
            unschedulable: tree.spec.unschedulable,
            allocatable: Resources::read(&tree.status.allocatable),
        })
    }
}

fn list<'a>(tree: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    tree.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text(tree: &Value, key: &str) -> String {
    tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn parse<T: serde::de::DeserializeOwned + Default>(tree: &Value, pointer: &str) -> T {
    tree.pointer(pointer).and_then(|v| serde_json::from_value(v.clone()).ok()).unwrap_or_default()
}

/// A pod without its metadata.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Halves {
    spec: Value,
    status: Value,
}

impl Pod {
    /// Reads a pod.
    pub fn read(object: &Object) -> Self {
        // Its metadata is decoded already; what owns which field is the longer half of many pods.
        let halves: Halves = object.decode().unwrap_or_default();
        Pod::from_parts(object.meta().clone(), &halves.spec, &halves.status)
    }

    /// Reads a pod from its tree.
    pub fn from_tree(meta: Meta, tree: &Value) -> Self {
        let part = |key: &str| tree.get(key).unwrap_or(&Value::Null);
        Pod::from_parts(meta, part("spec"), part("status"))
    }

    fn from_parts(meta: Meta, spec: &Value, status: &Value) -> Self {
        let namespace = meta.namespace.to_string();
        let phase = text(status, "phase");
        let affinity = spec.get("affinity").unwrap_or(&Value::Null);
        let required = affinity
            .pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms");
        let terms = |kind: &str| -> Vec<PodTerm> {
            let pointer = format!("/{kind}/requiredDuringSchedulingIgnoredDuringExecution");
            list(affinity, &pointer).filter_map(|t| pod_term(t, &namespace, &meta.labels)).collect()
        };
        let preferred = |kind: &str, sign: i64| -> Vec<(i64, PodTerm)> {
            let pointer = format!("/{kind}/preferredDuringSchedulingIgnoredDuringExecution");
            let rows = list(affinity, &pointer);
            let read = |row: &Value| {
                let term = pod_term(row.get("podAffinityTerm")?, &namespace, &meta.labels)?;
                Some((sign * row.get("weight")?.as_i64()?, term))
            };
            rows.filter_map(read).collect()
        };
        let mut preferred_affinity = preferred("podAffinity", 1);
        preferred_affinity.extend(preferred("podAntiAffinity", -1));
        Pod {
            node: text(spec, "nodeName"),
            request: pod_request(spec),
            host_ports: host_ports(spec),
            tolerations: parse(spec, "/tolerations"),
            node_selector: parse(spec, "/nodeSelector"),
            required_terms: required
                .and_then(Value::as_array)
                .map(|t| t.iter().map(NodeTerm::from_structure).collect()),
            preferred_terms: list(affinity, "/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution")
                .filter_map(|row| {
                    Some((row.get("weight")?.as_i64()?, NodeTerm::from_structure(row.get("preference")?)))
                })
                .collect(),
            spread: list(spec, "/topologySpreadConstraints")
                .filter_map(|c| spread(c, &meta.labels))
                .collect(),
            affinity: terms("podAffinity"),
            anti_affinity: terms("podAntiAffinity"),
            preferred_affinity,
            priority: spec.get("priority").and_then(Value::as_i64).unwrap_or(0),
            scheduler: text(spec, "schedulerName"),
            gated: list(spec, "/schedulingGates").next().is_some(),
            finished: matches!(phase.as_str(), "Succeeded" | "Failed"),
            preempts: text(spec, "preemptionPolicy") != "Never",
            nominated: text(status, "nominatedNodeName"),
            started: text(status, "startTime").parse().ok().map(jiff::Timestamp::as_second),
            preempted: meta.deleting()
                && list(status, "/conditions")
                    .find(|c| c["type"] == DISRUPTION_TARGET)
                    .is_some_and(|c| c["status"] == "True" && c["reason"] == PREEMPTED),
            claims: list(spec, "/volumes").filter_map(|volume| claim_of(&meta.name, volume)).collect(),
            needs: Needs::default(),
            exclusive: Vec::new(),
            namespace_labels: Arc::default(),
            meta,
        }
    }

    /// With the namespaces that its terms choose by labels written out. `labels` are those of all namespaces.
    pub fn resolved(&self, labels: &HashMap<Box<str>, Arc<Labels>>) -> Self {
        let mut out = self.clone();
        out.namespace_labels = labels.get(&self.meta.namespace).cloned().unwrap_or_default();
        let preferred = out.preferred_affinity.iter_mut().map(|(_, term)| term);
        for term in out.affinity.iter_mut().chain(&mut out.anti_affinity).chain(preferred) {
            if let (Some(selector), Some(names)) = (term.by_labels.take(), &mut term.namespaces) {
                let chosen = labels.iter().filter(|(_, labels)| selector.matches(labels));
                names.extend(chosen.map(|(name, _)| name.to_string()));
            }
        }
        out
    }

    /// Whether it says which other pods it wants near or away.
    pub fn is_particular(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty() && self.preferred_affinity.is_empty())
    }

    /// Whether this version may be placed where the other could not.
    pub fn asks_otherwise(&self, other: &Pod) -> bool {
        self.meta.labels != other.meta.labels
            || self.tolerations != other.tolerations
            || self.node_selector != other.node_selector
            || self.request != other.request
            || self.required_terms != other.required_terms
    }

    /// Whether the coming of another pod, or a change of its labels, may be what it waits for.
    pub fn minds(&self, other: &Pod) -> bool {
        let same = self.meta.namespace == other.meta.namespace;
        self.affinity.iter().chain(&self.anti_affinity).any(|term| term.may_select(other))
            || (same && self.spread.iter().any(|c| c.hard && c.selector.matches(&other.meta.labels)))
            || other.anti_affinity.iter().any(|term| term.may_select(self))
    }

    /// Whether it waits for this scheduler.
    pub fn waits_for(&self, scheduler: &str) -> bool {
        self.node.is_empty()
            && !self.gated
            && !self.finished
            && !self.meta.deleting()
            && self.scheduler == scheduler
    }
}

/// What says whose a pod is to place.
#[derive(Deserialize)]
struct Whose<'a> {
    #[serde(borrow)]
    spec: WhoseSpec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WhoseSpec<'a> {
    #[serde(borrow, default)]
    node_name: Cow<'a, str>,
    #[serde(borrow)]
    scheduler_name: Cow<'a, str>,
}

/// Whether a pod has no place yet, and another scheduler than this is to find one. The rest of it is not read.
pub fn waits_for_another(pod: &Object, scheduler: &str) -> bool {
    let whose = pod.read::<Whose<'_>>();
    whose.is_ok_and(|pod| pod.spec.node_name.is_empty() && pod.spec.scheduler_name != scheduler)
}

/// The claim of a volume: one that is named, or the pod's own.
fn claim_of(pod: &str, volume: &Value) -> Option<String> {
    let named = volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str);
    let own = volume.get("ephemeral").is_some_and(Value::is_object);
    named.map(str::to_owned).or_else(|| own.then(|| format!("{pod}-{}", text(volume, "name"))))
}

fn host_ports(spec: &Value) -> Vec<HostPort> {
    let long = list(spec, "/initContainers").filter(|c| c["restartPolicy"] == "Always");
    let ports = list(spec, "/containers").chain(long).flat_map(|c| list(c, "/ports"));
    let read = |port: &Value| {
        let number = port.get("hostPort")?.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)?;
        let or = |key: &str, default: &str| {
            Some(text(port, key)).filter(|t| !t.is_empty()).unwrap_or(default.into())
        };
        Some(HostPort { ip: or("hostIP", "0.0.0.0"), protocol: or("protocol", "TCP"), port: number })
    };
    ports.filter_map(read).collect()
}

/// `matchLabelKeys` adds the pod's own values of these labels to a selector.
fn narrowed(mut selector: LabelSelector, keys: &Value, labels: &Labels) -> LabelSelector {
    for key in keys.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Some(value) = labels.get(key) {
            selector.0.push(Requirement::In(key.to_owned(), vec![value.to_string()]));
        }
    }
    selector
}

fn spread(row: &Value, labels: &Labels) -> Option<Spread> {
    let selector = LabelSelector::from_structure(row.get("labelSelector"))?;
    Some(Spread {
        max_skew: row.get("maxSkew")?.as_i64()?,
        topology_key: text(row, "topologyKey"),
        hard: text(row, "whenUnsatisfiable") != "ScheduleAnyway",
        selector: narrowed(selector, &row["matchLabelKeys"], labels),
        min_domains: row.get("minDomains").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        honor_affinity: text(row, "nodeAffinityPolicy") != "Ignore",
        honor_taints: text(row, "nodeTaintsPolicy") == "Honor",
    })
}

fn pod_term(row: &Value, namespace: &str, labels: &Labels) -> Option<PodTerm> {
    let selector = LabelSelector::from_structure(row.get("labelSelector"))?;
    let named: Vec<String> = parse(row, "/namespaces");
    // An empty namespace selector is all namespaces.
    let by_labels = row.get("namespaceSelector").and_then(|s| LabelSelector::from_structure(Some(s)));
    let namespaces = match &by_labels {
        Some(selector) if selector.is_everything() => None,
        None if named.is_empty() => Some(vec![namespace.to_owned()]),
        _ => Some(named),
    };
    Some(PodTerm {
        selector: narrowed(selector, &row["matchLabelKeys"], labels),
        namespaces,
        by_labels,
        topology_key: text(row, "topologyKey"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_of_other_schedulers_without_a_place_are_theirs() {
        for (spec, theirs) in [
            (json!({"schedulerName": "other"}), true),
            (json!({"schedulerName": "oth\u{e9}\"r", "nodeName": ""}), true),
            (json!({"schedulerName": "ours"}), false),
            (json!({"schedulerName": "other", "nodeName": "n1"}), false),
            // What cannot be read so is read in full.
            (json!({}), false),
            (json!({"schedulerName": null}), false),
        ] {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
            let pod = Object::from_value(pod, 1, &[]).unwrap();
            assert_eq!(waits_for_another(&pod, "ours"), theirs, "{spec}");
        }
    }
}
