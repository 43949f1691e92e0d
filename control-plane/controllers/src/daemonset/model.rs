//! What the DaemonSet controller reads of sets and nodes, and the pods that it makes for nodes.

use crate::replicaset::pod_from;
use crate::views::{Pod, PodMeta, controller_reference, scaled};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_api::Meta;
use skep_api::selector::{NodeTerm, Requirement};
use skep_api::taint::{Taint, Toleration};

pub(super) const API_VERSION: &str = "apps/v1";
pub(super) const KIND: &str = "DaemonSet";
/// The label of pods and revisions with the hash of the template.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";
/// A label and an annotation with the number of the template, from versions long gone.
const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION: &str = "deprecated.daemonset.template.generation";
const NODE_NAME: &str = "metadata.name";

/// Taints that every daemon pod puts up with: key and effect (`AddOrUpdateDaemonPodTolerations`).
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// The same for pods in the network of their node.
const TOLERATED_BY_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DaemonSet {
    pub(super) metadata: PodMeta,
    pub(super) spec: Spec,
    pub(super) status: SetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) selector: Value,
    pub(super) template: Value,
    pub(super) update_strategy: Strategy,
    pub(super) min_ready_seconds: u64,
    pub(super) revision_history_limit: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Strategy {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RollingUpdate {
    pub(super) max_unavailable: Option<Value>,
    pub(super) max_surge: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SetStatus {
    pub(super) desired_number_scheduled: i64,
    pub(super) current_number_scheduled: i64,
    pub(super) number_misscheduled: i64,
    pub(super) number_ready: i64,
    pub(super) updated_number_scheduled: i64,
    pub(super) number_available: i64,
    pub(super) number_unavailable: i64,
    pub(super) observed_generation: i64,
    pub(super) collision_count: i64,
}

impl SetStatus {
    /// Writes the numbers into a status; conditions stay. What is zero is left out, but for four of them.
    pub(super) fn write(&self, status: &mut Value) {
        if !status.is_object() {
            *status = json!({});
        }
        for (field, number, always) in [
            ("desiredNumberScheduled", self.desired_number_scheduled, true),
            ("currentNumberScheduled", self.current_number_scheduled, true),
            ("numberMisscheduled", self.number_misscheduled, true),
            ("numberReady", self.number_ready, true),
            ("updatedNumberScheduled", self.updated_number_scheduled, false),
            ("numberAvailable", self.number_available, false),
            ("numberUnavailable", self.number_unavailable, false),
            ("observedGeneration", self.observed_generation, false),
            ("collisionCount", self.collision_count, false),
        ] {
            if always || number != 0 {
                status[field] = number.into();
            } else if let Some(map) = status.as_object_mut() {
                map.remove(field);
            }
        }
    }
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) metadata: Meta,
    pub(super) spec: NodeSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    pub(super) taints: Option<Vec<Taint>>,
}

/// What a set's template asks of a node.
pub(super) struct Placement {
    node_name: String,
    selector: Vec<Requirement>,
    terms: Option<Vec<NodeTerm>>,
    tolerations: Vec<Toleration>,
}

/// Whether a node should have a daemon pod, and may keep one that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Run,
    Keep,
    Leave,
}

impl DaemonSet {
    pub(super) fn rolling(&self) -> bool {
        self.spec.update_strategy.kind == "RollingUpdate"
    }

    fn limit(&self, of: i64, which: fn(&RollingUpdate) -> &Option<Value>) -> i64 {
        let rolling = self.spec.update_strategy.rolling_update.as_ref().filter(|_| self.rolling());
        rolling.map_or(0, |r| scaled(which(r).as_ref(), of, true))
    }

    /// How many nodes may have a second pod during an update.
    pub(super) fn max_surge(&self, of: i64) -> i64 {
        self.limit(of, |r| &r.max_surge)
    }

    /// How many nodes may be without an available pod during an update.
    pub(super) fn max_unavailable(&self, of: i64) -> i64 {
        self.limit(of, |r| &r.max_unavailable)
    }

    fn generation(&self) -> Option<&str> {
        self.metadata.annotation(GENERATION)
    }

    /// Whether a pod is of the present template.
    pub(super) fn updated(&self, pod: &Pod, hash: &str) -> bool {
        let label = |key: &str| pod.meta().labels.get(key).map(|l| &**l);
        let same_generation = self.generation().is_some() && label(GENERATION_LABEL) == self.generation();
        same_generation || (!hash.is_empty() && label(HASH_LABEL) == Some(hash))
    }

    /// What the template asks of a node, with what every daemon pod puts up with.
    pub(super) fn placement(&self) -> Placement {
        let spec = self.spec.template.get("spec").cloned().unwrap_or_default();
        let selector = spec.get("nodeSelector").and_then(Value::as_object).into_iter().flatten();
        let terms = spec.pointer(
            "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
        );
        let tolerations = tolerations(&spec);
        Placement {
            node_name: spec.get("nodeName").and_then(Value::as_str).unwrap_or_default().to_owned(),
            selector: selector
                .filter_map(|(k, v)| Some(Requirement::In(k.clone(), vec![v.as_str()?.to_owned()])))
                .collect(),
            terms: terms
                .and_then(Value::as_array)
                .map(|terms| terms.iter().map(NodeTerm::from_structure).collect()),
            tolerations: serde_json::from_value(tolerations.into()).unwrap_or_default(),
        }
    }

    /// The pod for a node.
    pub(super) fn pod(&self, node: &str, hash: &str) -> Value {
        let meta = &self.metadata.meta;
        let owner = controller_reference(API_VERSION, KIND, &meta.name, &meta.uid);
        let mut pod = pod_from(&self.spec.template, &meta.name, owner);
        let labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        let mut labels: Map<String, Value> = labels;
        labels.insert(HASH_LABEL.into(), hash.into());
        if let Some(generation) = self.generation() {
            labels.insert(GENERATION_LABEL.into(), generation.into());
        }
        pod["metadata"]["labels"] = labels.into();
        pod["spec"]["tolerations"] = tolerations(&pod["spec"]).into();
        for (parent, child) in [("spec", "affinity"), ("affinity", "nodeAffinity")] {
            let at = if parent == "spec" { &mut pod["spec"] } else { &mut pod["spec"]["affinity"] };
            if !at[child].is_object() {
                at[child] = json!({});
            }
        }
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
            "nodeSelectorTerms": [{"matchFields": [{"key": NODE_NAME, "operator": "In", "values": [node]}]}]
        });
        pod
    }
}

/// The tolerations of a pod with those of all daemon pods; one that is the same but for its time is replaced.
fn tolerations(spec: &Value) -> Vec<Value> {
    let mut out = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let by_host = spec.get("hostNetwork").is_some_and(|on| on == true).then_some(TOLERATED_BY_HOST);
    for (key, effect) in TOLERATED.into_iter().chain(by_host) {
        let new = json!({"key": key, "operator": "Exists", "effect": effect});
        let same = |t: &Value| t["key"] == key && t["effect"] == effect && t["operator"] == "Exists";
        match out.iter_mut().find(|t| same(t)) {
            Some(known) => *known = new,
            None => out.push(new),
        }
    }
    out
}

impl Placement {
    pub(super) fn fit(&self, node: &Node) -> Fit {
        let (name, labels) = (&*node.metadata.name, &node.metadata.labels);
        let here = self.node_name.is_empty() || self.node_name == name;
        let chosen = self.selector.iter().all(|r| r.matches(labels))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(name, labels)));
        if !here || !chosen {
            return Fit::Leave;
        }
        let borne = |taint: &Taint| self.tolerations.iter().any(|t| t.tolerates(taint));
        let hostile =
            |effect: &str| node.spec.taints.iter().flatten().any(|t| t.effect == effect && !borne(t));
        match (hostile("NoExecute"), hostile("NoSchedule")) {
            (true, _) => Fit::Leave,
            (_, true) => Fit::Keep,
            _ => Fit::Run,
        }
    }
}

/// The node that a pod is bound to or meant for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    if !pod.spec.node_name.is_empty() {
        return Some(&pod.spec.node_name);
    }
    let terms = pod
        .spec
        .affinity
        .pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")?;
    let rows = terms.as_array()?.iter().filter_map(|t| t.get("matchFields")?.as_array()).flatten();
    let mut rows = rows.filter(|row| row["key"] == NODE_NAME && row["operator"] == "In");
    match rows.next()?.get("values")?.as_array()?.as_slice() {
        [name] => name.as_str(),
        _ => None,
    }
}
