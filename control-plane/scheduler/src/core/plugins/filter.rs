//! Which nodes a pod cannot go to, and why: one function a reason.

use crate::core::model::{Node, Pod};
use crate::core::state::NodeInfo;
use skep_api::taint::Taint;

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Why a node will not do for a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Upstream's words, which `kubectl describe` shows.
    pub reasons: Vec<String>,
    /// Whether it stands however many pods leave the node (`UnschedulableAndUnresolvable`).
    pub lasting: bool,
}

impl Refusal {
    /// One that ends once pods leave.
    pub fn passing(reason: impl Into<String>) -> Self {
        Refusal { reasons: vec![reason.into()], lasting: false }
    }

    /// One that no leaving pod ends.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Refusal { reasons: vec![reason.into()], lasting: true }
    }
}

/// What the node itself, and the pods on it, say to a pod; none where it will do. In upstream's order: the first that
/// objects speaks, except that all missing resources are named.
pub fn refusal(pod: &Pod, node: &Node, info: &NodeInfo) -> Option<Refusal> {
    unschedulable(pod, node)
        .or_else(|| taints(pod, node))
        .or_else(|| affinity(pod, node))
        .map(Refusal::lasting)
        .or_else(|| ports(pod, info).map(Refusal::passing))
        .or_else(|| resources(pod, node, info))
        .or_else(|| pod.needs.reason(node).map(Refusal::lasting))
}

fn unschedulable(pod: &Pod, node: &Node) -> Option<String> {
    let taint = Taint { key: UNSCHEDULABLE.into(), effect: "NoSchedule".into(), ..Taint::default() };
    let stands = node.unschedulable && !pod.tolerations.iter().any(|t| t.tolerates(&taint));
    stands.then(|| "node(s) were unschedulable".into())
}

/// The first taint that keeps a pod away.
pub fn untolerated<'n>(pod: &Pod, node: &'n Node) -> Option<&'n Taint> {
    let keeps_away = |t: &&Taint| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute");
    node.taints.iter().filter(keeps_away).find(|taint| !pod.tolerations.iter().any(|t| t.tolerates(taint)))
}

fn taints(pod: &Pod, node: &Node) -> Option<String> {
    untolerated(pod, node).map(|_| "node(s) had untolerated taint(s)".into())
}

/// Whether the pod's node selector and required affinity allow the node.
pub fn allows(pod: &Pod, node: &Node) -> bool {
    let labelled =
        |(key, value): (&String, &String)| node.labels.get(key.as_str()).is_some_and(|l| **l == **value);
    pod.node_selector.iter().all(labelled)
        && pod
            .required_terms
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|t| t.matches(&node.name, &node.labels)))
}

fn affinity(pod: &Pod, node: &Node) -> Option<String> {
    (!allows(pod, node)).then(|| "node(s) didn't match Pod's node affinity/selector".into())
}

fn ports(pod: &Pod, info: &NodeInfo) -> Option<String> {
    let taken = || info.pods.values().flat_map(|p| &p.host_ports);
    let clash = pod.host_ports.iter().any(|want| taken().any(|have| have.conflicts(want)));
    clash.then(|| "node(s) didn't have free ports for the requested pod ports".into())
}

fn resources(pod: &Pod, node: &Node, info: &NodeInfo) -> Option<Refusal> {
    let mut out = Refusal::default();
    if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= node.allocatable.get("pods") {
        out.reasons.push("Too many pods".to_owned());
    }
    for (name, want) in pod.request.iter().filter(|(_, want)| *want > 0) {
        let all = node.allocatable.get(name);
        if want > all - info.requested.get(name) {
            out.reasons.push(format!("Insufficient {name}"));
            out.lasting |= want > all;
        }
    }
    (!out.reasons.is_empty()).then_some(out)
}
