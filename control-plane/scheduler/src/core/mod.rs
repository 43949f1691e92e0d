//! Deciding where a pod goes: plain functions of the pod and what is known of the cluster.

pub mod claims;
pub mod model;
pub mod plugins;
pub mod resources;
pub mod state;

use model::{Node, Pod, Spread};
use plugins::{filter, interpod, score, spread};
use state::{Cluster, NodeInfo};
use std::collections::BTreeMap;

/// Where a pod goes, or why nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Bind(String),
    /// Nowhere now; the text is what upstream writes into the event and the condition.
    Unschedulable(String),
}

/// Concerns with their weights (upstream's default profile).
const WEIGHTS: Weights = Weights { taints: 3, terms: 2, least: 1, balanced: 1, spread: 2, interpod: 2 };

struct Weights {
    taints: i64,
    terms: i64,
    least: i64,
    balanced: i64,
    spread: i64,
    interpod: i64,
}

/// Decides. `defaults` are the spread constraints for pods without their own; `turn` settles ties and should
/// change from call to call.
pub fn schedule(pod: &Pod, cluster: &Cluster, defaults: &[Spread], turn: usize) -> Decision {
    if let Some(why) = pod.needs.blocked() {
        return Decision::Unschedulable(format!("0/{} nodes are available: {why}.", cluster.nodes().count()));
    }
    let hard = spread::Hard::new(pod, cluster);
    let required = interpod::Required::new(pod, cluster);
    let mut feasible: Vec<(&Node, &NodeInfo)> = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut total = 0;
    for (node, info) in cluster.nodes() {
        total += 1;
        let mut why = filter::reasons(pod, node, info);
        if why.is_empty() {
            why.extend(hard.reason(node));
        }
        if why.is_empty() {
            why.extend(required.reason(node).map(str::to_owned));
        }
        if why.is_empty() {
            feasible.push((node, info));
        }
        for reason in why {
            *reasons.entry(reason).or_insert(0) += 1;
        }
    }
    match best(pod, cluster, defaults, &feasible, turn) {
        Some(node) => Decision::Bind(node.name.clone()),
        None => Decision::Unschedulable(explain(total, &reasons)),
    }
}

fn best<'a>(
    pod: &Pod,
    cluster: &Cluster,
    defaults: &[Spread],
    feasible: &[(&'a Node, &NodeInfo)],
    turn: usize,
) -> Option<&'a Node> {
    let nodes: Vec<&Node> = feasible.iter().map(|(n, _)| *n).collect();
    let each = |f: &dyn Fn(&Node) -> i64| nodes.iter().map(|n| f(n)).collect::<Vec<i64>>();
    let with_info =
        |f: fn(&Pod, &Node, &NodeInfo) -> i64| feasible.iter().map(|(n, i)| f(pod, n, i)).collect();
    let concerns: [(i64, Vec<i64>); 6] = [
        (WEIGHTS.taints, score::normalize(each(&|n| score::soft_taints(pod, n)), true)),
        (WEIGHTS.terms, score::normalize(each(&|n| score::preferred_terms(pod, n)), false)),
        (WEIGHTS.least, with_info(score::least_allocated)),
        (WEIGHTS.balanced, with_info(score::balanced)),
        (WEIGHTS.spread, spread::scores(pod, defaults, cluster, &nodes)),
        (WEIGHTS.interpod, interpod::scores(pod, cluster, &nodes)),
    ];
    let sum = |at: usize| concerns.iter().map(|(weight, scores)| weight * scores[at]).sum::<i64>();
    let sums: Vec<i64> = (0..nodes.len()).map(sum).collect();
    let most = sums.iter().copied().max()?;
    let ties: Vec<&Node> = nodes.iter().zip(&sums).filter(|(_, s)| **s == most).map(|(n, _)| *n).collect();
    Some(ties[turn % ties.len()])
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
fn explain(total: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut parts: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    if parts.is_empty() {
        // Upstream says "no nodes available to schedule pods" where there are none at all.
        return "no nodes available to schedule pods".into();
    }
    format!("0/{total} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests;
