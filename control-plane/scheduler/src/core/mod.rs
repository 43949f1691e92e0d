//! Deciding where a pod goes: plain functions of the pod and what is known of the cluster.

pub mod claims;
pub mod fit;
pub mod model;
pub mod plugins;
pub mod preempt;
pub mod resources;
pub mod state;

pub use fit::{Failure, Fits};
use model::{Node, Pod, Spread};
use plugins::{interpod, score, spread};
use state::{Cluster, NodeInfo};

/// Where a pod goes, or why nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Bind(String),
    /// Nowhere now.
    Unschedulable(Failure),
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
    let fits = Fits::new(pod, cluster);
    if let Some(why) = pod.needs.blocked() {
        let total = cluster.nodes().count();
        return Decision::Unschedulable(Failure {
            total,
            blocked: Some(why.to_owned()),
            ..Failure::default()
        });
    }
    // Where room was made for it, it goes if it can.
    let nominated = cluster.nomination(&pod.meta.uid).and_then(|name| cluster.node(name));
    if let Some((node, info)) = nominated
        && fits.refusal(node, info, cluster).is_none()
    {
        return Decision::Bind(node.name.clone());
    }
    let mut feasible: Vec<(&Node, &NodeInfo)> = Vec::new();
    let total = cluster.nodes().count();
    let mut failure = Failure { total, ..Failure::default() };
    let enough = enough(total);
    // Where not all nodes are looked at, others are each time.
    let start = if total > enough { turn.wrapping_mul(enough) % total } else { 0 };
    for (node, info) in cluster.nodes().skip(start).chain(cluster.nodes().take(start)) {
        match fits.refusal(node, info, cluster) {
            None => {
                feasible.push((node, info));
                if feasible.len() == enough {
                    break;
                }
            }
            Some(refusal) => {
                failure.refused.insert(node.name.clone(), refusal);
            }
        }
    }
    match best(pod, cluster, defaults, &feasible, turn) {
        Some(node) => Decision::Bind(node.name.clone()),
        None => Decision::Unschedulable(failure),
    }
}

/// How many nodes that would do are looked for (`percentageOfNodesToScore`): all of a hundred, and a smaller part the more there
/// are.
fn enough(total: usize) -> usize {
    const ALL: usize = 100;
    let share = 50usize.saturating_sub(total / 125).max(5);
    if total <= ALL { total.max(1) } else { (total * share / 100).max(ALL) }
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

#[cfg(test)]
mod tests;
