//! Spreading over domains (`PodTopologySpread`, KEP-895).

use super::filter::{Refusal, allows, untolerated};
use crate::core::model::{Node, Pod, Spread};
use crate::core::state::Cluster;
use skep_api::LabelSelector;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";

/// What a pod of a Service or a set spreads by where it says nothing itself: loosely, over nodes and zones.
pub fn default_constraints(selector: LabelSelector) -> Vec<Spread> {
    let loose = |topology_key: &str, max_skew: i64| Spread {
        max_skew,
        topology_key: topology_key.to_owned(),
        hard: false,
        selector: selector.clone(),
        min_domains: None,
        honor_affinity: true,
        honor_taints: false,
    };
    vec![loose(HOSTNAME, 3), loose(ZONE, 5)]
}

/// Matching pods in each domain of a constraint.
#[derive(Clone)]
struct Counts<'a> {
    constraint: &'a Spread,
    domains: BTreeMap<String, i64>,
}

fn counts(pod: &Pod, constraint: &Spread, other: &Pod) -> bool {
    other.meta.namespace == pod.meta.namespace
        && !other.meta.deleting()
        && constraint.selector.matches(&other.meta.labels)
}

/// How many matching pods are on each node that has any.
fn matching<'c>(pod: &Pod, constraint: &Spread, cluster: &'c Cluster) -> HashMap<&'c str, i64> {
    let mut out = HashMap::new();
    for (node, _) in cluster.of_namespace(&pod.meta.namespace).filter(|(_, p)| counts(pod, constraint, p)) {
        *out.entry(node).or_insert(0) += 1;
    }
    out
}

fn included(pod: &Pod, constraint: &Spread, node: &Node) -> bool {
    (!constraint.honor_affinity || allows(pod, node))
        && (!constraint.honor_taints || untolerated(pod, node).is_none())
}

fn complete(constraints: &[&Spread], node: &Node) -> bool {
    constraints.iter().all(|c| node.labels.contains_key(c.topology_key.as_str()))
}

/// The constraints of a pod, counted over the cluster once and asked of each node.
#[derive(Clone)]
pub struct Hard<'a> {
    pod: &'a Pod,
    counts: Vec<Counts<'a>>,
}

impl<'a> Hard<'a> {
    /// Counts.
    pub fn new(pod: &'a Pod, cluster: &Cluster) -> Self {
        let hard: Vec<&Spread> = pod.spread.iter().filter(|c| c.hard).collect();
        // A node counts only where it has all the labels that the constraints speak of.
        let complete = |node: &Node| complete(&hard, node);
        let counts = hard.iter().map(|constraint| {
            let mut domains = BTreeMap::new();
            let on = matching(pod, constraint, cluster);
            for (node, _) in cluster.nodes().filter(|(n, _)| complete(n) && included(pod, constraint, n)) {
                if let Some(domain) = node.labels.get(constraint.topology_key.as_str()) {
                    let here = on.get(node.name.as_str()).copied().unwrap_or(0);
                    *domains.entry(domain.to_string()).or_insert(0) += here;
                }
            }
            Counts { constraint, domains }
        });
        let counts = counts.collect();
        Hard { pod, counts }
    }

    /// Counts a pod that comes to a node (`by` 1) or leaves it (-1).
    pub fn moved(&mut self, node: &Node, other: &Pod, by: i64) {
        if self.counts.is_empty() {
            return;
        }
        let all: Vec<&Spread> = self.counts.iter().map(|c| c.constraint).collect();
        if !complete(&all, node) {
            return;
        }
        for Counts { constraint, domains } in &mut self.counts {
            let Some(domain) = node.labels.get(constraint.topology_key.as_str()) else { continue };
            if included(self.pod, constraint, node) && counts(self.pod, constraint, other) {
                *domains.entry(domain.to_string()).or_insert(0) += by;
            }
        }
    }

    /// Why a node would make the spread uneven; none where it would not.
    pub fn refusal(&self, node: &Node) -> Option<Refusal> {
        for Counts { constraint, domains } in &self.counts {
            let Some(domain) = node.labels.get(constraint.topology_key.as_str()) else {
                return Some(Refusal::lasting(format!("{MISMATCH} (missing required label)")));
            };
            let few = constraint.min_domains.is_some_and(|min| domains.len() < min);
            let least = if few { 0 } else { domains.values().copied().min().unwrap_or(0) };
            let own = i64::from(constraint.selector.matches(&self.pod.meta.labels));
            let here = domains.get(&**domain).copied().unwrap_or(0);
            if here + own - least > constraint.max_skew {
                return Some(Refusal::passing(MISMATCH));
            }
        }
        None
    }
}

/// Scores 0 to 100 of nodes by the loose constraints: more where fewer matching pods are.
pub fn scores(pod: &Pod, defaults: &[Spread], cluster: &Cluster, nodes: &[&Node]) -> Vec<i64> {
    let own: Vec<&Spread> = pod.spread.iter().filter(|c| !c.hard).collect();
    let asked = !own.is_empty();
    let constraints: Vec<&Spread> = if pod.spread.is_empty() { defaults.iter().collect() } else { own };
    if constraints.is_empty() {
        return vec![0; nodes.len()];
    }
    // A pod's own constraints pass over nodes without the label; the defaults do not ask for it.
    let complete = |node: &Node| !asked || complete(&constraints, node);
    let mut raw = vec![0f64; nodes.len()];
    for constraint in &constraints {
        let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
        let mut by_node: BTreeMap<&str, i64> = BTreeMap::new();
        let on = matching(pod, constraint, cluster);
        for (node, _) in cluster.nodes().filter(|(n, _)| complete(n) && included(pod, constraint, n)) {
            if let Some(domain) = node.labels.get(constraint.topology_key.as_str()) {
                let count = on.get(node.name.as_str()).copied().unwrap_or(0);
                *domains.entry(&**domain).or_insert(0) += count;
                by_node.insert(&node.name, count);
            }
        }
        let candidates: BTreeSet<&str> = nodes
            .iter()
            .filter_map(|n| n.labels.get(constraint.topology_key.as_str()).map(|d| &**d))
            .collect();
        let size = if constraint.topology_key == HOSTNAME { nodes.len() } else { candidates.len() };
        let weight = ((size + 2) as f64).ln();
        for (score, node) in raw.iter_mut().zip(nodes) {
            let Some(domain) = node.labels.get(constraint.topology_key.as_str()) else { continue };
            let count = if constraint.topology_key == HOSTNAME {
                by_node.get(node.name.as_str()).copied().unwrap_or(0)
            } else {
                domains.get(&**domain).copied().unwrap_or(0)
            };
            *score += count as f64 * weight + (constraint.max_skew - 1) as f64;
        }
    }
    let rounded: Vec<Option<i64>> =
        raw.iter().zip(nodes).map(|(score, node)| complete(node).then(|| score.round() as i64)).collect();
    let known = || rounded.iter().flatten().copied();
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    rounded
        .into_iter()
        .map(|score| match score {
            None => 0,
            Some(_) if most == 0 => 100,
            Some(score) => 100 * (most + least - score) / most,
        })
        .collect()
}
