//! Being near to other pods, or away from them (`InterPodAffinity`).

use super::filter::Refusal;
use crate::core::model::{Node, Pod, PodTerm};
use crate::core::state::Cluster;
use std::collections::BTreeMap;

type Domain = (String, Box<str>);

fn domain(term: &PodTerm, node: &Node) -> Option<Domain> {
    node.labels.get(term.topology_key.as_str()).map(|value| (term.topology_key.clone(), value.clone()))
}

type Counts = BTreeMap<Domain, i64>;

fn count(counts: &mut Counts, at: Option<Domain>, by: i64) {
    let Some(at) = at else { return };
    let number = counts.get(&at).copied().unwrap_or(0) + by;
    if number == 0 {
        counts.remove(&at);
    } else {
        counts.insert(at, number);
    }
}

/// A pod's required terms, and those of the pods that are there, looked up over the cluster once.
#[derive(Clone)]
pub struct Required<'a> {
    pod: &'a Pod,
    /// Domains that pods already there want to themselves.
    kept_off: Counts,
    /// For each term of the pod: the domains where a matching pod is.
    near: Vec<Counts>,
    away: Vec<Counts>,
}

impl<'a> Required<'a> {
    /// Looks. Where the pod itself asks for nothing, only pods with terms of their own are looked at.
    pub fn new(pod: &'a Pod, cluster: &Cluster) -> Self {
        let mut out = Required {
            pod,
            kept_off: Counts::new(),
            near: vec![Counts::new(); pod.affinity.len()],
            away: vec![Counts::new(); pod.anti_affinity.len()],
        };
        if pod.affinity.is_empty() && pod.anti_affinity.is_empty() {
            cluster.particular().for_each(|(node, other)| out.moved(node, other, 1));
        } else {
            cluster.pods().for_each(|(node, other)| out.moved(node, other, 1));
        }
        out
    }

    /// Counts a pod that comes to a node (`by` 1) or leaves it (-1).
    pub fn moved(&mut self, node: &Node, other: &Pod, by: i64) {
        let pod = self.pod;
        for term in other.anti_affinity.iter().filter(|t| t.selects(pod)) {
            count(&mut self.kept_off, domain(term, node), by);
        }
        // All terms of an affinity must hold of the same pod (`podMatchesAllAffinityTerms`).
        if !pod.affinity.is_empty() && pod.affinity.iter().all(|t| t.selects(other)) {
            for (term, counts) in pod.affinity.iter().zip(&mut self.near) {
                count(counts, domain(term, node), by);
            }
        }
        for (term, counts) in pod.anti_affinity.iter().zip(&mut self.away) {
            if term.selects(other) {
                count(counts, domain(term, node), by);
            }
        }
    }

    /// Why a node will not do; none where it will.
    pub fn refusal(&self, node: &Node) -> Option<Refusal> {
        if !self.pod.affinity.is_empty() && !self.near_enough(node) {
            return Some(Refusal::lasting("node(s) didn't match pod affinity rules"));
        }
        let here =
            |(term, counts): (&PodTerm, &Counts)| domain(term, node).is_some_and(|d| counts.contains_key(&d));
        if self.pod.anti_affinity.iter().zip(&self.away).any(here) {
            return Some(Refusal::passing("node(s) didn't match pod anti-affinity rules"));
        }
        let wanted_alone = self
            .kept_off
            .keys()
            .any(|(key, value)| node.labels.get(key.as_str()).is_some_and(|v| v == value));
        wanted_alone.then(|| Refusal::passing("node(s) didn't satisfy existing pods anti-affinity rules"))
    }

    fn near_enough(&self, node: &Node) -> bool {
        let terms = &self.pod.affinity;
        let labelled = terms.iter().all(|t| domain(t, node).is_some());
        let met =
            |(term, counts): (&PodTerm, &Counts)| domain(term, node).is_some_and(|d| counts.contains_key(&d));
        let all = terms.iter().zip(&self.near).all(met);
        // The first pod of a group that is to be near itself may start anywhere.
        let first = self.near.iter().all(Counts::is_empty) && terms.iter().all(|t| t.selects(self.pod));
        labelled && (all || first)
    }
}

/// Scores 0 to 100 by preferred terms: the pod's own, and those of pods that are there.
pub fn scores(pod: &Pod, cluster: &Cluster, nodes: &[&Node]) -> Vec<i64> {
    let mut weights: BTreeMap<Domain, i64> = BTreeMap::new();
    let mut add = |term: &PodTerm, node: &Node, weight: i64| {
        if let Some(at) = domain(term, node) {
            *weights.entry(at).or_insert(0) += weight;
        }
    };
    let mut look = |node: &Node, other: &Pod| {
        for (weight, term) in pod.preferred_affinity.iter().filter(|(_, t)| t.selects(other)) {
            add(term, node, *weight);
        }
        for (weight, term) in other.preferred_affinity.iter().filter(|(_, t)| t.selects(pod)) {
            add(term, node, *weight);
        }
        // A pod that is there and must have such company is a little reason to come (`HardPodAffinityWeight`).
        for term in other.affinity.iter().filter(|t| t.selects(pod)) {
            add(term, node, 1);
        }
    };
    if pod.preferred_affinity.is_empty() {
        cluster.particular().for_each(|(node, other)| look(node, other));
    } else {
        cluster.pods().for_each(|(node, other)| look(node, other));
    }
    if weights.is_empty() {
        return vec![0; nodes.len()];
    }
    let sum = |node: &&Node| -> i64 {
        weights.iter().filter(|((k, v), _)| node.labels.get(k.as_str()) == Some(v)).map(|(_, w)| w).sum()
    };
    let raw: Vec<i64> = nodes.iter().map(sum).collect();
    let (least, most) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    raw.into_iter().map(|s| if most == least { 0 } else { 100 * (s - least) / (most - least) }).collect()
}
