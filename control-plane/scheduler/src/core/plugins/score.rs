//! How good a node is for a pod, 0 to 100 a concern.

use crate::core::model::{Node, Pod};
use crate::core::state::{NodeInfo, scored};

/// Resources that are scored, both with the same weight.
const SCORED: &[&str] = &["cpu", "memory"];

/// More where more is left (`LeastAllocated`).
pub fn least_allocated(pod: &Pod, node: &Node, info: &NodeInfo) -> i64 {
    let own = scored(pod);
    let part = |name: &&str| {
        let capacity = node.allocatable.get(name);
        let requested = info.scored.get(name) + own.get(name);
        if capacity <= 0 || requested > capacity { 0 } else { (capacity - requested) * 100 / capacity }
    };
    SCORED.iter().map(part).sum::<i64>() / SCORED.len() as i64
}

/// More where cpu and memory are used alike with the pod than without it (`BalancedAllocation`).
pub fn balanced(pod: &Pod, node: &Node, info: &NodeInfo) -> i64 {
    if SCORED.iter().all(|name| pod.request.get(name) == 0) {
        return 0; // a best-effort pod balances nothing (upstream skips it)
    }
    let balance = |with: bool| -> i64 {
        let share = |name: &&str| {
            let capacity = node.allocatable.get(name) as f64;
            let requested = info.requested.get(name) + if with { pod.request.get(name) } else { 0 };
            if capacity <= 0.0 { 0.0 } else { (requested as f64 / capacity).min(1.0) }
        };
        let shares: Vec<f64> = SCORED.iter().map(share).collect();
        let spread =
            shares.iter().copied().fold(f64::MIN, f64::max) - shares.iter().copied().fold(f64::MAX, f64::min);
        ((1.0 - spread.max(0.0) / 2.0) * 100.0) as i64
    };
    50 + (50 + balance(true) - balance(false)) / 2
}

/// How many soft taints a pod does not tolerate; fewer is better once normalized.
pub fn soft_taints(pod: &Pod, node: &Node) -> i64 {
    let soft = node.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
    let untolerated = soft.filter(|taint| !pod.tolerations.iter().any(|t| t.tolerates(taint)));
    i64::try_from(untolerated.count()).unwrap_or(i64::MAX)
}

/// The weights of the preferred node terms that match; more is better once normalized.
pub fn preferred_terms(pod: &Pod, node: &Node) -> i64 {
    pod.preferred_terms
        .iter()
        .filter(|(_, term)| term.matches(&node.name, &node.labels))
        .map(|(weight, _)| weight)
        .sum()
}

/// Brings counts to 0 to 100 by the largest; `reverse` where less is better.
pub fn normalize(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in &mut scores {
        *score = match (most, reverse) {
            (0, true) => 100,
            (0, false) => 0,
            (most, true) => 100 - *score * 100 / most,
            (most, false) => *score * 100 / most,
        };
    }
    scores
}
