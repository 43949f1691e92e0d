//! Making room: which pods of lower priority leave which node (`DefaultPreemption`).

use super::fit::{Failure, Fits, said};
use super::model::{Node, Pod};
use super::plugins::filter::Refusal;
use super::state::{Cluster, NodeInfo};
use serde_json::Value;
use skep_api::{LabelSelector, Object};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// So many nodes in a hundred are tried (`minCandidateNodesPercentage`), …
const SHARE: usize = 10;
/// … and no fewer than this (`minCandidateNodesAbsolute`).
const FEWEST: usize = 100;

/// A PodDisruptionBudget, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Where its pods are.
    pub namespace: Box<str>,
    /// Which they are; not empty, since an empty selector counts as none here.
    pub selector: LabelSelector,
    /// How many of them may go now.
    pub allowed: i64,
    /// Names of those that are known to go already.
    pub going: BTreeSet<String>,
}

impl Budget {
    /// Reads one; none where it selects nothing.
    pub fn read(object: &Object) -> Option<Self> {
        let tree = object.value();
        let selector = LabelSelector::from_structure(tree.pointer("/spec/selector"))?;
        let status = |key: &str| tree.pointer("/status").and_then(|status| status.get(key));
        let going = status("disruptedPods").and_then(Value::as_object).into_iter().flatten();
        (!selector.is_everything()).then(|| Budget {
            namespace: object.meta().namespace.clone(),
            selector,
            allowed: status("disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0),
            going: going.map(|(name, _)| name.clone()).collect(),
        })
    }

    fn covers(&self, pod: &Pod) -> bool {
        self.namespace == pod.meta.namespace
            && !pod.meta.labels.is_empty()
            && self.selector.matches(&pod.meta.labels)
            && !self.going.contains(&*pod.meta.name)
    }
}

/// What can be done for a pod that fits nowhere.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It may not ask others to leave; why. What was nominated stays.
    Ineligible(&'static str),
    /// It would fit nowhere either if they left; in upstream's words. It waits for no node any more.
    Useless(String),
    /// These pods leave this node for it.
    Evict {
        /// The node.
        node: String,
        /// Who leaves, the most important first.
        victims: Vec<Arc<Pod>>,
    },
}

impl Outcome {
    /// What the pod's event and condition say, after what its nodes said.
    pub fn message(&self, failure: &Failure) -> String {
        // Before it makes room upstream looks for devices that nobody uses any more; there are none.
        let told =
            |why: &str| format!("{} no new claims to deallocate, preemption: {why}", failure.message());
        match self {
            _ if failure.total == 0 => failure.message(),
            Outcome::Ineligible(why) => told(why),
            Outcome::Useless(why) => told(why),
            Outcome::Evict { .. } => failure.message(),
        }
    }
}

struct Candidate<'a> {
    node: &'a Node,
    victims: Vec<Arc<Pod>>,
    violations: usize,
}

/// Decides. `turn` is where among the nodes the search begins; it should change from call to call.
pub fn preempt(pod: &Pod, cluster: &Cluster, failure: &Failure, budgets: &[Budget], turn: usize) -> Outcome {
    if let Some(why) = ineligible(pod, cluster, failure) {
        return Outcome::Ineligible(why);
    }
    let hopeful = failure.refused.iter().filter(|(_, refusal)| !refusal.lasting);
    let nodes: Vec<(&Node, &NodeInfo)> = hopeful.filter_map(|(name, _)| cluster.node(name)).collect();
    let enough = (nodes.len() * SHARE / 100).max(FEWEST).min(nodes.len());
    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    let mut refused: Vec<Refusal> = Vec::new();
    let fits = Fits::new(pod, cluster);
    for at in 0..nodes.len() {
        let (node, info) = nodes[(turn + at) % nodes.len()];
        match candidate(pod, node, info, cluster, &fits, budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(refusal) => refused.push(refusal),
        }
        if candidates.len() >= enough && candidates.iter().any(|c| c.violations == 0) {
            break;
        }
    }
    match best(candidates) {
        Some(best) => Outcome::Evict { node: best.node.name.clone(), victims: best.victims },
        None => {
            let never = failure.total.saturating_sub(refused.len());
            let reasons = refused.iter().flat_map(|refusal| refusal.reasons.iter().map(|r| (r.as_str(), 1)));
            let never = ("Preemption is not helpful for scheduling", never);
            Outcome::Useless(said(failure.total, reasons.chain([never])))
        }
    }
}

fn ineligible(pod: &Pod, cluster: &Cluster, failure: &Failure) -> Option<&'static str> {
    if !pod.preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let name = cluster.nomination(&pod.meta.uid)?;
    if failure.blocked.is_some() || failure.refused.get(name).is_none_or(|refusal| refusal.lasting) {
        return None; // room there is of no use any more
    }
    let (_, info) = cluster.node(name)?;
    let leaving = info.pods.values().any(|other| other.priority < pod.priority && other.preempted);
    leaving.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Higher priority first, then who runs for longer.
fn importance(pod: &Arc<Pod>) -> (Reverse<i64>, i64, Box<str>) {
    (Reverse(pod.priority), pod.started.unwrap_or(i64::MAX), pod.meta.uid.clone())
}

/// The fewest and least important pods that must leave a node.
fn candidate<'a>(
    pod: &Pod,
    node: &'a Node,
    info: &NodeInfo,
    cluster: &Cluster,
    fits: &Fits<'_>,
    budgets: &[Budget],
) -> Result<Candidate<'a>, Refusal> {
    let mut lesser: Vec<Arc<Pod>> =
        info.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if lesser.is_empty() {
        return Err(Refusal::lasting("No preemption victims found for incoming pod"));
    }
    let (mut fits, mut info) = (fits.clone(), info.clone());
    for other in &lesser {
        info.remove(&other.meta.uid);
        fits.moved(node, other, -1);
    }
    if let Some(refusal) = fits.refusal(node, &info, cluster) {
        return Err(refusal);
    }
    lesser.sort_by_cached_key(importance);
    let (protected, free) = by_budgets(lesser, budgets);
    let mut victims = Vec::new();
    let mut violations = 0;
    // Whoever can stay stays: first those whose leaving breaks a budget, and of them the most important.
    let all = protected.into_iter().map(|pod| (pod, 1)).chain(free.into_iter().map(|pod| (pod, 0)));
    for (other, violation) in all {
        info.add(other.clone());
        fits.moved(node, &other, 1);
        if fits.refusal(node, &info, cluster).is_some() {
            info.remove(&other.meta.uid);
            fits.moved(node, &other, -1);
            violations += violation;
            victims.push(other);
        }
    }
    victims.sort_by_cached_key(importance);
    Ok(Candidate { node, victims, violations })
}

/// Pods whose leaving breaks a budget, and the others; both in the order they came in.
fn by_budgets(pods: Vec<Arc<Pod>>, budgets: &[Budget]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut left: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut broken = false;
        for (_, left) in budgets.iter().zip(&mut left).filter(|(budget, _)| budget.covers(pod)) {
            *left -= 1;
            broken |= *left < 0;
        }
        broken
    })
}

/// The node where it hurts least: fewest broken budgets, the lowest highest priority, the lowest sum of priorities, the fewest
/// pods, and of the most important the one that has run for the shortest time.
fn best(candidates: Vec<Candidate<'_>>) -> Option<Candidate<'_>> {
    let cost = |candidate: &Candidate<'_>| {
        let victims = &candidate.victims;
        let highest = victims.iter().map(|pod| pod.priority).max().unwrap_or(i64::MIN);
        // Raised above zero, so that fewer pods of a priority below zero are less than more of them.
        let sum: i64 = victims.iter().map(|pod| pod.priority + i64::from(i32::MAX) + 1).sum();
        let first = victims.iter().filter(|pod| pod.priority == highest);
        let earliest = first.map(|pod| pod.started.unwrap_or(i64::MAX)).min().unwrap_or(i64::MIN);
        (candidate.violations, highest, sum, victims.len(), Reverse(earliest))
    };
    // Where nobody has to leave the pod fits by now: it is tried again, and nobody is sent away.
    candidates.into_iter().filter(|candidate| !candidate.victims.is_empty()).min_by_key(cost)
}

#[cfg(test)]
mod tests;
