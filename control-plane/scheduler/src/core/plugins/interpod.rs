//! Being near to other pods, or away from them (`InterPodAffinity`).

use crate::core::model::{Node, Pod, PodTerm};
use crate::core::state::Cluster;
use std::collections::{BTreeMap, BTreeSet};

type Domain = (String, Box<str>);

fn domain(term: &PodTerm, node: &Node) -> Option<Domain> {
    node.labels.get(term.topology_key.as_str()).map(|value| (term.topology_key.clone(), value.clone()))
}

/// A pod's required terms, and those of the pods that are there, looked up over the cluster once.
pub struct Required<'a> {
    pod: &'a Pod,
    /// Domains that pods already there want to themselves.
    kept_off: BTreeSet<Domain>,
    /// For each term of the pod: the domains where a matching pod is.
    near: Vec<BTreeSet<Domain>>,
    away: Vec<BTreeSet<Domain>>,
}

impl<'a> Required<'a> {
    /// Looks.
    pub fn new(pod: &'a Pod, cluster: &Cluster) -> Self {
        let mut kept_off = BTreeSet::new();
        let mut near = vec![BTreeSet::new(); pod.affinity.len()];
        let mut away = vec![BTreeSet::new(); pod.anti_affinity.len()];
        for (node, other) in cluster.pods() {
            kept_off.extend(
                other.anti_affinity.iter().filter(|t| t.selects(pod)).filter_map(|t| domain(t, node)),
            );
            // All terms of an affinity must hold of the same pod (`podMatchesAllAffinityTerms`).
            if !pod.affinity.is_empty() && pod.affinity.iter().all(|t| t.selects(other)) {
                for (term, domains) in pod.affinity.iter().zip(&mut near) {
                    domains.extend(domain(term, node));
                }
            }
            for (term, domains) in pod.anti_affinity.iter().zip(&mut away) {
                if term.selects(other) {
                    domains.extend(domain(term, node));
                }
            }
        }
        Required { pod, kept_off, near, away }
    }

    /// Why a node will not do; none where it will.
    pub fn reason(&self, node: &Node) -> Option<&'static str> {
        if !self.near_enough(node) {
            return Some("node(s) didn't match pod affinity rules");
        }
        let here = |(term, domains): (&PodTerm, &BTreeSet<Domain>)| {
            domain(term, node).is_some_and(|d| domains.contains(&d))
        };
        if self.pod.anti_affinity.iter().zip(&self.away).any(here) {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
        let wanted_alone = self
            .kept_off
            .iter()
            .any(|(key, value)| node.labels.get(key.as_str()).is_some_and(|v| v == value));
        wanted_alone.then_some("node(s) didn't satisfy existing pods anti-affinity rules")
    }

    fn near_enough(&self, node: &Node) -> bool {
        let terms = &self.pod.affinity;
        let labelled = terms.iter().all(|t| domain(t, node).is_some());
        let met = |(term, domains): (&PodTerm, &BTreeSet<Domain>)| {
            domain(term, node).is_some_and(|d| domains.contains(&d))
        };
        let all = terms.iter().zip(&self.near).all(met);
        // The first pod of a group that is to be near itself may start anywhere.
        let first = self.near.iter().all(BTreeSet::is_empty) && terms.iter().all(|t| t.selects(self.pod));
        labelled && (all || (first && !terms.is_empty()))
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
    for (node, other) in cluster.pods() {
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
